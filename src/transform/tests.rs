//! Laws of the transforms, each on the shape of a small record.

mod converted;
mod zoned;

use super::content::ContentRouter;
use super::expression::Expression;
use super::fields::{Edit, Fields, Of, value_to_key};
use super::filter::Nulls;
use super::headers::Headers;
use super::outbox::{Outbox, Updates};
use super::reroute::Replace;
use super::shape::{Base, Field, Header, Kind, Literal, Node, Part, Schema, Shape, Side};
use super::unwrap::{Added, Deletes, Missing, RouteBy, Unwrap};
use super::{Chain, Condition, Link, Transform, TransformFault};
use crate::table::TableName;
use crate::table::names::NameList;

fn field(name: &'static str, schema: Schema) -> Field {
    Field { name: name.into(), schema }
}

fn text() -> Schema {
    Schema::plain(Base::Text)
}

/// A row of `id`, which is required, and `v`, which has a default.
fn row() -> Schema {
    let default = Some(Literal::Text("none".to_owned()));
    let fields = vec![
        field("id", Schema::plain(Base::Int32)),
        field("v", Schema { default, ..text().optional() }),
    ];
    let name = Some("p.s.t.Value".into());
    Schema { name, ..Schema::plain(Base::Struct(fields)).optional() }
}

fn columns(side: Side) -> Node {
    Node::Struct([0, 1].map(|index| Node::Column { index, side, defaults: false }).to_vec())
}

fn shape(kind: Kind) -> Shape {
    let (before, after) = match kind {
        Kind::Delete => (columns(Side::Old), Node::Null),
        Kind::Truncate => (Node::Null, Node::Null),
        _ => (Node::Null, columns(Side::New)),
    };
    let source = Schema::plain(Base::Struct(vec![field("table", text())]));
    let table = Node::Struct(vec![Node::Literal(Literal::Text("t".to_owned()))]);
    let fields = vec![
        field("before", row()),
        field("after", row()),
        field("source", source),
        field("op", text()),
    ];
    let name = Some("p.s.t.Envelope".into());
    let schema = Schema { name, version: Some(2), ..Schema::plain(Base::Struct(fields)) };
    let value = kind.operation().map(|operation| Part {
        schema,
        node: Node::Struct(vec![
            before,
            after,
            table,
            Node::Literal(Literal::Text(operation.to_owned())),
        ]),
    });
    Shape {
        topic: "p.s.t".to_owned(),
        key: None,
        value,
        headers: Vec::new(),
        time: None,
        partition: None,
        guards: Vec::new(),
    }
}

fn unwrap(deletes: Deletes) -> Unwrap {
    Unwrap {
        deletes,
        fields: Vec::new(),
        headers: Vec::new(),
        route: None,
        dropped: None,
        defaults: true,
    }
}

fn names(shape: &Shape) -> Vec<String> {
    let value = shape.value.as_ref().unwrap();
    value.schema.fields().iter().map(|field| field.name.to_string()).collect()
}

fn unwrapped() -> Shape {
    unwrap(Deletes::Tombstone).apply(Kind::Create, shape(Kind::Create), "").unwrap().unwrap()
}

#[test]
fn kinds_stand_in_the_order_of_their_numbers() {
    for (place, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, place, "{kind:?}");
    }
}

#[test]
fn a_delete_becomes_what_its_mode_says() {
    use Deletes::{DeleteToTombstone, Drop, Rewrite, RewriteWithTombstone, Tombstone};
    let of = |mode, kind| unwrap(mode).apply(kind, shape(kind), "").unwrap();
    for (mode, has_record, has_value, keeps_tombstone) in [
        (Drop, false, false, false),
        (Tombstone, true, false, false),
        (DeleteToTombstone, true, false, false),
        (Rewrite, true, true, false),
        (RewriteWithTombstone, true, true, true),
    ] {
        let deleted = of(mode, Kind::Delete);
        assert_eq!(deleted.is_some(), has_record, "{mode:?}");
        assert_eq!(deleted.is_some_and(|shape| shape.value.is_some()), has_value, "{mode:?}");
        assert_eq!(of(mode, Kind::Tombstone).is_some(), keeps_tombstone, "{mode:?}");
        assert_eq!(of(mode, Kind::Truncate), None, "{mode:?}");
        assert!(of(mode, Kind::Create).is_some());
    }
}

#[test]
fn a_rewritten_row_says_whether_it_is_deleted() {
    for (kind, deleted) in [(Kind::Create, "false"), (Kind::Delete, "true")] {
        let shape = unwrap(Deletes::Rewrite).apply(kind, shape(kind), "").unwrap().unwrap();
        assert_eq!(names(&shape), ["id", "v", "__deleted"]);
        let Node::Struct(nodes) = shape.value.unwrap().node else { panic!() };
        assert_eq!(nodes[2], Node::Literal(Literal::Text(deleted.to_owned())));
        assert!(matches!(nodes[0], Node::Column { defaults: false, .. }), "`id` has no default");
        assert!(matches!(nodes[1], Node::Column { defaults: true, .. }), "a null is the default");
    }
}

#[test]
fn a_row_alone_is_required_and_keeps_its_nulls() {
    let value = unwrapped().value.unwrap();
    assert!(!value.schema.optional);
    assert_eq!(value.schema.name.as_deref(), Some("p.s.t.Value"));
    assert_eq!(value.node, columns(Side::New));
}

#[test]
fn added_fields_are_named_as_debezium_names_them() {
    let added = |texts: [&str; 5]| texts.map(|text| Added::read("__", text).unwrap()).to_vec();
    let fields = added(["op", "table", "source.table", "table:t", "missing"]);
    let unwrap = Unwrap { fields, ..unwrap(Deletes::Tombstone) };
    let shape = unwrap.apply(Kind::Create, shape(Kind::Create), "").unwrap().unwrap();
    assert_eq!(names(&shape), ["id", "v", "__op", "__table", "__source_table", "__t"]);
    assert!(shape.value.unwrap().schema.fields()[2].schema.optional);
    for faulty in ["", "a:b:c", "a.b.c", "a:", ".a"] {
        assert_eq!(Added::read("__", faulty), None, "{faulty}");
    }
}

#[test]
fn a_tombstone_has_the_operation_header_and_no_other() {
    let headers = ["op", "table"].map(|text| Added::read("x-", text).unwrap()).to_vec();
    let unwrap = Unwrap { headers, ..unwrap(Deletes::RewriteWithTombstone) };
    let names = |kind| {
        let shape = unwrap.apply(kind, shape(kind), "").unwrap().unwrap();
        shape.headers.into_iter().map(|header| header.name).collect::<Vec<_>>()
    };
    assert_eq!(names(Kind::Tombstone), ["x-op"]);
    assert_eq!(names(Kind::Delete), ["x-op", "x-table"]);
}

#[test]
fn what_is_no_envelope_is_not_unwrapped() {
    let once = unwrapped();
    let twice = unwrap(Deletes::Rewrite).apply(Kind::Create, once.clone(), "").unwrap();
    assert_eq!(twice, Some(once));
}

#[test]
fn fields_are_left_out_renamed_and_added_in_order() {
    let fields = |edit| Fields { of: Of::Value, defaults: true, edit };
    let renames = vec![("v".to_owned(), "w".to_owned())];
    let replace = Edit::Replace { include: Vec::new(), exclude: vec!["id".to_owned()], renames };
    let insert = Edit::Insert {
        topic: Some(("topic".to_owned(), true)),
        fixed: Some(("by".to_owned(), false, "us".to_owned())),
    };
    let replaced = fields(replace).apply(unwrapped()).unwrap();
    let shape = fields(insert.clone()).apply(replaced).unwrap();
    assert_eq!(names(&shape), ["w", "topic", "by"]);
    let schema = |place: usize| shape.value.as_ref().unwrap().schema.fields()[place].schema.clone();
    assert!(!schema(1).optional && schema(2).optional);
    let again = fields(insert).apply(shape.clone());
    assert!(matches!(again, Err(TransformFault::Clash { of: "value", .. })));
}

#[test]
fn a_masked_value_keeps_its_type_or_is_refused() {
    let mask = |field: &str, replacement: Option<&str>| {
        let edit = Edit::Mask {
            fields: vec![field.to_owned()],
            replacement: replacement.map(str::to_owned),
        };
        Fields { of: Of::Value, defaults: true, edit }.apply(unwrapped())
    };
    let Node::Struct(nodes) = mask("id", Some("7")).unwrap().value.unwrap().node else { panic!() };
    assert!(matches!(&nodes[0], Node::Masked(_, Literal::Int(7))));
    let faulty = mask("id", Some("seven"));
    assert!(matches!(faulty, Err(TransformFault::NoMask { field }) if field == "id"));
}

#[test]
fn flat_names_are_joined_and_inherit_null() {
    let edit = Edit::Flatten("_".to_owned());
    let shape = Fields { of: Of::Value, defaults: false, edit }.apply(shape(Kind::Create)).unwrap();
    assert_eq!(
        names(&shape),
        ["before_id", "before_v", "after_id", "after_v", "source_table", "op"]
    );
    let value = shape.value.unwrap();
    let optional: Vec<bool> =
        value.schema.fields().iter().map(|field| field.schema.optional).collect();
    assert_eq!(optional, [true, true, true, true, false, false]);
}

#[test]
fn a_key_of_a_field_that_is_not_there_is_refused() {
    let of = |name: &str, shape| value_to_key(&[name.to_owned()], true, shape);
    let key = of("v", unwrapped()).unwrap().key.unwrap();
    assert_eq!(key.schema.fields()[0].name, "v");
    let known = of("w", unwrapped()).unwrap_err().to_string();
    assert_eq!(known, "the value has no field `w`; its fields are id, v");
    assert_eq!(of("v", shape(Kind::Tombstone)).unwrap_err(), TransformFault::NoValue);
}

#[test]
fn headers_move_into_the_value_where_there_is_one() {
    let move_in = Headers::ToValue { pairs: vec![("h".to_owned(), "f".to_owned())], moves: true };
    let with_header = |mut shape: Shape| {
        shape.headers.push(Header { name: "h".to_owned(), part: Part::text("x") });
        move_in.apply(shape).unwrap()
    };
    let moved = with_header(unwrapped());
    assert_eq!((names(&moved).pop().as_deref(), moved.headers.len()), (Some("f"), 0));
    assert_eq!(with_header(shape(Kind::Tombstone)).headers.len(), 1);
}

#[test]
fn a_condition_sees_what_the_transforms_before_it_made() {
    let link = |when, transform| Link { tables: NameList::default(), when, name: "x", transform };
    let route = Transform::Regex(Replace::read("p\\.(.*)", "q.$1").unwrap());
    let topic = |text| Condition::Topic(Box::new(Replace::read(text, "$0").unwrap()));
    let apply = |negate| {
        let links = vec![
            link(None, route.clone()),
            link(Some((topic("q\\..*"), negate)), Transform::Filter),
        ];
        Chain { links }
            .apply(&TableName::new("s", "t"), Kind::Create, shape(Kind::Create), None)
            .unwrap()
    };
    assert_eq!(apply(false), None);
    assert_eq!(apply(true).unwrap().topic, "q.s.t");
}

fn outbox(fields: &[(&str, &str)]) -> Outbox {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(column, name)| ((*column).to_owned(), (*name).to_owned())).collect()
    };
    Outbox {
        route: "v".to_owned(),
        topic: Replace::read("(?<routedByValue>.*)", "events.${routedByValue}").unwrap(),
        id: "id".to_owned(),
        key: "v".to_owned(),
        payload: "v".to_owned(),
        headers: pairs(&[("v", "kind")]),
        fields: pairs(fields),
        version: None,
        expand: None,
        time: None,
        partition: None,
        tombstones: false,
        missing: false,
        updates: Updates::Warn,
        topics_max: 1,
    }
}

#[test]
fn a_second_chooser_of_a_rows_topic_or_schema_is_named() {
    let link = |name, transform| Link { tables: NameList::default(), when: None, name, transform };
    let router = || {
        let topic = Expression::read("'x'").unwrap();
        let router = ContentRouter { topic, nulls: Nulls::Keep, topics_max: 1 };
        Transform::ContentRouter(Box::new(router))
    };
    let told = |name, other| {
        let links = vec![link("filter", Transform::Filter), link("content-router", router())];
        let chain = Chain { links: [links, vec![link(name, other)]].concat() };
        chain.one_names_topics(&TableName::new("s", "t")).unwrap_err().source.to_string()
    };
    let begin = "`'x'`: transform 2 (content-router) chooses the topic of a row by this \
                 expression, and transform 3";
    let end = "a table can have one of the two transforms: leave the table out of the `tables` of \
               the other one";
    let outbox = told("outbox", Transform::Outbox(Box::new(outbox(&[]))));
    assert_eq!(outbox, format!("{begin} (outbox) chooses the topic of a row by a column; {end}"));
    let route = RouteBy { field: "v".to_owned(), missing: Missing::Own, topics_max: 1 };
    let unwrap = Unwrap { route: Some(route), ..unwrap(Deletes::Drop) };
    let unwrap = told("unwrap", Transform::Unwrap(unwrap));
    assert_eq!(unwrap, format!("{begin} (unwrap) chooses the topic of a row by a column; {end}"));
}

#[test]
fn only_inserted_and_copied_rows_are_events() {
    for kind in Kind::ALL {
        let event = outbox(&[]).apply(kind, shape(kind), "order").unwrap();
        assert_eq!(event.is_some(), matches!(kind, Kind::Create | Kind::Read), "{kind:?}");
    }
    let again = outbox(&[]).apply(Kind::Create, unwrapped(), "order");
    assert_eq!(again, Err(TransformFault::NoEnvelope));
}

#[test]
fn an_event_has_topic_key_and_headers_of_its_columns() {
    let event = outbox(&[]).apply(Kind::Create, shape(Kind::Create), "order").unwrap().unwrap();
    assert_eq!(event.topic, "events.order");
    let headers: Vec<&str> = event.headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(headers, ["id", "kind"]);
    assert_eq!(event.key, event.value);
    assert!(matches!(event.value.unwrap().node, Node::Column { index: 1, .. }));
}

#[test]
fn fields_beside_the_payload_make_a_struct_of_the_route() {
    let of = |fields| outbox(fields).apply(Kind::Create, shape(Kind::Create), "order");
    let event = of(&[("id", "number")]).unwrap().unwrap();
    assert_eq!(names(&event), ["payload", "number"]);
    let name = event.value.unwrap().schema.name;
    assert_eq!(name.as_deref(), Some("p.s.t.order.Value"));
    assert!(matches!(of(&[("id", "payload")]), Err(TransformFault::Clash { .. })));
    assert!(matches!(of(&[("no", "x")]), Err(TransformFault::NoField { .. })));
}

#[test]
fn a_route_is_a_column_of_text() {
    let of = |route: &str| {
        let outbox = Outbox { route: route.to_owned(), ..outbox(&[]) };
        outbox.places(&shape(Kind::Create))
    };
    assert!(matches!(of("no"), Err(TransformFault::NoField { .. })));
    assert!(matches!(of("id"), Err(TransformFault::NotText { .. })));
}
