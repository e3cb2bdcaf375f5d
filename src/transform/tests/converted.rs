//! Laws of conversions, each on the shape of a small record.

use super::super::TransformFault;
use super::super::convert::{Conversion, Target, TimeTarget, TimeUnit, Times};
use super::super::fields::{Casts, Edit, Fields, Of};
use super::super::shape::{Base, Literal, Node};
use super::unwrapped;

fn cast(casts: Casts) -> Fields {
    Fields { of: Of::Value, defaults: true, edit: Edit::Cast(casts) }
}

#[test]
fn a_cast_field_keeps_whether_it_is_optional_and_its_default() {
    let targets = vec![
        ("id".to_owned(), Target::Text),
        ("v".to_owned(), Target::Boolean),
        ("no".to_owned(), Target::Int8),
    ];
    let value = cast(Casts::Fields(targets)).apply(unwrapped()).unwrap().value.unwrap();
    let [id, v] = value.schema.fields() else { panic!("{:?}", value.schema) };
    assert_eq!(
        (&id.schema.base, id.schema.optional, &id.schema.default),
        (&Base::Text, false, &None)
    );
    assert_eq!((&v.schema.base, v.schema.optional), (&Base::Boolean, true));
    assert_eq!(v.schema.default, Some(Literal::Boolean(false)), "as the default is cast");
    let Node::Struct(nodes) = &value.node else { panic!() };
    let Node::Converted(id) = &nodes[0] else { panic!("{nodes:?}") };
    assert_eq!(id.conversion, Conversion::Cast(Target::Text));
}

#[test]
fn a_cast_that_no_value_takes_is_refused() {
    let number = vec![("v".to_owned(), Target::Int8)];
    let fault = cast(Casts::Fields(number)).apply(unwrapped()).unwrap_err();
    assert!(matches!(fault, TransformFault::Unconverted { .. }), "its default is no number");
    let whole = cast(Casts::Whole(Target::Text)).apply(unwrapped()).unwrap_err();
    let told =
        "field `value` is of type struct (p.s.t.Value), for which there is no cast to string";
    assert_eq!(whole.to_string(), told);
}

#[test]
fn a_moment_has_connects_schema_and_no_default() {
    let times = |field: &str, to| {
        let times = Times { to, pattern: None, unit: TimeUnit::Millis };
        let edit = Edit::Times(Some(field.to_owned()), times);
        Fields { of: Of::Value, defaults: true, edit }
    };
    let fault = times("v", TimeTarget::Date).apply(unwrapped()).unwrap_err();
    let told = "field `v` is of type string, for which there is no conversion to Date without a \
                `format`";
    assert_eq!(fault.to_string(), told);
    let fault = times("id", TimeTarget::Date).apply(unwrapped()).unwrap_err();
    let told = "field `id` is of type int32, for which there is no conversion to Date";
    assert_eq!(fault.to_string(), told);
    let same = times("no", TimeTarget::Date).apply(unwrapped()).unwrap();
    assert_eq!(same.value.unwrap().schema.fields().len(), 2, "passed over as in Connect");
    let long = cast(Casts::Fields(vec![("id".to_owned(), Target::Int64)]));
    let long = long.apply(unwrapped()).unwrap();
    let value = times("id", TimeTarget::Timestamp).apply(long).unwrap().value.unwrap();
    let schema = &value.schema.fields()[0].schema;
    assert_eq!(schema.name.as_deref(), Some("org.apache.kafka.connect.data.Timestamp"));
    assert_eq!((schema.version, &schema.base), (Some(1), &Base::Int64));
}
