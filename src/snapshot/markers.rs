//! Marks the first and the last rows of a copy. Pure.
//!
//! The marks are Debezium's, in its precedence: `last` for the last row of the copy, `first` for
//! the first row of the first table (no row has it if that table is empty), then last and first of
//! each table. A row is known to be the last only when no row follows. So the last row of each
//! piece is held back until the next piece or the end of its table. The last row of a table is held
//! back until a row of another table or the end of the copy.

use crate::change::Marker;
use std::collections::VecDeque;

/// A row that was held back and can be sent now. It has no Debug, because it holds a row.
#[derive(PartialEq, Eq)]
pub struct Released {
    /// Index of the table in the plan of the copy.
    pub table: usize,
    /// The value of `source.snapshot`, which tells whether the row is the first or the last one of
    /// its table or of the copy.
    pub marker: Marker,
    /// The row as one line of COPY's text form.
    pub line: Vec<u8>,
}

#[derive(Default)]
struct Table {
    /// True if a row of the table was sent or is about to be sent.
    begun: bool,
    held: Option<Vec<u8>>,
    finished: bool,
}

/// Marks the first and the last rows of all tables of a copy.
#[derive(Default)]
pub struct Markers {
    tables: Vec<Table>,
    /// Index of a finished table whose last row is held back, because it may be the last row of the
    /// copy.
    candidate: Option<usize>,
    released: VecDeque<Released>,
}

impl Markers {
    /// Begins a copy of this many tables.
    #[must_use]
    pub fn new(tables: usize) -> Self {
        Markers { tables: (0..tables).map(|_| Table::default()).collect(), ..Markers::default() }
    }

    /// Notes that a reader has read a piece with at least one row of this table. This releases the
    /// row of the same table that is held back, and the last row of another table that is finished.
    pub fn piece(&mut self, table: usize) {
        if self.candidate.is_some_and(|candidate| candidate != table) {
            self.release_candidate(Marker::LastInTable);
        }
        if let Some(line) = self.tables.get_mut(table).and_then(|table| table.held.take()) {
            let marker = self.next(table);
            self.released.push_back(Released { table, marker, line });
        }
    }

    /// Returns the mark of the next row of a table: first of the copy, first of its table, or
    /// neither. The row must not be the last one of the table.
    pub fn next(&mut self, table: usize) -> Marker {
        let begun = self
            .tables
            .get_mut(table)
            .is_some_and(|table| std::mem::replace(&mut table.begun, true));
        match (begun, table) {
            (true, _) => Marker::Inside,
            (false, 0) => Marker::First,
            (false, _) => Marker::FirstInTable,
        }
    }

    /// Undoes [`Markers::next`] for a row that could not be sent yet. The caller asks for the mark
    /// of this row again later.
    pub fn take_back(&mut self, table: usize, marker: Marker) {
        if marker != Marker::Inside
            && let Some(table) = self.tables.get_mut(table)
        {
            table.begun = false;
        }
    }

    /// Keeps a copy of the last row of a piece, which is not sent before its mark is known. The
    /// piece itself can then be dropped.
    pub fn hold(&mut self, table: usize, line: &[u8]) {
        if let Some(table) = self.tables.get_mut(table) {
            table.held = Some(line.to_vec());
        }
    }

    /// Notes that no more rows of this table will come. A row is released if it is now known to be
    /// the last one of its table or of the copy.
    pub fn finish(&mut self, table: usize) {
        let Some(of) = self.tables.get_mut(table) else { return };
        of.finished = true;
        if of.held.is_some() {
            self.release_candidate(Marker::LastInTable);
            self.candidate = Some(table);
        }
        if self.tables.iter().all(|table| table.finished) {
            self.release_candidate(Marker::Last);
        } else if self.tables.iter().any(|table| !table.finished && table.held.is_some()) {
            // The candidate is not the last row of the copy, because a held row of another table
            // comes after the candidate.
            self.release_candidate(Marker::LastInTable);
        }
    }

    /// Drops the rows of this table that are held back or released, because the copy goes on
    /// without the table.
    pub fn give_up(&mut self, table: usize) {
        if let Some(table) = self.tables.get_mut(table) {
            table.held = None;
        }
        self.released.retain(|released| released.table != table);
        if self.candidate == Some(table) {
            self.candidate = None;
        }
        self.finish(table);
    }

    /// Returns the row that has to be sent before all other rows, if there is one. The row stays in
    /// the queue until [`Markers::sent`] is called.
    #[must_use]
    pub fn released(&self) -> Option<&Released> {
        self.released.front()
    }

    /// Notes that the row that [`Markers::released`] returned was sent, and removes this row.
    pub fn sent(&mut self) {
        self.released.pop_front();
    }

    /// True if a row of the table is held back or released, and not sent.
    #[must_use]
    pub fn holds(&self, table: usize) -> bool {
        self.tables.get(table).is_some_and(|table| table.held.is_some())
            || self.released.iter().any(|released| released.table == table)
    }

    fn release_candidate(&mut self, last: Marker) {
        let Some(table) = self.candidate.take() else { return };
        let Some(line) = self.tables.get_mut(table).and_then(|table| table.held.take()) else {
            return;
        };
        let marker = match (last, self.next(table)) {
            (Marker::LastInTable, Marker::First) => Marker::First,
            (last, _) => last,
        };
        self.released.push_back(Released { table, marker, line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends all released rows.
    fn drain(markers: &mut Markers, sent: &mut Vec<(usize, Marker, Vec<u8>)>) {
        while let Some(released) = markers.released() {
            sent.push((released.table, released.marker, released.line.clone()));
            markers.sent();
        }
    }

    /// Hands the rows of a piece to `markers` as the loop does, and records which rows are sent.
    fn piece(
        markers: &mut Markers,
        table: usize,
        lines: &[Vec<u8>],
        sent: &mut Vec<(usize, Marker, Vec<u8>)>,
    ) {
        markers.piece(table);
        drain(markers, sent);
        let Some((last, before)) = lines.split_last() else { return };
        for line in before {
            sent.push((table, markers.next(table), line.clone()));
        }
        markers.hold(table, last);
    }

    /// The marks by Debezium's rule, for rows in the order in which they were sent.
    fn expected(sent: &[(usize, Marker, Vec<u8>)]) -> Vec<Marker> {
        let of = |at: usize| sent[at].0;
        (0..sent.len())
            .map(|at| {
                let first = !(0..at).any(|before| of(before) == of(at));
                let last = !(at + 1..sent.len()).any(|after| of(after) == of(at));
                match (first, last, of(at)) {
                    (_, true, _) if at + 1 == sent.len() => Marker::Last,
                    (true, _, 0) => Marker::First,
                    (_, true, _) => Marker::LastInTable,
                    (true, ..) => Marker::FirstInTable,
                    _ => Marker::Inside,
                }
            })
            .collect()
    }

    proptest! {
        /// Goal: whatever the order of pieces and ends, every row is sent once, in the order of its
        /// table, with the right mark. Method: tables are cut into pieces that are interleaved at
        /// random; a naive pass over all sent rows gives the expected marks.
        #[test]
        fn rows_say_first_and_last_where_they_are(
            tables in prop::collection::vec(prop::collection::vec(1usize..4, 0..4), 1..5),
            order in prop::collection::vec(any::<prop::sample::Index>(), 60),
        ) {
            let mut markers = Markers::new(tables.len());
            let mut left: Vec<VecDeque<usize>> = tables.iter().cloned().map(VecDeque::from).collect();
            let mut open: Vec<usize> = (0..tables.len()).collect();
            let (mut sent, mut number) = (Vec::new(), vec![0u8; tables.len()]);
            for pick in order {
                if open.is_empty() { break; }
                let table = open[pick.index(open.len())];
                match left[table].pop_front() {
                    Some(rows) => {
                        let lines: Vec<Vec<u8>> = (0..rows).map(|_| { number[table] += 1; vec![number[table]] }).collect();
                        piece(&mut markers, table, &lines, &mut sent);
                    }
                    None => {
                        open.retain(|other| *other != table);
                        markers.finish(table);
                    }
                }
                drain(&mut markers, &mut sent);
                for (at, rows) in tables.iter().enumerate() {
                    let of = sent.iter().filter(|(table, ..)| *table == at).count();
                    prop_assert_eq!(!markers.holds(at), of == number[at] as usize, "table {} of {:?}", at, rows);
                }
            }
            prop_assert!(open.is_empty());
            for (at, rows) in tables.iter().enumerate() {
                let of: Vec<u8> = sent.iter().filter(|(table, ..)| *table == at).map(|(.., line)| line[0]).collect();
                prop_assert_eq!(of, (1..=rows.iter().sum::<usize>() as u8).collect::<Vec<_>>());
            }
            prop_assert_eq!(sent.iter().map(|(_, marker, _)| *marker).collect::<Vec<_>>(), expected(&sent));
        }
    }

    #[test]
    fn nothing_of_a_table_given_up_is_held() {
        let mut markers = Markers::new(2);
        let mut sent = Vec::new();
        piece(&mut markers, 0, &[vec![1]], &mut sent);
        piece(&mut markers, 1, &[vec![9]], &mut sent);
        markers.give_up(1);
        assert!(!markers.holds(1));
        markers.finish(0);
        drain(&mut markers, &mut sent);
        assert_eq!(sent, [(0, Marker::Last, vec![1])]);
    }
}
