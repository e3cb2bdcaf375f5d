//! Properties of the decoder over arbitrary messages and over arbitrary bytes.

use super::model::{Column, Old, Said, Value};
use super::walk;
use proptest::collection::vec;
use proptest::prelude::*;
use wellspring::pgoutput::{DecodeError, decode};

fn name() -> impl Strategy<Value = String> {
    "[^\0]{0,12}"
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(Value::Unchanged),
        vec(any::<u8>(), 0..24).prop_map(Value::Text),
        vec(any::<u8>(), 0..24).prop_map(Value::Binary),
    ]
}

fn row() -> impl Strategy<Value = Vec<Value>> {
    vec(value(), 0..9)
}

fn old() -> impl Strategy<Value = Old> {
    (prop_oneof![Just(b'K'), Just(b'O')], row())
}

fn column() -> impl Strategy<Value = Column> {
    (any::<bool>(), name(), any::<u32>(), any::<i32>())
}

fn relation() -> impl Strategy<Value = Said> {
    let identity = prop_oneof![Just(b'd'), Just(b'n'), Just(b'f'), Just(b'i')];
    (any::<u32>(), name(), name(), identity, vec(column(), 0..9)).prop_map(
        |(oid, namespace, name, identity, columns)| Said::Relation {
            oid,
            namespace,
            name,
            identity,
            columns,
        },
    )
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        any::<(u64, i64, u32)>().prop_map(|(lsn, at, xid)| Said::Begin { lsn, at, xid }),
        any::<(u64, u64, i64)>().prop_map(|(lsn, end, at)| Said::Commit { lsn, end, at }),
        (any::<u64>(), name()).prop_map(|(lsn, name)| Said::Origin { lsn, name }),
        relation(),
        (any::<u32>(), name(), name()).prop_map(|(oid, namespace, name)| Said::Type {
            oid,
            namespace,
            name
        }),
        (any::<u32>(), row()).prop_map(|(relation, new)| Said::Insert { relation, new }),
        (any::<u32>(), proptest::option::of(old()), row())
            .prop_map(|(relation, old, new)| Said::Update { relation, old, new }),
        (any::<u32>(), old()).prop_map(|(relation, old)| Said::Delete { relation, old }),
        (any::<bool>(), any::<bool>(), vec(any::<u32>(), 0..9)).prop_map(
            |(cascade, restart, relations)| Said::Truncate { cascade, restart, relations }
        ),
        (any::<bool>(), any::<u64>(), name(), vec(any::<u8>(), 0..40)).prop_map(
            |(transactional, lsn, prefix, content)| Said::Logical {
                transactional,
                lsn,
                prefix,
                content
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn understands_whatever_a_server_can_say(said in said()) {
        let bytes = said.encode();
        let message = decode(&bytes).unwrap();
        walk(&message);
        prop_assert_eq!(Said::of(&message), said);
    }

    #[test]
    fn refuses_every_strict_prefix_of_a_message(said in said()) {
        let bytes = said.encode();
        for end in 0..bytes.len() {
            let refused = decode(&bytes[..end]);
            prop_assert!(matches!(refused, Err(DecodeError::Truncated { at, .. }) if at <= end), "{end}: {refused:?}");
        }
    }

    #[test]
    fn refuses_whatever_follows_a_message(said in said(), more in vec(any::<u8>(), 1..9)) {
        let mut bytes = said.encode();
        let at = bytes.len();
        bytes.extend(&more);
        prop_assert_eq!(decode(&bytes), Err(DecodeError::Trailing { count: more.len(), at }));
    }

    #[test]
    fn answers_any_bytes_and_says_the_same_of_what_it_understood(
        tag in prop_oneof![Just(b"BCORYIUDTM".to_vec()).prop_flat_map(proptest::sample::select), any::<u8>()],
        rest in vec(prop_oneof![Just(0u8), Just(1), proptest::sample::select(b"NKOntub\xff".to_vec()), any::<u8>()], 0..64),
    ) {
        let bytes = [vec![tag], rest].concat();
        if let Ok(message) = decode(&bytes) {
            walk(&message);
            let said = Said::of(&message);
            let again = said.encode();
            prop_assert_eq!(again.len(), bytes.len());
            prop_assert_eq!(Said::of(&decode(&again).unwrap()), said);
        }
    }
}
