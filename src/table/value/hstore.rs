//! Reads `hstore` texts, pair by pair.

use super::{ValueError, around};

/// The pairs of an `hstore` text: `"a"=>"1", "b"=>NULL`.
#[derive(Clone, Debug)]
pub struct Hstore<'a> {
    text: &'a [u8],
    rest: &'a [u8],
}

/// One pair. Both texts still have a backslash before each quote and each backslash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HstorePair<'a> {
    /// The key between its quotes.
    pub key: &'a [u8],
    /// The value between its quotes; `None` for NULL.
    pub value: Option<&'a [u8]>,
}

impl<'a> Hstore<'a> {
    /// An iterator over the pairs of `text`, in the order of the text.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Hstore { text, rest: text }
    }

    /// Number of bytes of the text that have been read. [`Hstore::resume`] goes on from there.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    /// The pairs of `text` after the ones that were read when [`Hstore::offset`] was `offset`.
    #[must_use]
    pub fn resume(text: &'a [u8], offset: usize) -> Self {
        let Some(rest) = text.get(offset..) else { unreachable!("an offset of another text") };
        Hstore { text, rest }
    }

    fn pair(&mut self) -> Result<HstorePair<'a>, ValueError> {
        if self.offset() > 0 {
            self.skip(b", ")?;
        }
        let key = self.quoted()?;
        self.skip(b"=>")?;
        if let Some(rest) = self.rest.strip_prefix(b"NULL") {
            self.rest = rest;
            return Ok(HstorePair { key, value: None });
        }
        Ok(HstorePair { key, value: Some(self.quoted()?) })
    }

    fn skip(&mut self, expected: &[u8]) -> Result<(), ValueError> {
        self.rest = self
            .rest
            .strip_prefix(expected)
            .ok_or(ValueError::new("hstore", "no pair where one must be"))?;
        Ok(())
    }

    fn quoted(&mut self) -> Result<&'a [u8], ValueError> {
        let rest = self
            .rest
            .strip_prefix(b"\"")
            .ok_or(ValueError::new("hstore", "a text without quotes"))?;
        let mut at = 0;
        loop {
            match rest.get(at) {
                Some(b'"') => break,
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
                None => return Err(ValueError::new("hstore", "a quote that does not end")),
            }
        }
        let (text, behind) = around(rest, at);
        self.rest = behind;
        Ok(text)
    }
}

impl<'a> Iterator for Hstore<'a> {
    type Item = Result<HstorePair<'a>, ValueError>;

    /// Returns the next pair or the error in its text; `None` after the last pair or an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let pair = self.pair();
        if pair.is_err() {
            self.rest = &[];
        }
        Some(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expect: Expect) {
        let pairs: Result<Vec<_>, _> = Hstore::new(text.as_bytes()).collect();
        let shown = pairs.map(|pairs| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            pairs.into_iter().map(|pair| (text(pair.key), pair.value.map(text))).collect::<Vec<_>>()
        });
        expect.assert_eq(&format!("{shown:?}"));
    }

    #[test]
    fn reads_pairs_in_order() {
        check("", expect!["Ok([])"]);
        check(
            r#""a"=>"1", "b"=>NULL, "c d"=>"e,\"f""#,
            expect![[r#"Ok([("a", Some("1")), ("b", None), ("c d", Some("e,\\\"f"))])"#]],
        );
    }

    #[test]
    fn refuses_what_hstore_does_not_print() {
        for text in ["a=>1", "\"a\"", "\"a\"=>", "\"a\"=>\"1\"\"b\"=>\"2\"", "\"a\"=>\"1"] {
            assert!(Hstore::new(text.as_bytes()).any(|pair| pair.is_err()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, text in "[\"\\\\=>, aNUL]{0,30}") {
            let _ = (Hstore::new(&bytes).count(), Hstore::new(text.as_bytes()).count());
        }
    }
}
