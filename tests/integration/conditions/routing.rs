//! Tests of conditions before transforms that name topics, of values that a condition cannot take,
//! and of kinds of records.

use super::super::transforms::{CONTEXT, FIRST, Letters, SECOND, message, orders, settings};
use super::{ROUTER, left, named, planned};
use std::sync::Arc;
use wellspring::change::Row;
use wellspring::encode::{Encoder, Ids, Planner, Route};
use wellspring::pgoutput::{self, Message};
use wellspring::table::{ColumnKind, ReplicaIdentity};

/// The error of planning the table of orders with a chain of transforms, if there is one.
fn refusal(chain: &[&str], identity: ReplicaIdentity) -> Option<String> {
    let toml = chain.join("\n\n[[transform]]\n");
    let planner = Planner::new(settings(&toml).encode, "app", "run", 1);
    planner.draft(&orders(identity)).err().map(|error| error.to_string())
}

#[test]
fn before_a_router_a_condition_asks_for_the_source() {
    let (full, route) = (ReplicaIdentity::Full, format!("{ROUTER}topic = \"'a'\""));
    let filter = |condition: &str| format!("type = \"filter\"\ncondition = \"{condition}\"");
    for (condition, is_kept) in [
        ("source.lsn > 34837831", true),
        ("source.lsn > 34837832", false),
        ("source.txId == 771", true),
        ("source.txId == null", false),
        ("source.snapshot in ['false']", true),
        ("source.sequence != null && op != 'd'", true),
    ] {
        let filter = filter(condition);
        for router in [UNWRAP_ROUTE, OUTBOX] {
            assert_eq!(refusal(&[&filter, router], full), None, "{condition}");
        }
        let expected: &[&str] = if is_kept { &["a c"] } else { &[] };
        let insert: Letters<'_> = (b'I', &[(b'N', &FIRST)]);
        assert_eq!(sent(&[&filter, &route], insert), expected, "{condition}");
    }
}

#[test]
fn a_topic_is_named_by_the_source_and_is_the_same_in_a_replay() {
    let insert: Letters<'_> = (b'I', &[(b'N', &FIRST)]);
    assert_eq!(named("'tx-' + string(source.txId)", insert).as_deref(), Ok("tx-771"));
    let by_snapshot = "source.snapshot == 'false' ? 'live' : 'copied'";
    assert_eq!(named(by_snapshot, insert).as_deref(), Ok("live"));
    let cast = "type = \"cast\"\nspec = [\"__lsn:string\"]";
    let unwrap = "type = \"unwrap\"\ndeletes = \"drop\"\nadd_fields = [\"lsn\"]";
    let by_lsn = format!("{ROUTER}topic = \"value.__lsn\"");
    assert_eq!(sent(&[unwrap, cast, &by_lsn], insert), ["34837832 -"]);
    let told = named("source.sequence", insert).unwrap_err();
    assert!(told.contains("a replay can have another source.sequence"), "{told}");
}

#[test]
fn before_a_router_no_record_is_counted() {
    let refused = |chain: &str| {
        let mut encode = settings(chain).encode;
        Arc::make_mut(&mut encode.rules).transactions = true;
        let planner = Planner::new(encode, "app", "run", 1);
        planner.draft(&orders(ReplicaIdentity::Full)).unwrap_err().to_string()
    };
    let asked = "transaction != null && transaction.total_order > 1";
    let route = format!("[[transform]]\n{ROUTER}topic = \"'a'\"");
    let told = refused(&format!("type = \"filter\"\ncondition = \"{asked}\"\n\n{route}"));
    assert!(told.contains("transform 1 (filter)") && told.contains("put it behind"), "{told}");
    let told = refused(&format!("{ROUTER}topic = \"transaction == null ? null : 'a'\""));
    assert!(told.contains("`transaction` is counted when the topic is known"), "{told}");
}

const OUTBOX: &str =
    "type = \"outbox\"\nroute = \"customer\"\nevent_key = \"id\"\npayload = \"note\"";
const UNWRAP_ROUTE: &str = "type = \"unwrap\"\nroute = \"customer\"";

#[test]
fn a_field_that_is_converted_is_what_it_was() {
    let (full, default) = (ReplicaIdentity::Full, ReplicaIdentity::Default);
    let cast = |field: &str| format!("type = \"cast\"\nspec = [\"{field}:string\"]");
    let filter = |of: &str| format!("type = \"filter\"\ncondition = \"{of}\"");
    let told = refusal(&[&cast("ts_us"), &filter("value.ts_us != 'x'")], full).unwrap_or_default();
    assert!(told.contains("another one in a replay"), "{told}");
    let unwrap = "type = \"unwrap\"\ndeletes = \"rewrite\"";
    let chain = [unwrap, &cast("total"), &filter("value.total != '5'")];
    let told = refusal(&chain, default).unwrap_or_default();
    assert!(told.contains("column `total` only with REPLICA IDENTITY FULL"), "{told}");
    assert_eq!(refusal(&chain, full), None);
}

#[test]
fn a_delete_without_its_row_names_no_topic() {
    let full = ReplicaIdentity::Full;
    let router = format!("{ROUTER}topic = \"value.customer\"");
    for (deletes, nulls, is_refused) in [
        ("tombstone", "keep", true),
        ("delete-to-tombstone", "keep", true),
        ("tombstone", "drop", false),
        ("drop", "keep", false),
        ("rewrite", "keep", false),
        ("rewrite-with-tombstone", "keep", false),
    ] {
        let unwrap = format!("type = \"unwrap\"\ndeletes = \"{deletes}\"");
        let router = format!("{router}\nnulls = \"{nulls}\"");
        let told = refusal(&[&unwrap, &router], full);
        let is_told = told.as_ref().is_some_and(|told| {
            told.contains("transform 2 (content-router)")
                && told.contains("put content-router before `unwrap`")
        });
        assert_eq!((told.is_some(), is_told), (is_refused, is_refused), "{deletes}: {told:?}");
    }
}

/// The records of a change, each as its topic and the letter of its `op`.
fn sent(chain: &[&str], (letter, tuples): Letters<'_>) -> Vec<String> {
    let toml = chain.join("\n\n[[transform]]\n");
    let planner = Planner::new(settings(&toml).encode, "app", "run", 1);
    let own = planner.draft(&orders(ReplicaIdentity::Full)).unwrap().into_plan(Ids::default());
    let wire = message(letter, tuples);
    let row = match pgoutput::decode(&wire).unwrap() {
        Message::Insert { new, .. } => Row::Insert { new },
        Message::Update { old, new, .. } => Row::Update { old, new },
        Message::Delete { old, .. } => Row::Delete { old },
        other => panic!("{other:?}"),
    };
    let (router, mut route) = (own.router().unwrap(), String::new());
    let plan = match router.of(&row, &CONTEXT, &mut route).unwrap() {
        Route::Own => own,
        Route::Found => planner.routed(router, &route).unwrap().into_plan(Ids::default()),
        Route::Nowhere | Route::Unexpected => return Vec::new(),
    };
    let mut encoder = Encoder::new();
    encoder.row(&plan, &CONTEXT, &row, 0).unwrap();
    let told = |value: Option<&[u8]>| {
        let value = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        value.split_once("\"op\":\"").map_or('-', |(_, rest)| rest.chars().next().unwrap())
    };
    encoder.records().map(|record| format!("{} {}", plan.topic(), told(record.value))).collect()
}

#[test]
fn a_tombstone_goes_with_its_delete() {
    let router = format!("{ROUTER}topic = \"op == 't' ? null : op == 'd' ? 'd' : 'x'\"");
    let moved = [Some("8"), Some("ann"), None, Some("9")];
    let change: Letters<'_> = (b'U', &[(b'O', &FIRST), (b'N', &moved)]);
    let delete: Letters<'_> = (b'D', &[(b'O', &FIRST)]);
    let sent_by = |condition: &str, change| {
        sent(&[&format!("type = \"filter\"\ncondition = \"{condition}\""), &router], change)
    };
    for never in ["op != 'd' && op != 't' && after.total > 5", "op == 'u' || op == 'c'"] {
        assert_eq!(sent_by(never, delete), [""; 0], "{never}");
        assert_eq!(sent_by(never, change), ["x c"], "{never}");
    }
    let by_row = "op == 't' || (op == 'd' ? before.total : after.total) > 5";
    assert_eq!(sent_by(by_row, delete), [""; 0], "a condition of the row");
    assert_eq!(sent_by(by_row, change), ["x c"]);
    let large: Letters<'_> = (b'D', &[(b'O', &SECOND)]);
    assert_eq!(sent_by(by_row, large), ["d d", "d -"]);
}

#[test]
fn a_row_without_a_named_topic_has_the_plan_of_its_table() {
    let full = orders(ReplicaIdentity::Full);
    let by = "op == 't' ? null : op == 'd' ? null : after.total > 5 ? 'large' : null";
    let chain = format!("{ROUTER}topic = \"{by}\"");
    let plan = planned(&chain, &full);
    assert_eq!(plan.topic(), "shop.public.orders");
    assert!(plan.router().unwrap().has_own());
    assert_eq!(sent(&[&chain], (b'I', &[(b'N', &FIRST)])), ["shop.public.orders c"]);
    assert_eq!(sent(&[&chain], (b'I', &[(b'N', &SECOND)])), ["large c"]);
    let timed = "type = \"timestamp-router\"";
    let timed = planned(&format!("{chain}\n\n[[transform]]\n{timed}"), &full);
    assert!(!timed.router().unwrap().has_own(), "each time has a topic");
    let field = planned(UNWRAP_ROUTE, &full);
    assert!(!field.router().unwrap().has_own());
}

#[test]
fn an_expression_that_divides_the_records_of_a_row_says_so() {
    let moved = [Some("8"), Some("ann"), None, Some("5")];
    let change: Letters<'_> = (b'U', &[(b'O', &FIRST), (b'N', &moved)]);
    let told = named("op == 't' ? null : op == 'd' ? 'gone' : null", change).unwrap_err();
    assert!(told.contains("one topic for the delete of the old key"), "{told}");
}

#[test]
fn a_row_that_is_dropped_for_a_value_without_form_is_told() {
    let mut table = orders(ReplicaIdentity::Full);
    table.columns[3].kind = ColumnKind::Numeric { precision: 9, scale: 2 };
    let toml = "type = \"filter\"\ncondition = \"op != 'c' || after.total > 5\"";
    let (plan, mut encoder) = (planned(toml, &table), Encoder::new());
    let mut notes = |total: &str| {
        let row = [Some("7"), Some("ann"), None, Some(total)];
        let wire = message(b'I', &[(b'N', &row)]);
        let Message::Insert { new, .. } = pgoutput::decode(&wire).unwrap() else { panic!() };
        encoder.row(&plan, &CONTEXT, &Row::Insert { new }, 0).unwrap();
        (encoder.record_count(), encoder.notes().len())
    };
    assert_eq!(notes("NaN"), (0, 1));
    assert_eq!(notes("4.00"), (0, 0));
    assert_eq!(notes("6.00"), (1, 0));
    let kept = planned("type = \"filter\"\ncondition = \"op == 't' || true\"", &table);
    let row = [Some("7"), Some("ann"), None, Some("NaN")];
    let wire = message(b'I', &[(b'N', &row)]);
    let Message::Insert { new, .. } = pgoutput::decode(&wire).unwrap() else { panic!() };
    encoder.row(&kept, &CONTEXT, &Row::Insert { new }, 0).unwrap();
    assert_eq!((encoder.record_count(), encoder.notes().len()), (1, 1), "told once");
}

#[test]
fn a_condition_that_is_null_for_a_kind_drops_it() {
    let condition = "(value.after != null ? value.after.total : null) > 5";
    assert_eq!(left(&format!("type = \"filter\"\ncondition = \"{condition}\"")), "u-");
}

#[test]
fn routers_of_two_tables_are_none_of_one() {
    let full = ReplicaIdentity::Full;
    let of = |what: &str, tables: &str| format!("{what}\ntables = [\"{tables}\"]");
    let content = format!("{ROUTER}topic = \"null\"");
    let own = of(&content, "public.orders");
    assert_eq!(refusal(&[&own, &of(OUTBOX, "public.outbox")], full), None);
    assert_eq!(refusal(&[&of(UNWRAP_ROUTE, "public.other"), &own], full), None);
    for other in [OUTBOX, UNWRAP_ROUTE] {
        let told = refusal(&[&own, &of(other, "public.*")], full).unwrap_or_default();
        let both = told.contains("transform 1 (content-router)") && told.contains("transform 2 (");
        assert!(both && told.contains("a table can have one of the two transforms"), "{told}");
    }
}
