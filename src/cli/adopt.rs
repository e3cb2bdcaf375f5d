//! `wellspring adopt`: goes on where a stopped Debezium ended, from the same slot and without a copy.

mod java_map;

use super::exit::{Code, Failure};
use super::{block_on, logging, print};
use crate::config::Checked;
use crate::kafka;
use crate::pipeline::SinkConfig;
use crate::pipeline::adopt::{self, Adopted, Offset};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The largest offset file taken; one pipeline's takes a kilobyte.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Arguments {
    /// Read Kafka Connect's offsets topic [default: connect-offsets]
    #[arg(long, value_name = "TOPIC", num_args = 0..=1, default_missing_value = "connect-offsets")]
    from_connect_offsets: Option<String>,

    /// Read the offset file of Debezium Server or of Connect in standalone mode
    #[arg(long, value_name = "FILE")]
    from_offset_file: Option<PathBuf>,
}

/// Key and value as stored, newest last.
type Stored = Vec<(Vec<u8>, Option<Vec<u8>>)>;

pub fn run(checked: &Checked, arguments: &Arguments) -> Result<Code, Failure> {
    logging::start(checked.log);
    let config = checked.pipeline(false);
    let prefix = &checked.encode.prefix;
    block_on(async {
        let (place, stored) = match (&arguments.from_connect_offsets, &arguments.from_offset_file) {
            (Some(topic), _) => (format!("topic `{topic}`"), from_topic(checked, topic).await?),
            (None, Some(path)) => (format!("file {}", path.display()), from_file(path)?),
            (None, None) => return Err(told("adopt", vec!["no offset is named".to_owned()], "name a topic or a file")),
        };
        let (connector, offset) = find(&stored, prefix, &place)?;
        let adopted = adopt::adopt(&config, offset).await?;
        print(&said(&connector, &place, &config.slot, &adopted));
        Ok(Code::Done)
    })?
}

async fn from_topic(checked: &Checked, topic: &str) -> Result<Stored, Failure> {
    match &checked.sink {
        SinkConfig::Kafka(kafka) => Ok(kafka::read_whole(kafka, topic).await?),
        SinkConfig::Stdout { .. } => {
            let what = "with sink = \"stdout\" there is no Kafka to read the topic from".to_owned();
            Err(told("read the offsets topic", vec![what], "name the offset file with --from-offset-file"))
        }
    }
}

fn from_file(path: &Path) -> Result<Stored, Failure> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| told("read the offset file", vec![error.to_string()], "name a file that can be read"))?;
    java_map::read(&bytes).map(|map| map.into_iter().map(|(key, value)| (key, Some(value))).collect()).ok_or_else(
        || {
            let what = format!("{} is not a file of Kafka Connect's FileOffsetBackingStore", path.display());
            told("read the offset file", vec![what], "name the file that offset.storage.file.filename names")
        },
    )
}

/// The newest offset of the one connector with this prefix.
fn find(stored: &Stored, prefix: &str, place: &str) -> Result<(String, Offset), Failure> {
    let mut newest: BTreeMap<String, Option<&[u8]>> = BTreeMap::new();
    for (key, value) in stored {
        // A key is ["<connector>",{"server":"<prefix>"}].
        let Ok(key) = serde_json::from_slice::<(String, BTreeMap<String, String>)>(key) else { continue };
        if key.1.get("server").is_some_and(|server| server == prefix) {
            newest.insert(key.0, value.as_deref());
        }
    }
    let mut found = newest.into_iter().filter_map(|(connector, value)| Some((connector, value?)));
    match (found.next(), found.next()) {
        (None, _) => {
            let what = format!("{place} holds no offset of a connector with topic.prefix `{prefix}`");
            Err(told("find the offset", vec![what], "topics.prefix has to be the connector's topic.prefix"))
        }
        (Some((one, _)), Some((other, _))) => {
            let what = format!("{place} holds offsets of `{one}` and `{other}` with topic.prefix `{prefix}`");
            Err(told("find the offset", vec![what], "reset the offsets of the one that is not taken over"))
        }
        (Some((connector, value)), None) => match adopt::offset(value) {
            Some(offset) => Ok((connector, offset)),
            None => {
                let what = format!("the offset of `{connector}` in {place} is not one of the connector for Postgres");
                Err(told("find the offset", vec![what], "name the topic or file of the connector for Postgres"))
            }
        },
    }
}

fn said(connector: &str, place: &str, slot: &str, adopted: &Adopted) -> String {
    let Adopted { record, from, offset, server } = adopted;
    format!(
        "adopted connector `{connector}` from {place}\n\
         slot `{slot}` is confirmed up to {from}, the stored offset is {} (last event {}), the server's log ends at {server}\n\
         they fit: every change up to {from} is in Kafka, what follows is sent by us; up to {} some of it comes again\n\
         wrote our record: term {}, epoch {}, {} tables. `wellspring run` goes on; do not start Debezium again.",
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
        entries.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.map(|v| v.as_bytes().to_vec()))).collect()
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
    fn no_offset_and_two_connectors_are_refused() {
        let gone =
            stored(&[(r#"["a",{"server":"shop"}]"#, Some(r#"{"lsn":1}"#)), (r#"["a",{"server":"shop"}]"#, None)]);
        assert!(find(&gone, "shop", "t").is_err());
        let two = stored(&[
            (r#"["a",{"server":"shop"}]"#, Some(r#"{"lsn":1}"#)),
            (r#"["b",{"server":"shop"}]"#, Some(r#"{"lsn":1}"#)),
        ]);
        assert!(find(&two, "shop", "t").is_err());
    }
}
