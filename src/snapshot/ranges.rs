//! Chooses the pages that each reader reads next. Pure.
//!
//! Under the holder's locks no table is rewritten or truncated, and rows that the snapshot sees
//! stay in their pages. Ranges of pages are therefore exact: they are disjoint, and together they
//! cover the table. The last range of a part has no end, for pages that were added later. A reader
//! takes the next range wherever one is left, so that even the last table keeps all readers busy.

/// Pages of a range: 16 MiB at 8 KiB per page. That is about a hundred thousand common rows. The
/// start of a statement then costs almost nothing per row, and the loss of a reader repeats few
/// rows.
const RANGE_PAGES: u32 = 2048;

/// A range of pages of one part of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Index of the table in the plan of the copy.
    pub table: usize,
    /// Index of the part among the parts of the table.
    pub part: usize,
    /// The first page, counted from 0 as in a ctid.
    pub from: u32,
    /// The page after the last page of the range. `None` if the range has no end, and also contains
    /// pages that were added later.
    pub to: Option<u32>,
}

/// The ranges of a table and their progress.
#[derive(Clone, Debug, Default)]
struct Table {
    /// Part and page at which the next range begins. `part` is the number of parts if no new range
    /// is left.
    part: usize,
    page: u32,
    /// Number of pages of each part.
    pages: Vec<u32>,
    /// Ranges that are read again because their reader was lost.
    again: Vec<Range>,
    /// Number of ranges that readers have taken and not finished.
    taken: usize,
    given_up: bool,
}

/// The ranges of all tables of a copy, and how many of them are left to read.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    tables: Vec<Table>,
}

impl Ranges {
    /// Begins with all pages of each table. `tables` yields, for each table, the number of pages of
    /// each of its parts.
    #[must_use]
    pub fn new(tables: impl IntoIterator<Item = Vec<u32>>) -> Self {
        Ranges {
            tables: tables.into_iter().map(|pages| Table { pages, ..Table::default() }).collect(),
        }
    }

    /// Takes the next range of the first table that is `ready` and has a range left. `None` if
    /// there is no such table.
    pub fn take(&mut self, ready: impl Fn(usize) -> bool) -> Option<Range> {
        let at = (0..self.tables.len()).find(|at| self.has_more(*at) && ready(*at))?;
        let table = self.tables.get_mut(at)?;
        table.taken += 1;
        if let Some(range) = table.again.pop() {
            return Some(range);
        }
        let (part, from) = (table.part, table.page);
        let Some(&pages) = table.pages.get(part) else {
            unreachable!("table {at} has ranges left and no part {part} of {}", table.pages.len());
        };
        let next = from.saturating_add(RANGE_PAGES);
        // A small remainder is read together with the range before it.
        let to = (pages.saturating_sub(next) > RANGE_PAGES / 2).then_some(next);
        (table.part, table.page) = if to.is_some() { (part, next) } else { (part + 1, 0) };
        Some(Range { table: at, part, from, to })
    }

    /// Notes that a range was read to its end.
    pub fn read(&mut self, range: &Range) {
        if let Some(table) = self.tables.get_mut(range.table) {
            table.taken = table.taken.saturating_sub(1);
        }
    }

    /// Puts a range back, because its reader was lost. It is read again from its beginning.
    pub fn lost(&mut self, range: Range) {
        self.read(&range);
        if let Some(table) = self.tables.get_mut(range.table) {
            table.again.push(range);
        }
    }

    /// Gives up a table: no reader gets a range of the table any more.
    pub fn give_up(&mut self, table: usize) {
        if let Some(table) = self.tables.get_mut(table) {
            table.given_up = true;
        }
    }

    /// Begins a table anew: all its ranges are read from the first page, even if the table was
    /// given up.
    pub fn restart(&mut self, table: usize) {
        if let Some(table) = self.tables.get_mut(table) {
            let pages = std::mem::take(&mut table.pages);
            *table = Table { pages, ..Table::default() };
        }
    }

    /// True if a reader can take a range of a table now. False if the table was given up.
    #[must_use]
    pub fn has_more(&self, table: usize) -> bool {
        self.tables.get(table).is_some_and(|table| {
            !table.given_up && (table.part < table.pages.len() || !table.again.is_empty())
        })
    }

    /// True if every range of a table was read. Of a table that was given up, only the ranges that
    /// readers have taken count.
    #[must_use]
    pub fn is_read(&self, table: usize) -> bool {
        !self.has_more(table) && self.tables.get(table).is_none_or(|table| table.taken == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Goal: every page is read, no page twice unless a reader was lost, and a table is read
        /// when all its ranges are. Method: take, finish and lose ranges in any order, and mark
        /// each page of a finished range.
        #[test]
        fn ranges_are_disjoint_and_together_everything(
            pages in prop::collection::vec(prop::collection::vec(0u32..20_000, 0..3), 1..4),
            script in prop::collection::vec((0u8..3, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut ranges = Ranges::new(pages.clone());
            let (mut open, mut finished): (Vec<Range>, Vec<Range>) = Default::default();
            let mut script = script.into_iter();
            loop {
                match script.next() {
                    Some((0, _)) => open.extend(ranges.take(|_| true)),
                    Some((1, index)) if !open.is_empty() => {
                        let range = open.swap_remove(index.index(open.len()));
                        ranges.lost(range);
                    }
                    Some((_, index)) if !open.is_empty() => {
                        let range = open.swap_remove(index.index(open.len()));
                        ranges.read(&range);
                        finished.push(range);
                    }
                    Some(_) => {}
                    None => match ranges.take(|_| true) {
                        Some(range) => open.push(range),
                        None if open.is_empty() => break,
                        None => while let Some(range) = open.pop() { ranges.read(&range); finished.push(range); },
                    },
                }
            }
            for (table, parts) in pages.iter().enumerate() {
                prop_assert!(ranges.is_read(table));
                for part in 0..parts.len() {
                    let mut of: Vec<_> = finished.iter().filter(|r| r.table == table && r.part == part).collect();
                    of.sort_by_key(|range| range.from);
                    prop_assert_eq!(of.first().map(|range| range.from), Some(0));
                    prop_assert!(of.windows(2).all(|pair| pair[0].to == Some(pair[1].from)));
                    prop_assert_eq!(of.last().map(|range| range.to), Some(None));
                }
            }
        }
    }

    #[test]
    fn readers_leave_a_table_that_is_not_ready_and_come_back() {
        let mut ranges = Ranges::new([vec![10], vec![10_000]]);
        assert_eq!(
            ranges.take(|table| table == 1),
            Some(Range { table: 1, part: 0, from: 0, to: Some(2048) })
        );
        assert_eq!(ranges.take(|_| true), Some(Range { table: 0, part: 0, from: 0, to: None }));
        assert!(!ranges.has_more(0) && !ranges.is_read(0));
        ranges.give_up(1);
        assert_eq!(ranges.take(|_| true), None);
        ranges.restart(1);
        assert_eq!(ranges.take(|_| true).map(|range| (range.table, range.from)), Some((1, 0)));
    }
}
