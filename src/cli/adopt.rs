//! `wellspring adopt`: takes over from a stopped Debezium, on the same slot and without a copy.

mod java_map;

use super::exit::{Code, Failure};
use super::input::{self, Unread};
use super::{block_on, logging, print};
use crate::agent::adopt::{self, Adopted, Offset};
use crate::agent::supervise::PipelineError;
use crate::config::Checked;
use crate::kafka;
use crate::plans::SinkConfig;
use crate::postgres::{PgError, Sql, publication};
use crate::table::TableName;
use crate::table::names::{NameOf, NamePattern};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The most bytes of an offset file that are read. The file of one pipeline has about a kilobyte.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The most rows of an offset table that are read, newest first. The table has one row for each
/// pipeline.
const TABLE_ROWS_MAX: usize = 10_000;

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Arguments {
    /// Read Kafka Connect's offsets topic [default: connect-offsets]
    #[arg(long, value_name = "TOPIC", num_args = 0..=1, default_missing_value = "connect-offsets")]
    from_connect_offsets: Option<String>,

    /// Read the offset file of Debezium Server or of Connect in standalone mode
    #[arg(long, value_name = "FILE")]
    from_offset_file: Option<PathBuf>,

    /// Read the table of Debezium's JDBC offset storage, in the database of postgres.url [default:
    /// debezium_offset_storage]
    #[arg(long, value_name = "TABLE", num_args = 0..=1, default_missing_value = "debezium_offset_storage")]
    from_offset_table: Option<String>,
}

/// Keys and values that Debezium's offset storage holds, oldest first. A value of `None` deletes
/// the offset of its key.
type Stored = Vec<(Vec<u8>, Option<Vec<u8>>)>;

pub fn run(checked: &Checked, arguments: &Arguments) -> Result<Code, Failure> {
    logging::start(checked.log);
    let config = checked.pipeline(false);
    let prefix = &checked.encode.prefix;
    block_on(async {
        let (place, stored) = stored(checked, arguments).await?;
        let (connector, offset) = find(&stored, prefix, &place)?;
        let fitting = adopt::look(&config, offset).await?;
        // The offset is read a second time: a Debezium that has lost the slot and still runs may
        // have stored a newer offset since the first read. Then nothing is adopted.
        let (_, again) = self::stored(checked, arguments).await?;
        let (_, again) = find(&again, prefix, &place)?;
        let adopted = fitting.adopt(again).await?;
        print(&said(&connector, &place, &config.slot, &adopted));
        Ok(Code::Done)
    })?
}

/// Reads all offsets from the topic, file or table that the arguments name. Returns its name for
/// messages, and the offsets.
async fn stored(checked: &Checked, arguments: &Arguments) -> Result<(String, Stored), Failure> {
    let Arguments { from_connect_offsets, from_offset_file, from_offset_table } = arguments;
    Ok(match (from_connect_offsets, from_offset_file, from_offset_table) {
        (Some(topic), ..) => (format!("topic `{topic}`"), from_topic(checked, topic).await?),
        (None, Some(path), _) => (format!("file {}", path.display()), from_file(path)?),
        (None, None, Some(table)) => {
            (format!("table `{table}`"), from_table(checked, table).await?)
        }
        (None, None, None) => {
            let what = vec!["no offset is named".to_owned()];
            return Err(told("adopt", what, "name a topic, a file or a table"));
        }
    })
}

async fn from_topic(checked: &Checked, topic: &str) -> Result<Stored, Failure> {
    match &checked.sink {
        SinkConfig::Kafka(kafka) => Ok(kafka::read_whole(kafka, topic).await?),
        SinkConfig::Stdout { .. } => {
            let what = "with sink = \"stdout\" there is no Kafka to read the topic from".to_owned();
            Err(told(
                "read the offsets topic",
                vec![what],
                "name the offset file with --from-offset-file",
            ))
        }
    }
}

fn from_file(path: &Path) -> Result<Stored, Failure> {
    let bytes = input::file(path, FILE_BYTES_MAX).map_err(|error| {
        let hint = match error {
            Unread::Failed(_) => "name a file that can be read",
            Unread::TooLong { .. } => "name the file that offset.storage.file.filename names",
        };
        told("read the offset file", vec![format!("{}: {error}", path.display())], hint)
    })?;
    java_map::read(&bytes)
        .map(|map| map.into_iter().map(|(key, value)| (key, Some(value))).collect())
        .ok_or_else(|| {
            let what = format!(
                "{} is not a file of Kafka Connect's FileOffsetBackingStore",
                path.display()
            );
            told(
                "read the offset file",
                vec![what],
                "name the file that offset.storage.file.filename names",
            )
        })
}

/// Reads the newest rows of the offset table, and returns them oldest first.
async fn from_table(checked: &Checked, table: &str) -> Result<Stored, Failure> {
    let name = offset_table(table).ok_or_else(|| {
        let what = format!("`{table}` is not the name of one table");
        told(
            "read the offset table",
            vec![what],
            "write it as namespace.table, with quotes where Postgres wants them",
        )
    })?;
    let sql = Sql::connect(&checked.postgres).await.map_err(PipelineError::from)?;
    let quoted = publication::quoted(&name);
    let newest = format!(
        "SELECT offset_key, offset_val FROM {quoted} ORDER BY record_insert_ts DESC, \
         record_insert_seq DESC LIMIT {TABLE_ROWS_MAX}"
    );
    let rows = sql.query(&newest).await.map_err(|error: PgError| {
        let hint = "name the table that offset.storage.jdbc.offset.table.name names, and GRANT \
            SELECT on it";
        told(
            "read the offset table",
            vec![format!("{quoted}: {}", crate::continuity::Chain(&error))],
            hint,
        )
    })?;
    let entry = |row: Vec<Option<String>>| {
        let mut fields = row.into_iter();
        let (key, value) = (fields.next()??, fields.next()?);
        Some((key.into_bytes(), value.map(String::into_bytes)))
    };
    Ok(rows.into_iter().rev().filter_map(entry).collect())
}

/// Reads the name of an offset table. `None` if it does not name exactly one table. A name without
/// a namespace is that of a table in `public`.
fn offset_table(name: &str) -> Option<TableName> {
    let read = |name: &str| match NamePattern::read(name, NameOf::Table).ok()?.exact().as_deref() {
        Some([namespace, table]) => Some(TableName::new(namespace, table)),
        _ => None,
    };
    read(name).or_else(|| read(&format!("public.{name}")))
}

/// Finds the one connector with this `topic.prefix`, and returns its name and its newest offset. It
/// is an error if there is no such connector, or more than one.
fn find(stored: &Stored, prefix: &str, place: &str) -> Result<(String, Offset), Failure> {
    let mut newest: BTreeMap<String, Option<&[u8]>> = BTreeMap::new();
    for (key, value) in stored {
        // A key is ["<connector>",{"server":"<prefix>"}].
        let Ok(key) = serde_json::from_slice::<(String, BTreeMap<String, String>)>(key) else {
            continue;
        };
        if key.1.get("server").is_some_and(|server| server == prefix) {
            newest.insert(key.0, value.as_deref());
        }
    }
    let mut found = newest.into_iter().filter_map(|(connector, value)| Some((connector, value?)));
    match (found.next(), found.next()) {
        (None, _) => {
            let what =
                format!("{place} holds no offset of a connector with topic.prefix `{prefix}`");
            Err(told(
                "find the offset",
                vec![what],
                "topics.prefix has to be the connector's topic.prefix",
            ))
        }
        (Some((one, _)), Some((other, _))) => {
            let what = format!(
                "{place} holds offsets of `{one}` and `{other}` with topic.prefix `{prefix}`"
            );
            Err(told(
                "find the offset",
                vec![what],
                "reset the offsets of the one that is not taken over",
            ))
        }
        (Some((connector, value)), None) => match adopt::offset(value) {
            Some(offset) => Ok((connector, offset)),
            None => {
                let what = format!(
                    "the offset of `{connector}` in {place} is not one of the connector for \
                     Postgres"
                );
                Err(told(
                    "find the offset",
                    vec![what],
                    "name the topic or file of the connector for Postgres",
                ))
            }
        },
    }
}

fn said(connector: &str, place: &str, slot: &str, adopted: &Adopted) -> String {
    let Adopted { record, from, offset, server } = adopted;
    format!(
        "adopted connector `{connector}` from {place}\n\
         slot `{slot}` is confirmed up to {from}, the stored offset is {} (last event {}), the \
         server's log ends at {server}\n\
         they fit: every change up to {from} is in Kafka, what follows is sent by us; up to {} \
         some of it comes again\n\
         wrote our record: term {}, epoch {}, {} tables. `wellspring run` goes on; do not start \
         Debezium again.",
        offset.committed,
        offset.sent,
        offset.sent.max(offset.committed),
        record.term,
        record.epoch,
        record.tables.len()
    )
}

fn told(primary: &str, details: Vec<String>, hint: &str) -> Failure {
    Failure { code: Code::Continuity, primary: primary.to_owned(), details, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(entries: &[(&str, Option<&str>)]) -> Stored {
        entries
            .iter()
            .map(|(k, v)| (k.as_bytes().to_vec(), v.map(|v| v.as_bytes().to_vec())))
            .collect()
    }

    #[test]
    fn the_newest_offset_of_the_prefix_counts() {
        let entries = stored(&[
            (r#"["a",{"server":"shop"}]"#, Some(r#"{"lsn":1}"#)),
            (r#"["b",{"server":"other"}]"#, Some(r#"{"lsn":9}"#)),
            ("nonsense", Some("{}")),
            (r#"["a",{"server":"shop"}]"#, Some(r#"{"lsn":2}"#)),
        ]);
        let (connector, offset) = find(&entries, "shop", "t").unwrap();
        assert_eq!((connector.as_str(), offset.sent), ("a", crate::lsn::Lsn::new(2)));
    }

    #[test]
    fn an_offset_table_is_one_table_of_public_unless_it_says_otherwise() {
        let named = |name: &str| offset_table(name).map(|table| table.to_string());
        assert_eq!(
            named("debezium_offset_storage").as_deref(),
            Some("public.debezium_offset_storage")
        );
        assert_eq!(named("ops.offsets").as_deref(), Some("ops.offsets"));
        assert_eq!(offset_table("ops.\"Off sets\""), Some(TableName::new("ops", "Off sets")));
        assert_eq!((named("ops.*"), named(""), named("a.b.c")), (None, None, None));
    }

    #[test]
    fn no_offset_and_two_connectors_are_refused() {
        let gone = stored(&[
            (r#"["a",{"server":"shop"}]"#, Some(r#"{"lsn":1}"#)),
            (r#"["a",{"server":"shop"}]"#, None),
        ]);
        assert!(find(&gone, "shop", "t").is_err());
        let two = stored(&[
            (r#"["a",{"server":"shop"}]"#, Some(r#"{"lsn":1}"#)),
            (r#"["b",{"server":"shop"}]"#, Some(r#"{"lsn":1}"#)),
        ]);
        assert!(find(&two, "shop", "t").is_err());
    }
}
