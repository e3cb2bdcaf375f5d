//! Decides at a connect whether the stream begins beyond the slot's own position.

use super::{Carried, Config, PipelineError, ServerState};
use crate::agent::inherited::{self, Inherited};
use crate::continuity::{Beyond, begins_beyond};
use crate::plans::keeper::Keeper;

/// The decision that the stream starts beyond the slot's own position, made by the checkpoint of
/// `term`.
pub(super) struct Decided {
    pub beyond: Beyond,
    pub term: u64,
    /// Topic, partition and end offset of each partition. Empty if no hold of another process is
    /// open.
    pub ends: Vec<(String, i32, i64)>,
}

impl ServerState {
    /// Decides whether the stream of this connect begins beyond the slot's own position, and where.
    /// `None` if it begins at the slot's position.
    pub(super) async fn beyond(
        &self,
        config: &Config,
        keeper: &Keeper,
        carried: &Carried,
    ) -> Result<Option<Decided>, PipelineError> {
        let (Some(slot), Some(record)) = (&self.slot, &self.state.record) else { return Ok(None) };
        // While another process streams from the slot, nothing is decided, because that process
        // moves the slot.
        let (Some(confirmed), None, false) =
            (slot.confirmed_flush_lsn, slot.active_pid, carried.rewind)
        else {
            return Ok(None);
        };
        let Some(beyond) = begins_beyond(record, &self.observed) else {
            if record.delivered > confirmed {
                tracing::info!(
                    "changes up to {} are delivered, and the stream is read again from the slot's \
                     position {confirmed}",
                    record.delivered
                );
            }
            return Ok(None);
        };
        let ends = match inherited::look(config, keeper, &self.state, &carried.run).await? {
            Inherited::Nothing => Vec::new(),
            Inherited::Quiet(ends) => ends,
            Inherited::Replay(why) => {
                tracing::warn!(
                    "the stream is read again from the slot's position, which a confirm hold kept: \
                     {why}"
                );
                return Ok(None);
            }
        };
        if beyond.proof.is_some() {
            tracing::info!(
                "the slot stands at {confirmed}, below the recorded {}: changes up to {} are in \
                 Kafka and are left out",
                record.confirmed,
                beyond.from
            );
        }
        Ok(Some(Decided { beyond, term: record.term, ends }))
    }
}
