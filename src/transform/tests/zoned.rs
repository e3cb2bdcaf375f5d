//! Laws of time zones: values that Debezium has converted, and the rules that choose fields.

use super::super::convert::{Conversion, ConvertFault, Made, Origin};
use super::super::shape::{Base, CONNECT_TIMESTAMP, Field, Kind, Node, Part, Schema, Temporal};
use super::super::timezone::{Rule, Scope, Timezone, Which};
use super::super::zoned::{Form, Zone, Zoned};
use super::{field, shape, text};

/// The day on which the values were recorded from Debezium. A time without a date got the offset of
/// this day.
const RECORDED: i64 = 1_795_910_400;

fn form_of(kind: &str) -> (Form, Origin) {
    match kind {
        "io.debezium.time.Timestamp" => (Form::Number(1_000), Origin::Int),
        "io.debezium.time.MicroTimestamp" => (Form::Number(1_000_000), Origin::Int),
        "io.debezium.time.NanoTimestamp" => (Form::Number(1_000_000_000), Origin::Int),
        "io.debezium.time.ZonedTimestamp" => (Form::Text, Origin::Text),
        "io.debezium.time.ZonedTime" => (Form::Time, Origin::Text),
        CONNECT_TIMESTAMP => (Form::Connect, Origin::Moment(Temporal::Timestamp)),
        other => panic!("{other}"),
    }
}

fn converted(zone: &str, kind: &str, value: &str) -> Result<String, ConvertFault> {
    let ((form, origin), mut buffer) = (form_of(kind), String::new());
    let zone = Zone::read(zone).unwrap();
    let conversion = Conversion::Zone(Box::new(Zoned { zone, form }));
    Ok(match conversion.convert(origin, value, Some(RECORDED), &mut buffer)? {
        Made::Int(value) | Made::Moment(Temporal::Timestamp, value) => value.to_string(),
        Made::Text(text) => text.to_owned(),
        other => panic!("{other:?}"),
    })
}

#[test]
fn moments_in_a_zone_are_debeziums() {
    let lines = include_str!("../../../tests/data/debezium-timezones.txt").lines();
    let mut count = 0;
    for line in lines.filter(|line| !line.starts_with('#')) {
        let [zone, kind, value, result] = line.split('|').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let wraps = value.len() == 19 && result.starts_with("-9") && !value.starts_with('-');
        if result.starts_with('!') {
            // Java lists the names of old zones and then does not know them.
            assert!(Zone::read(zone).is_none() || matches!(zone, "EST" | "PST"), "{line}");
        } else if wraps {
            assert_eq!(converted(zone, kind, value), Err(ConvertFault::Range("int64")), "{line}");
        } else {
            assert_eq!(converted(zone, kind, value).as_deref(), Ok(result), "{line}");
        }
        count += 1;
    }
    assert!(count > 100, "{count}");
}

#[test]
fn what_is_no_moment_with_an_offset_is_a_fault() {
    for (kind, value) in [
        ("io.debezium.time.ZonedTimestamp", "eternity"),
        ("io.debezium.time.ZonedTimestamp", "2024-02-30T00:00:00Z"),
        ("io.debezium.time.ZonedTimestamp", "2024-02-03T00:00:00"),
        ("io.debezium.time.ZonedTime", "24:00:00Z"),
        ("io.debezium.time.ZonedTime", "00:00:00.Z0"),
    ] {
        let made = converted("Europe/Berlin", kind, value);
        assert_eq!(made, Err(ConvertFault::NoOffset), "{value}");
    }
}

/// Which fields of an insert are moved, by the rules.
fn moved(include: &[&str], exclude: &[&str]) -> Vec<String> {
    let rules =
        |texts: &[&str]| texts.iter().map(|text| Rule::read(text).unwrap()).collect::<Vec<_>>();
    let which = match (include.is_empty(), exclude.is_empty()) {
        (true, true) => Which::All,
        (false, _) => Which::Included(rules(include)),
        (true, false) => Which::Excluded(rules(exclude)),
    };
    let mut shape = shape(Kind::Create);
    let value = shape.value.as_mut().unwrap();
    let Base::Struct(fields) = &mut value.schema.base else { panic!() };
    let moment = |name: &'static str| {
        let (kind, base) = (Some("io.debezium.time.MicroTimestamp".into()), Base::Int64);
        field(name, Schema { name: kind, version: Some(1), ..Schema::plain(base) })
    };
    for row in &mut fields[..2] {
        row.schema.base = Base::Struct(vec![moment("a"), moment("b")]);
    }
    let source = vec![field("table", text()), field("ts_ms", Schema::plain(Base::Int64))];
    fields[2].schema.base = Base::Struct(source);
    let Node::Struct(nodes) = &mut value.node else { panic!() };
    let Node::Struct(source) = &mut nodes[2] else { panic!() };
    source.push(Node::Meta(super::super::shape::Meta::CommitMillis));
    let timezone = Timezone { zone: Zone::read("+01:00").unwrap(), which };
    let value = timezone.apply(shape).unwrap().value.unwrap();
    let mut names = Vec::new();
    for home in ["after", "source"] {
        let Part { schema, node: Node::Struct(nodes) } = value.field(home).unwrap() else {
            panic!("{home}")
        };
        for (Field { name, .. }, node) in schema.fields().iter().zip(nodes) {
            if matches!(node, Node::Converted(_)) {
                names.push(format!("{home}.{name}"));
            }
        }
    }
    names
}

/// The table of the record is `t`, and its topic is `p.s.t`.
#[test]
fn rules_choose_the_fields_that_debeziums_choose() {
    let both = ["after.a", "after.b"];
    assert_eq!(moved(&[], &[]), both);
    for all in ["source:t", "topic:p.s.t", "t", "p.s.t"] {
        assert_eq!(moved(&[all], &[]), both, "{all}");
        assert!(moved(&[], &[all]).is_empty(), "{all}");
    }
    assert!(moved(&["source:u", "topic:t"], &[]).is_empty());
    assert_eq!(moved(&[], &["source:u"]), both);
    assert_eq!(moved(&["t:a"], &[]), ["after.a"]);
    assert_eq!(moved(&["t:after.b", "t:before.a"], &[]), ["after.b"]);
    assert_eq!(moved(&[], &["t:a"]), ["after.b"]);
    assert_eq!(moved(&["source:t:source.ts_ms"], &[]), ["source.ts_ms"]);
    // If one field of the source is excluded, the others are moved.
    assert_eq!(moved(&[], &["t:source.ts_us"]), ["after.a", "after.b", "source.ts_ms"]);
    assert_eq!(moved(&[], &["t:source.ts_ms"]), both);
    // The rules of a topic decide alone.
    assert_eq!(moved(&["topic:p.s.t:a", "source:t:b"], &[]), ["after.a"]);
}

#[test]
fn a_rule_has_one_to_three_parts() {
    let rule = Rule::read("source:orders:created").unwrap();
    assert_eq!((rule.scope, rule.field.as_deref()), (Scope::Table, Some("created")));
    assert_eq!(Rule::read("a:b").unwrap().scope, Scope::Either);
    for none in ["", "source:", "a:b:c", "topic:a:b:c", "a:"] {
        assert_eq!(Rule::read(none), None, "{none}");
    }
}
