//! Reads Debezium's signals, from a row of the signal table or from a record of the signal topic.
//!
//! Pure: texts of columns or the bytes of a record come in, a [`Signal`] or an error comes out. The
//! forms are those of Debezium's documentation on signalling. A request that a backfill cannot
//! fulfil as it is written is an error, and copies nothing. Errors never show values, because the
//! values of a signal are data like those of any other row.

use crate::table::TableName;
use crate::table::names::{NameOf, NamePattern, REGEX};
use serde::Deserialize;

/// Most bytes that are read of a signal's data, or of a record in the signal topic. The column in
/// Debezium's table has 2048 characters, and lists of tables are short.
pub const DATA_BYTES_MAX: usize = 64 * 1024;

/// The request of a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `execute-snapshot`: tables are to be copied.
    Execute(Execute),
    /// `stop-snapshot`: the copies of these tables end, or the copies of all tables.
    Stop(Option<Tables>),
    /// `pause-snapshot`: copies pause until `resume-snapshot`.
    Pause,
    /// `resume-snapshot`: paused copies continue.
    Resume,
    /// `log`: this text is to be logged. Only the signal topic may request it, because values of
    /// rows are not logged.
    Log(String),
}

/// The copy that an `execute-snapshot` requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execute {
    pub(crate) tables: Tables,
    /// SQL conditions on rows, each with a pattern of tables. The first pattern that matches a
    /// table counts.
    conditions: Vec<(NamePattern, String)>,
    /// The column that the signal names as the key for chunks. `None` if the signal names none.
    pub surrogate: Option<String>,
    /// True if the signal requests a blocking copy, for which Debezium stops its stream.
    pub blocking: bool,
}

/// A set of tables, given by regular expressions over whole names (`namespace.name`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables(Vec<NamePattern>);

/// Why a signal is ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum SignalError {
    #[error(
        "its type is not one of execute-snapshot, stop-snapshot, pause-snapshot, resume-snapshot"
    )]
    UnknownType,
    /// The record is not JSON with id, type and data.
    #[error(
        "it is not the JSON of a signal, {{\"id\", \"type\", \"data\"}}: line {line}, column \
         {column}"
    )]
    NoSignal {
        /// Line of the error in the JSON text, from 1.
        line: usize,
        /// Column of the error in the JSON text, from 1. It is 0 for the end of a line, and if
        /// there is no value.
        column: usize,
    },
    #[error("its data has {0} bytes; {DATA_BYTES_MAX} are read")]
    TooLong(usize),
    /// The data is not JSON, or it has another shape.
    #[error("its data is not the JSON of such a signal: line {line}, column {column}")]
    Unreadable {
        line: usize,
        /// Column of the error in the data, from 1. It is 0 for the end of a line.
        column: usize,
    },
    /// The list of tables is empty or missing.
    #[error("data-collections names no table")]
    NoTables,
    /// The name of a table, in the list of tables or of conditions, is not a valid regular
    /// expression. The field is the place of the entry in its list, from 1.
    #[error("entry {0} of a list of tables is no regular expression")]
    BadTable(usize),
    /// The kind of copy is neither incremental nor blocking.
    #[error("the kind of copy in its data is neither incremental nor blocking")]
    UnknownKind,
    /// The filter of a blocking copy is a query, not a condition.
    #[error(
        "a blocking copy's filter is a whole query, which is not read in windows: ask for an \
         incremental one"
    )]
    WholeQuery,
    /// The condition has its old form, which Debezium no longer reads.
    #[error("additional-condition is the old form: write additional-conditions")]
    OldCondition,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Data {
    data_collections: Option<Vec<String>>,
    r#type: Option<String>,
    additional_conditions: Option<Vec<Condition>>,
    additional_condition: Option<serde::de::IgnoredAny>,
    surrogate_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Condition {
    data_collection: String,
    filter: Option<String>,
}

/// The JSON value of a record in the signal topic.
#[derive(Deserialize)]
struct SignalRecord {
    id: Option<String>,
    r#type: Option<String>,
    data: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Message {
    message: Option<String>,
}

/// Longest text of a `log` signal that is logged, in characters.
const LOGGED_CHARS_MAX: usize = 1024;

/// Longest part of an id that is logged or sent in notices, in characters. The column in Debezium's
/// table has 42.
const ID_CHARS_MAX: usize = 64;

/// Returns the first `most` characters of a text for the log, with `?` in the place of each control
/// character.
fn printable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The id of a signal as it is shown in the log and in notices.
#[must_use]
pub fn shown_id(id: &str) -> String {
    printable(id, ID_CHARS_MAX)
}

impl Signal {
    /// Reads a signal and its id from the value of a record:
    /// `{"id": "...", "type": "...", "data": {...}}`.
    ///
    /// # Errors
    /// The reason why the signal is ignored.
    pub fn of_record(value: Option<&[u8]>) -> (String, Result<Self, SignalError>) {
        let value = value.unwrap_or(&[]);
        if value.len() > DATA_BYTES_MAX {
            return (String::new(), Err(SignalError::TooLong(value.len())));
        }
        let SignalRecord { id, r#type: kind, data } = match serde_json::from_slice(value) {
            Ok(sent) => sent,
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                return (String::new(), Err(SignalError::NoSignal { line, column }));
            }
        };
        // The data is an object. Some senders write it as a text that holds the object, as in the
        // signal table.
        let data = data.filter(|data| !data.is_null()).map(|data| match data {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        });
        let signal = match kind.as_deref() {
            Some("log") => logged(data.as_deref()),
            kind => Signal::read(kind, data.as_deref()),
        };
        (shown_id(id.as_deref().unwrap_or("")), signal)
    }

    /// Reads a signal from the columns `type` and `data` of its row. `None` stands for NULL.
    ///
    /// # Errors
    /// The reason why the signal is ignored.
    pub fn read(kind: Option<&str>, data: Option<&str>) -> Result<Self, SignalError> {
        match kind.unwrap_or("") {
            "execute-snapshot" => Execute::read(&parsed(data)?).map(Signal::Execute),
            "stop-snapshot" => {
                let data = parsed(data)?;
                kind_of(&data)?;
                let listed = data.data_collections.filter(|list| !list.is_empty());
                Ok(Signal::Stop(listed.map(|list| Tables::read(&list)).transpose()?))
            }
            "pause-snapshot" => Ok(Signal::Pause),
            "resume-snapshot" => Ok(Signal::Resume),
            _ => Err(SignalError::UnknownType),
        }
    }
}

impl Execute {
    fn read(data: &Data) -> Result<Self, SignalError> {
        let blocking = kind_of(data)?;
        if data.additional_condition.is_some() {
            return Err(SignalError::OldCondition);
        }
        let listed = data
            .data_collections
            .as_deref()
            .filter(|list| !list.is_empty())
            .ok_or(SignalError::NoTables)?;
        let tables = Tables::read(listed)?;
        let mut conditions = Vec::new();
        for (index, condition) in data.additional_conditions.iter().flatten().enumerate() {
            let Some(filter) =
                condition.filter.as_deref().filter(|filter| !filter.trim().is_empty())
            else {
                continue;
            };
            conditions.push((pattern(index, &condition.data_collection)?, filter.to_owned()));
        }
        if blocking && !conditions.is_empty() {
            return Err(SignalError::WholeQuery);
        }
        let surrogate =
            data.surrogate_key.as_deref().map(unquoted).filter(|column| !column.is_empty());
        Ok(Execute { tables, conditions, surrogate: surrogate.map(str::to_owned), blocking })
    }

    /// Returns the SQL condition that the signal gives for the rows of a table. `None` if all rows
    /// are requested.
    #[must_use]
    pub fn filter_of(&self, table: &TableName) -> Option<&str> {
        self.conditions
            .iter()
            .find(|(pattern, _)| tells(pattern, table))
            .map(|(_, filter)| filter.as_str())
    }
}

impl Tables {
    fn read(list: &[String]) -> Result<Self, SignalError> {
        list.iter()
            .enumerate()
            .map(|(index, text)| pattern(index, text))
            .collect::<Result<_, _>>()
            .map(Tables)
    }

    /// True if the set contains this table.
    #[must_use]
    pub fn name(&self, table: &TableName) -> bool {
        self.0.iter().any(|pattern| tells(pattern, table))
    }

    /// Returns the places in the list, from 1, of the expressions that match none of `tables`.
    pub fn unmatched<'a>(&'a self, tables: &'a [TableName]) -> impl Iterator<Item = usize> + 'a {
        let fits_none = |pattern: &NamePattern| !tables.iter().any(|table| tells(pattern, table));
        self.0
            .iter()
            .zip(1..)
            .filter(move |(pattern, _)| fits_none(pattern))
            .map(|(_, place)| place)
    }
}

/// Whether an expression matches the name of a table as it is, or with its parts in quotes. An
/// expression whose evaluation fails counts as one that does not match.
fn tells(pattern: &NamePattern, table: &TableName) -> bool {
    let (namespace, name) = (format!("\"{}\"", table.namespace), format!("\"{}\"", table.name));
    pattern.tells(&[&table.namespace, &table.name]).unwrap_or(false)
        || pattern.tells(&[&namespace, &name]).unwrap_or(false)
}

fn pattern(index: usize, text: &str) -> Result<NamePattern, SignalError> {
    let written = format!("{REGEX}{}", text.trim());
    NamePattern::read(&written, NameOf::Table).map_err(|_| SignalError::BadTable(index + 1))
}

fn unquoted(column: &str) -> &str {
    let column = column.trim();
    column.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(column)
}

fn logged(data: Option<&str>) -> Result<Signal, SignalError> {
    let unreadable = |error: serde_json::Error| SignalError::Unreadable {
        line: error.line(),
        column: error.column(),
    };
    let Message { message } = serde_json::from_str(data.unwrap_or("{}")).map_err(unreadable)?;
    Ok(Signal::Log(printable(message.as_deref().unwrap_or(""), LOGGED_CHARS_MAX)))
}

/// Returns true if the signal requests a blocking copy. Without a type the copy is incremental.
fn kind_of(data: &Data) -> Result<bool, SignalError> {
    match data.r#type.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("incremental") => Ok(false),
        Some("blocking") => Ok(true),
        Some(_) => Err(SignalError::UnknownKind),
    }
}

fn parsed(data: Option<&str>) -> Result<Data, SignalError> {
    let text = data.unwrap_or("");
    if text.len() > DATA_BYTES_MAX {
        return Err(SignalError::TooLong(text.len()));
    }
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text)
        .map_err(|error| SignalError::Unreadable { line: error.line(), column: error.column() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn execute(data: &str) -> Execute {
        match Signal::read(Some("execute-snapshot"), Some(data)) {
            Ok(Signal::Execute(execute)) => execute,
            other => panic!("{other:?}"),
        }
    }

    fn fault(kind: &str, data: &str) -> SignalError {
        Signal::read(Some(kind), Some(data)).unwrap_err()
    }

    fn table(namespace: &str, name: &str) -> TableName {
        TableName::new(namespace, name)
    }

    #[test]
    fn tables_are_whole_names_by_expression() {
        let asked = execute(r#"{"data-collections": ["public.a", "shop\\..*", "\"odd\".\"t\""]}"#);
        let named = |namespace, name| asked.tables.name(&table(namespace, name));
        assert!(named("public", "a") && named("shop", "orders") && named("odd", "t"));
        assert!(!named("public", "ab") && !named("xpublic", "a") && !named("shops", "a"));
        assert!(!asked.blocking);
        let captured = [table("public", "a")];
        assert_eq!(asked.tables.unmatched(&captured).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_condition_is_of_the_tables_it_names() {
        let asked = execute(
            r#"{"data-collections": ["public.*"], "type": "INCREMENTAL", "surrogate-key": "\"aa\"", "additional-conditions":
               [{"data-collection": "public.a", "filter": "id > 5"}, {"data-collection": "public.b", "filter": " "}]}"#,
        );
        assert_eq!(asked.filter_of(&table("public", "a")), Some("id > 5"));
        assert_eq!(asked.filter_of(&table("public", "b")), None);
        assert_eq!(asked.surrogate.as_deref(), Some("aa"));
        assert_eq!(
            execute(r#"{"data-collections": ["a"], "additional-conditions": []}"#).conditions,
            []
        );
    }

    #[test]
    fn a_record_is_a_signal_with_its_data_as_an_object_or_as_text() {
        let (id, signal) = Signal::of_record(Some(
            br#"{"id":"s\u00071","type":"log","data":{"message":"at {}\n"}}"#,
        ));
        assert_eq!((id.as_str(), signal), ("s?1", Ok(Signal::Log("at {}?".to_owned()))));
        for data in [r#"{"data-collections":["p.a"]}"#, r#""{\"data-collections\":[\"p.a\"]}""#] {
            let value = format!(r#"{{"type":"stop-snapshot","data":{data}}}"#);
            let (id, signal) = Signal::of_record(Some(value.as_bytes()));
            let Ok(Signal::Stop(Some(tables))) = signal else { panic!("{signal:?}") };
            assert!(id.is_empty() && tables.name(&table("p", "a")));
        }
        assert_eq!(Signal::of_record(Some(br#"{"type":"pause-snapshot"}"#)).1, Ok(Signal::Pause));
    }

    #[test]
    fn a_record_that_is_no_signal_is_told_by_its_place() {
        let fault = |value: Option<&[u8]>| Signal::of_record(value).1.unwrap_err();
        assert_eq!(fault(None), SignalError::NoSignal { line: 1, column: 0 });
        assert_eq!(fault(Some(b"[1]")), SignalError::NoSignal { line: 1, column: 2 });
        assert_eq!(fault(Some(b"{}")), SignalError::UnknownType);
        assert_eq!(
            fault(Some(&vec![b' '; DATA_BYTES_MAX + 1])),
            SignalError::TooLong(DATA_BYTES_MAX + 1)
        );
    }

    #[test]
    fn the_other_signals_need_no_data() {
        for data in [None, Some(""), Some("{}")] {
            assert_eq!(Signal::read(Some("stop-snapshot"), data), Ok(Signal::Stop(None)));
            assert_eq!(Signal::read(Some("pause-snapshot"), data), Ok(Signal::Pause));
            assert_eq!(Signal::read(Some("resume-snapshot"), data), Ok(Signal::Resume));
        }
        let Ok(Signal::Stop(Some(tables))) =
            Signal::read(Some("stop-snapshot"), Some(r#"{"data-collections": ["p.a"]}"#))
        else {
            panic!()
        };
        assert!(tables.name(&table("p", "a")) && !tables.name(&table("p", "b")));
    }

    #[test]
    fn what_cannot_be_done_is_said_without_its_values() {
        assert_eq!(fault("log", "{}"), SignalError::UnknownType);
        assert_eq!(Signal::read(None, None), Err(SignalError::UnknownType));
        assert_eq!(fault("execute-snapshot", "{}"), SignalError::NoTables);
        assert_eq!(fault("execute-snapshot", r#"{"data-collections": []}"#), SignalError::NoTables);
        assert_eq!(
            fault("execute-snapshot", r#"{"data-collections": ["a", "("]}"#),
            SignalError::BadTable(2)
        );
        assert_eq!(
            fault("execute-snapshot", r#"{"type": "full", "data-collections": ["a"]}"#),
            SignalError::UnknownKind
        );
        let whole = r#"{"type": "blocking", "data-collections": ["a"],
            "additional-conditions": [{"data-collection": "a", "filter": "SELECT 1"}]}"#;
        assert_eq!(fault("execute-snapshot", whole), SignalError::WholeQuery);
        let old = r#"{"data-collections": ["a"], "additional-condition": "x"}"#;
        assert_eq!(fault("execute-snapshot", old), SignalError::OldCondition);
        let long = "x".repeat(DATA_BYTES_MAX + 1);
        assert_eq!(fault("stop-snapshot", &long), SignalError::TooLong(DATA_BYTES_MAX + 1));
        let told = fault("execute-snapshot", "{\"data-collections\": \"s3cret\"}").to_string();
        assert!(told.contains("line 1") && !told.contains("s3cret"), "{told}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_signal_or_an_error_that_does_not_show_it(kind in ".{0,20}", data in "\\PC{0,200}") {
            for kind in [kind.as_str(), "execute-snapshot", "stop-snapshot"] {
                let _ = Signal::read(Some(kind), Some(&data));
            }
        }

        #[test]
        fn any_entry_of_a_list_is_an_expression_or_told_by_its_place(entry in "\\PC{0,40}", namespace in "\\PC{0,8}") {
            let data = serde_json::json!({ "data-collections": [entry] }).to_string();
            match Signal::read(Some("execute-snapshot"), Some(&data)) {
                Ok(Signal::Execute(asked)) => {
                    let _ = asked.tables.name(&table(&namespace, "t"));
                }
                other => prop_assert_eq!(other, Err(SignalError::BadTable(1))),
            }
        }
    }
}
