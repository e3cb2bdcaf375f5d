//! Kafka Connect's transforms of the fields of a key or of a value. Each transform does what its
//! Java class does.
//!
//! A key or value that is null stays as it is. A field that the table lacks is ignored if Connect
//! ignores it, and is a fault if Connect would stop at the first record.

use super::convert::{Conversion, Origin, Target, Times};
use super::fault::{TransformFault, known};
use super::shape::{Base, Converted, Field, Literal, Node, Part, Schema, Shape};
use std::borrow::Cow;

/// The part of a record that a transform works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The key of the record.
    Key,
    /// The value of the record.
    Value,
}

impl Of {
    /// The word for this part of the record in the configuration and in faults.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Of::Key => "key",
            Of::Value => "value",
        }
    }
}

/// A transform of the fields of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Whether the fields are those of the key or of the value.
    pub of: Of,
    /// Whether a null is read as the default of its field.
    pub defaults: bool,
    /// What is done to the fields.
    pub edit: Edit,
}

/// What is done to fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Keeps, leaves out and renames fields.
    Replace {
        /// The fields that stay; empty if all fields stay.
        include: Vec<String>,
        /// The fields that are left out.
        exclude: Vec<String>,
        /// Pairs of the old name and the new name.
        renames: Vec<(String, String)>,
    },
    /// Adds a field that holds the topic, a field that holds a fixed text, or both.
    Insert {
        /// Name of the field that holds the topic, and whether the field is required.
        topic: Option<(String, bool)>,
        /// Name of the field that holds the text, whether the field is required, and the text.
        fixed: Option<(String, bool, String)>,
    },
    /// Replaces values by the empty value of their type, or by a fixed value.
    Mask {
        /// The fields that are masked.
        fields: Vec<String>,
        /// The value that replaces each masked value; `None` for the empty value of the field's
        /// type.
        replacement: Option<String>,
    },
    /// Puts the value of one field in place of the struct.
    Extract(String),
    /// Puts the whole key or value into the only field of a new struct.
    Hoist(String),
    /// Makes nested structs one struct. The text joins the names of the levels.
    Flatten(String),
    /// Casts values to other types, as Connect's `Cast` does.
    Cast(Casts),
    /// Converts the moments of one field, or of the whole key or value if no field is named, as
    /// Connect's `TimestampConverter` does.
    Times(Option<String>, Times),
    /// Gives the schema another name or version.
    Metadata {
        /// The new name of the schema; `None` if the name stays.
        name: Option<String>,
        /// The new version of the schema; `None` if the version stays.
        version: Option<u32>,
    },
}

/// Which values are cast, and to which type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Casts {
    /// The whole key or value, which is not a struct.
    Whole(Target),
    /// Fields of a struct, each with its new type.
    Fields(Vec<(String, Target)>),
}

type Named = (Cow<'static, str>, Part);

impl Fields {
    pub(super) fn apply(&self, mut shape: Shape) -> Result<Shape, TransformFault> {
        let topic = shape.topic.clone();
        let place = match self.of {
            Of::Key => &mut shape.key,
            Of::Value => &mut shape.value,
        };
        if let Some(part) = place.take_if(|part| !part.is_null()) {
            *place = Some(self.edit(part, &topic)?);
        }
        Ok(shape)
    }

    fn edit(&self, part: Part, topic: &str) -> Result<Part, TransformFault> {
        let of = self.of.name();
        match &self.edit {
            Edit::Hoist(field) => {
                let fields = vec![Field { name: field.clone().into(), schema: part.schema }];
                let schema = Schema::plain(Base::Struct(fields));
                Ok(Part { schema, node: Node::Struct(vec![part.node]) })
            }
            Edit::Metadata { name, version } => {
                let name = name.clone().map(Cow::from).or(part.schema.name.clone());
                let version = version.or(part.schema.version);
                let node = match part.parts() {
                    Some(fields) => self.made(&part, fields)?.node,
                    None => part.node,
                };
                Ok(Part { schema: Schema { name, version, ..part.schema }, node })
            }
            Edit::Extract(field) => {
                let found = part.field(field).ok_or_else(|| no_field(of, field, &part.schema))?;
                let node = if self.defaults {
                    found.node.with_defaults(&found.schema)
                } else {
                    found.node
                };
                Ok(Part { schema: found.schema, node })
            }
            Edit::Replace { include, exclude, renames } => {
                let mut fields = self.fields(&part)?;
                fields.retain(|(name, _)| {
                    let is_in = |list: &[String]| list.iter().any(|one| one == name);
                    !is_in(exclude) && (include.is_empty() || is_in(include))
                });
                for (name, _) in &mut fields {
                    if let Some((_, new)) = renames.iter().find(|(old, _)| old == name) {
                        *name = new.clone().into();
                    }
                }
                self.made(&part, fields)
            }
            Edit::Insert { topic: topic_field, fixed } => {
                let mut fields = self.fields(&part)?;
                let topic = topic_field.iter().map(|(name, required)| (name, *required, topic));
                let fixed =
                    fixed.iter().map(|(name, required, text)| (name, *required, text.as_str()));
                for (name, required, text) in topic.chain(fixed) {
                    let mut part = Part::text(text);
                    part.schema.optional = !required;
                    fields.push((name.clone().into(), part));
                }
                self.made(&part, fields)
            }
            Edit::Mask { fields: masked, replacement } => {
                let mut fields = self.fields(&part)?;
                for (name, part) in
                    fields.iter_mut().filter(|(name, _)| masked.iter().any(|one| one == name))
                {
                    let literal = mask(&part.schema, replacement.as_deref());
                    let literal = literal
                        .ok_or_else(|| TransformFault::NoMask { field: name.to_string() })?;
                    let node = std::mem::replace(&mut part.node, Node::Null);
                    let node = if self.defaults { node.with_defaults(&part.schema) } else { node };
                    part.node = Node::Masked(Box::new(node), literal);
                }
                // For a mask, Connect keeps the schema as it is. For the other edits it rebuilds
                // the schema.
                let made = self.made(&part, fields)?;
                Ok(Part { schema: part.schema, node: made.node })
            }
            Edit::Cast(Casts::Whole(target)) => {
                let conversion = Conversion::Cast(*target);
                let cast = self.converted(of, part.clone(), &conversion)?;
                if matches!(Origin::of(&part.schema), Some(Origin::Moment(_) | Origin::Decimal)) {
                    // Connect keeps the schema's name, and then fails because the value does not
                    // fit it.
                    let asked = conversion.asked(&part.schema);
                    return Err(TransformFault::no_conversion(of, &part.schema, asked));
                }
                let schema = Schema { optional: cast.schema.optional, ..part.schema.basics() };
                let (base, default) = (cast.schema.base, cast.schema.default);
                Ok(Part { schema: Schema { base, default, ..schema }, node: cast.node })
            }
            Edit::Cast(Casts::Fields(targets)) => {
                let cast = |name: &str| {
                    let (_, target) = targets.iter().find(|(cast, _)| cast == name)?;
                    Some(Conversion::Cast(*target))
                };
                self.converted_fields(&part, cast)
            }
            Edit::Times(None, times) => {
                self.converted(of, part, &Conversion::Time(Box::new(times.clone())))
            }
            Edit::Times(Some(field), times) => {
                let time =
                    |name: &str| (name == field).then(|| Conversion::Time(Box::new(times.clone())));
                self.converted_fields(&part, time)
            }
            Edit::Flatten(delimiter) => {
                let mut fields = Vec::new();
                flatten(&part, "", (delimiter, part.schema.optional), &mut fields)?;
                self.made(&part, fields)
            }
        }
    }

    /// The struct with its converted fields in place of the old ones. As in Connect's `Cast` and
    /// `TimestampConverter`, an optional struct stays optional.
    fn converted_fields(
        &self,
        part: &Part,
        conversion: impl Fn(&str) -> Option<Conversion>,
    ) -> Result<Part, TransformFault> {
        let mut fields = self.fields(part)?;
        for (name, field) in &mut fields {
            if let Some(conversion) = conversion(name) {
                *field = self.converted(name, field.clone(), &conversion)?;
            }
        }
        let made = self.made(part, fields)?;
        Ok(Part { schema: Schema { optional: part.schema.optional, ..made.schema }, ..made })
    }

    /// The value in another type. `conversion` is a cast, or a conversion of moments.
    fn converted(
        &self,
        name: &str,
        part: Part,
        conversion: &Conversion,
    ) -> Result<Part, TransformFault> {
        let fault =
            || TransformFault::no_conversion(name, &part.schema, conversion.asked(&part.schema));
        let origin = conversion.origin(&part.schema).ok_or_else(fault)?;
        let literal = |literal: &Literal| {
            conversion
                .literal(&part.schema, literal)
                .ok_or_else(fault)?
                .map_err(|fault| TransformFault::Unconverted { field: name.to_owned(), fault })
        };
        let default = part.schema.default.as_ref().filter(|_| conversion.keeps_default());
        let default = default.map(literal).transpose()?;
        let schema = Schema { optional: part.schema.optional, default, ..conversion.schema() };
        let read = if self.defaults {
            part.node.clone().with_defaults(&part.schema)
        } else {
            part.node.clone()
        };
        let node = match read {
            Node::Null => Node::Null,
            Node::Literal(value) => Node::Literal(literal(&value)?),
            Node::Masked(inner, value) => Node::Masked(inner, literal(&value)?),
            node => {
                let part = Part { schema: part.schema.clone(), node };
                let (conversion, field) = (conversion.clone(), name.to_owned());
                let defaults = false;
                Node::Converted(Box::new(Converted { part, origin, conversion, field, defaults }))
            }
        };
        Ok(Part { schema, node })
    }

    fn fields(&self, part: &Part) -> Result<Vec<Named>, TransformFault> {
        part.parts().ok_or(TransformFault::NotStruct { of: self.of.name() })
    }

    fn made(&self, part: &Part, fields: Vec<Named>) -> Result<Part, TransformFault> {
        for (place, (name, _)) in fields.iter().enumerate() {
            if fields.iter().take(place).any(|(other, _)| other == name) {
                return Err(TransformFault::Clash { of: self.of.name(), field: name.to_string() });
            }
        }
        let defaults = self.defaults || matches!(self.edit, Edit::Flatten(_));
        Ok(part.rebuilt(fields, defaults))
    }
}

/// Makes the record's key from fields of its value. `defaults` says whether a null becomes the
/// default of its field.
pub(super) fn value_to_key(
    names: &[String],
    defaults: bool,
    mut shape: Shape,
) -> Result<Shape, TransformFault> {
    let Some(value) = shape.value.as_ref().filter(|value| !value.is_null()) else {
        return Err(TransformFault::NoValue);
    };
    let mut fields = Vec::new();
    for name in names {
        let part = value.field(name).ok_or_else(|| no_field("value", name, &value.schema))?;
        fields.push((name.clone().into(), part));
    }
    let empty = Part { schema: Schema::plain(Base::Struct(Vec::new())), node: Node::Null };
    shape.key = Some(empty.rebuilt(fields, defaults));
    Ok(shape)
}

pub(super) fn no_field(of: &'static str, field: &str, schema: &Schema) -> TransformFault {
    TransformFault::NoField { of, field: field.to_owned(), known: known(schema) }
}

fn flatten(
    part: &Part,
    prefix: &str,
    (delimiter, optional): (&str, bool),
    fields: &mut Vec<Named>,
) -> Result<(), TransformFault> {
    for field in part.schema.fields() {
        let name = match prefix {
            "" => field.name.to_string(),
            prefix => format!("{prefix}{delimiter}{}", field.name),
        };
        let fault = || TransformFault::NotFlat { field: name.clone() };
        let inner = part.field(&field.name).ok_or_else(fault)?;
        let optional = optional || field.schema.optional;
        match &field.schema.base {
            Base::Struct(_) => flatten(&inner, &name, (delimiter, optional), fields)?,
            Base::Map(..) => return Err(fault()),
            _ => {
                let schema = Schema { optional, ..field.schema.clone() };
                fields.push((name.into(), Part { schema, node: inner.node }));
            }
        }
    }
    Ok(())
}

/// The literal that replaces a masked field's values. `None` if Connect does not mask the type, or
/// if the replacement is not of the type.
fn mask(schema: &Schema, replacement: Option<&str>) -> Option<Literal> {
    let scale =
        || schema.parameters.iter().find(|(name, _)| *name == "scale")?.1.parse::<u32>().ok();
    Some(match (&schema.base, replacement) {
        (Base::Boolean, None) => Literal::Boolean(false),
        (Base::Int8, text) => Literal::Int(text.map_or(Ok(0), str::parse::<i8>).ok()?.into()),
        (Base::Int16, text) => Literal::Int(text.map_or(Ok(0), str::parse::<i16>).ok()?.into()),
        (Base::Int32, text) => Literal::Int(text.map_or(Ok(0), str::parse::<i32>).ok()?.into()),
        (Base::Int64, text) => Literal::Int(text.map_or(Ok(0), str::parse).ok()?),
        (Base::Float32, text) => Literal::Float4(text.map_or(Ok(0.0), str::parse).ok()?),
        (Base::Float64, text) => Literal::Float8(text.map_or(Ok(0.0), str::parse).ok()?),
        (Base::Text, text) => Literal::Text(text.unwrap_or("").to_owned()),
        (Base::Array(element), None) => {
            Literal::List { elements: Vec::new(), element: element.union() }
        }
        (Base::Map(key, _), None) if key.base == Base::Text => Literal::Map(Vec::new()),
        (Base::Bytes, None) => Literal::Decimal { unscaled: vec![0], scale: scale()? },
        _ => return None,
    })
}
