//! Laws of expressions: what is read, what is refused, and what a run gives.

use super::bind::bind;
use super::compare::{Type, Value, decimals};
use super::run::RunFault;
use super::{Expression, TOKENS_MAX};
use crate::transform::shape::{
    Base, Field, Header, Literal, Meta, Node, Part, Schema, Shape, Side,
};
use proptest::prelude::*;
use std::borrow::Cow;

fn field(name: &'static str, schema: Schema) -> Field {
    Field { name: name.into(), schema }
}

fn named(base: Base, name: &'static str) -> Schema {
    Schema { name: Some(name.into()), ..Schema::plain(base) }
}

/// The columns of a row, in the order of their places.
fn row() -> Schema {
    let fields = vec![
        field("id", Schema::plain(Base::Int32)),
        field("name", Schema::plain(Base::Text).optional()),
        field("price", named(Base::Bytes, "org.apache.kafka.connect.data.Decimal").optional()),
        field("rate", Schema::plain(Base::Float64).optional()),
        field("done", Schema::plain(Base::Boolean).optional()),
        field("at", named(Base::Text, "io.debezium.time.ZonedTimestamp").optional()),
        field("raw", Schema::plain(Base::Bytes).optional()),
    ];
    Schema::plain(Base::Struct(fields)).optional()
}

fn columns(side: Side) -> Node {
    let column = |index| Node::Column { index, side, defaults: false };
    Node::Struct((0..7).map(column).collect())
}

fn shape(op: &str) -> Shape {
    let (before, after) = match op {
        "d" => (columns(Side::Old), Node::Null),
        "u" => (columns(Side::Old), columns(Side::New)),
        _ => (Node::Null, columns(Side::New)),
    };
    let source = Schema::plain(Base::Struct(vec![field("table", Schema::plain(Base::Text))]));
    let text = |text: &str| Node::Literal(Literal::Text(text.to_owned()));
    let fields = vec![
        field("before", row()),
        field("after", row()),
        field("source", source),
        field("op", Schema::plain(Base::Text)),
        field("ts_ms", Schema::plain(Base::Int64)),
    ];
    let nodes =
        vec![before, after, Node::Struct(vec![text("t")]), text(op), Node::Meta(Meta::NowMillis)];
    let schema = Schema { name: Some("t.Envelope".into()), ..Schema::plain(Base::Struct(fields)) };
    Shape {
        topic: "shop.public.t".to_owned(),
        key: None,
        value: Some(Part { schema, node: Node::Struct(nodes) }),
        headers: vec![Header { name: "tenant".to_owned(), part: Part::text("acme") }],
        time: None,
        partition: None,
        guards: Vec::new(),
    }
}

/// Values of the columns of [`row`].
type Cells<'a> = [Value<'a>; 7];

fn nothing() -> Cells<'static> {
    [const { Value::Null }; 7]
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text))
}

/// The answer of a condition for a new row with these cells.
#[track_caller]
fn ask(condition: &str, cells: &Cells<'_>) -> Result<Value<'static>, String> {
    let expression = Expression::read(condition).map_err(|fault| fault.to_string())?;
    let ready = bind(&expression, &shape("c"))?;
    let read = |place: usize| -> Result<Value<'_>, RunFault> {
        match ready.operands[place].part.node {
            Node::Column { index, .. } => Ok(cells[index].clone()),
            ref other => panic!("{other:?}"),
        }
    };
    let ran = ready.program.run(&read).map_err(|fault| fault.to_string())?;
    Ok(match ran {
        Value::Text(text) => Value::Text(text.into_owned().into()),
        Value::Decimal(text) => Value::Decimal(text.into_owned().into()),
        Value::Null => Value::Null,
        Value::Bool(value) => Value::Bool(value),
        Value::Int(value) => Value::Int(value),
        Value::Double(value) => Value::Double(value),
        Value::Opaque => Value::Opaque,
    })
}

fn a_row() -> Cells<'static> {
    [
        Value::Int(7),
        text("ann"),
        Value::Decimal("10.50".into()),
        Value::Double(0.5),
        Value::Bool(true),
        text("2025-01-01T00:00:00Z"),
        Value::Opaque,
    ]
}

#[test]
fn a_condition_holds_as_its_operators_say() {
    for (condition, holds) in [
        ("value.after.id == 7", true),
        ("after.id == 7 && op == 'c'", true),
        ("after.id > 7 || after.name.startsWith('an')", true),
        ("!(after.name == 'bob')", true),
        ("after['name'] in ['bob', 'ann']", true),
        ("after.price == 10.5", true),
        ("after.price < 10.5000000000001", true),
        ("after.price >= 11", false),
        ("after.rate * 2.0 == 1.0", true),
        ("after.id / 2 == 3 && after.id % 2 == 1", true),
        ("-after.id < 0", true),
        ("after.done", true),
        ("!after.done", false),
        ("after.name.matches('^a.n$') && size(after.name) == 3", true),
        ("after.name.contains('z') ? after.id == 0 : after.id == 7", true),
        ("topic == 'shop.public.t' && headers.tenant.value == 'acme'", true),
        ("headers.region == null && source.table == 't'", true),
        ("has(after.name) && !has(before.name)", true),
        ("before == null && after != null && key == null", true),
        ("after.raw != null", true),
        ("string(after.id) == '7' && int('7') == after.id && double('0.5') == after.rate", true),
        ("op != 'd' || before.id == 2", true),
    ] {
        assert_eq!(ask(condition, &a_row()), Ok(Value::Bool(holds)), "{condition}");
    }
}

#[test]
fn a_null_is_equal_to_null_alone_and_has_no_order() {
    for (condition, answer) in [
        ("after.name == null", Value::Bool(true)),
        ("after.name == 'x'", Value::Bool(false)),
        ("after.name != 'x'", Value::Bool(true)),
        ("after.name in ['x']", Value::Bool(false)),
        ("after.price > 5", Value::Null),
        ("!(after.price > 5)", Value::Null),
        ("after.price > 5 || after.name == null", Value::Bool(true)),
        ("after.price > 5 && after.name != null", Value::Bool(false)),
        ("after.name.startsWith('x')", Value::Null),
        ("after.done", Value::Null),
        ("after.rate + 1.0", Value::Null),
    ] {
        assert_eq!(ask(condition, &nothing()), Ok(answer), "{condition}");
    }
}

#[test]
fn a_failed_run_is_a_fault_unless_the_other_side_decides() {
    let max = [
        Value::Int(i64::MAX),
        text("x"),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
    ];
    let fault = |condition: &str| ask(condition, &max).unwrap_err();
    assert_eq!(fault("after.id + 1 > 0"), RunFault::Range.to_string());
    assert_eq!(fault("after.id * 2 > 0"), RunFault::Range.to_string());
    assert_eq!(fault("1 / (after.id - after.id) == 1"), RunFault::Zero.to_string());
    assert_eq!(fault("int(after.name) == 1"), RunFault::NoNumber.to_string());
    assert_eq!(ask("after.id + 1 > 0 || after.name == 'x'", &max), Ok(Value::Bool(true)));
    assert_eq!(ask("after.name != 'x' && after.id + 1 > 0", &max), Ok(Value::Bool(false)));
    assert!(fault("after.id == 1 / 0").contains("in each record"));
}

#[test]
fn what_has_no_meaning_is_refused_with_what_to_write() {
    for (condition, told) in [
        ("after.id == '7'", "write a number without quotes"),
        ("after.name == 7", "write a text in quotes"),
        ("after.name > 5", "write a text in quotes"),
        ("after.price == after.rate", "write double(after.price)"),
        ("after.at > '2025'", "no order of time"),
        ("after.raw == 'x'", "only whether they are null"),
        ("after.raw", ""),
        ("after.nmae == 'x'", "has no field `nmae`; it has id, name"),
        ("aftr.id == 1", "there is no `aftr`; there are topic, key, headers, value, op"),
        ("after.id.x == 1", "`value.after.id` has no fields"),
        ("after.price + 1 > 2", "double("),
        ("after.id + 1.0 > 2.0", "double("),
        ("ts_ms > 5", "source.ts_ms"),
        ("headers.tenant == 'acme'", "only whether they are null"),
        ("after.name < null", "by `==` or `!=`"),
        ("after.id && op == 'c'", "it should be a bool"),
        ("op == 'c' ? 1 == 1 : 'x'", "one type"),
        ("[1].exists(x, x == 1)", "has a loop"),
        ("after.name.lowerCase() == 'x'", "there are startsWith"),
        ("after.id ==", "is no expression of CEL"),
        ("after.name.matches('(')", "no regular expression"),
        ("{'a': 1} == {'a': 1}", "makes a struct"),
        ("after.name in after.name", "no list in brackets"),
        ("b'x' == b'x'", "bytes"),
        ("after.price == 1234567890.123456", "more than 15 digits"),
    ] {
        match ask(condition, &a_row()) {
            Err(fault) => assert!(fault.contains(told), "{condition}: {fault}"),
            // An expression that is a struct alone has a value, although it is no condition.
            Ok(answer) => assert_eq!((answer, told), (Value::Opaque, ""), "{condition}"),
        }
    }
}

#[test]
fn an_operand_is_bound_once() {
    // Each `in` that binds its left side twice would double the time.
    let text = "true".to_owned() + &" in [true]".repeat(90);
    assert_eq!(ask(&text, &a_row()), Ok(Value::Bool(true)));
    assert_eq!(ask("after.price in [1, 10.5, 2]", &a_row()), Ok(Value::Bool(true)));
    assert_eq!(ask("10.5 in [after.price, 11]", &a_row()), Ok(Value::Bool(true)));
    assert!(ask("10.5 in [after.price, after.rate]", &a_row()).unwrap_err().contains("double("));
}

#[test]
fn a_decimal_is_compared_with_what_is_written() {
    assert_eq!(ask("after.price > -10.5", &a_row()), Ok(Value::Bool(true)));
    let whole = bind(&Expression::read("after.price > 5").unwrap(), &shape("c")).unwrap();
    assert!(format!("{:?}", whole.program).contains("Decimal(\"5\")"), "no work for a row");
    for computed in ["0.1 + 0.2", "1.0 / 0.0", "double('10.5')", "-(0.1 * 3.0)"] {
        let told = ask(&format!("after.price > {computed}"), &a_row()).unwrap_err();
        assert!(told.contains("write double(after.price)"), "{computed}: {told}");
    }
}

#[test]
fn what_is_counted_is_what_is_parsed() {
    let deep = "+a".repeat(8000);
    for (text, told) in [
        (format!("r'\\'{deep}+'"), "a letter before a quote"),
        (format!("b'x'{deep}"), "a letter before a quote"),
        (format!("'''{deep}'''"), "quotes beside quotes"),
        (format!("\"\"\"{deep}\"\"\""), "quotes beside quotes"),
        (format!("a // '\n{deep}"), "a comment"),
        (format!("'\n{deep}'"), "a line that ends within a text"),
        (format!("'\\q{deep}'"), "a rare escape"),
        (format!("'{deep}"), "without its closing quote"),
        ("after.price == 12345678901234567e0".to_owned(), "more than 15 digits"),
        ("after.price == 1234567890123456E-3".to_owned(), "more than 15 digits"),
    ] {
        let found = Expression::read(&text).unwrap_err().to_string();
        assert!(found.contains(told), "{found}");
    }
    for fits in ["after.name == ''", "after.name == '\\'\\n'", "'a' + 'b' == \"'\"", "1e3 > 1.0"] {
        assert!(Expression::read(fits).is_ok(), "{fits}");
    }
}

#[test]
fn what_a_kind_of_record_settles_is_no_work_for_a_row() {
    let ready = |condition: &str, op: &str| {
        bind(&Expression::read(condition).unwrap(), &shape(op)).unwrap()
    };
    let deleted = ready("op == 'd' || after.id == 2", "d");
    assert_eq!(deleted.fixed(), Some(&super::Fixed::Bool(true)));
    let inserted = ready("op == 'd' || after.id == 2", "c");
    assert_eq!((inserted.fixed(), inserted.operands.len()), (None, 1));
    let twice = ready("after.id > 2 && after.id < 9 && after.name != 'x'", "c");
    assert_eq!(twice.operands.len(), 2, "a column is decoded once");
    let lacking = ready("after.id == 2", "d");
    assert_eq!(lacking.absent().map(|absent| &*absent.path), Some("after.id"));
    assert_eq!(lacking.of, Type::Bool);
    assert!(ready("after != null && after.id == 2", "d").absent().is_none());
    assert!(ready("op != 'd' && after.id == 2", "d").absent().is_none());
}

#[test]
fn an_expression_is_bounded_in_size_and_depth() {
    let many = |count: usize, one: &str, between: &str| vec![one; count].join(between);
    let fits = |text: &str| Expression::read(text).is_ok();
    assert!(fits(&many(50, "after.id == 1", " || ")));
    assert!(!fits(&many(TOKENS_MAX, "after.id == 1", " || ")));
    assert!(fits(&format!("after.name in [{}]", many(900, "'x'", ", "))));
    assert!(!fits(&format!("after.name in [{}]", many(9000, "'x'", ", "))));
    for (open, close) in [("(", ")"), ("!(", ")"), ("[", "]"), ("-", ""), ("!", ""), ("a.", "")] {
        for count in [40, TOKENS_MAX - 20, 100_000] {
            let text = format!("{}a{}", open.repeat(count), close.repeat(count));
            let _ = Expression::read(&text); // a stack that overflows ends the process
        }
    }
    assert!(fits("((((((((after.id == 1))))))))"));
    assert!(!fits("(((((((((after.id == 1)))))))))"));
    let chosen = "after.id == 1 ? 'a' : ".repeat(16) + "((((((((('b'))))))))";
    assert!(fits(&chosen.replacen('(', "", 1)));
    assert!(!fits(&("after.id == 1 ? 'a' : ".repeat(17) + "'b'")));
    for chain in [many(90, "after.id", " + ") + " > 0", many(50, "after.id == 1", " || ")] {
        let expression = Expression::read(&chain).unwrap();
        assert!(bind(&expression, &shape("c")).is_ok());
    }
    assert!(fits(&many(TOKENS_MAX / 2 - 1, "1", "+")));
}

proptest! {
    #[test]
    fn no_text_panics_as_an_expression(text in "[a-z0-9.'\"()\\[\\]{}!&|<>=+*/%?:, \\\\é-]{0,40}") {
        if let Ok(expression) = Expression::read(&text) {
            let _ = bind(&expression, &shape("c"));
        }
    }

    #[test]
    fn decimals_are_compared_as_numbers(left: i64, right: i64, zeros in 0_usize..4) {
        let text = |value: i64| {
            let digits = format!("{:03}", value.unsigned_abs());
            let (whole, fraction) = digits.split_at(digits.len() - 2);
            let sign = if value < 0 { "-" } else { "" };
            format!("{sign}{}{whole}.{fraction}{}", "0".repeat(zeros), "0".repeat(zeros))
        };
        prop_assert_eq!(decimals(&text(left), &text(right)), left.cmp(&right));
    }

    #[test]
    fn an_int_and_a_double_are_compared_exactly(left: i64, right in -1e19_f64..1e19) {
        let found = super::compare::compared(&Value::Int(left), &Value::Double(right));
        let exact = i128::from(left).cmp(&(right.floor() as i128));
        let exact = exact.then_with(|| 0.0_f64.partial_cmp(&(right - right.floor())).unwrap());
        prop_assert_eq!(found, Some(exact));
    }
}
