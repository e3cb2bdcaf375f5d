//! Reads from a record that we wrote where the record's change is in the WAL.
//!
//! The identity headers name the commit. Without them the source block of the value names the
//! change and its transaction. A transform can remove both. The caller fetches the schema of a
//! value in Avro.

use crate::lsn::{Lsn, Xid};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use serde_json::Value as Json;

/// Where the change of a record is in the WAL, as the record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The record names the commit of its change, and the epoch.
    Commit {
        /// Epoch of the position.
        epoch: u64,
        /// LSN of the commit.
        commit: Lsn,
    },
    /// The record names the change itself. The commit of the change follows it in the WAL.
    Change {
        /// LSN of the change, which lies below the LSN of its commit.
        lsn: Lsn,
        /// The transaction of the change. `None` for a message outside a transaction.
        xid: Option<Xid>,
    },
    /// The record is a row of a copy, so it belongs to no change in the WAL.
    Copied,
    /// The record comes from another pipeline, whose positions cannot be compared with ours.
    Foreign,
}

/// The ordinals of copied rows begin here: their upper bits are the term, which begins with 1.
const COPIED_FROM: u64 = 1 << 40;

/// Reads the identity headers. `None` if the record has none, or if they cannot be read.
#[must_use]
pub fn by_headers(headers: &[(&str, Option<&[u8]>)]) -> Option<Placed> {
    let text = |name: &str| {
        let (_, value) = headers.iter().find(|(header, _)| *header == name)?;
        std::str::from_utf8((*value)?).ok()
    };
    let commit = text("wellspring.commit_lsn")?;
    let commit = commit.parse().ok().or_else(|| commit.parse().ok().map(Lsn::new))?;
    let ordinal = text("wellspring.ordinal").and_then(|ordinal| ordinal.parse::<u64>().ok());
    if ordinal.is_some_and(|ordinal| ordinal >= COPIED_FROM) {
        return Some(Placed::Copied);
    }
    Some(Placed::Commit { epoch: text("wellspring.epoch")?.parse().ok()?, commit })
}

/// Reads the source block of a value in JSON, with or without its schema beside it. `pipeline` is
/// the prefix of our topics, which the source block names. `None` if no source block with an LSN
/// can be read.
#[must_use]
pub fn by_json(value: &[u8], pipeline: &str) -> Option<Placed> {
    let value: Json = serde_json::from_slice(value).ok()?;
    let source = value.get("payload").unwrap_or(&value).get("source")?;
    let name = source.get("name").and_then(Json::as_str);
    if name.is_some_and(|name| name != pipeline) {
        return Some(Placed::Foreign);
    }
    if source.get("snapshot").is_some_and(|is| !matches!(is.as_str(), None | Some("false"))) {
        return Some(Placed::Copied);
    }
    let number = |name: &str| source.get(name).and_then(Json::as_u64);
    placed(number("lsn")?, number("txId"))
}

/// Returns the id of the schema of a value in Confluent's framing, and the value's own bytes.
/// `None` if the value has no such framing.
#[must_use]
pub fn framed(value: &[u8]) -> Option<(u32, &[u8])> {
    let (frame, body) = value.split_at_checked(5)?;
    let [0, id @ ..] = frame else { return None };
    Some((u32::from_be_bytes(id.try_into().ok()?), body))
}

/// Reads the source block of a value in Avro, without Confluent's header. `pipeline` is the prefix
/// of our topics, which the source block names. `None` if no source block with an LSN can be read.
#[must_use]
pub fn by_avro(schema: &Schema, mut body: &[u8], pipeline: &str) -> Option<Placed> {
    let reader = GenericDatumReader::builder(schema).build().ok()?;
    let value = reader.read_value(&mut body).ok()?;
    let source = field(&value, "source")?;
    if let Some(Value::String(name)) = field(source, "name")
        && name != pipeline
    {
        return Some(Placed::Foreign);
    }
    if let Some(Value::String(is)) = field(source, "snapshot")
        && is != "false"
    {
        return Some(Placed::Copied);
    }
    let number = |name: &str| match field(source, name)? {
        Value::Long(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    placed(number("lsn")?, number("txId"))
}

fn placed(lsn: u64, xid: Option<u64>) -> Option<Placed> {
    let xid = xid.map(u32::try_from).transpose().ok()?.map(Xid);
    Some(Placed::Change { lsn: Lsn::new(lsn), xid })
}

/// Returns the value of a field of an Avro record, without the union around the value.
fn field<'a>(record: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Record(fields) = inner(record) else { return None };
    fields.iter().find(|(field, _)| field == name).map(|(_, value)| inner(value))
}

fn inner(value: &Value) -> &Value {
    match value {
        Value::Union(_, inner) => inner,
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGE: Placed = Placed::Change { lsn: Lsn::new(1100), xid: Some(Xid(7)) };

    #[test]
    fn identity_headers_name_the_commit() {
        let commit = Some(Placed::Commit { epoch: 2, commit: Lsn::new(16) });
        let headers = |lsn: &'static str| {
            [("wellspring.epoch", Some(&b"2"[..])), ("wellspring.commit_lsn", Some(lsn.as_bytes()))]
        };
        assert_eq!(by_headers(&headers("0/10")), commit);
        assert_eq!(by_headers(&headers("16")), commit);
        assert_eq!(by_headers(&headers("x")), None);
        assert_eq!(by_headers(&[("wellspring.epoch", Some(b"2"))]), None);
    }

    #[test]
    fn a_source_block_names_the_change() {
        let bare = br#"{"op":"c","source":{"snapshot":"false","lsn":1100,"txId":7}}"#;
        assert_eq!(by_json(bare, "shop"), Some(CHANGE));
        let beside = br#"{"schema":{},"payload":{"source":{"lsn":1100,"txId":7}}}"#;
        assert_eq!(by_json(beside, "shop"), Some(CHANGE));
        let copied = br#"{"source":{"snapshot":"last","lsn":1100,"txId":7}}"#;
        assert_eq!(by_json(copied, "shop"), Some(Placed::Copied));
        let message = Some(Placed::Change { lsn: Lsn::new(5), xid: None });
        assert_eq!(by_json(br#"{"source":{"lsn":5,"txId":null}}"#, "shop"), message);
        for unplaced in [&b"{\"id\":1}"[..], b"not json", b"", b"{\"source\":{}}"] {
            assert_eq!(by_json(unplaced, "shop"), None);
        }
    }

    #[test]
    fn a_source_block_in_avro_names_the_change() {
        let text = r#"{"type":"record","name":"Envelope","fields":[
            {"name":"source","type":{"type":"record","name":"Source","fields":[
              {"name":"snapshot","type":["string","null"]},
              {"name":"txId","type":["null","long"]},{"name":"lsn","type":["null","long"]}]}}]}"#;
        let schema = Schema::parse_str(text).unwrap();
        // The fields of the source are "false", 7 and 1100.
        let value = b"\0\0\0\0\x09\0\x0afalse\x02\x0e\x02\x98\x11";
        let (id, body) = framed(value).unwrap();
        assert_eq!((id, by_avro(&schema, body, "shop")), (9, Some(CHANGE)));
        assert_eq!(
            by_avro(&schema, b"\0\x08true\x02\x0e\x02\x98\x11", "shop"),
            Some(Placed::Copied)
        );
        assert_eq!(by_avro(&schema, b"\0", "shop"), None, "it is cut off");
        assert_eq!(framed(b"\x01\0\0\0\x09"), None);
    }

    #[test]
    fn a_record_of_another_pipeline_has_no_place() {
        let own = br#"{"source":{"name":"shop","lsn":1100,"txId":7}}"#;
        assert_eq!(by_json(own, "shop"), Some(CHANGE));
        assert_eq!(by_json(own, "bank"), Some(Placed::Foreign));
        let text = r#"{"type":"record","name":"Envelope","fields":[
            {"name":"source","type":{"type":"record","name":"Source","fields":[
              {"name":"name","type":"string"},
              {"name":"txId","type":"long"},{"name":"lsn","type":"long"}]}}]}"#;
        let schema = Schema::parse_str(text).unwrap();
        let value = b"\x08shop\x0e\x98\x11";
        assert_eq!(by_avro(&schema, value, "shop"), Some(CHANGE));
        assert_eq!(by_avro(&schema, value, "bank"), Some(Placed::Foreign));
    }

    #[test]
    fn the_ordinal_of_a_copied_row_says_that_it_is_one() {
        let headers = |ordinal: &'static [u8]| {
            let epoch = ("wellspring.epoch", Some(&b"1"[..]));
            let commit = ("wellspring.commit_lsn", Some(&b"0/10"[..]));
            by_headers(&[epoch, commit, ("wellspring.ordinal", Some(ordinal))])
        };
        assert_eq!(headers(b"1099511627776"), Some(Placed::Copied));
        let commit = Placed::Commit { epoch: 1, commit: Lsn::new(16) };
        assert_eq!(headers(b"1099511627775"), Some(commit));
    }
}
