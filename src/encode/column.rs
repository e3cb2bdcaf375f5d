//! The columns of a plan: how each value is written, in rows and in keys.

use super::envelope::Step;
use super::filter::{FieldRule, Filtered};
use super::form::{Form, HeaderText, Union};
use super::literal::Literal;
use super::mask::Mask;
use super::wire::Wire;
use super::{Config, schema};
use crate::table::{Column, Table};

/// How the keys of a plan's records are written.
#[derive(Debug)]
pub(super) enum Key {
    /// Records have no key: the table has no primary key and no usable unique index, and no rule
    /// gives it a key.
    None,
    /// The key is made of columns of the row.
    Columns {
        /// Bytes that begin each key, such as Confluent's header.
        prefix: Box<[u8]>,
        /// The columns in the order of the key.
        columns: Vec<KeyColumn>,
        /// The bytes of the field that names the table, which follows the columns of the key. The
        /// first bytes are for keys, and the second for the headers `__debezium.oldkey` and
        /// `__debezium.newkey`. Both are empty for a table without such a field.
        added: [Box<[u8]>; 2],
        /// Bytes that end each key.
        suffix: Box<[u8]>,
    },
    /// The key of a logical message or of an auxiliary record, as a script.
    Message(Vec<Step>),
}

/// A column of a key.
#[derive(Debug)]
pub(super) struct KeyColumn {
    /// Index into the plan's columns.
    pub index: usize,
    /// Bytes before the column's value in a key.
    pub lead: Box<[u8]>,
    /// Bytes before the column's value in the headers `__debezium.oldkey` and `__debezium.newkey`,
    /// which have the text of a key.
    pub header_lead: Box<[u8]>,
}

impl Key {
    pub(super) fn of_table<F: Form>(
        table: &Table,
        (prefix, suffix): (Vec<u8>, Vec<u8>),
        field: Option<(String, String)>,
    ) -> Self {
        if table.key.is_empty() {
            return Key::None;
        }
        let columns = (0..)
            .zip(&table.key)
            .filter_map(|(position, index)| {
                let name = &table.columns.get(*index)?.name;
                Some(KeyColumn {
                    index: *index,
                    lead: lead::<F>(position == 0, name),
                    header_lead: lead::<HeaderText>(position == 0, name),
                })
            })
            .collect();
        let added = field.map_or_else(Default::default, |(name, value)| {
            [added::<F>(&name, &value), added::<HeaderText>(&name, &value)]
        });
        Key::Columns { prefix: prefix.into(), columns, added, suffix: suffix.into() }
    }
}

/// How the values of one column are written.
#[derive(Debug)]
pub(super) struct ColumnPlan {
    pub name: Box<str>,
    pub wire: Wire,
    pub union: Union,
    /// Whether the column belongs to the replica identity. Old tuples of kind `K` hold only such
    /// columns.
    pub in_identity: bool,
    /// Bytes before the column's value in a row: the separator and the field's name in JSON, and
    /// none in Avro.
    pub lead: Box<[u8]>,
    /// The bytes in place of a value that the change does not have, such as a column outside of the
    /// replica identity in an old row.
    pub missing: Box<[u8]>,
    /// The bytes in place of a value that the server did not send because it did not change.
    pub unavailable: Box<[u8]>,
    /// Whether `unavailable` is the placeholder, and not null or an empty value.
    pub has_placeholder: bool,
    /// Whether the rows in events have the column. The key can have the column even if rows do not.
    pub in_row: bool,
    /// The mask that replaces the column's values. `None` if the column is not masked.
    pub mask: Option<Mask>,
}

/// Makes the plans of a table's columns. Only the first column that the rows in events have gets no
/// separator before it.
pub(super) fn columns_of<F: Form>(shape: &Filtered, config: &Config) -> Vec<ColumnPlan> {
    let first = shape.fields.iter().position(|rule| rule.in_row);
    let columns = shape.table.columns.iter().zip(&shape.fields);
    (0..)
        .zip(columns)
        .map(|(i, (c, rule))| ColumnPlan::new::<F>(Some(i) == first, c, rule, config))
        .collect()
}

impl ColumnPlan {
    fn new<F: Form>(first: bool, column: &Column, rule: &FieldRule, config: &Config) -> Self {
        let schema = schema::of_column(column, &rule.wire).schema;
        let lead = lead::<F>(first, &column.name);
        ColumnPlan { lead, ..ColumnPlan::value::<F>(schema.union(), column, rule, config) }
    }

    /// Makes the plan for the values of a column in one field. `union` says whether the field's
    /// type allows null, and whether null is its first or its last branch. `lead` is left empty.
    pub(super) fn value<F: Form>(
        union: Union,
        column: &Column,
        rule: &FieldRule,
        config: &Config,
    ) -> Self {
        let wire = &rule.wire;
        let field = |literal: Option<&Literal>| field_of::<F>(union, literal);
        let masked = |literal: Option<Literal>| match &rule.mask {
            Some(mask) => mask.literal(literal),
            None => literal,
        };
        let placeholder = masked(Literal::unavailable(wire, &config.placeholder_bytes()));
        let empty = if column.not_null { Literal::empty(wire) } else { None };
        ColumnPlan {
            name: rule.name.clone(),
            wire: wire.clone(),
            union,
            in_identity: column.in_identity,
            lead: Box::default(),
            missing: field(masked(Literal::missing(column, wire)).as_ref()),
            unavailable: field(placeholder.as_ref().or(empty.as_ref())),
            has_placeholder: placeholder.is_some(),
            in_row: rule.in_row,
            mask: rule.mask.clone(),
        }
    }
}

/// Returns the bytes of a field's value: those of the literal, or those of null without a literal.
pub(super) fn field_of<F: Form>(union: Union, literal: Option<&Literal>) -> Box<[u8]> {
    let mut out = Vec::new();
    match literal {
        Some(literal) => {
            F::some(union, &mut out);
            literal.write::<F>(&mut out);
        }
        None => F::null(union, &mut out),
    }
    out.into()
}

fn added<F: Form>(name: &str, value: &str) -> Box<[u8]> {
    let mut out = Vec::new();
    F::field(false, name, &mut out);
    F::text(value, &mut out);
    out.into()
}

fn lead<F: Form>(first: bool, name: &str) -> Box<[u8]> {
    let mut out = Vec::new();
    F::field(first, name, &mut out);
    out.into()
}
