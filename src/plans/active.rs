//! Plans in use: what the row path and the copies know of a table.

use super::Uses;
use crate::change::Position;
use crate::encode::{Plan, Quarantine};
use crate::ledger::RouteId;
use crate::metrics::TableMetrics;
use std::rc::Rc;

/// A table's plan with the place its records go to.
#[derive(Clone)]
pub struct Active {
    /// How its rows are encoded.
    pub plan: Rc<Plan>,
    /// `namespace.name`, or the message topic's own name.
    pub table: Rc<str>,
    /// The topic's number in the ledger.
    pub route: RouteId,
    /// Partitions the topic had when it was first used.
    pub partitions: i32,
    /// Largest record the topic and the producer take, in bytes.
    pub record_bytes_max: usize,
    /// Records without a key are refused by a compacted topic.
    pub compacted: bool,
    /// Its counters.
    pub metrics: TableMetrics,
    /// Where a signal's parts are, in the table whose rows are signals.
    pub signals: Option<[usize; 3]>,
    /// Where its records are noted, while the registry has not confirmed its schema ids.
    pub uses: Option<Rc<Uses>>,
}

/// What is known of a relation.
#[derive(Clone, Default)]
pub enum Planned {
    /// Not looked up yet.
    #[default]
    Unplanned,
    /// Published, but not captured by the configuration.
    Excluded,
    /// Ready.
    Active(Active),
    /// It cannot be planned: its first change sets it aside.
    Refused,
    /// Set aside.
    Aside(Rc<Aside>),
}

/// A table that is set aside, with the place its changes go to.
pub struct Aside {
    /// How they are written.
    pub quarantine: Quarantine,
    /// `namespace.name`.
    pub table: Rc<str>,
    /// The quarantine topic.
    pub topic: Rc<str>,
    /// Its number in the ledger.
    pub route: RouteId,
    /// Partitions it had when it was first used.
    pub partitions: i32,
    /// Largest record that it and the producer take, in bytes.
    pub record_bytes_max: usize,
    /// The record that is acknowledged holds this Position: a change before it waits for another record.
    pub floor: Position,
}
