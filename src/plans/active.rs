//! Plans in use: what the row path and the copies know of each relation.

use super::{Routes, Uses};
use crate::change::Position;
use crate::encode::{Plan, Quarantine};
use crate::ledger::RouteId;
use crate::metrics::TableMetrics;
use std::rc::Rc;

/// A table's plan, with the topic that its records go to.
#[derive(Clone)]
pub struct Active {
    /// How the table's rows are encoded.
    pub plan: Rc<Plan>,
    /// `namespace.name` of a table; otherwise the name by which errors call the plan.
    pub table: Rc<str>,
    /// The topic's number in the ledger.
    pub route: RouteId,
    /// Partitions that keys are spread over; see `Ready::partitions`. `None` for a sink without
    /// topics, which has no partitions.
    pub partitions: Option<i32>,
    /// Size of the largest record that topic and producer accept, in bytes.
    pub record_bytes_max: usize,
    /// True if the topic is compacted, so that it refuses records without a key.
    pub compacted: bool,
    /// Counters of the table for the metrics.
    pub metrics: TableMetrics,
    /// Indices of the columns `id`, `type` and `data`, if rows of this table are signals.
    pub signals: Option<[usize; 3]>,
    /// Notes the Positions of records while the registry has not confirmed their schema ids. `None`
    /// if all ids are confirmed.
    pub uses: Option<Rc<Uses>>,
    /// The plans of the topics, if a value of each row names its topic. `plan` is then used for no
    /// row. `None` if all rows go to one topic.
    pub routes: Option<Rc<Routes>>,
}

/// The state of a relation's plan.
#[derive(Clone, Default)]
pub enum Planned {
    /// The relation was not looked up yet.
    #[default]
    Unplanned,
    /// The table is published, but the configuration does not capture it.
    Excluded,
    /// The table has a plan.
    Active(Active),
    /// The table cannot be planned. Its first change detaches it.
    Refused,
    /// The table is detached.
    Detached(Rc<QuarantineTopic>),
}

/// The quarantine topic, for the changes of one table: a detached one, or one with a skipped
/// change.
pub struct QuarantineTopic {
    /// How the table's changes are written.
    pub quarantine: Quarantine,
    /// The table as `namespace.name`.
    pub table: Rc<str>,
    /// Name of the quarantine topic.
    pub topic: Rc<str>,
    /// Number of the quarantine topic in the ledger.
    pub route: RouteId,
    /// Partitions that tables are spread over; see `Ready::partitions`.
    pub partitions: i32,
    /// Size of the largest record that topic and producer accept, in bytes.
    pub record_bytes_max: usize,
    /// First Position that the acknowledged record covers. An earlier change waits for a record
    /// that begins there.
    pub floor: Position,
}
