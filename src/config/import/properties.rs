//! Reads Java's properties files, by the rules of `java.util.Properties`.
//!
//! A line that ends in an odd number of backslashes continues on the next line, whose leading
//! blanks are dropped. `#` and `!` begin a comment at the start of a line. The first `=`, `:` or
//! blank that is not escaped ends a key. A backslash before any character other than `t n r f u`
//! and a line's end is dropped. The last of two equal keys counts.

/// The fault of a `\u` escape that gives no character.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: \\u is followed by four hexadecimal digits that make a character, or by another \
     such pair"
)]
pub struct BadEscape {
    /// Line on which the key begins, counted from 1.
    pub line: usize,
}

/// Reads a file into keys and values, in the order of the file.
///
/// # Errors
/// A `\u` lacks its four digits, or is half of a surrogate pair.
pub fn read(text: &str) -> Result<Vec<(String, String)>, BadEscape> {
    let mut read: Vec<(String, String)> = Vec::new();
    for (line, logical) in logical_lines(text) {
        let (key, value) = split(&logical);
        let unescaped = |text: &str| unescape(text).ok_or(BadEscape { line });
        let (key, value) = (unescaped(key)?, unescaped(value)?);
        read.retain(|(other, _)| *other != key);
        read.push((key, value));
    }
    Ok(read)
}

const BLANKS: [char; 3] = [' ', '\t', '\u{c}'];

/// Lines with content, with continuations joined. Each has the number of its first line in the
/// file, counted from 1.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let natural =
        text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'));
    for (index, line) in natural.enumerate() {
        let line = line.trim_start_matches(BLANKS);
        let (number, mut whole) = match open.take() {
            Some(open) => open,
            None if line.is_empty() || line.starts_with(['#', '!']) => continue,
            None => (index + 1, String::new()),
        };
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            whole.push_str(&line[..line.len() - 1]);
            open = Some((number, whole));
        } else {
            whole.push_str(line);
            lines.push((number, whole));
        }
    }
    lines.extend(open);
    lines
}

/// Key and value of a line, both still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || BLANKS.contains(&c));
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(BLANKS);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start_matches(BLANKS))
}

fn unescape(text: &str) -> Option<String> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = if c == '\\' { chars.next() } else { Some(c) };
        let c = match (c, plain) {
            (_, None) => continue,
            ('\\', Some('u')) => {
                let digits: String = chars.by_ref().take(4).collect();
                let is_hex = digits.len() == 4 && digits.chars().all(|c| c.is_ascii_hexdigit());
                units.push(u16::from_str_radix(&digits, 16).ok().filter(|_| is_hex)?);
                continue;
            }
            ('\\', Some('t')) => '\t',
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('f')) => '\u{c}',
            (_, Some(c)) => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expect: &[(&str, &str)]) {
        let expect: Vec<_> =
            expect.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(read(text).unwrap(), expect);
    }

    /// Examples from the documentation of `java.util.Properties.load`.
    #[test]
    fn reads_what_java_reads() {
        check(
            "Truth = Beauty\n Truth:Beauty\nTruth                    :Beauty",
            &[("Truth", "Beauty")],
        );
        check(
            "fruits                           apple, banana, pear, \\\n                                 cantaloupe, watermelon, \\\n                                 kiwi, mango",
            &[("fruits", "apple, banana, pear, cantaloupe, watermelon, kiwi, mango")],
        );
        check("cheeses", &[("cheeses", "")]);
        check("\\:\\=", &[(":=", "")]);
        check("a b = c", &[("a", "b = c")]);
        check("# no\n! no\n   # no\na=b # yes", &[("a", "b # yes")]);
    }

    #[test]
    fn a_regular_expressions_backslash_is_doubled() {
        check(r"table.include.list=public\\.a,s\.b", &[("table.include.list", r"public\.a,s.b")]);
        check("a=b\\\\\nc=d\\\n", &[("a", "b\\"), ("c", "d")]);
    }

    #[test]
    fn characters_beyond_ascii_are_escaped_by_their_units() {
        check("a=\\u017elu\\u0165 \\ud83d\\ude80", &[("a", "žluť 🚀")]);
        check("a=žluť", &[("a", "žluť")]);
        for bad in ["a=\\u12", "b\na=\\ud83d", "\\u+123"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read("x=y\n\na=\\uzzzz").unwrap_err(), BadEscape { line: 3 });
    }

    /// The text in the form that `java.util.Properties.store` writes.
    fn stored(text: &str, is_key: bool) -> String {
        let mut out = String::new();
        for (index, unit) in text.encode_utf16().enumerate() {
            match char::from_u32(u32::from(unit)) {
                Some(' ') if is_key || index == 0 => out.push_str("\\ "),
                Some('\t') => out.push_str("\\t"),
                Some('\n') => out.push_str("\\n"),
                Some('\r') => out.push_str("\\r"),
                Some('\u{c}') => out.push_str("\\f"),
                Some(c @ ('\\' | '=' | ':' | '#' | '!')) => out.extend(['\\', c]),
                Some(c @ ' '..='~') => out.push(c),
                _ => out.push_str(&format!("\\u{unit:04X}")),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn what_java_stores_reads_back(entries in prop::collection::vec((".{1,8}", ".{0,12}"), 0..6)) {
            let mut last: Vec<(String, String)> = Vec::new();
            for (key, value) in &entries {
                last.retain(|(other, _)| other != key);
                last.push((key.clone(), value.clone()));
            }
            let text: String = entries.iter().map(|(k, v)| format!("{}={}\n", stored(k, true), stored(v, false))).collect();
            prop_assert_eq!(read(&text).unwrap(), last);
        }

        #[test]
        fn no_text_panics(text in "(\\PC|[\\\\=:#! \\n\\ru])*") {
            let _ = read(&text);
        }

        #[test]
        fn a_line_end_of_another_system_changes_nothing(text in "[a-c=\\\\ #\\n]{0,30}") {
            prop_assert_eq!(read(&text), read(&text.replace('\n', "\r\n")));
        }
    }
}
