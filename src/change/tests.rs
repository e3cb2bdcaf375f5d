//! Tests of the places of changes: ordinals, transactions, origins, the last commit, and messages
//! that cannot be placed.
//!
//! Recorded and damaged streams go through `Changes` in `tests/integration/protocol_bytes.rs`;
//! `describe` has its tests beside it.

use super::*;
use crate::lsn::Oid;
use crate::pgoutput::{Message, decode};
use expect_test::{Expect, expect};
use proptest::collection::vec;
use proptest::prelude::*;

/// Number of the relations that each test announces. Their oids are 1 to this number.
const RELATIONS: u32 = 4;

/// One message, with only the fields that matter in these tests. One number serves as position and
/// time.
#[derive(Clone, Debug)]
enum Spec {
    Begin(u64),
    Commit(u64),
    Origin(String),
    Relation(u32),
    Type,
    Insert(u32),
    Update(u32),
    Delete(u32),
    Truncate(Vec<u32>),
    Inside(u64),
    Outside(u64),
}

impl Spec {
    /// The bytes of the message as a server writes it. A row has one column, which is null.
    fn bytes(&self) -> Vec<u8> {
        let with_oid =
            |tag: u8, oid: u32, rest: &[u8]| [&[tag][..], &oid.to_be_bytes(), rest].concat();
        let with_lsn = |tag: &[u8], lsn: u64, rest: &[u8]| [tag, &lsn.to_be_bytes(), rest].concat();
        let number = |lsn: u64| lsn.to_be_bytes().to_vec();
        match self {
            Spec::Begin(lsn) => with_lsn(b"B", *lsn, &[number(*lsn), vec![0, 0, 0, 7]].concat()),
            Spec::Commit(lsn) => with_lsn(b"C\0", *lsn, &[number(*lsn + 8), number(*lsn)].concat()),
            Spec::Origin(name) => with_lsn(b"O", 5, &[name.as_bytes(), &[0]].concat()),
            Spec::Relation(oid) => {
                with_oid(b'R', *oid, b"\0t\0d\0\x01\x01c\0\0\0\0\x17\xff\xff\xff\xff")
            }
            Spec::Type => with_oid(b'Y', 9, b"\0m\0"),
            Spec::Insert(oid) => with_oid(b'I', *oid, b"N\0\x01n"),
            Spec::Update(oid) => with_oid(b'U', *oid, b"K\0\x01nN\0\x01n"),
            Spec::Delete(oid) => with_oid(b'D', *oid, b"K\0\x01n"),
            Spec::Truncate(oids) => {
                let count = u32::try_from(oids.len()).unwrap().to_be_bytes();
                let oids: Vec<u8> = oids.iter().flat_map(|oid| oid.to_be_bytes()).collect();
                [b"T", &count[..], b"\0", &oids].concat()
            }
            Spec::Inside(lsn) => with_lsn(b"M\x01", *lsn, b"p\0\0\0\0\0"),
            Spec::Outside(lsn) => with_lsn(b"M\0", *lsn, b"p\0\0\0\0\0"),
        }
    }
}

/// The place of one change, copied from its context.
#[derive(Clone, Debug, PartialEq)]
struct Placed {
    position: Position,
    last_commit: Option<Lsn>,
    origin: Option<String>,
}

impl From<Context<'_>> for Placed {
    fn from(context: Context<'_>) -> Self {
        let origin = context.origin.map(|(name, _)| name.to_owned());
        Placed { position: context.position, last_commit: context.last_commit, origin }
    }
}

/// Looks at each message and takes it. Returns the place of each change, and one place for each
/// truncated table.
fn places(changes: &mut Changes, sent: &[Spec]) -> Result<Vec<Placed>, ChangeError> {
    let mut places = Vec::new();
    for message in sent {
        let bytes = message.bytes();
        let message = decode(&bytes).unwrap();
        match changes.look(Lsn::new(1), PgMicros(2), message)? {
            Step::Row(_, context, _) | Step::Logical { context, .. } => places.push(context.into()),
            Step::Truncate(slots, mut context) => {
                for _ in slots {
                    places.push(context.into());
                    context.position.ordinal += 1;
                }
            }
            Step::Begin { .. } | Step::Commit(_) | Step::Relation(..) | Step::Nothing => {}
        }
        changes.take(&message);
    }
    Ok(places)
}

/// Looks at one message, passes its step to `read`, and takes the message. Returns the result of
/// `read`.
fn taken<T>(changes: &mut Changes, lsn: u64, sent: &Spec, read: impl FnOnce(Step<'_>) -> T) -> T {
    let bytes = sent.bytes();
    let found = read(changes.look(Lsn::new(lsn), PgMicros(99), decode(&bytes).unwrap()).unwrap());
    changes.take(&decode(&bytes).unwrap());
    found
}

/// The state of a connection on which the relations have been announced.
fn announced(last_commit: Option<u64>) -> Changes {
    let mut changes = Changes::resume(last_commit.map(Lsn::new));
    let relations: Vec<_> = (1..=RELATIONS).map(Spec::Relation).collect();
    assert!(places(&mut changes, &relations).unwrap().is_empty());
    changes
}

#[track_caller]
fn check(last_commit: Option<u64>, sent: &[Spec], expect: Expect) {
    let shown = match places(&mut announced(last_commit), sent) {
        Err(error) => format!("error: {error}"),
        Ok(places) => {
            let show = |place: Placed| {
                let Placed { position: Position { commit, ordinal }, last_commit, origin } = place;
                let last = last_commit.map_or("none".to_owned(), |lsn| lsn.to_string());
                format!(
                    "{commit} #{ordinal} after {last}{}",
                    origin.map_or(String::new(), |o| format!(" from {o}"))
                )
            };
            places.into_iter().map(show).collect::<Vec<_>>().join("\n")
        }
    };
    expect.assert_eq(&shown);
}

use Spec::{Begin, Commit, Delete, Insert, Inside, Origin, Outside, Truncate, Update};

#[test]
fn counts_every_row_truncated_table_and_message_of_a_transaction() {
    let sent = [
        Begin(16),
        Insert(1),
        Spec::Type,
        Update(2),
        Spec::Relation(2),
        Truncate(vec![3, 1, 2]),
        Inside(9),
        Delete(1),
        Truncate(vec![]),
        Insert(4),
        Commit(16),
        Begin(32),
        Insert(1),
        Commit(32),
    ];
    check(
        None,
        &sent,
        expect![[r#"
        0/10 #0 after none
        0/10 #1 after none
        0/10 #2 after none
        0/10 #3 after none
        0/10 #4 after none
        0/10 #5 after none
        0/10 #6 after none
        0/10 #7 after none
        0/20 #0 after 0/18"#]],
    );
}

#[test]
fn refuses_what_belongs_into_a_transaction_outside_of_one() {
    for sent in [
        Commit(16),
        Insert(1),
        Update(1),
        Delete(1),
        Truncate(vec![1]),
        Inside(9),
        Origin("o".into()),
    ] {
        let Err(error) = places(&mut announced(None), std::slice::from_ref(&sent)) else {
            panic!("{sent:?} was taken")
        };
        assert!(matches!(error, ChangeError::OutsideTransaction { .. }), "{sent:?}: {error}");
        let after = [Begin(16), Commit(16), sent.clone()];
        assert!(places(&mut announced(None), &after).is_err(), "{sent:?} after a commit was taken");
    }
    check(None, &[Insert(1)], expect!["error: Insert outside a transaction"]);
    check(None, &[Truncate(vec![])], expect!["error: Truncate outside a transaction"]);
}

#[test]
fn refuses_a_row_of_a_relation_that_was_not_announced() {
    for sent in [Insert(5), Update(5), Delete(5), Truncate(vec![1, 5])] {
        let refused = places(&mut announced(None), &[Begin(16), Insert(1), sent]);
        assert_eq!(refused, Err(ChangeError::UnknownRelation { oid: Oid(5) }));
    }
    check(
        None,
        &[Begin(16), Insert(5)],
        expect!["error: row of relation 5, which no Relation message has described"],
    );
}

#[test]
fn forgets_the_relations_of_another_connection() {
    let mut changes = Changes::resume(announced(None).last_commit());
    let refused = places(&mut changes, &[Begin(16), Insert(1)]);
    assert_eq!(refused, Err(ChangeError::UnknownRelation { oid: Oid(1) }));
}

#[test]
fn refuses_a_transaction_within_a_transaction() {
    check(
        None,
        &[Begin(16), Insert(1), Begin(32)],
        expect!["error: Begin of the transaction ending at 0/20 inside the one ending at 0/10"],
    );
    check(
        None,
        &[Begin(16), Begin(16)],
        expect!["error: Begin of the transaction ending at 0/10 inside the one ending at 0/10"],
    );
}

#[test]
fn refuses_the_commit_of_another_transaction() {
    check(
        None,
        &[Begin(16), Insert(1), Commit(32)],
        expect!["error: Commit at 0/20 for the transaction begun with 0/10"],
    );
}

#[test]
fn an_origin_ends_with_its_transaction() {
    let sent = [
        Begin(16),
        Origin("east".into()),
        Insert(1),
        Inside(9),
        Truncate(vec![1]),
        Commit(16),
        Outside(30),
        Begin(32),
        Insert(1),
        Commit(32),
        Begin(48),
        Origin("w".into()),
        Insert(1),
        Commit(48),
    ];
    check(
        None,
        &sent,
        expect![[r#"
        0/10 #0 after none from east
        0/10 #1 after none from east
        0/10 #2 after none from east
        0/1D #0 after 0/1E
        0/20 #0 after 0/1E
        0/30 #0 after 0/28 from w"#]],
    );
}

#[test]
fn the_last_commit_is_none_until_one_was_seen() {
    let two = [Begin(16), Insert(1), Commit(16), Begin(32), Insert(1), Inside(31), Commit(32)];
    check(
        None,
        &two,
        expect![[r#"
        0/10 #0 after none
        0/20 #0 after 0/18
        0/20 #1 after 0/18"#]],
    );
    check(
        Some(10),
        &two,
        expect![[r#"
        0/10 #0 after 0/A
        0/20 #0 after 0/18
        0/20 #1 after 0/18"#]],
    );
    let mut changes = announced(None);
    assert_eq!(changes.last_commit(), None);
    places(&mut changes, &two).unwrap();
    assert_eq!(changes.last_commit(), Some(Lsn::new(40)));
}

#[test]
fn an_empty_transaction_is_a_commit_too() {
    check(None, &[Begin(16), Commit(16), Begin(32), Insert(1)], expect!["0/20 #0 after 0/18"]);
}

#[test]
fn a_message_outside_a_transaction_counts_as_a_commit_at_its_own_position() {
    check(
        Some(3),
        &[Outside(10), Begin(16), Insert(1), Commit(16), Outside(40)],
        expect![[r#"
        0/9 #0 after 0/A
        0/10 #0 after 0/A
        0/27 #0 after 0/28"#]],
    );
}

#[test]
fn a_message_ending_where_a_commit_begins_has_a_place_of_its_own() {
    check(
        None,
        &[Outside(16), Begin(16), Inside(15), Insert(1), Commit(16)],
        expect![[r#"
        0/F #0 after 0/10
        0/10 #0 after 0/10
        0/10 #1 after 0/10"#]],
    );
    check(None, &[Outside(0)], expect!["0/0 #0 after 0/0"]);
}

#[test]
fn a_row_carries_its_transaction_and_a_message_outside_its_frame() {
    let mut changes = announced(None);
    changes.set_xmin(Some(Xid(700)));
    places(&mut changes, &[Begin(16), Origin("east".into())]).unwrap();
    let expected = Context {
        position: Position { commit: Lsn::new(16), ordinal: 0 },
        lsn: Lsn::new(12),
        last_commit: None,
        xid: Some(Xid(7)),
        committed_at: PgMicros(16),
        origin: Some(("east", Lsn::new(5))),
        xmin: Some(Xid(700)),
        marker: Marker::Streamed,
    };
    taken(&mut changes, 12, &Insert(1), |step| {
        let Step::Row(_, context, Row::Insert { .. }) = step else { panic!("{step:?}") };
        assert_eq!(context, expected);
    });
    let inside = Context { position: Position { ordinal: 1, ..expected.position }, ..expected };
    taken(&mut changes, 11, &Inside(12), |step| {
        let Step::Logical { context, prefix: "p", content: [] } = step else { panic!("{step:?}") };
        assert_eq!(context, inside);
    });
    let committed = Committed { end: Lsn::new(24), xid: Xid(7), at: PgMicros(16) };
    taken(&mut changes, 24, &Commit(16), |step| assert_eq!(step, Step::Commit(committed)));
    taken(&mut changes, 39, &Outside(40), |step| {
        let Step::Logical { context, .. } = step else { panic!("{step:?}") };
        assert_eq!((context.lsn, context.last_commit), (Lsn::new(40), Some(Lsn::new(40))));
        let facts = (context.xid, context.committed_at, context.origin);
        assert_eq!(facts, (None, PgMicros(99), None));
    });
}

#[test]
fn a_relation_announced_again_keeps_its_slot() {
    let mut changes = announced(None);
    let mut slot_of = |sent: Spec| {
        taken(&mut changes, 1, &sent, |step| match step {
            Step::Row(slot, ..) | Step::Relation(slot, ..) => Some(slot),
            _ => None,
        })
    };
    assert_eq!(slot_of(Begin(16)), None);
    assert_eq!(slot_of(Spec::Relation(3)), Some(RelationSlot(2)));
    assert_eq!(slot_of(Insert(3)), Some(RelationSlot(2)));
    assert_eq!(slot_of(Spec::Relation(77)), Some(RelationSlot(4)));
    assert_eq!(slot_of(Insert(1)), Some(RelationSlot(0)));
    assert_eq!(slot_of(Insert(77)), Some(RelationSlot(4)));
}

#[test]
fn a_relation_without_namespace_is_of_pg_catalog() {
    let bytes = Spec::Relation(1).bytes();
    let Ok(Message::Relation(relation)) = decode(&bytes) else { panic!("not a relation") };
    expect![[r#"
        RelationShape {
            oid: Oid(
                1,
            ),
            namespace: "pg_catalog",
            name: "t",
            identity: 100,
            columns: [
                ShapeColumn {
                    name: "c",
                    type_oid: Oid(
                        23,
                    ),
                    typmod: -1,
                    in_identity: true,
                },
            ],
        }
    "#]]
    .assert_debug_eq(&RelationShape::from(relation));
}

/// Generates a message that may come between Begin and Commit.
fn inside() -> impl Strategy<Value = Spec> {
    let relation = 1..=RELATIONS;
    prop_oneof![
        relation.clone().prop_map(Insert),
        relation.clone().prop_map(Update),
        relation.clone().prop_map(Delete),
        vec(relation.clone(), 0..4).prop_map(Truncate),
        Just(Inside(3)),
        relation.prop_map(Spec::Relation),
        Just(Spec::Type),
    ]
}

/// Generates a stream: transactions one after the other, with messages outside of transactions
/// before some of them. The position of a message outside of a transaction may be that of the
/// commit record that follows it.
fn streams() -> impl Strategy<Value = Vec<Spec>> {
    let origin = proptest::option::of("[a-z]{1,3}".prop_map(Origin));
    let transaction = (vec(0u64..3, 0..3), origin, vec(inside(), 0..8), 0u64..3);
    vec(transaction, 0..8).prop_map(|transactions| {
        let (mut at, mut sent) = (100, Vec::new());
        for (messages, origin, rows, gap) in transactions {
            for skip in messages {
                at += 32 + skip; // a record has at least 24 bytes
                sent.push(Outside(at));
            }
            at += gap * 24;
            sent.push(Begin(at));
            sent.extend(origin);
            sent.extend(rows);
            sent.push(Commit(at));
            at += 8;
        }
        sent
    })
}

/// A model of `places`. It finds each place anew in the whole list of messages, and keeps no state.
fn model(last_commit: Option<Lsn>, sent: &[Spec]) -> Vec<Placed> {
    let place = |index: usize, position: Position| {
        let before = &sent[..index];
        let last = before.iter().rev().find_map(|message| match message {
            Commit(lsn) => Some(Lsn::new(lsn + 8)),
            Outside(lsn) => Some(Lsn::new(*lsn)),
            _ => None,
        });
        let begun = before.iter().rposition(|message| matches!(message, Begin(_))).unwrap_or(index);
        let origin = before[begun..]
            .iter()
            .find_map(|m| if let Origin(name) = m { Some(name.clone()) } else { None });
        Placed { position, last_commit: last.or(last_commit), origin }
    };
    let weight = |message: &Spec| match message {
        Insert(_) | Update(_) | Delete(_) | Inside(_) => 1,
        Truncate(relations) => relations.len() as u64,
        _ => 0,
    };
    let mut places = Vec::new();
    for (index, message) in sent.iter().enumerate() {
        if let Outside(lsn) = message {
            let position = Position { commit: Lsn::new(lsn - 1), ordinal: 0 };
            places.push(Placed { position, last_commit: Some(Lsn::new(*lsn)), origin: None });
        }
        for table in 0..weight(message) {
            let begun =
                sent[..index].iter().rposition(|message| matches!(message, Begin(_))).unwrap();
            let Begin(lsn) = sent[begun] else { unreachable!() };
            let ordinal = sent[begun..index].iter().map(weight).sum::<u64>() + table;
            places.push(place(index, Position { commit: Lsn::new(lsn), ordinal }));
        }
    }
    places
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn places_any_stream_as_the_rules_say(sent in streams(), resumed in proptest::option::of(1u64..100)) {
        let places_now = places(&mut announced(resumed), &sent).unwrap();
        prop_assert_eq!(&places_now, &model(resumed.map(Lsn::new), &sent));
    }

    #[test]
    fn positions_rise_strictly_and_are_those_of_every_replay(sent in streams(), from in any::<proptest::sample::Index>()) {
        let positions = |sent: &[Spec]| -> Vec<Position> {
            places(&mut announced(None), sent).unwrap().into_iter().map(|place| place.position).collect()
        };
        let whole = positions(&sent);
        prop_assert!(whole.is_sorted_by(|a, b| a < b), "{whole:?}");
        // A new connection may begin again at any transaction.
        let begins: Vec<_> = (0..sent.len()).filter(|index| matches!(sent[*index], Begin(_))).collect();
        if !begins.is_empty() {
            prop_assert!(whole.ends_with(&positions(&sent[begins[from.index(begins.len())]..])));
        }
    }

    /// A message that waits for its plan is looked at more than once. Each look must give the same
    /// step.
    #[test]
    fn a_look_changes_nothing(sent in streams()) {
        let mut changes = announced(None);
        let mut found = Vec::new();
        for message in &sent {
            let bytes = message.bytes();
            let decoded = decode(&bytes).unwrap();
            let first = changes.look(Lsn::new(1), PgMicros(2), decoded).unwrap();
            prop_assert_eq!(&changes.look(Lsn::new(1), PgMicros(2), decoded).unwrap(), &first);
            found.extend(places(&mut changes, std::slice::from_ref(message)).unwrap());
        }
        prop_assert_eq!(found, places(&mut announced(None), &sent).unwrap());
    }

    /// A message in the wrong place gets a place or an error, and never causes a panic.
    #[test]
    fn a_stream_in_disorder_is_refused_or_placed_without_a_panic(mut sent in streams(), swaps in vec(any::<(proptest::sample::Index, proptest::sample::Index)>(), 1..4)) {
        if !sent.is_empty() {
            for (a, b) in swaps {
                let (a, b) = (a.index(sent.len()), b.index(sent.len()));
                sent.swap(a, b);
            }
            let _ = places(&mut announced(None), &sent);
        }
    }
}
