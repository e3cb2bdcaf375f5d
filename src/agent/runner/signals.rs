//! The runner acts on rows of the signal table, and on records of the signal topic.
//!
//! A signal acts once. Its copies are recorded before the position of its row is confirmed, and their records stay until
//! a position behind it is: a replay finds either the copies or a confirm record that has passed the row. Only a copy
//! that was ended before the row was confirmed begins again, once, when the row is told again after a crash. How far the
//! topic is obeyed is recorded after the copies that its records asked for, and a copy knows its record's offset.

use super::*;
use crate::backfill::Origin;
use crate::continuity::checkpoint::Obeyed;
use crate::kafka::{Followed, Follower, KafkaError};
use crate::rows::signal_places;
use crate::snapshot::signal::{Execute, Signal};
use crate::table::TableName;

/// Records of the signal topic that may wait: people send them.
const HEARD_MAX: usize = 16;

/// The signal topic while it is followed.
pub(super) struct SignalFollower {
    _follower: Follower,
    heard: mpsc::Receiver<Followed>,
    /// A record that came before copies can begin; no other is taken meanwhile.
    waiting: Option<Followed>,
}

/// What the signal topic says next, while none of its records waits. Cancel-safe.
pub(super) async fn heard(signal_follower: Option<&mut SignalFollower>) -> Option<Followed> {
    signal_follower.filter(|signal_follower| signal_follower.waiting.is_none())?.heard.recv().await
}

impl Runner {
    /// Follows the signal topic from where it is obeyed, once for the process.
    pub(super) fn listen(&mut self, obeyed: Option<&Obeyed>) -> Result<(), KafkaError> {
        let (Some(topic), SinkConfig::Kafka(kafka)) = (&self.config.snapshot.signal_topic, &self.config.sink) else {
            return Ok(());
        };
        if self.signal_follower.is_none() {
            let from = obeyed.filter(|obeyed| obeyed.topic == *topic).map(|obeyed| obeyed.next);
            let (hear, heard) = mpsc::channel(HEARD_MAX);
            self.signal_follower =
                Some(SignalFollower { _follower: Follower::start(kafka, topic, from, hear)?, heard, waiting: None });
        }
        Ok(())
    }

    /// The signal topic says something. Where it begins is recorded beside the first copy too, so that what is sent from
    /// now on is obeyed, however long that takes and whatever becomes of this process.
    pub(super) fn heard(&mut self, followed: Followed) {
        if let Followed::From(offset) = followed {
            let topic = self.config.snapshot.signal_topic.clone().unwrap_or_default();
            tracing::info!(topic, offset, "signals are read from the end of the topic on");
            self.copies.obeyed(&topic, offset);
        } else if let Some(signal_follower) = &mut self.signal_follower {
            signal_follower.waiting = Some(followed);
        }
    }

    /// Acts on the record of the signal topic that waits, once copies can begin.
    pub(super) fn obey_heard(&mut self) {
        if self.copying.is_some() {
            return;
        }
        let Some(followed) = self.signal_follower.as_mut().and_then(|signal_follower| signal_follower.waiting.take())
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
                        (id, Err(error)) => tracing::warn!(id, offset, "a signal is left alone: {error}"),
                    }
                } else {
                    tracing::info!(topic, offset, "a signal for another pipeline: its key is not topics.prefix");
                }
                offset.saturating_add(1)
            }
        };
        self.copies.obeyed(&topic, next);
    }

    /// Where a table's rows have a signal's parts, if its rows are signals.
    pub(super) fn signals_of(&self, ready: &plans::Ready) -> Option<[usize; 3]> {
        if self.config.snapshot.signal_table.as_deref() != Some(&*ready.name) {
            return None;
        }
        let places = signal_places(&ready.plan);
        if places.is_none() {
            tracing::warn!(table = %ready.name, "signals are not read: the table has no columns id, type and data");
        }
        places
    }

    /// A signal was streamed: it is acted on before anything behind it is read.
    pub(super) fn signalled(&mut self, signalled: &Signalled) {
        let Signalled { commit, id, kind, data } = signalled;
        if self.core.record().is_some_and(|record| record.confirmed > *commit) {
            return tracing::info!(id, "a signal was told again: it was acted on");
        }
        match Signal::read(kind.as_deref(), data.as_deref()) {
            Err(error) => tracing::warn!(id, "a signal is left alone: {error}"),
            Ok(signal) => self.obey(id, Origin::Row(*commit), signal),
        }
    }

    fn obey(&mut self, id: &str, origin: Origin, signal: Signal) {
        match signal {
            Signal::Execute(asked) => self.execute(id, origin, &asked),
            Signal::Log(message) => tracing::info!(id, message, "a signal asks for this line"),
            Signal::Stop(tables) => {
                let captured = &self.captured;
                let named = |name: &str| captured.iter().find(|table| table.to_string() == name);
                let ended = match &tables {
                    Some(tables) => {
                        let is_meant = |name: &str| named(name).is_some_and(|table| tables.name(table));
                        self.copies.stop(Some(&is_meant)).len()
                    }
                    None => self.copies.stop(None).len(),
                };
                if ended > 0 {
                    self.chunk_dropped();
                }
                tracing::info!(id, ended, "a signal ended copies");
            }
            Signal::Pause => {
                let held = self.copies.pause();
                self.chunk_dropped();
                tracing::info!(id, held, "a signal holds copies");
            }
            Signal::Resume => {
                let freed = self.copies.resume();
                tracing::info!(id, freed, "a signal lets copies go on");
            }
        }
    }

    fn execute(&mut self, id: &str, origin: Origin, asked: &Execute) {
        for entry in asked.tables.unmatched(&self.captured) {
            tracing::warn!(id, entry, "an entry of a signal's data-collections fits no captured table");
        }
        let named: Vec<TableName> = self.captured.iter().filter(|table| asked.tables.name(table)).cloned().collect();
        let (aside, meant): (Vec<TableName>, Vec<TableName>) =
            named.into_iter().partition(|table| self.is_detached(&table.to_string()));
        for table in aside {
            tracing::warn!(id, %table, "a signal's table is set aside: `wellspring snapshot` repairs it");
        }
        let now_ms = unix_nanos() / 1_000_000;
        let mut begun = 0;
        for table in &meant {
            let filter = asked.filter_of(table).map(str::to_owned);
            let wanted = backfill::Wanted { origin, id: id.to_owned(), filter, surrogate: asked.surrogate.clone() };
            if self.copies.begin_wanted(table, wanted, now_ms) {
                begun += 1;
            } else {
                tracing::warn!(id, %table, "a signal's table is being copied already: it is not begun anew");
            }
        }
        tracing::info!(id, begun, blocking = asked.blocking, "a signal asks for copies, made beside the stream");
    }

    /// What was being read is of no more use.
    fn chunk_dropped(&mut self) {
        if let Some(task) = self.tasks.chunk.take() {
            task.abort();
        }
        self.reader = None;
    }
}
