//! Writes each change of a detached table and each skipped change as a JSON text, with the server's
//! texts of its columns.
//!
//! The form is not Debezium's and has no schema, because it must be writable whatever is wrong with
//! the table. The operator's rules over columns apply in the strictest way: a column that is left
//! out or masked is not in the text at all, because the masking may be the step that failed.

use super::form::{Form, Json, push_code};
use super::messages::MESSAGES;
use super::modes::Code;
use super::{Config, envelope::push_number};
use crate::change::{Context, RelationShape, Row};
use crate::pgoutput::{Cell, OldTuple, Tuple};

/// The version of the form of the JSON texts in the quarantine topic. The field `format` of each
/// text holds this number.
const FORMAT: u64 = 1;

/// The part of the quarantine topic's name after the prefix.
const TOPIC_SUFFIX: &str = "wellspring-quarantine";

/// How changes of one version of a table are written to the quarantine topic.
#[derive(Debug)]
pub struct Quarantine {
    table: String,
    key: Vec<u8>,
    columns: Vec<RawColumn>,
}

#[derive(Debug)]
struct RawColumn {
    name: String,
    /// Whether the column's values are written: no rule leaves the column out or masks it.
    shown: bool,
    in_identity: bool,
}

/// The sizes that a JSON text states in place of its values, because the values are too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The bytes that the record would have with its values: its key and its text together.
    pub size_bytes: usize,
    /// The most bytes that a record of the quarantine topic may have.
    pub max_bytes: usize,
}

impl Config {
    /// Returns the topic for changes of detached tables and for skipped changes:
    /// `<prefix>.wellspring-quarantine`.
    #[must_use]
    pub fn quarantine_topic(&self) -> String {
        super::naming::topic(&[&self.prefix, TOPIC_SUFFIX].join("."))
    }
}

impl Quarantine {
    /// Decides how the changes of this table are written to the quarantine topic. `shape` is the
    /// table as the stream describes it. The rules of `config` say which columns are left out,
    /// masked columns included.
    #[must_use]
    pub fn new(config: &Config, shape: &RelationShape) -> Self {
        let rules = &*config.rules;
        let column = |column: &crate::change::ShapeColumn| {
            let name = [&*shape.namespace, &*shape.name, &*column.name];
            let listed = rules.include.is_empty() || rules.include.lists(&name);
            let hidden = rules.exclude.guards(&name)
                || rules.masks.iter().any(|mask| mask.columns.guards(&name));
            RawColumn {
                name: column.name.clone(),
                shown: listed && !hidden,
                in_identity: column.in_identity,
            }
        };
        let table = format!("{}.{}", shape.namespace, shape.name);
        let mut key = Vec::new();
        Json::text(&table, &mut key);
        Quarantine { table, key, columns: shape.columns.iter().map(column).collect() }
    }

    /// Returns the table as `namespace.name`, or the name of logical messages.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Returns the key of all records of this table in the quarantine topic: the table's name as a
    /// JSON text. With one key, the records are in one partition, in their order.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Replaces the content of `out` by the JSON text of a change.
    pub fn write(&self, context: &Context<'_>, row: &Row<'_>, out: &mut Vec<u8>) {
        let (old, new) = match *row {
            Row::Insert { new } | Row::Read { new } => (None, Some(new)),
            Row::Update { old, new } => (old, Some(new)),
            Row::Delete { old } => (Some(old), None),
            Row::Truncate => (None, None),
        };
        self.head(context, operation(row), out);
        field("before", out);
        match old {
            Some(old) => self.row(old.tuple(), matches!(old, OldTuple::Key(_)), out),
            None => out.extend_from_slice(b"null"),
        }
        field("after", out);
        match new {
            Some(new) => self.row(new, false, out),
            None => out.extend_from_slice(b"null"),
        }
        field("unchanged", out);
        out.push(b'[');
        let unsent = new.into_iter().flat_map(|new| self.columns.iter().zip(new.cells()));
        let unsent =
            unsent.filter(|(column, cell)| column.shown && matches!(cell, Cell::Unchanged));
        for (index, (column, _)) in unsent.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            Json::text(&column.name, out);
        }
        out.extend_from_slice(b"]}");
    }

    /// Replaces the content of `out` by the JSON text of a change without its values. The text says
    /// that the values are too large.
    pub fn write_without_values(
        &self,
        context: &Context<'_>,
        row: &Row<'_>,
        why: TooLarge,
        out: &mut Vec<u8>,
    ) {
        self.head(context, operation(row), out);
        left_out(why, out);
        out.push(b'}');
    }

    /// Decides how logical messages are written to the quarantine topic.
    #[must_use]
    pub fn of_messages() -> Self {
        let mut key = Vec::new();
        Json::text(MESSAGES, &mut key);
        Quarantine { table: MESSAGES.to_owned(), key, columns: Vec::new() }
    }

    /// Replaces the content of `out` by the JSON text of a logical message. Content that is too
    /// large is left out.
    pub fn write_message(
        &self,
        context: &Context<'_>,
        prefix: &str,
        content: Result<&[u8], TooLarge>,
        out: &mut Vec<u8>,
    ) {
        self.head(context, "m", out);
        field("prefix", out);
        Json::text(prefix, out);
        match content {
            Ok(content) => {
                field("content", out);
                bytes(content, out);
            }
            Err(why) => left_out(why, out),
        }
        out.push(b'}');
    }

    fn head(&self, context: &Context<'_>, operation: &str, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(b"{\"format\":");
        push_number(FORMAT, out);
        field("table", out);
        Json::text(&self.table, out);
        field("op", out);
        Json::text(operation, out);
        field("commit_lsn", out);
        Json::text(&context.position.commit.to_string(), out);
        field("ordinal", out);
        push_number(context.position.ordinal, out);
        field("xid", out);
        match context.xid {
            Some(xid) => push_number(u64::from(xid.0), out),
            None => out.extend_from_slice(b"null"),
        }
        field("committed_us", out);
        Json::int(context.committed_at.unix_micros(), out);
    }

    /// Writes the columns of a row by their names. Columns that a rule hides and values that were
    /// not sent are left out. With `only_identity`, columns outside of the identity are left out
    /// too.
    fn row(&self, tuple: Tuple<'_>, only_identity: bool, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut first = true;
        for (column, cell) in self.columns.iter().zip(tuple.cells()) {
            if !column.shown
                || matches!(cell, Cell::Unchanged)
                || (only_identity && !column.in_identity)
            {
                continue;
            }
            if !std::mem::replace(&mut first, false) {
                out.push(b',');
            }
            Json::text(&column.name, out);
            out.push(b':');
            match cell {
                Cell::Text(text) => bytes(text, out),
                Cell::Binary(bytes) => hex(bytes, out),
                Cell::Null | Cell::Unchanged => out.extend_from_slice(b"null"),
            }
        }
        out.push(b'}');
    }
}

fn operation(row: &Row<'_>) -> &'static str {
    match row {
        Row::Insert { .. } => "c",
        Row::Update { .. } => "u",
        Row::Delete { .. } => "d",
        Row::Read { .. } => "r",
        Row::Truncate => "t",
    }
}

fn left_out(why: TooLarge, out: &mut Vec<u8>) {
    field("values_left_out", out);
    out.extend_from_slice(b"{\"size_bytes\":");
    push_number(why.size_bytes as u64, out);
    out.extend_from_slice(b",\"max_bytes\":");
    push_number(why.max_bytes as u64, out);
    out.push(b'}');
}

/// Writes UTF-8 as a text, and other bytes in hexadecimal. The server sends UTF-8 for columns, and
/// a logical message may hold anything.
fn bytes(text: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(text) {
        Ok(text) => Json::text(text, out),
        Err(_) => hex(text, out),
    }
}

fn field(name: &str, out: &mut Vec<u8>) {
    out.push(b',');
    Json::text(name, out);
    out.push(b':');
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"hex\":\"");
    push_code(Code::Hex, bytes, out);
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Marker, Position, ShapeColumn};
    use crate::encode::rules::{Allowed, MaskRule, Method};
    use crate::lsn::{Lsn, Oid, PgMicros, Xid};
    use crate::pgoutput::{self, Message};
    use crate::table::names::{NameList, NameOf};
    use std::sync::Arc;

    #[test]
    fn a_message_is_told_with_its_content_or_its_size() {
        let quarantine = Quarantine::of_messages();
        let context = Context {
            position: Position { commit: Lsn::new(16), ordinal: 2 },
            lsn: Lsn::new(8),
            last_commit: None,
            xid: None,
            committed_at: PgMicros::from_unix_micros(5),
            origin: None,
            xmin: None,
            marker: Marker::Streamed,
        };
        let head = r#"{"format":1,"table":"logical messages","op":"m","commit_lsn":"0/10","ordinal":2,"xid":null,"committed_us":5,"prefix":"p","#;
        let mut out = Vec::new();
        for (content, expected) in [
            (Ok(&b"x\"y"[..]), r#""content":"x\"y"}"#),
            (Ok(&[0xff, 0x01][..]), r#""content":{"hex":"ff01"}}"#),
            (
                Err(TooLarge { size_bytes: 9, max_bytes: 8 }),
                r#""values_left_out":{"size_bytes":9,"max_bytes":8}}"#,
            ),
        ] {
            quarantine.write_message(&context, "p", content, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("{head}{expected}"));
        }
    }

    fn shape() -> RelationShape {
        let column = |name: &str, in_identity| ShapeColumn {
            name: name.to_owned(),
            type_oid: Oid(25),
            typmod: -1,
            in_identity,
        };
        RelationShape {
            oid: Oid(1),
            namespace: "public".to_owned(),
            name: "t".to_owned(),
            identity: b'd',
            columns: vec![
                column("id", true),
                column("name", false),
                column("card", false),
                column("big", false),
            ],
        }
    }

    fn context() -> Context<'static> {
        Context {
            position: Position { commit: Lsn::new(0x10), ordinal: 3 },
            lsn: Lsn::new(0x8),
            last_commit: None,
            xid: Some(Xid(7)),
            committed_at: PgMicros::from_unix_micros(1_500_000),
            origin: None,
            xmin: None,
            marker: Marker::Streamed,
        }
    }

    fn names(list: &[&str]) -> NameList {
        let list: Vec<String> = list.iter().map(|name| (*name).to_owned()).collect();
        NameList::read(&list, NameOf::Column).unwrap_or_else(|_| panic!("names"))
    }

    fn update() -> Vec<u8> {
        let mut message = b"U\0\0\0\x01K\0\x04t\0\0\0\x011nnnN\0\x04".to_vec();
        for value in ["2", "a\"b", "4711"] {
            message.push(b't');
            message.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            message.extend(value.as_bytes());
        }
        message.push(b'u');
        message
    }

    fn text(
        config: &Config,
        write: impl Fn(&Quarantine, &Row<'_>, &mut Vec<u8>),
    ) -> serde_json::Value {
        let bytes = update();
        let Ok(Message::Update { old, new, .. }) = pgoutput::decode(&bytes) else {
            panic!("an update")
        };
        let mut out = b"what was there before".to_vec();
        write(&Quarantine::new(config, &shape()), &Row::Update { old, new }, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_change_is_told_with_its_place_its_key_before_and_what_was_not_sent() {
        let written =
            text(&Config::new("p"), |quarantine, row, out| quarantine.write(&context(), row, out));
        let expected = serde_json::json!({
            "format": 1, "table": "public.t", "op": "u", "commit_lsn": "0/10", "ordinal": 3, "xid": 7,
            "committed_us": 1_500_000,
            "before": {"id": "1"},
            "after": {"id": "2", "name": "a\"b", "card": "4711"},
            "unchanged": ["big"],
        });
        assert_eq!(written, expected);
        assert_eq!(Config::new("p").quarantine_topic(), "p.wellspring-quarantine");
    }

    #[test]
    fn a_column_that_a_rule_masks_or_leaves_out_is_not_there() {
        let mut config = Config::new("p");
        let rules = Arc::make_mut(&mut config.rules);
        rules.exclude = names(&["public.t.big"]);
        let method = Method::Stars(3);
        let columns = names(&["public.t.card"]);
        rules.masks.push(MaskRule {
            name: "m".to_owned(),
            columns,
            method,
            other_types_pass: Allowed::No,
        });
        let written = text(&config, |quarantine, row, out| quarantine.write(&context(), row, out));
        assert_eq!(written["after"], serde_json::json!({"id": "2", "name": "a\"b"}));
        assert_eq!(written["unchanged"], serde_json::json!([]));
    }

    #[test]
    fn one_that_is_too_large_says_so_and_has_no_values() {
        let why = TooLarge { size_bytes: 90, max_bytes: 80 };
        let written = text(&Config::new("p"), |quarantine, row, out| {
            quarantine.write_without_values(&context(), row, why, out)
        });
        assert_eq!(
            written["values_left_out"],
            serde_json::json!({"size_bytes": 90, "max_bytes": 80})
        );
        assert_eq!((&written["op"], &written["ordinal"]), (&"u".into(), &3.into()));
        assert!(written.get("before").is_none() && written.get("after").is_none());
    }
}
