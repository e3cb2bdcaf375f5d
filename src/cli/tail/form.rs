//! What the values of a schema mean beyond their types, for example that a number is a date. It is
//! read from an Avro schema or from a schema of Kafka Connect in JSON.
//!
//! Only the names that Debezium and Connect give to types are known here. A value of another type
//! is shown as the record has it.

use serde_json::Value;
use std::collections::HashMap;
use std::rc::Rc;

/// What a value means beyond its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The value has no further meaning, and is shown as it is.
    Plain,
    /// An unscaled number in two's complement. The argument is its number of digits after the
    /// point.
    Decimal(u32),
    /// A record with two fields: the scale of a decimal, and its unscaled number.
    VariableDecimal,
    /// A date, as days since 1970-01-01.
    Date,
    /// A time of day, as units since midnight. The argument is the number of units in a second.
    Time(i64),
    /// A moment, as units since 1970-01-01. The argument is the number of units in a second.
    Moment(i64),
    List(Rc<Form>),
    Map(Rc<Form>),
    Fields(Rc<Vec<(String, Form)>>),
    /// The branches of a union of Avro.
    Branches(Rc<Vec<Form>>),
}

impl Form {
    /// The form of the field with this name; `Plain` if the form has no such field.
    pub(super) fn field(&self, name: &str) -> &Form {
        let Form::Fields(fields) = self else { return &Form::Plain };
        fields.iter().find(|(known, _)| known == name).map_or(&Form::Plain, |(_, form)| form)
    }

    /// The form of an element of a list, or of a value of a map; `Plain` for any other form.
    pub(super) fn element(&self) -> &Form {
        match self {
            Form::List(element) | Form::Map(element) => element,
            _ => &Form::Plain,
        }
    }

    /// The form of the branch at `place` of a union. If this form is not that of a union, the form
    /// itself.
    pub(super) fn branch(&self, place: u32) -> &Form {
        let Form::Branches(branches) = self else { return self };
        usize::try_from(place).ok().and_then(|place| branches.get(place)).unwrap_or(&Form::Plain)
    }

    /// Reads the form of the values of an Avro schema.
    pub(super) fn of_avro(schema: &Value) -> Form {
        avro(schema, "", &mut HashMap::new())
    }

    /// Reads the form of the values of a Connect schema, which JsonConverter has written as JSON.
    pub(super) fn of_connect(schema: &Value) -> Form {
        if let Some(form) = named(text(schema, "name"), || parameter(&schema["parameters"])) {
            return form;
        }
        match text(schema, "type") {
            "array" => Form::List(Rc::new(Form::of_connect(&schema["items"]))),
            "map" => Form::Map(Rc::new(Form::of_connect(&schema["values"]))),
            "struct" => fields(schema, |field| (text(field, "field"), Form::of_connect(field))),
            _ => Form::Plain,
        }
    }
}

/// Reads the form of an Avro schema. `known` holds the named types that have been read to their
/// end. If a type contains itself, the inner values are plain.
fn avro(schema: &Value, around: &str, known: &mut HashMap<String, Form>) -> Form {
    if let Some(branches) = schema.as_array() {
        let branches = branches.iter().map(|branch| avro(branch, around, known)).collect();
        return Form::Branches(Rc::new(branches));
    }
    if let Some(name) = schema.as_str() {
        return known.get(&full(name, around)).cloned().unwrap_or(Form::Plain);
    }
    let space = schema["namespace"].as_str().unwrap_or(around);
    let scale = || match schema["scale"].as_u64() {
        Some(scale) => u32::try_from(scale).ok(),
        None => parameter(&schema["connect.parameters"]),
    };
    let form = match named(text(schema, "connect.name"), scale) {
        Some(form) => form,
        None if text(schema, "logicalType") == "decimal" => Form::Decimal(scale().unwrap_or(0)),
        None => match text(schema, "type") {
            "array" => Form::List(Rc::new(avro(&schema["items"], space, known))),
            "map" => Form::Map(Rc::new(avro(&schema["values"], space, known))),
            "record" => {
                fields(schema, |field| (text(field, "name"), avro(&field["type"], space, known)))
            }
            // `type` is itself a union or a whole schema.
            _ if !schema["type"].is_string() && !schema["type"].is_null() => {
                avro(&schema["type"], space, known)
            }
            _ => Form::Plain,
        },
    };
    if let Some(name) = schema["name"].as_str() {
        known.insert(full(name, space), form.clone());
    }
    form
}

fn fields<'a>(schema: &'a Value, mut of: impl FnMut(&'a Value) -> (&'a str, Form)) -> Form {
    let all = schema["fields"].as_array().into_iter().flatten();
    let all = all.map(|field| {
        let (name, form) = of(field);
        (name.to_owned(), form)
    });
    Form::Fields(Rc::new(all.collect()))
}

/// The form of values whose schema has this name of Debezium or Connect. `None` for other names.
fn named(name: &str, scale: impl FnOnce() -> Option<u32>) -> Option<Form> {
    const MILLIS: i64 = 1000;
    Some(match name {
        "org.apache.kafka.connect.data.Decimal" => Form::Decimal(scale().unwrap_or(0)),
        "io.debezium.data.VariableScaleDecimal" => Form::VariableDecimal,
        "org.apache.kafka.connect.data.Date" | "io.debezium.time.Date" => Form::Date,
        "org.apache.kafka.connect.data.Time" | "io.debezium.time.Time" => Form::Time(MILLIS),
        "io.debezium.time.MicroTime" => Form::Time(MILLIS * 1000),
        "io.debezium.time.NanoTime" => Form::Time(MILLIS * 1_000_000),
        "org.apache.kafka.connect.data.Timestamp" | "io.debezium.time.Timestamp" => {
            Form::Moment(MILLIS)
        }
        "io.debezium.time.MicroTimestamp" => Form::Moment(MILLIS * 1000),
        "io.debezium.time.NanoTimestamp" => Form::Moment(MILLIS * 1_000_000),
        _ => return None,
    })
}

fn parameter(parameters: &Value) -> Option<u32> {
    parameters["scale"].as_str()?.parse().ok()
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema[key].as_str().unwrap_or("")
}

/// The full name of an Avro type. A name with a dot is already full.
fn full(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}
