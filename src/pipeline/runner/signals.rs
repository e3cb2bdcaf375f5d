//! The runner acts on rows of the signal table.
//!
//! A signal acts once. Its copies are recorded before the position of its row is confirmed, and their records stay until
//! a position behind it is: a replay finds either the copies or a confirm record that has passed the row. Only a copy
//! that was ended before the row was confirmed begins again, once, when the row is told again after a crash.

use super::*;
use crate::lsn::Lsn;
use crate::pipeline::rows::signal_places;
use crate::snapshot::signal::{Execute, Signal};
use crate::table::TableName;

impl Runner {
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
            Ok(Signal::Execute(asked)) => self.execute(id, *commit, &asked),
            Ok(Signal::Stop(tables)) => {
                let captured = &self.captured;
                let named = |name: &str| captured.iter().find(|table| table.to_string() == name);
                let is_meant = |name: &str| {
                    tables.as_ref().is_none_or(|tables| named(name).is_some_and(|table| tables.name(table)))
                };
                let ended = self.copies.stop(is_meant).len();
                if ended > 0 {
                    self.chunk_dropped();
                }
                tracing::info!(id, ended, "a signal ended copies");
            }
            Ok(Signal::Pause) => {
                let held = self.copies.pause();
                self.chunk_dropped();
                tracing::info!(id, held, "a signal holds copies");
            }
            Ok(Signal::Resume) => {
                let freed = self.copies.resume();
                tracing::info!(id, freed, "a signal lets copies go on");
            }
        }
    }

    fn execute(&mut self, id: &str, commit: Lsn, asked: &Execute) {
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
            let wanted = windows::Wanted { commit, filter, surrogate: asked.surrogate.clone() };
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
