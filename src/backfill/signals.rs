//! Copies that signals begin, stop, pause and resume.

use super::{Copies, Copy, Stage};
use crate::continuity::checkpoint::{FORMAT, Obeyed, Window};
use crate::lsn::Lsn;
use crate::table::TableName;

/// What identifies a signal, and stays the same in a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Commit LSN of the row in the signal table.
    Row(Lsn),
    /// Offset of the record in the signal topic.
    Record(i64),
}

/// A copy that a signal requests.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The signal that requests the copy.
    pub origin: Origin,
    /// Id that the signal carries. It may be empty.
    pub id: String,
    /// An SQL condition that rows have to meet.
    pub filter: Option<String>,
    /// The column that the signal names as the key for chunks.
    pub surrogate: Option<String>,
}

impl Copies {
    /// Begins a copy. Returns false if the table already has one under way; a failed one is
    /// replaced, unless the first copy left the table to it.
    ///
    /// In a replay the same signal finds its own copy: then nothing begins, and the result is true.
    pub fn begin_wanted(&mut self, table: &TableName, wanted: Wanted, now_ms: i64) -> bool {
        let name = table.to_string();
        if let Some(copy) = self.list.iter().find(|copy| copy.name == name) {
            if copy.is_of(wanted.origin) {
                return true;
            }
            if !matches!(copy.stage, Stage::Failed(..)) || copy.owed.is_some() {
                return false;
            }
            self.forget(|other| other != name);
        }
        // New copies are paused while others are paused.
        let paused = self.list.iter().any(|copy| copy.window.paused);
        let (signal, signal_offset) = match wanted.origin {
            Origin::Row(commit) => (Some(commit), None),
            Origin::Record(offset) => (None, Some(offset)),
        };
        let (surrogate, correlation) =
            (wanted.surrogate, Some(wanted.id).filter(|id| !id.is_empty()));
        let asked = Window::requested(wanted.filter, now_ms);
        self.push(
            table,
            Window { paused, signal, signal_offset, surrogate, correlation, ..asked },
            None,
        );
        true
    }

    /// Ends copies that signals requested, for the tables that `is_meant` accepts or for all.
    /// Returns the names of these tables. Delivered rows stay in the topic.
    pub fn stop(&mut self, is_meant: Option<&dyn Fn(&str) -> bool>) -> Vec<String> {
        let is_over = |copy: &&Copy| {
            copy.is_signalled() && is_meant.is_none_or(|is_meant| is_meant(&copy.name))
        };
        let names: Vec<String> =
            self.list.iter().filter(is_over).map(|copy| copy.name.clone()).collect();
        if !names.is_empty() {
            self.tell_aborted(is_meant.map(|_| names.as_slice()));
            self.give_up_reading();
            self.forget(|name| !names.iter().any(|over| over == name));
        }
        names
    }

    /// Queues the state record that all signals of the topic below the offset `next` are obeyed.
    /// This record is written after the records of the copies that the signals requested.
    pub fn obeyed(&mut self, topic: &str, next: i64) {
        let obeyed = Obeyed { format: FORMAT, topic: topic.to_owned(), next };
        let key = Obeyed::key(self.unwritten.slot_name());
        self.unwritten.insert(key, Some(obeyed.to_json()));
    }

    /// Pauses every copy: rows that were read and not sent are dropped, and nothing is read.
    /// Returns the number of copies that were not paused before.
    pub fn pause(&mut self) -> usize {
        self.give_up_reading();
        let going: Vec<usize> = (0..self.list.len()).filter(|at| !self.is_paused(*at)).collect();
        for at in &going {
            if let Some(copy) = self.list.get_mut(*at) {
                copy.window.paused = true;
                if let Some(windows) = &mut copy.windows {
                    windows.lost();
                }
            }
            self.store(*at);
        }
        if !going.is_empty() {
            self.tell_all("PAUSED");
        }
        going.len()
    }

    /// Resumes all paused copies where they were. Returns their number.
    pub fn resume(&mut self) -> usize {
        let held: Vec<usize> = (0..self.list.len()).filter(|at| self.is_paused(*at)).collect();
        for at in &held {
            if let Some(copy) = self.list.get_mut(*at) {
                copy.window.paused = false;
            }
            self.store(*at);
        }
        if !held.is_empty() {
            self.tell_all("RESUMED");
        }
        held.len()
    }

    fn is_paused(&self, at: usize) -> bool {
        self.list.get(at).is_some_and(|copy| copy.window.paused)
    }

    /// Drops the chunks that are being read, and the standstill under way.
    fn give_up_reading(&mut self) {
        for copy in &mut self.list {
            copy.waits.hold_since = None;
            if let Some(windows) = &mut copy.windows {
                windows.give_up();
            }
        }
        self.stream.held = None;
        self.drop_standstill();
    }
}

impl Copy {
    fn is_of(&self, origin: Origin) -> bool {
        match origin {
            Origin::Row(commit) => self.window.signal == Some(commit),
            Origin::Record(offset) => self.window.signal_offset == Some(offset),
        }
    }

    fn is_signalled(&self) -> bool {
        self.window.signal.is_some() || self.window.signal_offset.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::CopyReason;
    use crate::snapshot::journal::Left;

    #[test]
    fn what_a_record_asked_for_is_recorded_with_how_far_records_are_obeyed() {
        let (mut copies, table) = (Copies::new("s", false), TableName::new("p", "t"));
        for _ in 0..2 {
            let wanted = Wanted { origin: Origin::Record(7), ..wanted(0) };
            assert!(copies.begin_wanted(&table, wanted, 0));
            copies.obeyed("signals", 8);
        }
        assert_eq!(copies.status().len(), 1);
        let keys: Vec<String> = copies.unwritten().into_keys().collect();
        assert_eq!(keys, [Obeyed::key("s"), Window::key("s", "p.t")]);
        assert_eq!(copies.stop(None), ["p.t"]);
    }

    fn wanted(commit: u64) -> Wanted {
        Wanted {
            origin: Origin::Row(Lsn::new(commit)),
            id: "s1".to_owned(),
            filter: None,
            surrogate: None,
        }
    }

    #[test]
    fn a_signal_told_again_finds_its_own_copy_and_another_one_is_refused() {
        let (mut copies, table) = (Copies::new("s", true), TableName::new("p", "t"));
        assert!(copies.begin_wanted(&table, wanted(16), 0));
        let recorded = copies.unwritten();
        assert!(copies.begin_wanted(&table, wanted(16), 5));
        assert_eq!(copies.unwritten(), recorded);
        assert!(!copies.begin_wanted(&table, wanted(17), 5));
        assert_eq!((copies.unwritten(), copies.status().len()), (recorded, 1));
        // A failed copy is replaced.
        copies.fail(0, Left::new(CopyReason::Query, "", ""));
        assert!(copies.begin_wanted(&table, wanted(17), 5));
        assert_eq!(copies.status()[0].state, "copying");
    }

    #[test]
    fn copies_that_no_signal_asked_for_are_held_by_one_and_not_ended() {
        let (mut copies, asked, other) =
            (Copies::new("s", true), TableName::new("p", "t"), TableName::new("p", "u"));
        copies.begin(&other, None, true, 0, None);
        assert_eq!((copies.pause(), copies.pause()), (1, 0));
        assert!(copies.begin_wanted(&asked, wanted(16), 0));
        assert!(copies.status().iter().all(|status| status.state == "paused"));
        assert_eq!(copies.stop(None), ["p.t"]);
        assert_eq!(copies.unwritten().get(&Window::key("s", "p.t")), Some(&None));
        assert_eq!((copies.resume(), copies.is_copying("p.u")), (1, true));
    }
}
