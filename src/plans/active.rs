//! Plans in use: what the row path and the copies know of each relation.

use super::{Routes, Uses};
use crate::change::Position;
use crate::encode::{Plan, Quarantine};
use crate::ledger::RouteId;
use crate::metrics::TableMetrics;
use std::rc::Rc;

/// A plan in use, with the topic to which its records go.
#[derive(Clone)]
pub struct Active {
    /// How the table's rows are encoded.
    pub plan: Rc<Plan>,
    /// `namespace.name` of a table; for a plan of no table, a name for errors such as `heartbeats`.
    pub table: Rc<str>,
    /// The topic's number in the ledger.
    pub route: RouteId,
    /// Number of partitions over which keys are spread; see `Ready::partitions`. `None` for a sink
    /// without topics, which has no partitions.
    pub partitions: Option<i32>,
    /// Size of the largest record that topic and producer accept, in bytes.
    pub record_bytes_max: usize,
    /// True if the topic is compacted, so that it refuses records without a key.
    pub compacted: bool,
    /// Counters of the table for the metrics.
    pub metrics: TableMetrics,
    /// Indices of the columns `id`, `type` and `data`, if this table is the signal table. `None`
    /// for any other table.
    pub signals: Option<[usize; 3]>,
    /// Notes the Positions of this plan's records while the registry has not confirmed the plan's
    /// schema ids. `None` if all ids are confirmed.
    pub uses: Option<Rc<Uses>>,
    /// The plans by the routes of rows, if not all rows have the same plan. `plan` is then used
    /// only for rows without a route. `None` if all rows have `plan`.
    pub routes: Option<Rc<Routes>>,
}

/// What planning has decided about a relation, with the plan if there is one.
#[derive(Clone, Default)]
pub enum Planned {
    /// The relation was not looked up yet.
    #[default]
    Unplanned,
    /// The table is published, but the configuration does not capture it.
    Excluded,
    /// The table has a plan.
    Active(Active),
    /// Planning has refused the table. The next change of the table detaches the table.
    Refused,
    /// The table is detached.
    Detached(Rc<QuarantineTopic>),
}

/// The quarantine topic, for the changes of one table: a detached one, or one with a skipped
/// change.
pub struct QuarantineTopic {
    /// How the table's changes are written to the quarantine topic.
    pub quarantine: Quarantine,
    /// The table as `namespace.name`.
    pub table: Rc<str>,
    /// Name of the quarantine topic.
    pub topic: Rc<str>,
    /// Number of the quarantine topic in the ledger.
    pub route: RouteId,
    /// Number of partitions of the quarantine topic over which tables are spread; see
    /// `Ready::partitions`.
    pub partitions: i32,
    /// Size of the largest record that topic and producer accept, in bytes.
    pub record_bytes_max: usize,
    /// First Position that the acknowledged state record covers. An earlier change waits until a
    /// state record that begins at this change is acknowledged.
    pub floor: Position,
}
