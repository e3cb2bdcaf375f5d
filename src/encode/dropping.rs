//! Finds the fields that the transform `unwrap` drops from an update: the fields that the update
//! changes, or those that it leaves unchanged.
//!
//! Values are compared as they are written, as the transform `changed-fields` compares them. The
//! dropped fields are found before the row is encoded, because each set of dropped fields has a
//! plan of its own.

use super::column::field_of;
use super::filter::{FieldRule, Filtered};
use super::form::HeaderText;
use super::literal::Literal;
use super::mask::Mask;
use super::transcode::{self, Tools};
use super::wire::Wire;
use crate::change::Row;
use crate::pgoutput::{Cell, OldTuple};
use crate::table::Column;
use crate::transform::dropped::{DROPPED, Decisive, KEPT};
use crate::transform::shape::Union;

/// The most sets of fields that the updates of a table may drop. Each set has a plan, and a version
/// in the registry.
pub(super) const SETS_MAX: usize = 1000;

/// The columns of a table whose values decide which fields an update drops.
#[derive(Debug)]
pub(super) struct Dropping {
    table: Filtered,
    decisive: Decisive,
}

impl Dropping {
    pub(super) fn new(table: &Filtered, decisive: Decisive) -> Self {
        assert_eq!(table.table.columns.len(), table.fields.len(), "each column has its rule");
        let is_there = |place: &usize| *place < table.fields.len();
        assert!(decisive.columns.iter().all(is_there), "a name is that of a column");
        Dropping { table: table.clone(), decisive }
    }

    /// Appends the set of fields that a change drops: one character for each column of the table.
    /// Appends nothing if no field is dropped.
    pub(super) fn write(&self, row: &Row<'_>, set: &mut String) {
        let Row::Update { old: Some(old), new } = row else { return };
        let start = set.len();
        let columns = self.table.table.columns.iter().zip(&self.table.fields);
        let cells = old.tuple().cells().zip(new.cells());
        for (place, ((column, rule), (before, after))) in (0..).zip(columns.zip(cells)) {
            let is_known = matches!(old, OldTuple::Full(_)) || column.in_identity;
            let before = is_known.then_some(before);
            let is_same = is_same(column, rule, before, after);
            if !is_same && self.table.table.key.contains(&place) {
                // An update that changes the key is written as a delete and a create, which drop no
                // field.
                return set.truncate(start);
            }
            let is_named = self.decisive.columns.contains(&place);
            set.push(if is_named && is_same != self.decisive.differ { DROPPED } else { KEPT });
        }
        if !set.get(start..).is_some_and(|bits| bits.contains(DROPPED)) {
            set.truncate(start);
        }
    }
}

/// Whether a value is written in the same way before and after the update. `before` is `None` if
/// the old row does not have the value.
fn is_same(column: &Column, rule: &FieldRule, before: Option<Cell<'_>>, after: Cell<'_>) -> bool {
    let stars = matches!(rule.mask, Some(Mask::Stars(_)));
    match (before, after) {
        (before, Cell::Unchanged) => before.is_some(),
        (None, after) => {
            let missing = Literal::missing(column, &rule.wire);
            let missing = field_of::<HeaderText>(Union::NullFirst, missing.as_ref());
            stars || written(&rule.wire, after).is_some_and(|after| *after == *missing)
        }
        (Some(before), after) if before == after => true,
        (Some(Cell::Text(before)), Cell::Text(after)) => match &rule.mask {
            Some(Mask::Stars(_)) => true,
            Some(Mask::Hash(_)) => false,
            Some(Mask::Cut { units, bytes: true }) => {
                // The text of a `bytea` begins with `\x` and has two hexadecimal digits for each
                // byte.
                let cut = |text: &[u8]| text.len().min(2 + units * 2);
                before.get(..cut(before)) == after.get(..cut(after))
            }
            Some(mask @ Mask::Cut { .. }) => {
                let text = |bytes| std::str::from_utf8(bytes).ok();
                let (Some(before), Some(after)) = (text(before), text(after)) else { return false };
                mask.text(before, &mut String::new()) == mask.text(after, &mut String::new())
            }
            None => {
                let (before, after) = (Cell::Text(before), Cell::Text(after));
                let before = written(&rule.wire, before);
                before.is_some() && before == written(&rule.wire, after)
            }
        },
        (Some(_), _) => stars,
    }
}

/// Returns a value as the text that it has in a header. `None` if the value cannot be written, or
/// if the server did not send it as a text.
fn written(wire: &Wire, cell: Cell<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Text(text) => {
            let written =
                transcode::value::<HeaderText>(wire, text, &mut out, &mut Tools::default());
            written.ok()?;
        }
        Cell::Unchanged | Cell::Binary(_) => return None,
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::modes::Modes;
    use super::*;
    use crate::table::{ColumnKind, SourceType};

    fn same(
        kind: ColumnKind,
        mask: Option<Mask>,
        before: Option<Cell<'_>>,
        after: Cell<'_>,
    ) -> bool {
        let wire = Wire::of(&kind, &Modes::default()).unwrap();
        let column = Column {
            name: "v".into(),
            kind,
            not_null: false,
            default: None,
            source_type: SourceType::default(),
            serial: false,
            in_identity: true,
        };
        let rule = FieldRule { name: "v".into(), wire, in_row: true, mask, parameters: Vec::new() };
        is_same(&column, &rule, before, after)
    }

    #[test]
    fn values_are_the_same_if_they_are_written_the_same() {
        let text = |text: &'static str| Cell::Text(text.as_bytes());
        let of = |kind, before, after| same(kind, None, before, after);
        assert!(of(ColumnKind::Float8, Some(text("1")), text("1.0")));
        assert!(!of(ColumnKind::Text, Some(text("1")), text("1.0")));
        assert!(of(ColumnKind::Text, Some(Cell::Null), Cell::Null));
        assert!(!of(ColumnKind::Text, Some(Cell::Null), text("null")));
        assert!(of(ColumnKind::Text, Some(text("toast")), Cell::Unchanged));
        // A value that the old row lacks counts as null.
        assert!(of(ColumnKind::Text, None, Cell::Null));
        assert!(!of(ColumnKind::Text, None, text("")));
        assert!(!of(ColumnKind::Text, None, Cell::Unchanged));
    }

    #[test]
    fn masked_values_are_compared_as_masked() {
        let text = |text: &'static str| Some(Cell::Text(text.as_bytes()));
        let of = |mask: &Mask, kind, before, after: Option<Cell<'static>>| {
            same(kind, Some(mask.clone()), before, after.unwrap())
        };
        let stars = Mask::Stars("***".into());
        assert!(of(&stars, ColumnKind::Text, text("a"), text("b")));
        assert!(of(&stars, ColumnKind::Text, Some(Cell::Null), text("b")));
        let cut = |units, bytes| Mask::Cut { units, bytes };
        assert!(of(&cut(1, false), ColumnKind::Text, text("ab"), text("ac")));
        assert!(!of(&cut(2, false), ColumnKind::Text, text("ab"), text("ac")));
        assert!(of(&cut(1, true), ColumnKind::Bytea, text("\\x0102"), text("\\x0103")));
        assert!(!of(&cut(2, true), ColumnKind::Bytea, text("\\x0102"), text("\\x0103")));
    }
}
