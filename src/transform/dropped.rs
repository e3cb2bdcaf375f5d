//! Drops the fields that a header names, as the drop options of Debezium's `ExtractNewRecordState`
//! do.
//!
//! The header comes from the transform `changed-fields`. So an update drops either the fields that
//! it changes, or those that it leaves unchanged. Each set of dropped fields has a schema of its
//! own, so a shape is made for each set. The row path finds the plan by the set, which is a text
//! with one character for each column.

use super::shape::{Header, Kind, Node, Part, Shape};
use super::unwrap::Unwrap;
use super::{Chain, Transform, TransformError, TransformFault};
use crate::table::TableName;

/// The character in a set for a column whose field is dropped. `KEPT` is the character for any
/// other column.
pub(crate) const DROPPED: char = '1';
pub(crate) const KEPT: char = '0';

/// The settings that say which fields are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The header that names the fields.
    pub header: String,
    /// Whether fields of the key are dropped too.
    pub from_key: bool,
    /// Whether required fields are kept.
    pub compatible: bool,
}

/// The columns whose values decide which fields are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decisive {
    /// Whether the changed fields of an update are dropped. If false, the unchanged ones are
    /// dropped.
    pub differ: bool,
    /// The places of the columns in the table.
    pub columns: Vec<usize>,
}

/// A field's name, and its values before and after a change.
type Sides = (String, Box<[Part; 2]>);

impl Dropped {
    /// The shape without the fields that the header compares and `set` drops. `set` has one
    /// character for each column of the table, see [`DROPPED`]. An empty `set` drops nothing.
    pub(super) fn apply(&self, mut shape: Shape, set: &str) -> Result<Shape, TransformFault> {
        let names = self.names(&shape.headers, set)?;
        if names.is_empty() {
            return Ok(shape);
        }
        if self.from_key
            && let Some(key) = shape.key.take_if(|key| !key.is_null())
        {
            shape.key = Some(self.without(key, &names, "key")?);
        }
        if let Some(value) = shape.value.take_if(|value| !value.is_null()) {
            shape.value = Some(self.without(value, &names, "value")?);
        }
        Ok(shape)
    }

    fn without(
        &self,
        part: Part,
        names: &[String],
        of: &'static str,
    ) -> Result<Part, TransformFault> {
        let mut fields = part.parts().ok_or(TransformFault::NotStruct { of })?;
        let goes = |field: &Part, name: &str| {
            (!self.compatible || field.schema.optional) && names.iter().any(|known| known == name)
        };
        // Without `compatible`, Debezium rebuilds the struct whenever the header names any field,
        // even a field that this struct does not have.
        if self.compatible && !fields.iter().any(|(name, field)| goes(field, name)) {
            return Ok(part);
        }
        fields.retain(|(name, field)| !goes(field, name));
        Ok(part.rebuilt(fields, true))
    }

    fn names(&self, headers: &[Header], set: &str) -> Result<Vec<String>, TransformFault> {
        let Some((_, fields)) = self.compared(headers)? else { return Ok(Vec::new()) };
        let is_dropped = |column: usize| {
            set.as_bytes().get(column).is_some_and(|bit| char::from(*bit) == DROPPED)
        };
        let fields =
            fields.iter().filter(|(_, sides)| column_of(&sides[1].node).is_some_and(is_dropped));
        Ok(fields.map(|(name, _)| name.clone()).collect())
    }

    /// The fields that the header compares, and whether it lists those that differ. `None` if the
    /// record has no such header.
    fn compared<'a>(
        &self,
        headers: &'a [Header],
    ) -> Result<Option<(bool, &'a [Sides])>, TransformFault> {
        match headers.iter().find(|header| header.name == self.header).map(|it| &it.part.node) {
            None | Some(Node::Null) => Ok(None),
            Some(Node::Compared { differ, fields }) => Ok(Some((*differ, fields))),
            Some(_) => Err(TransformFault::NotNames { header: self.header.clone() }),
        }
    }

    /// The columns that decide which fields the updates of a table drop. `None` if updates do not
    /// have the header. `shape` is the shape of an update before `unwrap`.
    pub(super) fn decisive(&self, shape: &Shape) -> Result<Option<Decisive>, TransformFault> {
        let Some((differ, fields)) = self.compared(&shape.headers)? else { return Ok(None) };
        let columns = fields.iter().filter_map(|(_, sides)| column_of(&sides[1].node)).collect();
        Ok(Some(Decisive { differ, columns }))
    }
}

impl Chain {
    /// The columns that decide which fields the updates of a table drop. `None` if no transform
    /// drops fields by a header. `shape` is the shape of an update without transforms.
    pub(crate) fn decisive(
        &self,
        table: &TableName,
        shape: Shape,
    ) -> Result<Option<Decisive>, TransformError> {
        let mut shape = Some(shape);
        for (number, link) in (1..).zip(&self.links).filter(|(_, link)| link.is_for(table)) {
            let at = |source| TransformError { number, name: link.name, source };
            let Some(known) = shape else { return Ok(None) };
            if link.when.as_ref().is_some_and(|(when, negate)| when.holds(&known) == *negate) {
                shape = Some(known);
                continue;
            }
            if let Transform::Unwrap(Unwrap { dropped: Some(dropped), .. }) = &link.transform {
                return dropped.decisive(&known).map_err(at);
            }
            shape = link.transform.apply(Kind::Update, known, None).map_err(at)?;
        }
        Ok(None)
    }
}

impl Unwrap {
    /// True if `set` drops fields and `kind` is no update. Such a record never exists, because only
    /// updates drop fields.
    pub(super) fn is_of_others(&self, kind: Kind, set: &str) -> bool {
        self.dropped.is_some() && set.contains(DROPPED) && kind != Kind::Update
    }
}

/// The place of the column from which a value is made; `None` for a value of no column.
fn column_of(node: &Node) -> Option<usize> {
    match node {
        Node::Column { index, .. } => Some(*index),
        Node::Viewed(inner, _) | Node::Masked(inner, _) => column_of(inner),
        Node::Converted(converted) => column_of(&converted.part.node),
        _ => None,
    }
}
