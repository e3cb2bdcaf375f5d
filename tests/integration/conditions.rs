//! Conditions of `filter` and topics of `content-router`, from the configuration to the records.

mod counted;
mod routing;

use super::transforms::{
    CONTEXT, FIRST, Letters, SECOND, message, orders, records, settings, topic_of,
};
use wellspring::change::Row;
use wellspring::config;
use wellspring::encode::{EncodeError, Encoder, Ids, Plan, Planner, Route};
use wellspring::pgoutput::{self, Message};
use wellspring::table::{ReplicaIdentity, Table};

/// The examples of `docs/transforms.md` for these transforms: title, text and TOML.
pub(super) const EXAMPLES: &[(&str, &str, &str)] = &[
    (
        "filter by an expression",
        "Records for which `condition` does not hold are dropped, as with Debezium's `Filter`. `nulls` says what \
         becomes of a record without value, such as a tombstone: `keep` (the default), `drop`, or `evaluate`, which \
         evaluates the expression.",
        "type = \"filter\"\ncondition = \"op == 'd' || op == 't' || after.total > 5\"",
    ),
    (
        "content-router",
        "`topic` is an expression whose text is the topic of the row, as with Debezium's `ContentBasedRouter`. If \
         the expression gives null, the row keeps its topic. A tombstone goes to the topic of its row, and is \
         dropped if an earlier filter drops its delete; `nulls = \"drop\"` drops all tombstones. The expression \
         cannot use `transaction`, since a record is counted in its transaction only when it has a topic; a filter \
         before the router cannot use `transaction` either. The expression cannot use `source.sequence`, since a \
         replay can have another sequence. A backfill sends rows only to topics to which streamed rows go: it \
         refuses a topic that only copied rows would have, for example by `source.snapshot`. An update that changes \
         the key is a delete and an insert, and both go to one topic: an expression that gives them two topics, such \
         as one that asks for `op`, halts the stream at this update. If there are several content-routers, the last \
         one that does not give null decides. The table's own topic is created before the table's first row, as for \
         any table. The rows of a table go to at most `topics_max` (1000) topics.",
        "type = \"content-router\"\ntopic = \"(op == 't' ? null : op == 'd' ? before.total : after.total) > 5 ? 'large' : null\"",
    ),
];

/// The section of `docs/transforms.md` about expressions.
pub(super) const EXPRESSIONS: &str = "
## Expressions

`condition` of `filter` and `topic` of `content-router` are expressions of the [Common Expression
Language](https://cel.dev). An expression has the names of Debezium's scripts: `topic`, `value` and its fields, `key`
and its fields, and `headers.NAME.value`. The fields of an envelope can be written without `value.`, too: `op`,
`before`, `after`, `source`. A name with other characters than letters, digits and `_` stands in brackets, as in
`after['order id']`. An expression sees the record as the transforms before it have made it, with masked values. An
expression cannot use the time of sending (`ts_ms`), because a replay has another time; `source.ts_ms` is the time of
the commit.

An expression can use `==`, `!=`, `<`, `<=`, `>`, `>=`, `&&`, `||`, `!`, `? :`, `+`, `-`, `*`, `/`, `%`, `in [...]`,
`has(...)`, `startsWith`, `endsWith`, `contains`, `matches` (a fixed regular expression of RE2, found anywhere), `size`
of a text, `int`, `double` and `string`. Expressions have no loops. An expression has at most 400 names, signs and
brackets, and each of these costs at most one step for a record.

| type in Postgres | type in an expression |
|---|---|
| `boolean` | bool |
| `smallint`, `integer`, `bigint`, `oid` | int |
| `real`, `double precision` | double |
| `numeric`, `money` | decimal, compared exactly with ints and fixed numbers; a double or a text where `events.decimals` says so |
| `date`, `time`, `timestamp`, `interval` | the int that records have; a text where `events.time` or `events.intervals` says so |
| `timestamptz`, `timetz` | the text that records have; only equality, since such texts have no order of time |
| `text`, `varchar`, `char`, `uuid`, `json`, `jsonb`, `xml`, `inet`, enums and others | text, in the order of its bytes |
| `bytea`, arrays, `hstore`, `point`, geometries, vectors | only `== null` and `!= null` |

- A null is equal to null alone: `after.note != 'gift'` holds for a note that is null. Every other operator with a null
  gives null, and a condition that is null does not hold, as in SQL. Groovy puts null below every number.
- If one side of `&&` or `||` decides the result, the other side does not matter, even if it is null.
- Names and types are checked when a table is planned. These are refused before the first record: an unknown field, a
  number compared with a text, a condition that is no bool, and a field of `after` in a delete, of `before` in an
  insert, and of either in a truncate. Write `op == 'd' || ...` to keep such records, or `op != 'd' && ...` to drop
  them. Columns of `before`, except those of the key, need REPLICA IDENTITY FULL.
- A number that leaves its range, a division by zero, and a large value that the server did not send because it did not
  change halt the stream at the row, unless the other side of `&&` or `||` decides. A field that another transform
  cannot convert halts the stream in any case. `in` of a null gives false, unless the list has a null.
- A value that its field cannot hold, such as NaN in a `numeric`, is null in an expression too. If the record is dropped,
  `wellspring_unrepresentable_values_total` counts the value.
- A change that is left without a record is counted for its table by `wellspring_rows_filtered_total`, and by `filtered`
  of the table in `/status`.
- A fixed text stands in single or double quotes, without a letter before the quotes. Expressions have no comments.
- `wellspring config import` translates simple conditions in Groovy and JavaScript, and refuses other conditions.
- `wellspring preview --table public.orders` shows rows before and after the transforms, and sends nothing. `--rows 5`
  takes five rows of the table, `--row '{\"id\": 7}'` takes the given row, which need not exist, and `--op delete` shows
  the records of the row's delete.
";

/// The records of an order's insert, update and delete that a filter keeps, each as the letter of
/// its `op`, or `-` for a tombstone.
fn left(condition: &str) -> String {
    let settings = settings(condition);
    let lines = records(&settings, &orders(ReplicaIdentity::Full)).unwrap();
    let op = |line: &String| match line.split_once("\"op\":\"") {
        Some((_, rest)) => rest.chars().next().unwrap(),
        None => '-',
    };
    lines.iter().map(op).collect()
}

#[test]
fn a_filter_keeps_the_records_for_which_it_holds() {
    let of = |condition: &str| left(&format!("type = \"filter\"\ncondition = \"{condition}\""));
    assert_eq!(of("true"), "cud-");
    assert_eq!(of("op != 'u'"), "cd-");
    assert_eq!(of("op in ['d', 't'] || after.total > 5"), "ud-");
    assert_eq!(of("op == 'u' && before.total != after.total"), "u-");
    assert_eq!(of("op == 'u' && before.customer != after.customer"), "-");
    assert_eq!(of("value.after == null || value.after.note == null"), "cd-");
    assert_eq!(of("topic == 'shop.public.orders' && (op == 't' || key.id == 7)"), "cud-");
    assert_eq!(of("source.table == 'orders'"), "cud-");
}

#[test]
fn a_tombstone_is_kept_dropped_or_asked() {
    let of = |more: &str| {
        left(&format!("type = \"filter\"\ncondition = \"value == null || op == 'd'\"{more}"))
    };
    assert_eq!(of(""), "d-", "as with Debezium");
    assert_eq!(of("\nnulls = \"drop\""), "d");
    assert_eq!(of("\nnulls = \"evaluate\""), "d-");
}

#[test]
fn a_filter_sees_what_transforms_before_it_made() {
    let chain = "type = \"unwrap\"\ndeletes = \"drop\"\n\n[[transform]]\ntype = \"filter\"\n\
                 condition = \"value.total >= 6\"\n\n[[transform]]\ntype = \"replace-field\"\n\
                 exclude = [\"total\"]";
    let lines = records(&settings(chain), &orders(ReplicaIdentity::Full)).unwrap();
    assert_eq!(lines, [r#"shop.public.orders {"id":7} {"id":7,"customer":"ann","note":"gift"}"#]);
}

#[test]
fn a_condition_that_a_table_cannot_answer_is_refused() {
    let refused = |condition: &str, identity| {
        let toml = format!("type = \"filter\"\ncondition = \"{condition}\"");
        let planner = Planner::new(settings(&toml).encode, "app", "run", 1);
        planner.draft(&orders(identity)).unwrap_err().to_string()
    };
    let (full, default) = (ReplicaIdentity::Full, ReplicaIdentity::Default);
    for (condition, identity, told) in [
        ("after.id == '7'", full, "write a number without quotes"),
        ("after.nope == 7", full, "has no field `nope`; it has id, customer, note, total"),
        ("after.total", full, "a condition is a bool"),
        ("after.total > 5", full, "write `op == 'd' || ...` to keep such records"),
        ("op == 'd' || before.id == 1", full, "the record of an insert has null in `value.before`"),
        (
            "op == 'd' && before.total == 5",
            default,
            "column `total` only with REPLICA IDENTITY FULL",
        ),
        ("op == 'u' && before.total == 5", default, "REPLICA IDENTITY FULL"),
        ("value.ts_ms > 5", full, "another one in a replay"),
    ] {
        let found = refused(condition, identity);
        assert!(found.contains("public.orders: transform 1 (filter): `"), "{found}");
        assert!(found.contains(condition) && found.contains(told), "{condition}: {found}");
    }
}

#[test]
fn a_condition_that_is_none_is_told_with_its_place() {
    let told = |condition: &str| {
        let text = format!("[[transform]]\ntype = \"filter\"\ncondition = \"{condition}\"\n");
        config::check("t.toml", &text, &config::Environment::default()).unwrap_err().to_string()
    };
    for condition in ["after.id ==", "after.tags.exists(t, t == 'x')", "x.foo()"] {
        assert!(told(condition).contains("t.toml:3:1: transform.1.condition: "), "{condition}");
    }
    let large = told(&vec!["op == 'c'"; 400].join(" || "));
    assert!(large.contains("is too large"), "{large}");
}

fn planned(toml: &str, table: &Table) -> Plan {
    let planner = Planner::new(settings(toml).encode, "app", "run", 1);
    planner.draft(table).unwrap().into_plan(Ids::default())
}

#[test]
fn a_condition_that_fails_for_a_row_halts() {
    let full = orders(ReplicaIdentity::Full);
    let toml =
        "type = \"filter\"\ncondition = \"after == null || after.total * 9223372036854775807 > 0\"";
    let (plan, mut encoder) = (planned(toml, &full), Encoder::new());
    let wire = message(b'I', &[(b'N', &FIRST)]);
    let Message::Insert { new, .. } = pgoutput::decode(&wire).unwrap() else { panic!() };
    let error = encoder.row(&plan, &CONTEXT, &Row::Insert { new }, 0).unwrap_err();
    assert!(matches!(error, EncodeError::Condition { .. }), "{error:?}");
    let told = error.to_string();
    assert!(
        told.contains("public.orders at column `total`") && told.contains("after.total *"),
        "{told}"
    );
    assert_eq!(encoder.record_count(), 0);
    let one = [Some("7"), Some("ann"), None, Some("1")];
    let wire = message(b'I', &[(b'N', &one)]);
    let Message::Insert { new, .. } = pgoutput::decode(&wire).unwrap() else { panic!() };
    encoder.row(&plan, &CONTEXT, &Row::Insert { new }, 0).unwrap();
    assert_eq!(encoder.record_count(), 1);
}

#[test]
fn a_value_that_the_server_did_not_send_halts_a_condition() {
    let toml = "type = \"filter\"\ncondition = \"op != 'u' || after.note == 'gift'\"";
    let (plan, mut encoder) = (planned(toml, &orders(ReplicaIdentity::Default)), Encoder::new());
    let mut wire = message(b'U', &[(b'N', &SECOND)]);
    let note = wire.windows(9).position(|at| at == b"t\0\0\0\x04gift").unwrap();
    wire.splice(note..note + 9, [b'u']);
    let Message::Update { old, new, .. } = pgoutput::decode(&wire).unwrap() else { panic!() };
    let error = encoder.row(&plan, &CONTEXT, &Row::Update { old, new }, 0).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("at column `note`"), "{told}");
}

const ROUTER: &str = "type = \"content-router\"\ntopics_max = 2\n";

/// The topic that an expression names for a change of an order.
fn named(topic: &str, change: Letters<'_>) -> Result<String, String> {
    let toml = format!("{ROUTER}topic = \"{topic}\"");
    topic_of(&toml, &orders(ReplicaIdentity::Full), change).map(|(topic, _)| topic)
}

#[test]
fn an_expression_names_the_topic_of_a_row() {
    const BY: &str = "op == 'd' ? 'gone' : op == 't' ? null : \
                      after.total > 5 ? 'large-' + after.customer : null";
    const INSERT: Letters<'static> = (b'I', &[(b'N', &FIRST)]);
    assert_eq!(named(BY, INSERT).as_deref(), Ok("shop.public.orders"), "null leaves it");
    assert_eq!(named(BY, (b'I', &[(b'N', &SECOND)])).as_deref(), Ok("large-ann"));
    assert_eq!(named(BY, (b'D', &[(b'O', &FIRST)])).as_deref(), Ok("gone"));
    let update = named(BY, (b'U', &[(b'O', &FIRST), (b'N', &SECOND)]));
    assert_eq!(update.as_deref(), Ok("large-ann"));
    let moved = [Some("8"), Some("bob"), None, Some("9")];
    let told = named(BY, (b'U', &[(b'O', &FIRST), (b'N', &moved)])).unwrap_err();
    assert!(told.contains("public.orders") && told.contains("DELETE and an INSERT"), "{told}");
    for faulty in ["after == null ? null : after.customer + ' '", "op == 'c' ? '' : null"] {
        let told = named(faulty, INSERT).unwrap_err();
        assert!(told.contains("makes no name of a topic"), "{told}");
    }
    for (faulty, why) in [
        ("1", "a topic is a text or null"),
        ("after == null ? null : after.total", "a topic is a text or null"),
        ("source.sequence", "a replay can have another source.sequence"),
        ("after.customer", "has null in `value.after`"),
    ] {
        let told = named(faulty, INSERT).unwrap_err();
        assert!(told.contains("transform 1 (content-router)") && told.contains(why), "{told}");
    }
}

#[test]
fn many_expressions_name_topics_and_the_last_one_counts() {
    let full = orders(ReplicaIdentity::Full);
    let one = |condition: &str, topic: &str| {
        format!("{ROUTER}topic = \"{condition} ? '{topic}' : null\"")
    };
    let chain = format!(
        "{}\n\n[[transform]]\n{}\n\n[[transform]]\ntype = \"regex-router\"\nregex = \"(.*)\"\n\
         replacement = \"x.$1\"",
        one("after != null && after.total > 4", "a"),
        one("after != null && after.total > 5", "b")
    );
    let of = |row| topic_of(&chain, &full, (b'I', &[(b'N', row)])).map(|(topic, _)| topic);
    assert_eq!(of(&FIRST).as_deref(), Ok("x.a"));
    assert_eq!(of(&SECOND).as_deref(), Ok("x.b"));
    let third = [Some("7"), Some("ann"), None, None];
    assert_eq!(of(&third).as_deref(), Ok("x.shop.public.orders"));
}

#[test]
fn a_row_that_a_filter_drops_names_no_topic() {
    let full = orders(ReplicaIdentity::Full);
    for router in [
        "type = \"content-router\"\ntopic = \"after != null ? after.customer : null\"",
        "type = \"unwrap\"\nroute = \"customer\"",
    ] {
        let toml = format!(
            "type = \"filter\"\ncondition = \"after == null || after.total > 5\"\nnulls = \"drop\"\n\n\
             [[transform]]\n{router}"
        );
        let plan = planned(&toml, &full);
        let route = |row: &[Option<&str>]| {
            let wire = message(b'I', &[(b'N', row)]);
            let Message::Insert { new, .. } = pgoutput::decode(&wire).unwrap() else { panic!() };
            let mut route = String::new();
            let router = plan.router().unwrap();
            let found = router.of(&Row::Insert { new }, &CONTEXT, &mut route).unwrap();
            (found, route)
        };
        assert_eq!(route(&FIRST).0, Route::Nowhere, "{router}");
        assert_eq!(route(&SECOND), (Route::Found, "ann".to_owned()), "{router}");
    }
}

#[test]
fn it_is_never_open_which_transform_names_a_topic() {
    let told = |more: &str| {
        let text = format!("[[transform]]\n{ROUTER}topic = \"null\"\n\n[[transform]]\n{more}\n");
        config::check("t.toml", &text, &config::Environment::default()).unwrap_err().to_string()
    };
    let outbox = told("type = \"outbox\"");
    assert!(outbox.contains("transform.2.type: names topics by a value"), "{outbox}");
    let regex = "type = \"regex-router\"\nregex = \"(.*)\"\nreplacement = \"x.$1\"";
    let between = told(&format!("{regex}\n\n[[transform]]\n{ROUTER}topic = \"null\""));
    assert!(between.contains("transform.3.type: a transform before it"), "{between}");
    for link in [
        "type = \"filter\"\ncondition = \"topic == 'shop.public.orders'\"",
        "type = \"filter\"\nwhen_topic = \"x\"",
        "type = \"insert-field\"\ntopic_field = \"topic\"",
    ] {
        let between = told(&format!("{link}\n\n[[transform]]\n{ROUTER}topic = \"null\""));
        assert!(between.contains("transform.2.type: the topic is named"), "{between}");
        assert!(between.contains("put it behind the last"), "{between}");
    }
    let topic = told(&format!("{ROUTER}topic = \"topic\""));
    assert!(topic.contains("transform.2.type: the topic is named"), "{topic}");
    let evaluate = told(&format!("{ROUTER}topic = \"null\"\nnulls = \"evaluate\""));
    assert!(evaluate.contains("transform.2.nulls"), "{evaluate}");
}
