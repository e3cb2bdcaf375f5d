//! Reads the default that a schema gets for a column from the column's default expression.
//!
//! Debezium takes the empty value of the type for a function call, otherwise the first quoted
//! literal, and otherwise the whole expression. This file reads as Debezium 3.6.3 does, oddities
//! included, because the schema's text depends on the result. No expression is evaluated.

use super::ColumnKind;
use std::borrow::Cow;

/// A default expression as far as it can be read without evaluating it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultText<'a> {
    /// A text, which is then read as a value of the column's type.
    Literal(Cow<'a, str>),
    /// A function call or a clock such as `CURRENT_DATE`, whose result is not known. It counts as
    /// the empty value of the type.
    Computed,
}

/// Reads a default expression, as `pg_get_expr` prints it. `None` if the column counts as a column
/// without a default.
#[must_use]
pub fn default_text<'a>(expression: &'a str, kind: &ColumnKind) -> Option<DefaultText<'a>> {
    let expression = match kind {
        ColumnKind::Text | ColumnKind::Json | ColumnKind::Xml | ColumnKind::Enum { .. } => {
            expression
        }
        ColumnKind::Bool
        | ColumnKind::Int2
        | ColumnKind::Int4
        | ColumnKind::Int8
        | ColumnKind::Float4
        | ColumnKind::Float8
        | ColumnKind::Numeric { .. }
        | ColumnKind::NumericAny
        | ColumnKind::Uuid
        | ColumnKind::Bit
        | ColumnKind::Bits { .. }
        | ColumnKind::Date
        | ColumnKind::Time { .. }
        | ColumnKind::Timestamp { .. }
        | ColumnKind::TimestampTz { .. }
        | ColumnKind::Interval => expression.trim(),
        // Debezium reads no default for structs, lists and these types.
        ColumnKind::Money
        | ColumnKind::Oid
        | ColumnKind::Verbatim
        | ColumnKind::Isbn
        | ColumnKind::Ltree
        | ColumnKind::Tsvector
        | ColumnKind::Hstore
        | ColumnKind::Bytea
        | ColumnKind::TimeTz
        | ColumnKind::Point
        | ColumnKind::Geometry
        | ColumnKind::Geography
        | ColumnKind::Vector
        | ColumnKind::HalfVector
        | ColumnKind::SparseVector
        | ColumnKind::Int2Vector
        | ColumnKind::OidVector
        | ColumnKind::Array(_)
        | ColumnKind::Unknown { .. } => return None,
    };
    if let ColumnKind::Enum { .. } = kind {
        let (literal, rest) = quoted(expression.strip_prefix('\'')?)?;
        return rest.starts_with("::").then_some(DefaultText::Literal(literal));
    }
    if is_function(expression) || is_clock(expression) {
        return Some(DefaultText::Computed);
    }
    match expression.find('\'') {
        Some(at) => {
            let (literal, _) = quoted(expression.get(at + 1..)?)?;
            Some(DefaultText::Literal(literal))
        }
        None if expression.starts_with("NULL::") || expression == "NULL" => None,
        None => Some(DefaultText::Literal(Cow::Borrowed(expression))),
    }
}

/// Reads a literal; `text` begins after its opening quote. Returns the literal and the text after
/// its closing quote. A doubled quote is one quote of the literal. `None` without a closing quote.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find('\'')?;
        let rest = text.get(at + 1..)?;
        if rest.starts_with('\'') {
            from = at + 2;
            continue;
        }
        let literal = text.get(..at)?;
        let literal =
            if from == 0 { Cow::Borrowed(literal) } else { Cow::Owned(literal.replace("''", "'")) };
        return Some((literal, rest));
    }
}

/// True if the expression begins with an unquoted name and an opening parenthesis, and the first
/// line also has a closing one. Before the name there may be one parenthesis.
fn is_function(expression: &str) -> bool {
    let inner = expression.strip_prefix('(').unwrap_or(expression);
    let rest =
        inner.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    rest.len() < inner.len()
        && rest.starts_with('(')
        && rest.lines().next().is_some_and(|line| line.contains(')'))
}

fn is_clock(expression: &str) -> bool {
    ["current_timestamp", "current_time", "current_date", "localtime", "localtimestamp"]
        .iter()
        .any(|name| expression.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(expression: &str, kind: ColumnKind, expect: Expect) {
        expect.assert_eq(&format!("{:?}", default_text(expression, &kind)));
    }

    #[test]
    fn literals_lose_their_casts_and_quotes() {
        check("7", ColumnKind::Int4, expect![[r#"Some(Literal("7"))"#]]);
        check("'-5'::integer", ColumnKind::Int4, expect![[r#"Some(Literal("-5"))"#]]);
        check(
            "'with ''quote'' and, comma'::text",
            ColumnKind::Text,
            expect![[r#"Some(Literal("with 'quote' and, comma"))"#]],
        );
        check("''::character varying", ColumnKind::Text, expect![[r#"Some(Literal(""))"#]]);
        check(
            "'DRAFT'::status",
            ColumnKind::Enum { allowed: "DRAFT".into() },
            expect![[r#"Some(Literal("DRAFT"))"#]],
        );
        check("('a'::text || 'b'::text)", ColumnKind::Text, expect![[r#"Some(Literal("a"))"#]]);
    }

    #[test]
    fn functions_and_clocks_are_computed() {
        check("nextval('items_id_seq'::regclass)", ColumnKind::Int4, expect!["Some(Computed)"]);
        check("public.make_code()", ColumnKind::Text, expect!["Some(Computed)"]);
        check("CURRENT_DATE", ColumnKind::Date, expect!["Some(Computed)"]);
        check(
            "(now() + '01:00:00'::interval)",
            ColumnKind::TimestampTz { precision: 6 },
            expect!["Some(Computed)"],
        );
    }

    #[test]
    fn nulls_and_types_without_reader_have_no_default() {
        check("NULL::text", ColumnKind::Text, expect!["None"]);
        check("NULL::character varying", ColumnKind::Text, expect!["None"]);
        check("'{1,2}'::integer[]", ColumnKind::Array(Box::new(ColumnKind::Int4)), expect!["None"]);
        check("'10.0.0.1'::inet", ColumnKind::Verbatim, expect!["None"]);
        check("'$1.00'::money", ColumnKind::Money, expect!["None"]);
    }
}
