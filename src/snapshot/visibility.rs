//! What a snapshot of Postgres sees, and which sent transactions no snapshot has seen yet. A
//! snapshot is read from the text of `pg_current_snapshot()`.
//!
//! Pure. Laws, tested below:
//! - A transaction that a snapshot sees is seen by every later snapshot of the same server.
//! - A transaction that was sent is never forgotten before a snapshot has seen it, however many
//!   there are.

use crate::lsn::Xid;
use std::fmt;
use std::str::FromStr;

/// A transaction id in 64 bits, as snapshots give it. It does not wrap around.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct FullXid(pub u64);

impl fmt::Display for FullXid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FullXid {
    /// Returns the id nearest to `near` whose lower 32 bits are `xid`. Begin messages carry only
    /// these bits. The result is right while the two ids are less than 2^31 transactions apart, and
    /// Postgres lets them be no further apart.
    #[must_use]
    pub fn widen(xid: Xid, near: FullXid) -> FullXid {
        const SPAN: u64 = 1 << 32;
        let here = (near.0 & !(SPAN - 1)) | u64::from(xid.0);
        let around = [here.checked_sub(SPAN), Some(here), here.checked_add(SPAN)];
        let nearest =
            around.into_iter().flatten().min_by_key(|candidate| candidate.abs_diff(near.0));
        FullXid(nearest.unwrap_or(here))
    }
}

/// One `pg_snapshot`. It does not list subtransactions, which follow their top-level transaction. A
/// prepared transaction counts as in progress until it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgSnapshot {
    /// Every transaction with an id below this one has ended.
    xmin: FullXid,
    /// The id after the highest one whose transaction has ended. No transaction with this id or a
    /// higher one is visible, whether it runs or not.
    xmax: FullXid,
    /// Ids from `xmin` to below `xmax` whose transactions had not ended, in rising order.
    running: Vec<FullXid>,
}

/// The text is not `xmin:xmax:xid,…` with rising ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a snapshot (as 10:20:10,14)")]
pub struct BadSnapshot(String);

impl FromStr for PgSnapshot {
    type Err = BadSnapshot;

    fn from_str(text: &str) -> Result<Self, BadSnapshot> {
        let bad = || BadSnapshot(text.to_owned());
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten().map(FullXid).ok_or_else(bad)
        };
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(list), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let running = list
            .split(',')
            .filter(|_| !list.is_empty())
            .map(number)
            .collect::<Result<Vec<_>, _>>()?;
        PgSnapshot::new(number(xmin)?, number(xmax)?, running).ok_or_else(bad)
    }
}

impl PgSnapshot {
    /// Makes a snapshot of these parts. `None` unless the ids of `running` rise and are from `xmin`
    /// to below `xmax`.
    #[must_use]
    pub fn new(xmin: FullXid, xmax: FullXid, running: Vec<FullXid>) -> Option<Self> {
        let rising = running.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        let within = running.iter().all(|xid| (xmin..xmax).contains(xid));
        (xmin <= xmax && rising && within).then_some(PgSnapshot { xmin, xmax, running })
    }

    /// True if the transaction had ended when the snapshot was taken. Its changes are visible then,
    /// if it committed.
    #[must_use]
    pub fn sees(&self, xid: FullXid) -> bool {
        xid < self.xmax && (xid < self.xmin || self.running.binary_search(&xid).is_err())
    }

    /// The id after the highest one whose transaction had ended when the snapshot was taken.
    #[must_use]
    pub fn xmax(&self) -> FullXid {
        self.xmax
    }

    /// All transactions that were writing when the snapshot was taken. `locked` holds the
    /// transaction ids that `pg_locks` showed as held just after the snapshot. It is needed because
    /// a snapshot does not list running ids at or above its `xmax`.
    #[must_use]
    pub fn writers(&self, locked: impl IntoIterator<Item = Xid>) -> Vec<FullXid> {
        let beyond = locked
            .into_iter()
            .map(|xid| FullXid::widen(xid, self.xmax))
            .filter(|xid| *xid >= self.xmax);
        let mut all: Vec<FullXid> = self.running.iter().copied().chain(beyond).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Transactions that were sent and that no snapshot has shown as ended. The server decodes a commit
/// record before the transaction becomes visible, and with synchronous replication long before.
#[derive(Clone, Debug, Default)]
pub struct Unseen {
    exact: Vec<FullXid>,
    /// The highest of the ids that were too many to list: every transaction up to this id may be
    /// unseen. `None` if all ids are listed.
    upto: Option<FullXid>,
    /// A recent transaction id. A 32-bit id is widened to the 64-bit id that is nearest to it.
    near: FullXid,
}

/// Most ids that are listed. Each snapshot removes all but a few ids. So the list holds the ids
/// between two snapshots. The list goes into the checkpoint. When the list is full, its ids are
/// replaced by the highest one, until a snapshot lists which of them still run.
const EXACT_MAX: usize = 1000;

impl Unseen {
    /// Continues with the ids of the checkpoint, without those that `now`, a new snapshot of this
    /// server, sees.
    #[must_use]
    pub fn resume(exact: &[FullXid], upto: Option<FullXid>, now: &PgSnapshot) -> Self {
        let mut unseen = Unseen { exact: exact.to_vec(), upto, near: now.xmax };
        unseen.on_snapshot(now);
        unseen
    }

    /// Widens the 32-bit id of a transaction of the stream to 64 bits.
    #[must_use]
    pub fn widen(&self, xid: Xid) -> FullXid {
        FullXid::widen(xid, self.near)
    }

    /// Notes that changes of a transaction were sent.
    pub fn emitted(&mut self, xid: FullXid) {
        if self.exact.last() == Some(&xid) {
            return;
        }
        if self.exact.len() >= EXACT_MAX {
            self.upto = self.exact.drain(..).chain(self.upto).max();
        }
        self.exact.push(xid);
    }

    /// Forgets the ids that this snapshot sees. The snapshot was taken after the changes of these
    /// ids were sent. If `upto` is set and below the snapshot's `xmax`, the running ids that the
    /// snapshot lists up to `upto` replace it.
    pub fn on_snapshot(&mut self, snapshot: &PgSnapshot) {
        self.near = self.near.max(snapshot.xmax);
        self.exact.retain(|xid| !snapshot.sees(*xid));
        if let Some(upto) = self.upto
            && upto < snapshot.xmax
        {
            self.upto = None;
            self.exact.extend(snapshot.running.iter().filter(|xid| **xid <= upto));
            self.exact.sort_unstable();
            self.exact.dedup();
        }
    }

    /// Returns all ids that no snapshot has seen, if each of them is listed. `None` while the list
    /// is incomplete, and only the highest id of the others is known.
    #[must_use]
    pub fn listed(&self) -> Option<&[FullXid]> {
        self.upto.is_none().then_some(self.exact.as_slice())
    }

    /// Returns the listed ids and, if there were too many ids to list, the highest of the others.
    /// Both go into the checkpoint.
    #[must_use]
    pub fn parts(&self) -> (&[FullXid], Option<FullXid>) {
        (&self.exact, self.upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot(text: &str) -> PgSnapshot {
        text.parse().unwrap()
    }

    #[test]
    fn sees_what_had_ended_and_nothing_else() {
        let s = snapshot("10:20:10,14");
        let seen: Vec<u64> = (8..22).filter(|xid| s.sees(FullXid(*xid))).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
        assert!(!snapshot("735:735:").sees(FullXid(735)), "the next one, though no list names it");
    }

    #[test]
    fn refuses_what_is_no_snapshot() {
        for text in [
            "", ":", "::", "1:2", "1:2:3:4", "2:1:", "1:5:5", "1:5:3,3", "1:5:4,3", "a:2:",
            "1:2:,", "5:9:4",
        ] {
            assert!(text.parse::<PgSnapshot>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_id_of_32_bits_is_the_nearest_one() {
        let near = |xid, near| FullXid::widen(Xid(xid), FullXid(near)).0;
        assert_eq!(near(5, 3), 5);
        assert_eq!(near(u32::MAX, (1 << 32) + 3), u64::from(u32::MAX));
        assert_eq!(near(3, u64::from(u32::MAX)), (1 << 32) + 3);
        assert_eq!(near(7, (9 << 32) + 100), (9 << 32) + 7);
        assert_eq!(near(u32::MAX, 3), u64::from(u32::MAX), "there is none below zero");
    }

    #[test]
    fn a_writer_that_no_list_names_is_found_by_its_lock() {
        // 735 has written, and nothing has ended since it began: `pg_current_snapshot()` is
        // 735:735:.
        assert_eq!(
            snapshot("735:735:").writers([Xid(735), Xid(736)]),
            [FullXid(735), FullXid(736)]
        );
        assert_eq!(
            snapshot("10:20:10,14").writers([Xid(10), Xid(14), Xid(21)]),
            [10, 14, 21].map(FullXid)
        );
    }

    #[test]
    fn a_crowd_is_known_by_name_again_once_a_snapshot_lists_it() {
        let mut unseen = Unseen::default();
        (1..=2500).for_each(|xid| unseen.emitted(FullXid(xid)));
        assert_eq!(unseen.listed(), None);
        unseen.on_snapshot(&snapshot("7:2000:7"));
        assert_eq!(unseen.listed(), None, "2000 to 2500 may not have ended, and are in no list");
        unseen.on_snapshot(&snapshot("7:3000:7,2400,2900"));
        assert_eq!(unseen.listed(), Some(&[7, 2400].map(FullXid)[..]));
        unseen.on_snapshot(&snapshot("2900:3000:2900"));
        assert_eq!(unseen.listed(), Some(&[][..]));
    }

    proptest! {
        /// Method: any order of changes and snapshots, with a model that keeps every id in a set.
        #[test]
        fn nothing_emitted_is_forgotten_before_it_was_seen(
            steps in prop::collection::vec((0u64..3000, prop::collection::vec(0u64..3000, 0..4), any::<bool>()), 1..40),
            crowd in 0u64..2500,
        ) {
            let mut unseen = Unseen::default();
            let mut model = std::collections::BTreeSet::new();
            (0..crowd).for_each(|xid| { unseen.emitted(FullXid(xid)); model.insert(FullXid(xid)); });
            let mut ended_below = 0;
            for (xid, running, look) in steps {
                if look {
                    let xmax = ended_below.max(xid);
                    ended_below = xmax;
                    let mut list: Vec<FullXid> = running.into_iter().filter(|x| *x < xmax).map(FullXid).collect();
                    list.sort_unstable();
                    list.dedup();
                    let s = PgSnapshot::new(list.first().copied().unwrap_or(FullXid(xmax)), FullXid(xmax), list).unwrap();
                    unseen.on_snapshot(&s);
                    model.retain(|xid| !s.sees(*xid));
                } else {
                    unseen.emitted(FullXid(xid));
                    model.insert(FullXid(xid));
                }
                let (exact, upto) = unseen.parts();
                for xid in &model {
                    prop_assert!(exact.contains(xid) || upto.is_some_and(|upto| *xid <= upto), "{xid} is forgotten");
                }
            }
        }
    }
}
