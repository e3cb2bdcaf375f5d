//! Tables rebuilt from change events, and their differences from the source. This file is pure.
//!
//! It rebuilds tables as a consumer of Debezium's events would. In a table with a key the last
//! event of each key wins. A table without a key is a bag of rows, made from the images before and
//! after. This file knows neither Avro nor Kafka nor the agent.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// An event has this text in place of a large value that an update did not change. A consumer keeps
/// its earlier value of the column.
pub const UNCHANGED: &str = "__debezium_unavailable_value";

/// The most differing rows that are listed for a table; the others are counted. One or two lost
/// events are visible, and a flood is not printed.
const TOLD_MAX: usize = 8;

/// Longest value that is printed, in bytes. A longer one would hide the others.
const VALUE_MAX: usize = 200;

/// Values of a row as text, by column; `None` is NULL.
pub type Row = BTreeMap<String, Option<String>>;

/// Every row of every table, by table.
pub type Snapshot = BTreeMap<String, Vec<Row>>;

/// Operation of a change event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A row was inserted, or read by a copy.
    Create,
    /// A row was updated.
    Update,
    /// A row was deleted.
    Delete,
    /// All rows of the table were removed.
    Truncate,
}

/// Place of a change in the stream: epoch, commit LSN, ordinal. A replay of the change has the same
/// three values.
pub type Position = (u64, u64, u64);

/// A change event as read from a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name of the table, without its namespace.
    pub table: String,
    /// Operation of the event.
    pub op: Op,
    /// Key of the record; `None` for a table without a key, and for a truncate.
    pub key: Option<Row>,
    /// Row before the change, as far as the replica identity provides it.
    pub before: Option<Row>,
    /// Row after the change.
    pub after: Option<Row>,
    /// Place of the change in the stream.
    pub position: Position,
}

/// The tables, rebuilt from the change events.
#[derive(Debug, Default)]
pub struct Rebuilt {
    keyed: BTreeMap<String, HashMap<Row, Row>>,
    bags: BTreeMap<String, Bag>,
}

#[derive(Debug, Default)]
struct Bag {
    /// Number of copies of each row. It is negative for a row that was removed without having been
    /// added.
    rows: HashMap<Row, i64>,
    /// Position of the last applied change. All changes of a table without a key are in one
    /// partition, in order. So a change at or below this Position is a replay.
    newest: Position,
}

impl Bag {
    fn add(&mut self, row: Row, count: i64) {
        let sum = self.rows.get(&row).copied().unwrap_or(0) + count;
        if sum == 0 {
            self.rows.remove(&row);
        } else {
            self.rows.insert(row, sum);
        }
    }

    fn apply(&mut self, change: Change) {
        if change.position <= self.newest {
            return;
        }
        self.newest = change.position;
        if change.op == Op::Truncate {
            return self.rows.clear();
        }
        if let Some(row) = change.before {
            self.add(row, -1);
        }
        if let Some(row) = change.after {
            self.add(row, 1);
        }
    }
}

impl Rebuilt {
    /// Applies one event. A truncate of a table with a key may be in another partition than the
    /// rows, so its order among them is unknown. The shop truncates no such table. This function
    /// would empty the table at once.
    pub fn apply(&mut self, change: Change) {
        if change.op == Op::Truncate
            && let Some(rows) = self.keyed.get_mut(&change.table)
        {
            return rows.clear();
        }
        let Some(key) = change.key else {
            return self.bags.entry(change.table.clone()).or_default().apply(change);
        };
        let rows = self.keyed.entry(change.table).or_default();
        let Some(mut row) = change.after else {
            rows.remove(&key);
            return;
        };
        let known = rows.get(&key);
        for (column, value) in
            row.iter_mut().filter(|(_, value)| value.as_deref() == Some(UNCHANGED))
        {
            if let Some(kept) = known.and_then(|row| row.get(column)) {
                value.clone_from(kept);
            }
        }
        rows.insert(key, row);
    }

    /// Number of rows in all tables together.
    #[must_use]
    pub fn rows(&self) -> usize {
        let keyed: usize = self.keyed.values().map(HashMap::len).sum();
        keyed + self.bags.values().map(|bag| bag.rows.len()).sum::<usize>()
    }

    /// Differences from the source, by table; empty if all tables are equal. A table that only the
    /// topics have is compared with an empty one.
    #[must_use]
    pub fn differences(&self, source: &Snapshot) -> Vec<Difference> {
        let names = source.keys().chain(self.keyed.keys()).chain(self.bags.keys());
        let names: std::collections::BTreeSet<&String> = names.collect();
        let differs = |name: &String| {
            let mut balance: HashMap<&Row, i64> = HashMap::new();
            for row in source.get(name).into_iter().flatten() {
                *balance.entry(row).or_default() += 1;
            }
            for row in self.keyed.get(name).into_iter().flat_map(HashMap::values) {
                *balance.entry(row).or_default() -= 1;
            }
            for (row, count) in self.bags.get(name).into_iter().flat_map(|bag| &bag.rows) {
                *balance.entry(row).or_default() -= count;
            }
            balance.retain(|_, count| *count != 0);
            let mut rows: Vec<(Row, i64)> =
                balance.into_iter().map(|(row, count)| (row.clone(), count)).collect();
            rows.sort();
            (!rows.is_empty()).then(|| Difference { table: name.clone(), rows })
        };
        names.into_iter().filter_map(differs).collect()
    }
}

/// A table whose rebuilt rows differ from the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Name of the table, without its namespace.
    pub table: String,
    /// Differing rows, each with its count in the source minus its count in the rebuilt table. No
    /// count is zero.
    pub rows: Vec<(Row, i64)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} rows differ", self.table, self.rows.len())?;
        for (row, count) in self.rows.iter().take(TOLD_MAX) {
            let where_it_is = if *count > 0 { "only in the source" } else { "only in the topic" };
            write!(f, "\n  {where_it_is}:")?;
            for (column, value) in row {
                match value.as_deref().unwrap_or("NULL") {
                    long if long.len() > VALUE_MAX => {
                        write!(f, " {column}=({} characters)", long.chars().count())?
                    }
                    value => write!(f, " {column}={value}")?,
                }
            }
        }
        let rest = self.rows.len().saturating_sub(TOLD_MAX);
        if rest > 0 {
            write!(f, "\n  and {rest} more")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        let pair = |pair: &str| {
            let (column, value) = pair.split_once('=').unwrap();
            (column.to_owned(), (value != "NULL").then(|| value.to_owned()))
        };
        text.split(' ').map(pair).collect()
    }

    /// A change of a row, from the texts of its key and of the row before and after. An empty text
    /// means `None`, such as the key of a change of `journal`.
    fn change(ordinal: u64, table: &str, op: Op, key: &str, before: &str, after: &str) -> Change {
        let row = |text: &str| (!text.is_empty()).then(|| row(text));
        let (table, position) = (table.to_owned(), (1, 10, ordinal));
        Change { table, op, key: row(key), before: row(before), after: row(after), position }
    }

    /// A history with inserts, an update, a key change, a delete, and the same row twice in the
    /// journal.
    fn story() -> Vec<Change> {
        vec![
            change(1, "customers", Op::Create, "id=1", "", "id=1 name=Ada text=long"),
            change(2, "customers", Op::Create, "id=2", "", "id=2 name=Bob text=NULL"),
            change(3, "journal", Op::Create, "", "", "who=Ada delta=1"),
            change(4, "journal", Op::Create, "", "", "who=Ada delta=1"),
            change(
                5,
                "customers",
                Op::Update,
                "id=1",
                "",
                "id=1 name=Eve text=__debezium_unavailable_value",
            ),
            change(6, "customers", Op::Delete, "id=2", "id=2", ""),
            change(6, "customers", Op::Create, "id=7", "", "id=7 name=Bob text=NULL"),
            change(7, "journal", Op::Create, "", "", "who=Bob delta=NULL"),
            change(8, "journal", Op::Update, "", "who=Ada delta=1", "who=Ada delta=5"),
            change(9, "customers", Op::Create, "id=3", "", "id=3 name=Cy text=NULL"),
            change(10, "customers", Op::Delete, "id=3", "id=3", ""),
        ]
    }

    fn source() -> Snapshot {
        let customers = vec![row("id=1 name=Eve text=long"), row("id=7 name=Bob text=NULL")];
        let journal =
            vec![row("who=Ada delta=1"), row("who=Ada delta=5"), row("who=Bob delta=NULL")];
        Snapshot::from([("customers".to_owned(), customers), ("journal".to_owned(), journal)])
    }

    fn differences(
        changes: impl IntoIterator<Item = Change>,
        source: &Snapshot,
    ) -> Vec<Difference> {
        let mut rebuilt = Rebuilt::default();
        changes.into_iter().for_each(|change| rebuilt.apply(change));
        rebuilt.differences(source)
    }

    #[test]
    fn a_whole_stream_gives_the_tables() {
        assert_eq!(differences(story(), &source()), []);
        assert_eq!(differences([], &Snapshot::new()), []);
    }

    #[test]
    fn an_event_left_out_is_seen() {
        // Lost inserts of Bob and Cy make no difference after Bob's key change and Cy's delete,
        // because the last event of a key wins.
        for at in (0..story().len()).filter(|at| ![1, 9].contains(at)) {
            let mut changes = story();
            let lost = changes.remove(at);
            assert_ne!(differences(changes, &source()), [], "without {lost:?}");
        }
    }

    #[test]
    fn a_value_that_is_not_the_sources_is_seen() {
        for at in 0..story().len() {
            let mut changes = story();
            let Some(after) = changes[at].after.as_mut() else { continue };
            for value in after.values_mut() {
                *value = Some("other".to_owned());
            }
            let overwritten = [0, 1, 9].contains(&at);
            // Wrong values are not seen in a row that a later event overwrites. The first insert is
            // an exception: a later update leaves its `text` unchanged.
            assert_eq!(differences(changes, &source()).is_empty(), overwritten && at != 0, "{at}");
        }
    }

    #[test]
    fn rows_that_exist_twice_are_counted() {
        let mut changes = story();
        changes.insert(5, change(5, "journal", Op::Create, "", "", "who=Bob delta=NULL"));
        let found = differences(changes, &source());
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "journal: 1 rows differ\n  only in the topic: delta=NULL who=Bob"
        );
    }

    #[test]
    fn a_replay_changes_nothing() {
        let replayed = story().into_iter().chain(story());
        assert_eq!(differences(replayed, &source()), []);
    }

    #[test]
    fn a_table_without_events_differs_from_a_table_with_rows() {
        let found = differences([], &source());
        assert_eq!(
            found.iter().map(|d| d.table.as_str()).collect::<Vec<_>>(),
            ["customers", "journal"]
        );
        assert!(
            found[0].to_string().contains("only in the source: id=1 name=Eve text=long"),
            "{}",
            found[0]
        );
    }

    #[test]
    fn a_truncate_empties_the_table() {
        let changes = story().into_iter().chain([change(11, "journal", Op::Truncate, "", "", "")]);
        let found = differences(changes, &source());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].rows.len(), 3);
    }
}
