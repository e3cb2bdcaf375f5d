//! Acts on rows of the signal table, and on records of the signal topic.
//!
//! A signal acts once. The copies of a signal are recorded before the position of its row is
//! confirmed. The records of these copies stay until a later position is confirmed. So a replay
//! finds the copies, or a checkpoint that has passed the row. There is one exception: a copy that
//! was ended before its row was confirmed begins once more if a crash brings the row again.
//!
//! The offset up to which the topic is obeyed is recorded after the copies that its records asked
//! for. The record of a copy has the offset of its signal. So a signal that is read again does not
//! begin its copy again.

use super::Runner;
use super::clock::unix_nanos;
use crate::backfill;
use crate::backfill::Origin;
use crate::continuity::checkpoint::Obeyed;
use crate::kafka::{Followed, Follower, KafkaError};
use crate::plans::{self, SinkConfig};
use crate::rows::Signalled;
use crate::rows::signal_places;
use crate::snapshot::signal::{Execute, Signal};
use crate::table::TableName;
use tokio::sync::mpsc;

/// Capacity of the channel from the signal topic. People write signals, so that few wait.
const EVENTS_MAX: usize = 16;

/// The consumer of the signal topic, and the record that waits until copies can begin.
pub(super) struct SignalFollower {
    _follower: Follower,
    events: mpsc::Receiver<Followed>,
    /// A record that came before copies can begin. No other record is taken while it waits.
    waiting: Option<Followed>,
}

/// Waits for the next event of the signal topic. Returns `None` at once without a follower, or
/// while a record waits. Cancel-safe.
pub(super) async fn next(signal_follower: Option<&mut SignalFollower>) -> Option<Followed> {
    signal_follower.filter(|signal_follower| signal_follower.waiting.is_none())?.events.recv().await
}

impl Runner {
    /// Starts to follow the signal topic, once in the life of the process, at the first offset that
    /// is not obeyed yet. If no offset is recorded for this topic, it is read from its end on.
    /// Nothing is done if no signal topic is configured.
    pub(super) fn follow_signals(&mut self, obeyed: Option<&Obeyed>) -> Result<(), KafkaError> {
        let (Some(topic), SinkConfig::Kafka(kafka)) =
            (&self.config.snapshot.signal_topic, &self.config.sink)
        else {
            return Ok(());
        };
        if self.backfills.signal_follower.is_none() {
            let from = obeyed.filter(|obeyed| obeyed.topic == *topic).map(|obeyed| obeyed.next);
            let (sender, events) = mpsc::channel(EVENTS_MAX);
            self.backfills.signal_follower = Some(SignalFollower {
                _follower: Follower::start(kafka, topic, from, sender)?,
                events,
                waiting: None,
            });
        }
        Ok(())
    }

    /// Takes an event of the signal topic. A record waits until copies can begin. The offset at
    /// which signals begin is recorded even during the first copy. So every later signal is obeyed,
    /// also by the next process.
    pub(super) fn on_signals(&mut self, followed: Followed) {
        if let Followed::From(offset) = followed {
            let Some(topic) = self.config.snapshot.signal_topic.clone() else {
                unreachable!("signals are followed only where a topic is configured")
            };
            tracing::info!(topic, offset, "signals are read from the end of the topic on");
            self.backfills.copies.obeyed(&topic, offset);
        } else if let Some(signal_follower) = &mut self.backfills.signal_follower {
            signal_follower.waiting = Some(followed);
        }
    }

    /// Acts on the waiting record of the signal topic once the first copy is over.
    pub(super) fn obey_signals(&mut self) {
        if self.first_copy.copying.is_some() {
            return;
        }
        let Some(followed) = self
            .backfills
            .signal_follower
            .as_mut()
            .and_then(|signal_follower| signal_follower.waiting.take())
        else {
            return;
        };
        let Some(topic) = self.config.snapshot.signal_topic.clone() else { return };
        let next = match &followed {
            Followed::From(offset) => *offset,
            Followed::Record { offset, key, value } => {
                if key.as_deref() == Some(self.config.encode.prefix.as_bytes()) {
                    match Signal::of_record(value.as_deref()) {
                        (id, Ok(signal)) => self.obey(&id, Origin::Record(*offset), signal),
                        (id, Err(error)) => {
                            tracing::warn!(id, offset, "a signal is ignored: {error}")
                        }
                    }
                } else {
                    tracing::info!(
                        topic,
                        offset,
                        "a signal is ignored: its key is not topics.prefix, so that it is for \
                         another pipeline"
                    );
                }
                offset.saturating_add(1)
            }
        };
        self.backfills.copies.obeyed(&topic, next);
    }

    /// Returns the places of the columns id, type and data in a row of the signal table. `None` if
    /// the plan is not of the signal table, or a column is missing.
    pub(super) fn signals_of(&self, ready: &plans::Ready) -> Option<[usize; 3]> {
        if self.config.snapshot.signal_table.as_deref() != Some(&*ready.name) {
            return None;
        }
        let places = signal_places(&ready.plan);
        if places.is_none() {
            tracing::warn!(
                table = %ready.name,
                "signals are not read: the table has no columns id, type and data"
            );
        }
        places
    }

    /// Acts on a row of the signal table before any frame after the row is handled.
    pub(super) fn signalled(&mut self, signalled: &Signalled) {
        let Signalled { commit, id, kind, data } = signalled;
        if self.core.record().is_some_and(|record| record.confirmed > *commit) {
            return tracing::info!(
                id,
                "a signal came again and is ignored: it was acted on before"
            );
        }
        match Signal::read(kind.as_deref(), data.as_deref()) {
            Err(error) => tracing::warn!(id, "a signal is ignored: {error}"),
            Ok(signal) => self.obey(id, Origin::Row(*commit), signal),
        }
    }

    fn obey(&mut self, id: &str, origin: Origin, signal: Signal) {
        match signal {
            Signal::Execute(asked) => self.execute(id, origin, &asked),
            Signal::Log(message) => tracing::info!(id, message, "a signal asks for this line"),
            Signal::Stop(tables) => {
                let captured = &self.tables.captured;
                let named = |name: &str| captured.iter().find(|table| table.to_string() == name);
                let ended = match &tables {
                    Some(tables) => {
                        let is_meant =
                            |name: &str| named(name).is_some_and(|table| tables.name(table));
                        self.backfills.copies.stop(Some(&is_meant)).len()
                    }
                    None => self.backfills.copies.stop(None).len(),
                };
                if ended > 0 {
                    self.chunk_dropped();
                }
                tracing::info!(id, ended, "a signal ends copies");
            }
            Signal::Pause => {
                let held = self.backfills.copies.pause();
                self.chunk_dropped();
                tracing::info!(id, held, "a signal pauses copies");
            }
            Signal::Resume => {
                let freed = self.backfills.copies.resume();
                tracing::info!(id, freed, "a signal resumes copies");
            }
        }
    }

    fn execute(&mut self, id: &str, origin: Origin, asked: &Execute) {
        for entry in asked.tables.unmatched(&self.tables.captured) {
            tracing::warn!(
                id,
                entry,
                "an entry of a signal's data-collections fits no captured table"
            );
        }
        let named: Vec<TableName> =
            self.tables.captured.iter().filter(|table| asked.tables.name(table)).cloned().collect();
        let (aside, meant): (Vec<TableName>, Vec<TableName>) =
            named.into_iter().partition(|table| self.is_detached(&table.to_string()));
        for table in aside {
            tracing::warn!(
                id, %table,
                "a signal asks for the copy of a detached table: `wellspring snapshot` repairs it"
            );
        }
        let now_ms = unix_nanos() / 1_000_000;
        let mut begun = 0;
        for table in &meant {
            let filter = asked.filter_of(table).map(str::to_owned);
            let wanted = backfill::Wanted {
                origin,
                id: id.to_owned(),
                filter,
                surrogate: asked.surrogate.clone(),
            };
            if self.backfills.copies.begin_wanted(table, wanted, now_ms) {
                begun += 1;
            } else {
                tracing::warn!(
                    id, %table,
                    "a signal's table is being copied already: it is not begun anew"
                );
            }
        }
        tracing::info!(id, begun, blocking = asked.blocking, "a signal asks for backfills");
    }

    /// Drops the chunk that is being read, because its copy is ended or paused.
    fn chunk_dropped(&mut self) {
        if let Some(task) = self.tasks.chunk.take() {
            task.abort();
        }
        self.backfills.reader = None;
    }
}
