//! Names of tables as a person can paste them: into a shell, and into SQL.
//!
//! Next steps are built from these forms, so that a command works as it is printed, whatever
//! characters a name has.

use std::borrow::Cow;

/// The name as one word of a POSIX shell, in single quotes if the shell would change it.
#[must_use]
pub fn in_shell(name: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.is_empty() && name.chars().all(is_plain) && !name.starts_with('-') {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("'{}'", name.replace('\'', "'\\''")))
}

/// The command that copies a table again, with the name as one word of a shell.
#[must_use]
pub fn snapshot_of(table: &str) -> String {
    format!("`wellspring snapshot {}`", in_shell(table))
}

/// The name `namespace.name` as SQL takes it: each part in double quotes if SQL would fold or
/// refuse it. A key word as a table's name needs none, because it follows a dot.
#[must_use]
pub fn in_sql(table: &str) -> String {
    let quoted = |part: &str| {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if part.chars().all(is_plain) && part.starts_with(|c: char| !c.is_ascii_digit()) {
            return part.to_owned();
        }
        column_in_sql(part)
    };
    match table.split_once('.') {
        Some((namespace, name)) => format!("{}.{}", quoted(namespace), quoted(name)),
        None => quoted(table),
    }
}

/// The name of a column as SQL takes it. It may be a key word, so it is always in double quotes.
#[must_use]
pub fn column_in_sql(column: &str) -> String {
    format!("\"{}\"", column.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_of_a_shell() {
        for (name, word) in [
            ("public.orders_2", "public.orders_2"),
            ("public.Order Items", "'public.Order Items'"),
            ("public.it's", "'public.it'\\''s'"),
            ("public.$x", "'public.$x'"),
            ("-a.b", "'-a.b'"),
        ] {
            assert_eq!(in_shell(name), word);
        }
        assert_eq!(snapshot_of("a.b c"), "`wellspring snapshot 'a.b c'`");
    }

    #[test]
    fn a_name_keeps_its_case_in_sql() {
        assert_eq!(in_sql("public.order_2"), "public.order_2");
        assert_eq!(in_sql("public.Or\"ders"), "public.\"Or\"\"ders\"");
        assert_eq!(in_sql("S 1.2nd"), "\"S 1\".\"2nd\"");
        assert_eq!(column_in_sql("or\"der"), "\"or\"\"der\"");
    }
}
