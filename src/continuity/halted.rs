//! The recorded halt of a slot. Every start and every replica reads this record, and obeys it
//! before anything is produced.
//!
//! This file is pure. The record outlives the process that wrote it, so a restart or a second
//! replica cannot stream past the halt. The table of `continuity::Reason::lifting` says what ends a
//! halt, and `Halted::standing` applies that table.
//!
//! Laws:
//! - A halt whose cause a later connect can miss stands until one of the ways that end it is taken.
//! - A way that does not prove the cause to be gone (a larger limit, another configuration,
//!   `wellspring retry`) allows one attempt.
//! - An attempt ends when a checkpoint shows that the stream has passed the halting position, or
//!   when the halt is recorded again.

use super::checkpoint::FORMAT;
use super::skipped::Place;
use super::{By, Halt, LsnRange, Oversize, Proof, Reason, Recorded};
use crate::change::Position;
use crate::encode::not_holdable_in;
use crate::lsn::Lsn;
use crate::table::typed::{column_in_sql, in_shell, in_sql, snapshot_of};
use serde::{Deserialize, Serialize};

/// The most processes that may begin the same attempt. The number is small because the attempt may
/// be what kills the process. It is above 1 because a restart for another cause, such as a
/// deployment, must not use up the attempt.
const TRY_RUNS_MAX: u32 = 3;

/// Longest detail kept, in characters. The record must fit into a message of the state topic.
const DETAIL_CHARS_MAX: usize = 2000;

/// The change at which the stream has halted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// Table of the change, as `namespace.name`.
    pub table: String,
    /// Commit LSN of the change.
    pub commit: Lsn,
    /// Ordinal of the change within its transaction.
    pub ordinal: u64,
    /// murmur2 of the bytes of the record's key; `None` if no key was encoded, or if the record has
    /// none.
    pub key_hash: Option<u32>,
}

/// An attempt that was allowed and has no outcome yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// Id of the run that began the attempt, or took it over from a run that ended.
    pub run: String,
    /// Number of runs that have made this attempt.
    pub runs: u32,
}

/// The record of a halt in the state topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halted {
    /// Format version of the record, see [`FORMAT`].
    pub format: u32,
    /// Reason for the halt, stored as its code.
    pub reason: Reason,
    /// A sentence that names objects and positions.
    pub detail: String,
    /// The next step that was shown to the operator when the halt was recorded.
    pub next: String,
    /// Range of WAL that is missing or in doubt; `None` if the halt is about no range.
    #[serde(default)]
    pub range: Option<LsnRange>,
    /// The change that cannot be delivered, if one change caused the halt.
    #[serde(default)]
    pub at: Option<At>,
    /// The table that the halt is about, as `namespace.name`. `None` for a halt about no table, and
    /// for a halt about several tables.
    #[serde(default)]
    pub table: Option<String>,
    /// Topic, size and limit of the record that caused the halt, if it was too large.
    #[serde(default)]
    pub oversize: Option<Oversize>,
    /// Epoch of the positions; 0 where there was no checkpoint. A later epoch means consent, which
    /// ends the halt.
    pub epoch: u64,
    /// Term of the connection that halted; 0 where there was no checkpoint.
    pub term: u64,
    /// Time of the halt, in Unix milliseconds.
    pub at_ms: i64,
    /// Id of the run that recorded the halt.
    pub run: String,
    /// Digest of the settings that decide the form and the largest size of records, and the set of
    /// captured tables.
    pub fingerprint: String,
    /// Version of the program that recorded the halt.
    pub version: String,
    /// True if an operator asked for one more attempt.
    #[serde(default)]
    pub retry: bool,
    /// The attempt to continue past the halt; `None` if no attempt was begun.
    #[serde(default)]
    pub trying: Option<Try>,
}

/// The run that reads or records a halt, with its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Id of the run.
    pub run: String,
    /// Digest of the configuration of this run, made as that of [`Halted::fingerprint`].
    pub fingerprint: String,
    /// Version of the running program.
    pub version: String,
}

/// Facts that decide, together with the record, whether the halt still stops the stream.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The run that reads the record.
    pub author: &'a Author,
    /// Epoch of the checkpoint; 0 where there is none.
    pub epoch: u64,
    /// True if the halt's table is captured, or if the halt is about no table.
    pub captured: bool,
    /// Record size that topic and producer accept now, in bytes; `None` where that is not known.
    pub takes_bytes: Option<u64>,
}

/// Effect of a recorded halt on the process that reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The halt stands: nothing may be produced.
    Stands,
    /// The connect checks the cause of the halt again and decides.
    Judged,
    /// The halt has ended, and its record may be deleted.
    Ended,
    /// One attempt is allowed. This record must be written before the stream is read.
    Try(Box<Halted>),
}

impl Halted {
    /// The record of a new halt, found by the run that `author` describes.
    #[must_use]
    pub fn new(halt: &Halt, author: &Author, (epoch, term): (u64, u64), at_ms: i64) -> Self {
        let at = |place: &Place| At {
            table: place.table.clone(),
            commit: place.at.commit,
            ordinal: place.at.ordinal,
            key_hash: place.key_hash,
        };
        Halted {
            format: FORMAT,
            reason: halt.reason,
            detail: halt.detail.chars().take(DETAIL_CHARS_MAX).collect(),
            next: halt.next(),
            range: halt.range,
            at: halt.place.as_deref().map(at),
            table: halt.table.clone(),
            oversize: halt.oversize.as_deref().cloned(),
            epoch,
            term,
            at_ms,
            run: author.run.clone(),
            fingerprint: author.fingerprint.clone(),
            version: author.version.clone(),
            retry: false,
            trying: None,
        }
    }

    /// Key of this record in the state topic.
    #[must_use]
    pub fn key(slot: &str) -> String {
        format!("halt/{slot}")
    }

    /// Value of this record in the state topic, as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        super::text_of(self)
    }

    /// The halt as status and log show it after it was read from the state topic.
    #[must_use]
    pub fn halt(&self) -> Halt {
        let place = |at: &At| {
            let position = Position { commit: at.commit, ordinal: at.ordinal };
            Box::new(Place { table: at.table.clone(), at: position, key_hash: at.key_hash })
        };
        let recorded = Recorded { at_ms: self.at_ms, run: self.run.clone(), epoch: self.epoch };
        Halt {
            reason: self.reason,
            detail: self.detail.clone(),
            range: self.range,
            place: self.at.as_ref().map(place),
            table: self.table.clone(),
            route: None,
            oversize: self.oversize.clone().map(Box::new),
            recorded: Some(Box::new(recorded)),
        }
    }

    /// True if `halt` has the reason, table, detail and epoch of this record. The record then need
    /// not be written again.
    #[must_use]
    pub fn says(&self, halt: &Halt, epoch: u64) -> bool {
        (self.reason, self.epoch, &self.table) == (halt.reason, epoch, &halt.table)
            && self.detail == halt.detail
    }

    /// True if this record is kept in place of a record of `halt`: a look between two connects
    /// recorded this halt, and a connect has now found that captured tables differ. The recorded
    /// range is narrower than the range of the connect.
    #[must_use]
    pub fn covers(&self, halt: &Halt, epoch: u64) -> bool {
        epoch <= self.epoch && self.reason.is_watched() && halt.reason.is_of_members()
    }

    /// Decides the effect of the record on a process with these facts.
    #[must_use]
    pub fn standing(&self, facts: &Facts<'_>) -> Standing {
        let lifting = self.reason.lifting();
        if facts.epoch > self.epoch || (lifting.is_by(By::Exclusion) && !facts.captured) {
            return Standing::Ended;
        }
        if lifting.proof != Proof::Once {
            return Standing::Judged;
        }
        let author = facts.author;
        let may = |way| lifting.is_by(way);
        let fits =
            |oversize: &Oversize| facts.takes_bytes.is_some_and(|takes| takes >= oversize.bytes);
        let differs = (&self.fingerprint, &self.version) != (&author.fingerprint, &author.version);
        let runs = match &self.trying {
            Some(trying) if trying.run == author.run => trying.runs,
            Some(trying) if trying.runs < TRY_RUNS_MAX => trying.runs + 1,
            Some(_) if self.retry => 1,
            Some(_) => return Standing::Stands,
            None if self.retry && may(By::Retry) => 1,
            None if may(By::Limit) && self.oversize.as_ref().is_some_and(fits) => 1,
            None if may(By::Configuration) && (differs || !facts.captured) => 1,
            None => return Standing::Stands,
        };
        let trying = Some(Try { run: author.run.clone(), runs });
        Standing::Try(Box::new(Halted { retry: false, trying, ..self.clone() }))
    }

    /// True if the stream has passed the halt. A stream in a later epoch has passed every halt. In
    /// the same epoch, `delivered` must be beyond the halting change, or beyond the end of the
    /// halt's range if the record names no change. If the record has neither, only a later epoch
    /// passes the halt.
    #[must_use]
    pub fn is_passed(&self, epoch: u64, delivered: Lsn) -> bool {
        let place =
            self.at.as_ref().map(|at| at.commit).or_else(|| self.range.map(|range| range.to));
        epoch > self.epoch || place.is_some_and(|place| delivered > place)
    }

    /// The record with a request for one more attempt.
    ///
    /// # Errors
    /// An attempt cannot end this halt. The error is the next step that can.
    pub fn retried(&self) -> Result<Halted, String> {
        if self.reason.lifting().is_by(By::Retry) {
            return Ok(Halted { retry: true, trying: None, ..self.clone() });
        }
        Err(self.halt().next())
    }
}

impl Halt {
    /// The next step for the operator. Its commands can be typed as they stand, except for two
    /// placeholders that only the operator can fill: `TABLE`, and `"..."`, which the agent does not
    /// accept.
    #[must_use]
    pub fn next(&self) -> String {
        let table = self.table.as_deref().or(self.place.as_deref().map(|place| &*place.table));
        let copy = table.map_or_else(|| "`wellspring snapshot TABLE`".to_owned(), snapshot_of);
        let next = self.reason.next().replace("`wellspring snapshot`", &copy);
        let Some(place) = self.place.as_deref() else { return next };
        let (table, at) = (in_shell(&place.table), place.at);
        let skip = format!(
            "`wellspring skip {table} --commit {} --ordinal {} --by \"...\" --why \"...\"`",
            at.commit, at.ordinal
        );
        let next = next.replace("`wellspring skip`", &skip);
        match self.finder(place) {
            Some(finder) => format!("{next}; {finder}"),
            None => next,
        }
    }

    /// A query for the operator, which finds rows in the table that may cause this halt. `None` if
    /// no query can find them. The halt itself cannot show the row: its detail has no row values,
    /// and of the key it has the hash alone.
    fn finder(&self, place: &Place) -> Option<String> {
        let table = in_sql(&place.table);
        match self.reason {
            Reason::RecordTooLarge => Some(format!(
                "`SELECT ctid, octet_length(t::text) FROM {table} t ORDER BY 2 DESC LIMIT 5` \
                 finds the largest rows"
            )),
            Reason::RowUnencodable => {
                let (column, loss) = not_holdable_in(&self.detail, &place.table)?;
                let condition = loss.condition(&column_in_sql(column))?;
                Some(format!(
                    "`SELECT ctid, * FROM {table} WHERE {condition} LIMIT 5` finds rows that \
                     may still have such a value: correct them before the skip. With REPLICA \
                     IDENTITY FULL the correction itself carries the old value and halts again: \
                     skip it too, and then copy the table with `wellspring snapshot`"
                ))
            }
            _ => None,
        }
    }

    /// The detail of the halt. If the halt was read from the state topic, the text also has the
    /// time of its recording and the run that recorded it.
    #[must_use]
    pub fn told(&self) -> String {
        match self.recorded.as_deref() {
            None => self.detail.clone(),
            Some(Recorded { at_ms, run, .. }) => {
                format!("{} (this halt was recorded at {} by run {run})", self.detail, utc(*at_ms))
            }
        }
    }
}

/// A time in Unix milliseconds as RFC 3339 in UTC, to the second (days to date by Howard Hinnant's
/// `civil_from_days`).
fn utc(at_ms: i64) -> String {
    let seconds = at_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153; // March is 0
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{EncodeError, Loss};

    fn author(run: &str) -> Author {
        Author { run: run.to_owned(), fingerprint: "f".to_owned(), version: "1".to_owned() }
    }

    fn halted(reason: Reason) -> Halted {
        let at = Position { commit: Lsn::new(30), ordinal: 2 };
        let place = Place { table: "p.t".to_owned(), at, key_hash: Some(7) };
        let oversize = Oversize { topic: "p.t".to_owned(), bytes: 300, limit_bytes: 200 };
        let halt =
            Halt::new(reason, "why").over(Lsn::new(20), Lsn::new(30)).at(place).oversized(oversize);
        Halted::new(&halt, &author("a"), (4, 9), 1_700_000_000_000)
    }

    fn facts(author: &Author) -> Facts<'_> {
        Facts { author, epoch: 4, captured: true, takes_bytes: Some(200) }
    }

    /// The record of the allowed attempt.
    #[track_caller]
    fn tried(standing: Standing) -> Halted {
        match standing {
            Standing::Try(halted) => *halted,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_record_reads_back_as_the_halt_that_was_written() {
        let halted = halted(Reason::RecordTooLarge);
        assert_eq!(serde_json::from_str::<Halted>(&halted.to_json()).unwrap(), halted);
        let halt = halted.halt();
        assert_eq!(halt.place.unwrap().at.ordinal, 2);
        assert_eq!(halt.oversize.as_deref(), halted.oversize.as_ref());
        assert_eq!(
            halted.halt().told(),
            "why (this halt was recorded at 2023-11-14T22:13:20Z by run a)"
        );
    }

    #[test]
    fn the_command_of_the_next_step_has_its_arguments() {
        let next = halted(Reason::RecordTooLarge).halt().next();
        assert!(
            next.contains("`wellspring skip p.t --commit 0/1E --ordinal 2 --by \"...\" --why"),
            "{next}"
        );
        assert!(next.contains("octet_length(t::text) FROM p.t t ORDER BY"), "{next}");
        for reason in Reason::ALL {
            let next = halted(*reason).halt().next();
            assert!(!next.contains("`wellspring skip`"), "{next}");
            assert!(!next.contains("`wellspring snapshot`"), "{next}");
        }
        let spaced = Halt { table: Some("p.a b".to_owned()), ..halted(Reason::TableLeft).halt() };
        assert!(spaced.next().contains("`wellspring snapshot 'p.a b'`"), "{}", spaced.next());
    }

    #[test]
    fn the_next_step_of_an_unencodable_row_has_a_query() {
        let error = EncodeError::NotHoldable {
            table: "p.t".to_owned(),
            column: "Total".to_owned(),
            loss: Loss::NotANumber,
        };
        let halt = Halt { detail: error.to_string(), ..halted(Reason::RowUnencodable).halt() };
        let query = "`SELECT ctid, * FROM p.t WHERE \"Total\" IN ('NaN', 'Infinity', \
                     '-Infinity') LIMIT 5`";
        assert!(halt.next().contains(query), "{}", halt.next());
        assert!(!halted(Reason::RowUnencodable).halt().next().contains("SELECT"));
    }

    #[test]
    fn a_restart_alone_ends_no_halt_that_was_seen_once() {
        let again = author("b");
        for reason in
            Reason::ALL.iter().copied().filter(|reason| reason.lifting().proof == Proof::Once)
        {
            assert_eq!(
                halted(reason).standing(&facts(&again)),
                Standing::Stands,
                "{}",
                reason.code()
            );
        }
    }

    #[test]
    fn a_halt_that_a_connect_can_see_is_judged_anew() {
        for reason in Reason::ALL
            .iter()
            .copied()
            .filter(|reason| reason.lifting().proof == Proof::EachConnect)
        {
            assert_eq!(
                halted(reason).standing(&facts(&author("b"))),
                Standing::Judged,
                "{}",
                reason.code()
            );
        }
    }

    #[test]
    fn a_consent_ends_every_halt() {
        for &reason in Reason::ALL {
            let again = author("b");
            let later = Facts { epoch: 5, ..facts(&again) };
            assert_eq!(halted(reason).standing(&later), Standing::Ended, "{}", reason.code());
        }
    }

    #[test]
    fn each_reason_is_tried_again_exactly_for_its_ways_out() {
        let (same, upgraded) = (author("b"), Author { version: "2".to_owned(), ..author("b") });
        for reason in
            Reason::ALL.iter().copied().filter(|reason| reason.lifting().proof == Proof::Once)
        {
            let by = |way| reason.lifting().is_by(way);
            let is_try = |halted: &Halted, facts: &Facts<'_>| {
                matches!(halted.standing(facts), Standing::Try(_))
            };
            let asked = Halted { retry: true, ..halted(reason) };
            assert_eq!(is_try(&asked, &facts(&same)), by(By::Retry), "{}", reason.code());
            assert_eq!(
                is_try(&halted(reason), &facts(&upgraded)),
                by(By::Configuration),
                "{}",
                reason.code()
            );
            let roomy = Facts { takes_bytes: Some(300), ..facts(&same) };
            assert_eq!(is_try(&halted(reason), &roomy), by(By::Limit), "{}", reason.code());
            let excluded = halted(reason).standing(&Facts { captured: false, ..facts(&same) });
            assert_eq!(excluded == Standing::Ended, by(By::Exclusion), "{}", reason.code());
            assert_eq!(
                matches!(excluded, Standing::Try(_)),
                by(By::Configuration),
                "{}",
                reason.code()
            );
        }
    }

    #[test]
    fn a_limit_that_is_not_known_or_one_byte_short_allows_no_try() {
        let again = author("b");
        for takes_bytes in [None, Some(299)] {
            let standing =
                halted(Reason::RecordTooLarge).standing(&Facts { takes_bytes, ..facts(&again) });
            assert_eq!(standing, Standing::Stands, "{takes_bytes:?}");
        }
    }

    #[test]
    fn a_try_goes_on_in_its_run_and_passes_to_few_others() {
        let asked = halted(Reason::Undeliverable).retried().unwrap();
        let mut trying = tried(asked.standing(&facts(&author("b"))));
        assert_eq!((trying.retry, trying.trying.as_ref().map(|t| t.runs)), (false, Some(1)));
        for _ in 0..5 {
            // one run reconnects several times
            trying = tried(trying.standing(&facts(&author("b"))));
        }
        assert_eq!(trying.trying.as_ref().map(|t| t.runs), Some(1));
        for run in ["c", "d"] {
            trying = tried(trying.standing(&facts(&author(run))));
        }
        assert_eq!(trying.standing(&facts(&author("e"))), Standing::Stands);
        let asked = trying.retried().unwrap();
        assert_eq!(tried(asked.standing(&facts(&author("e")))).trying.map(|t| t.runs), Some(1));
    }

    #[test]
    fn a_retry_is_refused_where_only_consent_ends_the_halt() {
        for &reason in Reason::ALL {
            assert_eq!(
                halted(reason).retried().is_ok(),
                reason.lifting().is_by(By::Retry),
                "{}",
                reason.code()
            );
        }
    }

    #[test]
    fn a_connect_that_sees_less_leaves_the_watched_range() {
        let seen = Halt::new(Reason::TableRepublished, "why");
        for reason in [Reason::PublicationAltered, Reason::TableSwapped, Reason::TableLeft] {
            assert!(
                halted(reason).covers(&seen, 4) && !halted(reason).covers(&seen, 5),
                "{}",
                reason.code()
            );
            assert!(
                !halted(reason).covers(&Halt::new(Reason::SlotLost, "why"), 4),
                "{}",
                reason.code()
            );
        }
        assert!(!halted(Reason::RowUnencodable).covers(&seen, 4));
    }

    #[test]
    fn a_position_is_passed_when_its_commit_is_confirmed() {
        let halted = halted(Reason::RecordTooLarge);
        assert!(!halted.is_passed(4, Lsn::new(30)));
        assert!(halted.is_passed(4, Lsn::new(31)));
        let nowhere = Halted { at: None, range: None, ..halted };
        assert!(!nowhere.is_passed(4, Lsn::new(31)) && nowhere.is_passed(5, Lsn::ZERO));
    }

    #[test]
    fn a_time_is_told_in_utc() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399_000), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_868_799_999), "2000-02-29T23:59:59Z");
        assert_eq!(utc(1_798_761_600_000), "2027-01-01T00:00:00Z");
    }
}
