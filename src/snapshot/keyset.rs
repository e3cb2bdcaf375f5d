//! The SQL of a chunk: it selects the next rows of a table in the order of its key, or the rows of
//! given keys.
//!
//! Pure text. Only the server compares ranges. So keys of all types, collations and combinations of
//! columns work. Values of keys go back to the server as the untyped text that the server sent.
//! Such a value takes the type of the column that it is compared with. Here keys are only compared
//! for equality, by their texts.

use crate::postgres::publication::quoted;
use crate::table::TableName;
use postgres_protocol::escape::{escape_identifier, escape_literal};

/// Values of a key as the server printed them. Two keys count as equal if and only if their texts
/// are the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RowKey(Vec<Option<Box<str>>>);

impl RowKey {
    /// Makes a key of these parts, one for each column of the key. `None` if a part is not UTF-8,
    /// which a server with client encoding UTF8 never sends.
    #[must_use]
    pub fn new<'a>(parts: impl IntoIterator<Item = Option<&'a [u8]>>) -> Option<Self> {
        let text = |part: Option<&'a [u8]>| match part {
            Some(bytes) => std::str::from_utf8(bytes).ok().map(|text| Some(text.into())),
            None => Some(None),
        };
        parts.into_iter().map(text).collect::<Option<Vec<_>>>().map(RowKey)
    }

    /// The parts, in the order of the key's columns. `None` stands for NULL.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.0.iter().map(Option::as_deref)
    }

    /// Number of bytes of the key: of the texts of all its parts.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.iter().flatten().map(|text| text.len()).sum()
    }
}

impl std::fmt::Debug for RowKey {
    /// Row values stay out of logs and panics.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RowKey({} parts, {} bytes)", self.0.len(), self.size_bytes())
    }
}

/// A column of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    pub(crate) name: String,
    /// True if the column may be NULL. Comparisons then have to count NULL as the last value.
    pub nullable: bool,
}

/// The table, columns and key from which chunks are selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyset {
    pub(crate) table: TableName,
    /// True for a partitioned table, whose rows are in its partitions. Children by inheritance are
    /// tables of their own.
    pub with_children: bool,
    /// Columns to be read, in the order of the stream's tuples.
    pub columns: Vec<String>,
    /// Columns of the key, in the order in which rows are sorted by them. There is at least one.
    pub key: Vec<KeyColumn>,
    /// SQL conditions that a row has to meet: the filter of the publication, and the one of the
    /// request.
    pub conditions: Vec<String>,
}

impl Keyset {
    /// Writes the statement that selects at most `rows` rows beyond `after`, in the order of the
    /// key. Without `after`, the rows begin at the first one. If the key is nullable, all further
    /// rows with the key of the last row are added.
    #[must_use]
    pub fn next(&self, after: Option<&RowKey>, rows: u64) -> String {
        let beyond = after.map(|after| self.beyond(after));
        let order: Vec<String> =
            self.key.iter().map(|column| escape_identifier(&column.name)).collect();
        // A unique index admits several rows whose key holds NULL. A chunk must not separate them.
        let limit = match self.nullable() {
            true => format!("FETCH FIRST {rows} ROWS WITH TIES"),
            false => format!("LIMIT {rows}"),
        };
        format!("{}{} ORDER BY {} {limit}", self.select(), self.filtered(beyond), order.join(", "))
    }

    /// Writes the statement that selects the existing rows of these keys, in any order.
    #[must_use]
    pub fn of_keys<'k>(&self, keys: impl IntoIterator<Item = &'k RowKey>) -> String {
        let one = |key: &RowKey| {
            let pairs = self.key.iter().zip(key.parts());
            let equal: Vec<String> =
                pairs.map(|(column, value)| equals(&column.name, value)).collect();
            format!("({})", equal.join(" AND "))
        };
        let any: Vec<String> = keys.into_iter().map(one).collect();
        let any = if any.is_empty() { "false".to_owned() } else { any.join(" OR ") };
        format!("{}{}", self.select(), self.filtered(Some(format!("({any})"))))
    }

    fn nullable(&self) -> bool {
        self.key.iter().any(|column| column.nullable)
    }

    fn select(&self) -> String {
        let columns: Vec<String> =
            self.columns.iter().map(|column| escape_identifier(column)).collect();
        let only = if self.with_children { "" } else { "ONLY " };
        format!("SELECT {} FROM {only}{}", columns.join(", "), quoted(&self.table))
    }

    fn filtered(&self, range: Option<String>) -> String {
        let own = self.conditions.iter().map(|condition| format!("({condition})"));
        let all: Vec<String> = own.chain(range).collect();
        if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) }
    }

    /// Writes the SQL condition that a row meets if its key is beyond `after`. NULL comes last, as
    /// in ORDER BY.
    fn beyond(&self, after: &RowKey) -> String {
        let names: Vec<String> =
            self.key.iter().map(|column| escape_identifier(&column.name)).collect();
        if !self.nullable() {
            let values: Vec<String> = after.parts().map(literal).collect();
            return match (names.as_slice(), values.as_slice()) {
                ([name], [value]) => format!("{name} > {value}"),
                _ => format!("ROW({}) > ROW({})", names.join(", "), values.join(", ")),
            };
        }
        let mut ways = Vec::new();
        let mut same: Vec<String> = Vec::new();
        for ((column, name), value) in self.key.iter().zip(&names).zip(after.parts()) {
            // No value of a column lies beyond NULL.
            if value.is_some() {
                let higher = match column.nullable {
                    true => format!("({name} > {value} OR {name} IS NULL)", value = literal(value)),
                    false => format!("{name} > {}", literal(value)),
                };
                let way: Vec<&str> =
                    same.iter().map(String::as_str).chain([higher.as_str()]).collect();
                ways.push(format!("({})", way.join(" AND ")));
            }
            same.push(equals(&column.name, value));
        }
        if ways.is_empty() { "false".to_owned() } else { format!("({})", ways.join(" OR ")) }
    }
}

fn equals(column: &str, value: Option<&str>) -> String {
    let name = escape_identifier(column);
    match value {
        Some(_) => format!("{name} = {}", literal(value)),
        None => format!("{name} IS NULL"),
    }
}

/// Writes a value as an SQL literal without a type: the literal takes the type of the column that
/// it is compared with. `None` becomes NULL.
fn literal(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |text| escape_literal(text).trim_start().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn keyset(key: &[(&str, bool)], conditions: &[&str]) -> Keyset {
        Keyset {
            table: TableName::new("public", "t"),
            with_children: false,
            columns: vec!["a".to_owned(), "b\"x".to_owned()],
            key: key
                .iter()
                .map(|(name, nullable)| KeyColumn { name: (*name).to_owned(), nullable: *nullable })
                .collect(),
            conditions: conditions.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn key(parts: &[Option<&str>]) -> RowKey {
        RowKey::new(parts.iter().map(|part| part.map(str::as_bytes))).unwrap()
    }

    #[track_caller]
    fn check(sql: &str, expect: Expect) {
        expect.assert_eq(sql);
    }

    #[test]
    fn a_chunk_begins_beyond_the_last_key_in_the_order_of_the_server() {
        let one = keyset(&[("a", false)], &[]);
        check(
            &one.next(None, 5),
            expect![[r#"SELECT "a", "b""x" FROM ONLY "public"."t" ORDER BY "a" LIMIT 5"#]],
        );
        check(
            &one.next(Some(&key(&[Some("O'\\x")])), 5),
            expect![[
                r#"SELECT "a", "b""x" FROM ONLY "public"."t" WHERE "a" > E'O''\\x' ORDER BY "a" LIMIT 5"#
            ]],
        );
        let two = keyset(&[("a", false), ("b", false)], &["price > 5", "tenant = 7 OR true"]);
        check(
            &two.next(Some(&key(&[Some("1"), Some("")])), 9),
            expect![[
                r#"SELECT "a", "b""x" FROM ONLY "public"."t" WHERE (price > 5) AND (tenant = 7 OR true) AND ROW("a", "b") > ROW('1', '') ORDER BY "a", "b" LIMIT 9"#
            ]],
        );
    }

    #[test]
    fn null_stands_last_and_its_ties_stay_together() {
        let two = keyset(&[("a", true), ("b", false)], &[]);
        check(
            &two.next(Some(&key(&[Some("1"), Some("2")])), 9),
            expect![[
                r#"SELECT "a", "b""x" FROM ONLY "public"."t" WHERE ((("a" > '1' OR "a" IS NULL)) OR ("a" = '1' AND "b" > '2')) ORDER BY "a", "b" FETCH FIRST 9 ROWS WITH TIES"#
            ]],
        );
        check(
            &two.next(Some(&key(&[None, Some("2")])), 9),
            expect![[
                r#"SELECT "a", "b""x" FROM ONLY "public"."t" WHERE (("a" IS NULL AND "b" > '2')) ORDER BY "a", "b" FETCH FIRST 9 ROWS WITH TIES"#
            ]],
        );
        let one = keyset(&[("a", true)], &[]);
        check(
            &one.next(Some(&key(&[None])), 9),
            expect![[
                r#"SELECT "a", "b""x" FROM ONLY "public"."t" WHERE false ORDER BY "a" FETCH FIRST 9 ROWS WITH TIES"#
            ]],
        );
    }

    #[test]
    fn given_keys_are_read_by_equality() {
        let two = keyset(&[("a", true), ("b", false)], &["x"]);
        let keys = [key(&[None, Some("2")]), key(&[Some("it's"), Some("3")])];
        check(
            &two.of_keys(&keys),
            expect![[
                r#"SELECT "a", "b""x" FROM ONLY "public"."t" WHERE (x) AND (("a" IS NULL AND "b" = '2') OR ("a" = 'it''s' AND "b" = '3'))"#
            ]],
        );
        check(
            &two.of_keys([]),
            expect![[r#"SELECT "a", "b""x" FROM ONLY "public"."t" WHERE (x) AND (false)"#]],
        );
    }

    #[test]
    fn a_key_is_the_exact_text_of_its_parts() {
        assert_ne!(key(&[Some("1.0")]), key(&[Some("1.00")]));
        assert_ne!(key(&[None]), key(&[Some("")]));
        assert_ne!(key(&[Some("ab"), Some("c")]), key(&[Some("a"), Some("bc")]));
        assert_eq!(RowKey::new([Some(&[0xFF][..])]), None);
    }

    #[test]
    fn a_keys_values_are_not_printed() {
        assert_eq!(format!("{:?}", key(&[Some("secret")])), "RowKey(1 parts, 6 bytes)");
    }
}
