//! News of backfills and standstills, in the words of Debezium's incremental snapshots.

use super::{About, Copies, Copy, Data, News, NewsBuffer, RowKey, Stage};
use crate::backfill::notices;
use crate::reason::CopyReason;
use crate::snapshot::journal::Left;

/// Debezium's text for an unknown highest key. We never know the highest key, because chunks are
/// read until no row is left.
const NO_KEY: &str = "\"<null>\"";

/// Debezium's status for the reason of a failed copy.
pub(super) fn status_of(left: &Left) -> &'static str {
    match CopyReason::ALL.iter().find(|reason| left.is_of(**reason)) {
        Some(CopyReason::SurrogateKey) => "NO_PRIMARY_KEY",
        Some(CopyReason::NotPublished | CopyReason::NotCaptured) => "UNKNOWN_SCHEMA",
        Some(CopyReason::Query) => "SKIPPED",
        _ => "SQL_EXCEPTION",
    }
}

/// The notices of copies that wait for the runner.
pub(super) struct CopyNews {
    buffer: NewsBuffer,
    /// True if copies have begun and the notice `STARTED` is not made yet.
    starting: bool,
}

impl CopyNews {
    /// Creates a collection without news. `wanted` is true if somebody wants notices of copies.
    pub fn new(wanted: bool) -> Self {
        CopyNews { buffer: NewsBuffer::new(wanted), starting: false }
    }
}

fn goes(copy: &Copy) -> bool {
    !matches!(copy.stage, Stage::Failed(..))
}

impl Copies {
    /// Notes that a copy is about to begin. If no other copy is under way, the notice `STARTED`
    /// will list all tables that begin together.
    pub(super) fn starts(&mut self) {
        self.news.starting |= !self.list.iter().any(goes);
    }

    /// Removes and returns the news.
    pub fn take_news(&mut self) -> Vec<News> {
        self.tell_start();
        self.news.buffer.take()
    }

    fn tell_start(&mut self) {
        if std::mem::take(&mut self.news.starting) {
            self.tell_all("STARTED");
        }
    }

    /// Makes one notice for all copies under way, such as `STARTED`, `PAUSED` or `RESUMED`.
    pub(super) fn tell_all(&mut self, kind: &'static str) {
        if self.list.iter().any(goes) {
            self.note(kind, |tables| vec![("data_collections", tables)]);
        }
    }

    /// Makes the notice that copies are about to end early: the copies of `tables`, or all copies
    /// if `tables` is `None`.
    pub(super) fn tell_aborted(&mut self, tables: Option<&[String]>) {
        self.note("ABORTED", |_| {
            let listed = tables.map(|tables| notices::list(tables.iter().map(String::as_str)));
            listed.map(|tables| ("data_collections", tables)).into_iter().collect()
        });
    }

    /// Makes the notice that a chunk was read up to this key.
    pub(super) fn tell_read(&mut self, at: usize, last: &RowKey) {
        let Some(name) = self.list.get(at).map(|copy| copy.name.clone()) else { return };
        let last: Vec<&str> = last.parts().map(|part| part.unwrap_or("<null>")).collect();
        self.note("IN_PROGRESS", |tables| {
            vec![
                ("data_collections", tables),
                ("current_collection_in_progress", name),
                ("maximum_key", NO_KEY.to_owned()),
                ("last_processed_key", last.join(",")),
            ]
        });
    }

    /// Makes the notice that the copy at this index reads no more rows of its table. `status` is
    /// Debezium's word for how the reading ended.
    pub(super) fn tell_scanned(&mut self, at: usize, status: &'static str) {
        let Some(copy) = self.list.get(at) else { return };
        let (name, rows) = (copy.name.clone(), copy.window.journal.rows);
        let goes = goes(copy);
        self.note("TABLE_SCAN_COMPLETED", |tables| {
            let others = Some(tables).filter(|tables| !tables.is_empty());
            let tables =
                if goes { others } else { others.map(|tables| format!("{name},{tables}")) };
            vec![
                ("data_collections", tables.unwrap_or_else(|| name.clone())),
                ("scanned_collection", name),
                ("total_rows_scanned", rows.to_string()),
                ("status", status.to_owned()),
            ]
        });
    }

    /// Makes the notice `COMPLETED`, if no other copy than the one at this index is under way.
    pub(super) fn tell_if_over(&mut self, at: usize) {
        if !self.list.iter().enumerate().any(|(other, copy)| other != at && goes(copy)) {
            self.note("COMPLETED", |_| Vec::new());
        }
    }

    fn note(&mut self, kind: &'static str, data: impl FnOnce(String) -> Data) {
        self.tell_start();
        let Copies { list, news, .. } = self;
        news.buffer.note(|| {
            let names = list.iter().filter(|copy| goes(copy)).map(|copy| copy.name.as_str());
            let names = notices::list(names);
            let signal = list.iter().find_map(|copy| copy.window.correlation.clone());
            News { about: About::Incremental, kind, signal, data: data(names) }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backfill::{Origin, Wanted};
    use crate::lsn::Lsn;
    use crate::table::TableName;

    fn told(copies: &mut Copies) -> Vec<String> {
        let line = |news: News| {
            let data: Vec<String> =
                news.data.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {} {}", news.kind, news.signal.unwrap_or_default(), data.join(" "))
        };
        copies.take_news().into_iter().map(line).collect()
    }

    #[test]
    fn copies_are_told_from_their_start_to_the_end_of_the_last() {
        let mut copies = Copies::new("s", true);
        for table in ["t", "u"] {
            let wanted = Wanted {
                origin: Origin::Row(Lsn::new(16)),
                id: "s1".into(),
                filter: None,
                surrogate: None,
            };
            assert!(copies.begin_wanted(&TableName::new("p", table), wanted, 0));
        }
        copies.tell_read(0, &RowKey::new([Some(&b"7"[..]), None]).unwrap());
        copies.fail(0, Left::new(CopyReason::SurrogateKey, "", ""));
        copies.fail(1, Left::new(CopyReason::CopyRefused, "", ""));
        assert_eq!(
            told(&mut copies),
            [
                "STARTED s1 data_collections=p.t,p.u",
                "IN_PROGRESS s1 data_collections=p.t,p.u current_collection_in_progress=p.t maximum_key=\"<null>\" last_processed_key=7,<null>",
                "TABLE_SCAN_COMPLETED s1 data_collections=p.t,p.u scanned_collection=p.t total_rows_scanned=0 status=NO_PRIMARY_KEY",
                "TABLE_SCAN_COMPLETED s1 data_collections=p.u scanned_collection=p.u total_rows_scanned=0 status=SQL_EXCEPTION",
                "COMPLETED s1 ",
            ]
        );
    }

    #[test]
    fn nobody_is_told_of_nothing() {
        let mut copies = Copies::new("s", true);
        assert_eq!((copies.pause(), copies.resume(), copies.cancel().len()), (0, 0, 0));
        assert_eq!(told(&mut copies), Vec::<String>::new());
        let mut copies = Copies::new("s", false);
        copies.begin(&TableName::new("p", "t"), None, true, 0, None);
        assert_eq!(told(&mut copies), Vec::<String>::new());
    }

    #[test]
    fn what_holds_and_ends_copies_is_told_after_their_start() {
        let mut copies = Copies::new("s", true);
        let wanted = Wanted {
            origin: Origin::Row(Lsn::new(16)),
            id: "s1".into(),
            filter: None,
            surrogate: None,
        };
        assert!(copies.begin_wanted(&TableName::new("p", "t"), wanted, 0));
        copies.pause();
        copies.resume();
        assert_eq!(copies.stop(Some(&|name: &str| name == "p.t")), ["p.t"]);
        assert_eq!(
            told(&mut copies),
            [
                "STARTED s1 data_collections=p.t",
                "PAUSED s1 data_collections=p.t",
                "RESUMED s1 data_collections=p.t",
                "ABORTED s1 data_collections=p.t",
            ]
        );
        copies.begin(&TableName::new("p", "t"), None, true, 0, None);
        copies.cancel();
        assert_eq!(told(&mut copies), ["STARTED  data_collections=p.t", "ABORTED  "]);
    }
}
