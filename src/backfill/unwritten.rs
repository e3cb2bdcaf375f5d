//! The state records of copies that have to be written.

use crate::continuity::checkpoint::Window;
use std::collections::BTreeMap;

/// State records that have to be written, by key. The value `None` removes the record from the
/// state. An entry leaves the map when Kafka has acknowledged it.
pub(super) struct Unwritten {
    slot_name: String,
    records: BTreeMap<String, Option<String>>,
}

impl Unwritten {
    pub fn new(slot_name: &str) -> Self {
        Unwritten { slot_name: slot_name.to_owned(), records: BTreeMap::new() }
    }

    pub fn slot_name(&self) -> &str {
        &self.slot_name
    }

    pub fn insert(&mut self, key: String, value: Option<String>) {
        self.records.insert(key, value);
    }

    /// Queues the record of a table's copy to be written.
    pub fn store(&mut self, table: &str, window: &Window) {
        self.insert(Window::key(&self.slot_name, table), Some(window.to_json()));
    }

    /// Queues the removal of the record of a table's copy.
    pub fn remove(&mut self, table: &str) {
        self.insert(Window::key(&self.slot_name, table), None);
    }

    pub fn records(&self) -> &BTreeMap<String, Option<String>> {
        &self.records
    }

    /// Drops the entries that Kafka has acknowledged with these values. An entry whose value has
    /// changed since stays.
    pub fn written(&mut self, written: &BTreeMap<String, Option<String>>) {
        self.records.retain(|key, value| written.get(key) != Some(value));
    }
}
