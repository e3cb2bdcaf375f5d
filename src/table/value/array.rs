//! Reads array literals, element by element.

use super::{ValueError, around};

/// The most nested dimensions. Postgres allows six.
const DIMENSIONS_MAX: usize = 6;

/// An array literal: `{1,NULL,"a \"b\""}`, `[2:3]={1,2}`, `{{1,2},{3,4}}`.
///
/// The elements come in row-major order. [`Array::flat`] says whether a plain list of the elements
/// loses nothing.
#[derive(Clone, Copy, Debug)]
pub struct Array<'a> {
    body: &'a [u8],
    delimiter: u8,
    bounds: bool,
    count: usize,
    nested: bool,
}

/// One element of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// An unquoted `NULL`, in upper or lower case.
    Null,
    /// An element's text, which is in the literal as it is: without a quote or a backslash in it.
    Plain(&'a [u8]),
    /// The text between an element's quotes. It still has a backslash before each quote and each
    /// backslash.
    Escaped(&'a [u8]),
}

impl<'a> Element<'a> {
    /// The element's text; `None` for NULL. An escaped text is written to `buffer`.
    pub fn text<'b>(self, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        match self {
            Element::Null => None,
            Element::Plain(text) => Some(text),
            Element::Escaped(text) => {
                buffer.clear();
                let mut escaped = false;
                for byte in text {
                    if *byte == b'\\' && !escaped {
                        escaped = true;
                    } else {
                        buffer.push(*byte);
                        escaped = false;
                    }
                }
                Some(buffer)
            }
        }
    }
}

impl<'a> Array<'a> {
    /// Checks a whole literal and counts its elements. For most types the delimiter between
    /// elements is a comma (`pg_type.typdelim`).
    ///
    /// # Errors
    /// Braces, quotes or delimiters out of place, or more than six dimensions.
    pub fn parse(text: &'a [u8], delimiter: u8) -> Result<Self, ValueError> {
        let mut body = text;
        if text.first() == Some(&b'[') {
            let equals = text
                .iter()
                .position(|byte| *byte == b'=')
                .ok_or(error("bounds without a value"))?;
            body = around(text, equals).1;
        }
        let mut array =
            Array { body, delimiter, bounds: body.len() != text.len(), count: 0, nested: false };
        let mut walk = array.walk();
        while walk.next_element()?.is_some() {
            array.count += 1;
        }
        array.nested = walk.deepest > 1;
        Ok(array)
    }

    /// How many elements there are, in all dimensions together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True for one dimension that begins at 1. A list of the elements then loses nothing.
    #[must_use]
    pub fn flat(&self) -> bool {
        !self.nested && !self.bounds
    }

    /// The elements in row-major order.
    pub fn elements(&self) -> impl Iterator<Item = Element<'a>> {
        let mut walk = self.walk();
        std::iter::from_fn(move || match walk.next_element() {
            Ok(element) => element,
            Err(error) => unreachable!("the literal was read whole before: {error}"),
        })
    }

    fn walk(&self) -> Walk<'a> {
        Walk {
            rest: self.body,
            delimiter: self.delimiter,
            depth: 0,
            expect: Expect::Value,
            deepest: 0,
        }
    }
}

const fn error(why: &'static str) -> ValueError {
    ValueError::new("an array", why)
}

/// What the parser expects next in the literal.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    /// An element or an opening brace.
    Value,
    /// The same as `Value`, or the closing brace of an empty array.
    ValueOrEnd,
    /// A delimiter or a closing brace.
    Separator,
}

struct Walk<'a> {
    rest: &'a [u8],
    delimiter: u8,
    depth: usize,
    expect: Expect,
    deepest: usize,
}

impl<'a> Walk<'a> {
    fn next_element(&mut self) -> Result<Option<Element<'a>>, ValueError> {
        loop {
            let Some((&byte, rest)) = self.rest.split_first() else {
                let done = self.depth == 0 && self.deepest > 0;
                return if done { Ok(None) } else { Err(error("braces that do not match")) };
            };
            if self.depth == 0 && self.deepest > 0 {
                return Err(error("text after its end"));
            }
            match (byte, self.expect) {
                (b'{', Expect::Value | Expect::ValueOrEnd) => {
                    self.depth += 1;
                    self.deepest = self.deepest.max(self.depth);
                    if self.depth > DIMENSIONS_MAX {
                        return Err(error("more than six dimensions"));
                    }
                    (self.rest, self.expect) = (rest, Expect::ValueOrEnd);
                }
                (b'}', Expect::Separator | Expect::ValueOrEnd) if self.depth > 0 => {
                    self.depth -= 1;
                    (self.rest, self.expect) = (rest, Expect::Separator);
                }
                (_, Expect::Separator) if byte == self.delimiter && self.depth > 0 => {
                    (self.rest, self.expect) = (rest, Expect::Value);
                }
                (b'"', Expect::Value | Expect::ValueOrEnd) if self.depth > 0 => {
                    return self.quoted(rest).map(Some);
                }
                (_, Expect::Value | Expect::ValueOrEnd) if self.depth > 0 => {
                    return self.unquoted().map(Some);
                }
                _ => return Err(error("a brace, quote or comma out of place")),
            }
        }
    }

    fn quoted(&mut self, rest: &'a [u8]) -> Result<Element<'a>, ValueError> {
        let (mut escapes, mut at) = (false, 0);
        loop {
            match rest.get(at) {
                Some(b'"') => break,
                Some(b'\\') => (escapes, at) = (true, at + 2),
                Some(_) => at += 1,
                None => return Err(error("a quote that does not end")),
            }
        }
        let (text, behind) = around(rest, at);
        (self.rest, self.expect) = (behind, Expect::Separator);
        Ok(if escapes { Element::Escaped(text) } else { Element::Plain(text) })
    }

    fn unquoted(&mut self) -> Result<Element<'a>, ValueError> {
        let end = self
            .rest
            .iter()
            .position(|byte| *byte == self.delimiter || matches!(byte, b'}' | b'{' | b'"' | b'\\'));
        let end = end.ok_or(error("braces that do not match"))?;
        let (text, rest) = self.rest.split_at(end);
        if text.is_empty()
            || !rest.first().is_some_and(|byte| *byte == b'}' || *byte == self.delimiter)
        {
            return Err(error("a brace, quote or comma out of place"));
        }
        (self.rest, self.expect) = (rest, Expect::Separator);
        Ok(if text.eq_ignore_ascii_case(b"NULL") { Element::Null } else { Element::Plain(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect as Golden, expect};
    use proptest::prelude::*;

    fn elements(text: &str) -> Result<(Vec<Option<String>>, bool), ValueError> {
        let array = Array::parse(text.as_bytes(), b',')?;
        let mut buffer = Vec::new();
        let read: Vec<_> = array
            .elements()
            .map(|element| {
                element.text(&mut buffer).map(|text| String::from_utf8_lossy(text).into_owned())
            })
            .collect();
        assert_eq!(read.len(), array.len());
        Ok((read, array.flat()))
    }

    #[track_caller]
    fn check(text: &str, expect: Golden) {
        expect.assert_eq(&match elements(text) {
            Ok((read, flat)) => format!("{read:?} flat {flat}"),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn reads_quotes_nulls_and_escapes() {
        check("{}", expect!["[] flat true"]);
        check("{1,NULL,-3}", expect![[r#"[Some("1"), None, Some("-3")] flat true"#]]);
        check(
            r#"{a,NULL,"","with \"quotes\", comma","back\\slash","NULL"}"#,
            expect![[
                r#"[Some("a"), None, Some(""), Some("with \"quotes\", comma"), Some("back\\slash"), Some("NULL")] flat true"#
            ]],
        );
    }

    #[test]
    fn boxes_and_geometries_have_delimiters_of_their_own() {
        let boxes = Array::parse(b"{(2,3),(0,0);(1,1),(0,0)}", b';').unwrap();
        assert_eq!(boxes.elements().last(), Some(Element::Plain(b"(1,1),(0,0)")));
        assert_eq!(Array::parse(b"{0101:NULL}", b':').map(|array| array.len()), Ok(2));
        assert!(Array::parse(b"{1,2:3}", b',').is_ok_and(|array| array.len() == 2));
    }

    #[test]
    fn more_dimensions_come_in_row_major_order_and_say_so() {
        check(
            "{{1,2},{3,NULL}}",
            expect![[r#"[Some("1"), Some("2"), Some("3"), None] flat false"#]],
        );
        check("[0:1]={5,6}", expect![[r#"[Some("5"), Some("6")] flat false"#]]);
    }

    #[test]
    fn refuses_literals_that_do_not_match() {
        for text in [
            "",
            "{",
            "}",
            "1",
            "{1",
            "{1,}",
            "{,1}",
            "{1}2",
            "{\"a}",
            "{a\"b\"}",
            "{{1}",
            "{1}}",
            "[1:2]",
            "{{{{{{{1}}}}}}}",
            "{1,{2}",
        ] {
            let read = elements(text);
            assert!(read.is_err() || text == "{1,{2}", "{text:?} {read:?}");
        }
    }

    proptest! {
        #[test]
        fn elements_read_back_as_they_were_written(values in proptest::collection::vec(proptest::option::of(".*"), 0..8)) {
            let quoted: Vec<String> = values
                .iter()
                .map(|value| match value {
                    Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
                    None => "NULL".to_owned(),
                })
                .collect();
            prop_assert_eq!(elements(&format!("{{{}}}", quoted.join(","))), Ok((values, true)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, text in "[{},\"\\\\a=\\[N]{0,30}") {
            for input in [bytes.as_slice(), text.as_bytes()] {
                if let Ok(array) = Array::parse(input, b',') {
                    prop_assert_eq!(array.elements().count(), array.len());
                }
            }
        }
    }
}
