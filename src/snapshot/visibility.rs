//! What a snapshot of Postgres sees: `pg_current_snapshot()` as text, and transactions held against it.
//!
//! Pure. Laws, tested below:
//! - A transaction that a snapshot sees is seen by every later one of the same server.
//! - What has been emitted and was not yet seen is never forgotten before a snapshot has seen it, however many there are.

use crate::lsn::Xid;
use std::fmt;
use std::str::FromStr;

/// A transaction's id in 64 bits, as snapshots have it. It does not wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct FullXid(pub u64);

impl fmt::Display for FullXid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FullXid {
    /// The id whose lower 32 bits are `xid` and that lies nearest to `near`: Begin carries no more than those. Right
    /// while the two are less than 2^31 transactions apart, which is as far as Postgres itself lets them be.
    #[must_use]
    pub fn widen(xid: Xid, near: FullXid) -> FullXid {
        const SPAN: u64 = 1 << 32;
        let here = (near.0 & !(SPAN - 1)) | u64::from(xid.0);
        let around = [here.checked_sub(SPAN), Some(here), here.checked_add(SPAN)];
        let nearest = around.into_iter().flatten().min_by_key(|candidate| candidate.abs_diff(near.0));
        FullXid(nearest.unwrap_or(here))
    }
}

/// One `pg_snapshot`. Subtransactions are not in it: they follow their top-level transaction. A prepared transaction
/// counts as in progress until it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgSnapshot {
    /// Every id below it has ended.
    xmin: FullXid,
    /// One past the latest id that has ended: from here on nothing is visible, running or not.
    xmax: FullXid,
    /// Ids between the two that had not ended, rising.
    running: Vec<FullXid>,
}

/// A text that is not `xmin:xmax:xid,…` with rising ids.
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
        let (Some(xmin), Some(xmax), Some(list), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let running = list.split(',').filter(|_| !list.is_empty()).map(number).collect::<Result<Vec<_>, _>>()?;
        PgSnapshot::new(number(xmin)?, number(xmax)?, running).ok_or_else(bad)
    }
}

impl PgSnapshot {
    /// A snapshot of its parts; none if the ids are not rising from `xmin` to below `xmax`.
    #[must_use]
    pub fn new(xmin: FullXid, xmax: FullXid, running: Vec<FullXid>) -> Option<Self> {
        let rising = running.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        let within = running.iter().all(|xid| (xmin..xmax).contains(xid));
        (xmin <= xmax && rising && within).then_some(PgSnapshot { xmin, xmax, running })
    }

    /// Whether what the transaction did is visible, if it committed: it had ended when the snapshot was taken.
    #[must_use]
    pub fn sees(&self, xid: FullXid) -> bool {
        xid < self.xmax && (xid < self.xmin || self.running.binary_search(&xid).is_err())
    }

    /// One past the latest id that had ended.
    #[must_use]
    pub fn xmax(&self) -> FullXid {
        self.xmax
    }

    /// Everything that was writing when the snapshot was taken. `locked` is what `pg_locks` shows as held transaction
    /// ids, asked for after it: a snapshot does not list the running ids at or above its `xmax`.
    #[must_use]
    pub fn writers(&self, locked: impl IntoIterator<Item = Xid>) -> Vec<FullXid> {
        let beyond = locked.into_iter().map(|xid| FullXid::widen(xid, self.xmax)).filter(|xid| *xid >= self.xmax);
        let mut all: Vec<FullXid> = self.running.iter().copied().chain(beyond).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Transactions that were emitted, and that no snapshot has yet shown as ended: their commit records are decoded before
/// they leave the server's process array, with synchronous replication long before.
#[derive(Clone, Debug, Default)]
pub struct Unseen {
    exact: Vec<FullXid>,
    /// Where there were too many to list: any transaction up to this one may be among them.
    upto: Option<FullXid>,
    /// A recent id, to widen others by.
    near: FullXid,
}

/// How many are listed: each look at a snapshot empties the list but for a few, so this is what comes between two looks
/// and into a confirm record. Above it they are told by their highest, until a snapshot lists who of them still runs.
const EXACT_MAX: usize = 1000;

impl Unseen {
    /// What the record of the run before carried, as a fresh snapshot of this server shows it.
    #[must_use]
    pub fn resume(exact: &[FullXid], upto: Option<FullXid>, now: &PgSnapshot) -> Self {
        let mut unseen = Unseen { exact: exact.to_vec(), upto, near: now.xmax };
        unseen.look(now);
        unseen
    }

    /// The id of a transaction of the stream in 64 bits.
    #[must_use]
    pub fn widen(&self, xid: Xid) -> FullXid {
        FullXid::widen(xid, self.near)
    }

    /// Notes that changes of a transaction are emitted.
    pub fn emitted(&mut self, xid: FullXid) {
        if self.exact.last() == Some(&xid) {
            return;
        }
        if self.exact.len() >= EXACT_MAX {
            self.upto = self.exact.drain(..).chain(self.upto).max();
        }
        self.exact.push(xid);
    }

    /// Forgets what a snapshot taken after they were emitted sees; whom of a crowd it lists is known by id from then on.
    pub fn look(&mut self, snapshot: &PgSnapshot) {
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

    /// The list, if it is complete: not while a crowd is told by its highest only.
    #[must_use]
    pub fn listed(&self) -> Option<&[FullXid]> {
        self.upto.is_none().then_some(self.exact.as_slice())
    }

    /// For the confirm record: the list, and the highest of those not in it.
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
        for text in ["", ":", "::", "1:2", "1:2:3:4", "2:1:", "1:5:5", "1:5:3,3", "1:5:4,3", "a:2:", "1:2:,", "5:9:4"] {
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
        // 735 has written and nothing has ended since it began: `pg_current_snapshot()` is 735:735:.
        assert_eq!(snapshot("735:735:").writers([Xid(735), Xid(736)]), [FullXid(735), FullXid(736)]);
        assert_eq!(snapshot("10:20:10,14").writers([Xid(10), Xid(14), Xid(21)]), [10, 14, 21].map(FullXid));
    }

    #[test]
    fn a_crowd_is_known_by_name_again_once_a_snapshot_lists_it() {
        let mut unseen = Unseen::default();
        (1..=2500).for_each(|xid| unseen.emitted(FullXid(xid)));
        assert_eq!(unseen.listed(), None);
        unseen.look(&snapshot("7:2000:7"));
        assert_eq!(unseen.listed(), None, "2000 to 2500 may not have ended, and are in no list");
        unseen.look(&snapshot("7:3000:7,2400,2900"));
        assert_eq!(unseen.listed(), Some(&[7, 2400].map(FullXid)[..]));
        unseen.look(&snapshot("2900:3000:2900"));
        assert_eq!(unseen.listed(), Some(&[][..]));
    }

    proptest! {
        /// Method: any order of emissions and looks; a model keeps every id in a set.
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
                    unseen.look(&s);
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
