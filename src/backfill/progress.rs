//! What `/status` and the metrics show of backfills and standstills.

use super::standstill::UnderWay;
use super::waits::Cause;
use super::{Copies, Copy, Moment, Stage, Windows};
use crate::lsn::Lsn;
use crate::metrics::WindowTotals;
use crate::reason::CopyReason;
use crate::snapshot::journal::Left;
use crate::snapshot::window::Journal;
use crate::status::WindowStatus;

/// Number of completed copies that `/status` still shows.
const FINISHED_MAX: usize = 20;

/// The completed copies that the status shows, and the repaired tables that the runner has not
/// taken yet.
#[derive(Default)]
pub(super) struct Finished {
    /// The copies that `/status` shows, the newest last.
    shown: Vec<WindowStatus>,
    /// Tables that a copy has repaired since the runner last asked.
    pub repaired: Vec<String>,
}

impl Finished {
    pub fn note(&mut self, table: &str, journal: &Journal, bytes: u64) {
        self.shown.retain(|status| status.table != table);
        let excess = (self.shown.len() + 1).saturating_sub(FINISHED_MAX);
        self.shown.drain(..excess);
        let (rows, chunks) = (journal.rows, journal.chunks);
        let (table, state) = (table.to_owned(), "done".to_owned());
        self.shown.push(WindowStatus {
            table,
            state,
            rows,
            chunks,
            bytes,
            ..WindowStatus::default()
        });
    }
}

impl Copies {
    /// Totals for the metrics.
    #[must_use]
    pub fn totals(&self) -> WindowTotals {
        self.totals
    }

    /// Adds the time since the last call to the totals of what has lasted since then: a stream held
    /// for a chunk, a standstill, a wait for transactions that no snapshot has seen.
    pub(super) fn count_time(&mut self, now: Moment) {
        let passed = now.since(self.now);
        let [chunks, standstill] = &mut self.totals.held_us;
        *chunks += if self.stream.held.is_some() { passed } else { 0 };
        *standstill +=
            if self.standstill.as_ref().is_some_and(UnderWay::stands) { passed } else { 0 };
        let waits = self.list.iter().any(|copy| copy.waits.unseen && copy.can_go_on());
        self.totals.unseen_us += if waits { passed } else { 0 };
    }

    /// The copies for `/status`: completed ones first, then those under way.
    #[must_use]
    pub fn status(&self) -> Vec<WindowStatus> {
        let shown = self.finished.shown.iter();
        let over = shown.filter(|status| !self.is_copying(&status.table)).cloned();
        let under_way =
            |copy: &Copy| self.standstill.as_ref().filter(|under_way| under_way.id == copy.id);
        let stands = self.stream.stands;
        over.chain(self.list.iter().map(|copy| copy.status(stands, under_way(copy)))).collect()
    }
}

impl Copy {
    /// Returns the status of this copy. `stands` is the position where the stream last was outside
    /// of a transaction. `under_way` is set if a standstill of this copy is under way.
    fn status(&self, stands: Lsn, under_way: Option<&UnderWay>) -> WindowStatus {
        let next = self.awaits();
        let (open_chunks, waits_for_lsn) =
            self.windows.as_ref().map_or((0, None), Windows::waiting);
        let (state, reason, detail, advice) = match (&self.stage, next) {
            (Stage::Failed(Left { reason, detail, next }), _) => {
                ("failed", reason.clone(), detail.clone(), next.clone())
            }
            _ if self.window.paused => ("paused", String::new(), String::new(), String::new()),
            (stage, end) => match (under_way, end, &self.waits.stuck) {
                (Some(under_way), ..) => {
                    let (detail, known) = under_way.in_words();
                    let (state, reason) = if known {
                        ("copying", "")
                    } else {
                        ("waiting", CopyReason::Snapshot.code())
                    };
                    (state, reason.to_owned(), format!("copied whole: {detail}"), String::new())
                }
                (None, Some(end), _) if *stage == Stage::Ready => {
                    let detail =
                        format!("everything is delivered; it is over once {end} is confirmed");
                    ("confirming", String::new(), detail, String::new())
                }
                (.., Some(Left { reason, detail, next })) => {
                    ("waiting", reason.clone(), detail.clone(), next.clone())
                }
                (.., None) => match &self.waits.cause {
                    Some(Cause::Transactions(words)) => {
                        let advice = "nothing has to be done; the copy goes on when these have \
                            ended";
                        let code = CopyReason::Transactions.code().to_owned();
                        ("waiting", code, format!("waiting for {words}"), advice.to_owned())
                    }
                    Some(Cause::Failure(why)) => {
                        let advice = "nothing has to be done; the agent tries again by itself";
                        let code = CopyReason::Retried.code().to_owned();
                        ("waiting", code, format!("the last try failed: {why}"), advice.to_owned())
                    }
                    None => {
                        let behind = waits_for_lsn.filter(|position| *position > stands);
                        let detail = behind.map_or_else(String::new, |position| {
                            format!("read up to {position}; the stream stands at {stands}")
                        });
                        ("copying", String::new(), detail, String::new())
                    }
                },
            },
        };
        WindowStatus {
            table: self.name.clone(),
            state: state.to_owned(),
            rows: self.window.journal.rows + under_way.map_or(0, |under_way| under_way.rows),
            bytes: self.bytes,
            chunks: self.window.journal.chunks,
            open_chunks,
            waits_for_lsn,
            moved_rows: self.window.journal.moved.len(),
            dropped_chunks: self.chunks.dropped,
            dropped_why: self.chunks.dropped_why.clone(),
            filter: self.window.filter.clone(),
            reason,
            detail,
            next: advice,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CopyTable, Known, Task};
    use super::*;
    use crate::core::SECOND;
    use crate::lsn::Oid;
    use crate::snapshot::keyset::RowKey;
    use crate::snapshot::throttle::Share;
    use crate::snapshot::window::What;
    use crate::table::TableName;

    /// One copy that can read its first chunk.
    fn ready() -> Copies {
        let (mut copies, name) = (Copies::new("s", false), TableName::new("p", "t"));
        copies.begin(&name, None, false, 0, None);
        let table = CopyTable {
            relation: Oid(1),
            name,
            identity: b'd',
            columns: Vec::new(),
            filter: None,
            parts: Vec::new(),
        };
        let copy = &mut copies.list[0];
        copy.known = Some(Known { table, active: None, keyset: None, places: Vec::new() });
        copy.windows = Some(Windows::resume(Journal::default(), Vec::new()));
        copy.stage = Stage::Ready;
        copies
    }

    #[test]
    fn no_chunk_is_begun_while_copies_rest_and_the_loop_turns_when_they_may_go_on() {
        let mut copies = ready();
        copies.pace.rests_until = Moment(500);
        assert!(copies.next_task(1000).is_none());
        assert_eq!(copies.next_tick(), Some(Moment(500)));
        copies.set_now(Moment(500));
        assert!(matches!(copies.next_task(1000), Some(Task::Begin { .. })));
    }

    #[test]
    fn a_chunk_of_moved_rows_that_is_too_large_becomes_smaller() {
        let mut copies = ready();
        let moved = (0..9).map(|key| RowKey::new([Some(key.to_string().as_bytes())]).unwrap());
        let journal = Journal { ended: true, moved: moved.collect(), ..Journal::default() };
        copies.list[0].windows = Some(Windows::resume(journal, Vec::new()));
        copies.list[0].chunks.rows_asked = 20;
        let asked = |copies: &mut Copies| {
            assert!(matches!(copies.next_task(1000), Some(Task::Begin { .. })));
            let windows = copies.list[0].windows.as_ref();
            let asked = windows.and_then(|windows| windows.requested().cloned());
            let Some(What::Keys(keys)) = asked else { panic!("{asked:?}") };
            copies.gave_up(copies.list[0].id, true, "a chunk was too large".to_owned());
            keys.len()
        };
        assert_eq!([(); 3].map(|()| asked(&mut copies)), [9, 5, 1]);
    }

    #[test]
    fn the_limit_of_rows_holds_for_all_copies_together() {
        let mut copies = ready();
        copies.pace.rows_per_second = Some(100);
        let mut other = ready();
        copies.list.append(&mut other.list);
        copies.pace.rest_after(200, 1, Moment(0));
        copies.set_now(Moment(1_999_999));
        assert!(copies.next_task(1000).is_none(), "200 rows take two seconds of all copies");
        copies.set_now(Moment(2_000_000));
        assert!(copies.next_task(1000).is_some());
    }

    #[test]
    fn a_pause_of_the_limit_is_short_and_ends_with_the_limit() {
        let mut copies = ready();
        copies.pace.configure(Some(3), Moment(0));
        assert!(copies.next_task(1000).is_some());
        assert_eq!(copies.list[0].chunks.rows_asked, 30, "a chunk takes ten seconds at most");
        copies.list[0].windows.as_mut().unwrap().give_up();
        copies.pace.rest_after(30, 1, Moment(0));
        copies.set_now(Moment(1));
        assert!(copies.next_task(1000).is_none());
        copies.pace.rest_after(50_000, 1, Moment(1));
        assert_eq!(copies.pace.rests_until, Moment(10 * SECOND + 1));
        copies.pace.configure(None, Moment(1));
        assert!(copies.next_task(1000).is_some());
    }

    #[test]
    fn a_failed_try_is_not_told_as_a_wait_for_transactions() {
        let mut copies = ready();
        copies.gave_up(copies.list[0].id, false, "connection lost".to_owned());
        let status = copies.status().remove(0);
        assert_eq!((&*status.state, &*status.reason), ("waiting", "window_retried"));
        assert_eq!(status.detail, "the last try failed: connection lost");
    }

    #[test]
    fn time_counts_as_waiting_only_while_a_copy_that_goes_on_waits() {
        let mut copies = ready();
        copies.take_share(Share::FREE);
        copies.set_now(Moment(100));
        copies.list[0].waits.unseen = true;
        copies.set_now(Moment(350));
        copies.fail(0, Left::new(CopyReason::Query, "", ""));
        copies.set_now(Moment(900));
        assert_eq!((copies.totals().unseen_us, copies.totals().held_us), (250, [0, 0]));
        let mut copies = ready();
        copies.hold();
        copies.set_now(Moment(70));
        assert_eq!(copies.totals().held_us, [70, 0]);
        assert!(matches!(copies.next_task(1000), Some(Task::Begin { .. })));
        assert_eq!(
            copies.list[0].windows.as_ref().and_then(|windows| windows.requested().cloned()),
            Some(What::Beyond(None))
        );
    }
}
