//! Values in another form: the transforms `geometry-format`, `swap-coordinates` and
//! `vector-to-json`, as Debezium's `GeometryFormatTransformer`, `SwapGeometryCoordinates` and
//! `VectorToJsonConverter` do them.
//!
//! Debezium's `GeometryFormatTransformer` converts every geometry with a reference system from
//! PostGIS's extended form to plain well-known binary, whatever `format` says. Only the extended
//! form names the reference system, so `format` decides nothing here. Each of the three transforms
//! reads a null as the default of its column, because it reads every field.

use super::TransformFault;
use super::shape::{Base, Field, Node, Part, Schema, Shape};

pub(crate) const GEOMETRY: &str = "io.debezium.data.geometry.Geometry";
const VECTORS: [&str; 3] = [
    "io.debezium.data.DoubleVector",
    "io.debezium.data.FloatVector",
    "io.debezium.data.SparseDoubleVector",
];
const JSON: &str = "io.debezium.data.Json";

/// Another form in which a value is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// A geometry as well-known binary that does not name its reference system.
    Plain,
    /// A geometry with its first two coordinates swapped, if it has one of these reference systems.
    Swapped(Vec<i32>),
    /// A vector as a JSON text.
    Json,
}

impl View {
    pub(super) fn apply(&self, mut shape: Shape) -> Result<Shape, TransformFault> {
        if let Some(value) = shape.value.take_if(|value| !value.is_null()) {
            let is_struct = matches!(value.schema.base, Base::Struct(_));
            shape.value = Some(match self {
                View::Json if !is_struct => {
                    return Err(TransformFault::NotStruct { of: "value" });
                }
                View::Json => json(value)?,
                View::Plain | View::Swapped(_) if !is_struct => value,
                View::Plain | View::Swapped(_) => {
                    let node = self.within(&value.schema, value.node);
                    Part { node, ..value }
                }
            });
        }
        Ok(shape)
    }

    /// The value, with this view applied to its geometries. No schema changes.
    fn within(&self, schema: &Schema, node: Node) -> Node {
        match node {
            Node::Struct(nodes) => {
                let fields = schema.fields().iter().zip(nodes);
                let field = |(field, node): (&Field, Node)| {
                    self.within(&field.schema, node.with_defaults(&field.schema))
                };
                Node::Struct(fields.map(field).collect())
            }
            node if self.is_for(schema) => seen(node, self.clone()),
            node => node,
        }
    }

    fn is_for(&self, schema: &Schema) -> bool {
        match (&schema.base, self) {
            // Debezium looks into lists only to swap coordinates.
            (Base::Array(element), View::Swapped(_)) => self.is_for(element),
            _ => schema.name.as_deref() == Some(GEOMETRY),
        }
    }
}

/// Adds a view to a value that comes from a column. Any other value stays as it is.
fn seen(node: Node, view: View) -> Node {
    match node {
        Node::Column { .. } => Node::Viewed(Box::new(node), vec![view]),
        Node::Viewed(inner, mut views) => {
            views.push(view);
            Node::Viewed(inner, views)
        }
        node => node,
    }
}

/// The struct, with texts in place of its vectors. As in Debezium, an optional struct stays
/// optional.
fn json(part: Part) -> Result<Part, TransformFault> {
    let Base::Struct(fields) = part.schema.base else { return Ok(part) };
    let (mut nodes, whole) = match part.node {
        Node::Struct(nodes) => (nodes.into_iter(), None),
        node => (Vec::new().into_iter(), Some(node)),
    };
    let (mut made_fields, mut made_nodes) = (Vec::new(), Vec::new());
    for field in fields {
        let node = nodes.next().unwrap_or(Node::Null).with_defaults(&field.schema);
        let is_vector = field.schema.name.as_deref().is_some_and(|name| VECTORS.contains(&name));
        let made = match (is_vector, &field.schema.base) {
            (true, _) => vector(&field, node)?,
            (false, Base::Struct(_)) => json(Part { schema: field.schema.clone(), node })?,
            (false, _) => Part { schema: field.schema.clone(), node },
        };
        made_fields.push(Field { name: field.name, schema: made.schema });
        made_nodes.push(made.node);
    }
    let base = Base::Struct(made_fields);
    let schema = Schema { base, default: None, ..part.schema };
    let node = whole.unwrap_or(Node::Struct(made_nodes));
    Ok(Part { schema, node })
}

fn vector(field: &Field, node: Node) -> Result<Part, TransformFault> {
    let (name, version) = (Some(JSON.into()), Some(1));
    let optional = field.schema.optional;
    let schema = Schema { name, version, optional, ..Schema::plain(Base::Text) };
    let node = match node {
        // The new schema has no default, so null stays null.
        Node::Column { index, side, .. } => {
            seen(Node::Column { index, side, defaults: false }, View::Json)
        }
        Node::Null => Node::Null,
        _ => {
            let asked = "conversion to JSON after another transform has changed it".to_owned();
            return Err(TransformFault::no_conversion(&field.name, &field.schema, asked));
        }
    };
    Ok(Part { schema, node })
}
