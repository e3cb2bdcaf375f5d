//! Single messages of protocol version 1, in hexadecimal: the meaning of each, and the byte at
//! which a faulty message is refused.
//!
//! Arbitrary messages, recorded streams and damage are tried in
//! `tests/integration/protocol_bytes.rs`.

use super::*;
use expect_test::{Expect, expect};

/// Turns hexadecimal digits, with blanks between fields, into bytes. A part in quotes is text and
/// gives its own bytes.
fn bytes_of(hex: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, part) in hex.split('"').enumerate() {
        if number % 2 == 1 {
            bytes.extend(part.bytes());
            continue;
        }
        let digits: String = part.split_whitespace().collect();
        assert!(digits.len().is_multiple_of(2), "half a byte in {part}");
        bytes.extend(
            (0..digits.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()),
        );
    }
    bytes
}

/// Prints the cells of a row, to be compared with an expected text. Text values are in quotes, and
/// binary values are in brackets.
fn row(tuple: Tuple<'_>) -> String {
    let cell = |cell| match cell {
        Cell::Null => "null".to_owned(),
        Cell::Unchanged => "unchanged".to_owned(),
        Cell::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
        Cell::Binary(bytes) => format!("{bytes:02x?}"),
    };
    tuple.cells().map(cell).collect::<Vec<_>>().join(", ")
}

fn old_row(old: OldTuple<'_>) -> String {
    format!("{} ({})", if old.is_key_only() { "key" } else { "full" }, row(old.tuple()))
}

fn told(message: &Message<'_>) -> String {
    match *message {
        Message::Insert { relation, new } => format!("Insert {relation}: ({})", row(new)),
        Message::Update { relation, old: None, new } => {
            format!("Update {relation}: ({})", row(new))
        }
        Message::Update { relation, old: Some(old), new } => {
            format!("Update {relation}: {} -> ({})", old_row(old), row(new))
        }
        Message::Delete { relation, old } => format!("Delete {relation}: {}", old_row(old)),
        Message::Truncate(truncate) => {
            let relations: Vec<_> = truncate.relations().map(|oid| oid.0).collect();
            let Truncate { cascade, restart_identity, .. } = truncate;
            format!(
                "Truncate {relations:?}, cascade {cascade}, restart identity {restart_identity}"
            )
        }
        Message::Relation(relation) => {
            let Relation { oid, namespace, name, identity, .. } = relation;
            let columns = relation.columns().map(|column| {
                let RelationColumn { in_identity, name, type_oid, typmod } = column;
                format!("{}{name} {type_oid} {typmod}", if in_identity { "*" } else { "" })
            });
            let columns: Vec<_> = columns.collect();
            format!(
                "Relation {oid} {namespace:?}.{name:?} {}: {}",
                char::from(identity),
                columns.join(", ")
            )
        }
        ref other => format!("{other:?}"),
    }
}

#[track_caller]
fn check(hex: &str, expect: Expect) {
    expect.assert_eq(&match decode(&bytes_of(hex)) {
        Ok(message) => told(&message),
        Err(error) => format!("error: {error}"),
    });
}

#[test]
fn reads_begin_and_commit() {
    check(
        "42 00000016b374d848 0002b582c4781000 000002f7",
        expect![
            "Begin { final_lsn: 16/B374D848, committed_at: PgMicros(762523200000000), xid: \
             Xid(759) }"
        ],
    );
    check(
        "43 00 00000016b374d848 00000016b374d878 0002b582c4781000",
        expect![
            "Commit { commit_lsn: 16/B374D848, end_lsn: 16/B374D878, committed_at: \
             PgMicros(762523200000000) }"
        ],
    );
}

#[test]
fn reads_an_origin() {
    check(
        "4f 0000000000abcdef \"elsewhere\" 00",
        expect![[r#"Origin { commit_lsn: 0/ABCDEF, name: "elsewhere" }"#]],
    );
}

#[test]
fn reads_a_relation_with_its_identity_and_columns() {
    check(
        "52 00004001 \"public\"00 \"t\"00 64 0002 01 \"id\"00 00000017 ffffffff 00 \"v: ☃\"00 \
         00000413 00000018",
        expect![[r#"Relation 16385 "public"."t" d: *id 23 -1, v: ☃ 1043 24"#]],
    );
    check(
        "52 00000001 00 \"pg_class\"00 66 0001 01 \"oid\"00 0000001a ffffffff",
        expect![[r#"Relation 1 ""."pg_class" f: *oid 26 -1"#]],
    );
    check(
        "52 00000001 \"s\"00 \"no columns\"00 6e 0000",
        expect![[r#"Relation 1 "s"."no columns" n: "#]],
    );
    check(
        "52 00000001 \"s\"00 00 69 0001 01 00 ffffffff 80000000",
        expect![[r#"Relation 1 "s"."" i: * 4294967295 -2147483648"#]],
    );
}

#[test]
fn reads_a_type() {
    check(
        "59 00004012 \"public\"00 \"mood\"00",
        expect![[r#"Type { oid: Oid(16402), namespace: "public", name: "mood" }"#]],
    );
    check(
        "59 00004012 00 \"int4\"00",
        expect![[r#"Type { oid: Oid(16402), namespace: "", name: "int4" }"#]],
    );
}

#[test]
fn reads_an_insert_with_every_kind_of_cell() {
    check(
        "49 00004001 4e 0005 74 00000002\"42\" 6e 75 74 00000000 62 00000004 0000002a",
        expect![[r#"Insert 16385: ("42", null, unchanged, "", [00, 00, 00, 2a])"#]],
    );
    check("49 00004001 4e 0000", expect!["Insert 16385: ()"]);
}

#[test]
fn reads_an_update_with_and_without_the_old_row() {
    check(
        "55 00004001 4e 0002 74 00000001\"1\" 75",
        expect![[r#"Update 16385: ("1", unchanged)"#]],
    );
    check(
        "55 00004001 4b 0002 74 00000001\"1\" 6e 4e 0002 74 00000001\"2\" 75",
        expect![[r#"Update 16385: key ("1", null) -> ("2", unchanged)"#]],
    );
    check(
        "55 00004001 4f 0002 74 00000001\"1\" 74 00000001\"x\" 4e 0002 74 00000001\"1\" 75",
        expect![[r#"Update 16385: full ("1", "x") -> ("1", unchanged)"#]],
    );
}

#[test]
fn reads_a_delete_by_key_and_by_the_whole_row() {
    check("44 00004001 4b 0002 74 00000001\"1\" 6e", expect![[r#"Delete 16385: key ("1", null)"#]]);
    check(
        "44 00004001 4f 0002 74 00000001\"1\" 6e",
        expect![[r#"Delete 16385: full ("1", null)"#]],
    );
}

#[test]
fn reads_a_truncate_with_its_options_and_all_its_relations() {
    check(
        "54 00000001 00 00004001",
        expect!["Truncate [16385], cascade false, restart identity false"],
    );
    check(
        "54 00000003 01 00004001 00004002 00000001",
        expect!["Truncate [16385, 16386, 1], cascade true, restart identity false"],
    );
    check(
        "54 00000001 02 00004001",
        expect!["Truncate [16385], cascade false, restart identity true"],
    );
    check(
        "54 00000002 03 00004002 00004001",
        expect!["Truncate [16386, 16385], cascade true, restart identity true"],
    );
    check("54 00000000 00", expect!["Truncate [], cascade false, restart identity false"]);
}

#[test]
fn reads_a_message_inside_and_outside_a_transaction() {
    check(
        "4d 01 00000000019d4a10 \"within\"00 00000003 00ff0a",
        expect![[
            r#"Logical { transactional: true, lsn: 0/19D4A10, prefix: "within", content: [0, 255, 10] }"#
        ]],
    );
    check(
        "4d 00 00000000019d4a10 \"alone\"00 00000000",
        expect![[
            r#"Logical { transactional: false, lsn: 0/19D4A10, prefix: "alone", content: [] }"#
        ]],
    );
}

#[test]
fn refuses_tags_that_the_protocol_does_not_define() {
    check("", expect!["error: message ends inside `message tag` at byte 0"]);
    check("00", expect!["error: byte 0x00 at 0 is no message tag"]);
    check("53 000002f7 01", expect!["error: byte 0x53 at 0 is no message tag"]);
    check("49 00004001 4b 0000", expect!["error: byte 0x4b at 5 is no tuple tag of an insert"]);
    check("55 00004001 58 0000", expect!["error: byte 0x58 at 5 is no tuple tag of an update"]);
    check(
        "55 00004001 4b 0000 4b 0000",
        expect!["error: byte 0x4b at 8 is no tuple tag of an update"],
    );
    check("44 00004001 4e 0000", expect!["error: byte 0x4e at 5 is no tuple tag of a delete"]);
    check("49 00004001 4e 0001 78", expect!["error: byte 0x78 at 8 is no column kind"]);
    check(
        "52 00004001 00 \"t\"00 78 0000",
        expect!["error: byte 0x78 at 8 is no replica identity"],
    );
}

/// Decodes every part of a message from its first byte to a cut, one for each cut before a byte.
/// Compares the errors with `expect`. Equal errors in a row count as one, so each field has one.
#[track_caller]
fn check_cuts(hex: &str, expect: Expect) {
    let bytes = bytes_of(hex);
    assert!(decode(&bytes).is_ok());
    let mut told = (0..bytes.len())
        .map(|end| decode(&bytes[..end]).unwrap_err().to_string())
        .collect::<Vec<_>>();
    told.dedup();
    expect.assert_eq(&told.join("\n"));
}

#[test]
fn refuses_a_message_cut_in_any_field_and_names_it() {
    check_cuts(
        "42 00000016b374d848 0002b582c4781000 000002f7",
        expect![[r#"
        message ends inside `message tag` at byte 0
        message ends inside `final LSN` at byte 1
        message ends inside `commit time` at byte 9
        message ends inside `xid` at byte 17"#]],
    );
    check_cuts(
        "43 00 00000016b374d848 00000016b374d878 0002b582c4781000",
        expect![[r#"
        message ends inside `message tag` at byte 0
        message ends inside `commit flags` at byte 1
        message ends inside `commit LSN` at byte 2
        message ends inside `end LSN` at byte 10
        message ends inside `commit time` at byte 18"#]],
    );
    check_cuts(
        "4f 0000000000abcdef \"elsewhere\"00",
        expect![[r#"
        message ends inside `message tag` at byte 0
        message ends inside `origin LSN` at byte 1
        message ends inside `origin name` at byte 9"#]],
    );
    check_cuts(
        "52 00004001 \"public\"00 \"t\"00 64 0001 01 \"a longer name\"00 00000017 ffffffff",
        expect![[r#"
            message ends inside `message tag` at byte 0
            message ends inside `relation oid` at byte 1
            message ends inside `relation namespace` at byte 5
            message ends inside `relation name` at byte 12
            message ends inside `replica identity` at byte 14
            message ends inside `column count` at byte 15
            message ends inside `columns` at byte 17
            message ends inside `column name` at byte 18
            message ends inside `column type` at byte 32
            message ends inside `column typmod` at byte 36"#]],
    );
    check_cuts(
        "59 00004012 \"public\"00 \"mood\"00",
        expect![[r#"
        message ends inside `message tag` at byte 0
        message ends inside `type oid` at byte 1
        message ends inside `type namespace` at byte 5
        message ends inside `type name` at byte 12"#]],
    );
    check_cuts(
        "49 00004001 4e 0002 74 00000002\"42\" 6e",
        expect![[r#"
        message ends inside `message tag` at byte 0
        message ends inside `relation oid` at byte 1
        message ends inside `tuple tag` at byte 5
        message ends inside `column count` at byte 6
        message ends inside `columns` at byte 8
        message ends inside `column length` at byte 9
        message ends inside `column value` at byte 13
        message ends inside `column kind` at byte 15"#]],
    );
    check_cuts(
        "55 00004001 4b 0001 74 00000001\"1\" 4e 0001 75",
        expect![[r#"
        message ends inside `message tag` at byte 0
        message ends inside `relation oid` at byte 1
        message ends inside `tuple tag` at byte 5
        message ends inside `column count` at byte 6
        message ends inside `columns` at byte 8
        message ends inside `column length` at byte 9
        message ends inside `column value` at byte 13
        message ends inside `tuple tag` at byte 14
        message ends inside `column count` at byte 15
        message ends inside `columns` at byte 17"#]],
    );
    check_cuts(
        "44 00004001 4f 0001 62 00000001 00",
        expect![[r#"
        message ends inside `message tag` at byte 0
        message ends inside `relation oid` at byte 1
        message ends inside `tuple tag` at byte 5
        message ends inside `column count` at byte 6
        message ends inside `columns` at byte 8
        message ends inside `column length` at byte 9
        message ends inside `column value` at byte 13"#]],
    );
    check_cuts(
        "54 00000002 03 00004002 00004001",
        expect![[r#"
        message ends inside `message tag` at byte 0
        message ends inside `relation count` at byte 1
        message ends inside `truncate options` at byte 5
        message ends inside `truncated relations` at byte 6"#]],
    );
    check_cuts(
        "4d 01 00000000019d4a10 \"within\"00 00000003 00ff0a",
        expect![[r#"
        message ends inside `message tag` at byte 0
        message ends inside `message flags` at byte 1
        message ends inside `message LSN` at byte 2
        message ends inside `message prefix` at byte 10
        message ends inside `message length` at byte 17
        message ends inside `message content` at byte 21"#]],
    );
}

#[test]
fn refuses_a_column_count_larger_than_the_message() {
    check("49 00004001 4e ffff", expect!["error: message ends inside `columns` at byte 8"]);
    check("49 00004001 4e 0003 6e6e", expect!["error: message ends inside `columns` at byte 8"]);
    check(
        "52 00004001 00 \"t\"00 64 ffff 01 \"id\"00 00000017 ffffffff",
        expect!["error: message ends inside `columns` at byte 11"],
    );
    check(
        "52 00004001 00 \"t\"00 64 0002 01 \"long name\"00 00000017 ffffffff",
        expect!["error: message ends inside `columns` at byte 11"],
    );
}

#[test]
fn refuses_a_relation_count_larger_than_the_message() {
    check(
        "54 ffffffff 00 00004001",
        expect!["error: message ends inside `truncated relations` at byte 6"],
    );
    check(
        "54 40000000 00 00004001",
        expect!["error: message ends inside `truncated relations` at byte 6"],
    );
    check(
        "54 00000002 00 00004001 000040",
        expect!["error: message ends inside `truncated relations` at byte 6"],
    );
}

#[test]
fn refuses_a_length_larger_than_the_message() {
    check(
        "49 00004001 4e 0001 74 ffffffff \"a\"",
        expect!["error: message ends inside `column value` at byte 13"],
    );
    check(
        "49 00004001 4e 0001 62 00000002 00",
        expect!["error: message ends inside `column value` at byte 13"],
    );
    check(
        "4d 00 0000000000000001 \"p\"00 80000000 \"a\"",
        expect!["error: message ends inside `message content` at byte 16"],
    );
}

#[test]
fn refuses_bytes_after_the_end() {
    check(
        "43 00 00000016b374d848 00000016b374d878 0002b582c4781000 00",
        expect!["error: 1 bytes follow the end of the message at byte 26"],
    );
    check(
        "49 00004001 4e 0001 6e 6e6e",
        expect!["error: 2 bytes follow the end of the message at byte 9"],
    );
    check(
        "54 00000001 00 00004001 00004002",
        expect!["error: 4 bytes follow the end of the message at byte 10"],
    );
    check(
        "4d 00 0000000000000001 \"p\"00 00000001 \"abc\"",
        expect!["error: 2 bytes follow the end of the message at byte 17"],
    );
}

#[test]
fn refuses_names_that_are_not_utf_8() {
    check("4f 0000000000abcdef ff00", expect!["error: `origin name` at byte 9 is not UTF-8"]);
    check(
        "52 00004001 c32800 \"t\"00 64 0000",
        expect!["error: `relation namespace` at byte 5 is not UTF-8"],
    );
    check(
        "52 00004001 00 eda08000 64 0000",
        expect!["error: `relation name` at byte 6 is not UTF-8"],
    );
    check(
        "52 00004001 00 \"t\"00 64 0001 01 fe00 00000017 ffffffff",
        expect!["error: `column name` at byte 12 is not UTF-8"],
    );
    check("59 00004012 00 c000", expect!["error: `type name` at byte 6 is not UTF-8"]);
    check(
        "4d 00 0000000000000001 8000 00000000",
        expect!["error: `message prefix` at byte 10 is not UTF-8"],
    );
}

#[test]
fn takes_values_that_are_not_utf_8_as_they_are() {
    let bytes = bytes_of("49 00004001 4e 0001 74 00000002 ff00");
    let Ok(Message::Insert { new, .. }) = decode(&bytes) else { panic!("not an insert") };
    assert!(new.cells().eq([Cell::Text(&[0xff, 0])]));
}

#[test]
fn keeps_the_values_of_rows_out_of_what_is_printed() {
    let bytes = bytes_of("49 00004001 4e 0002 74 00000006\"secret\" 6e");
    expect!["Insert { relation: Oid(16385), new: Tuple(2 columns, 12 bytes) }"]
        .assert_eq(&format!("{:?}", decode(&bytes).unwrap()));
}

#[test]
fn an_index_borrows_nothing_and_finds_the_cells_again() {
    let (long, short) = (
        bytes_of("49 00004001 4e 0003 74 00000002\"42\" 6e 75"),
        bytes_of("49 00004001 4e 0001 6e"),
    );
    let mut spans = Vec::new();
    for bytes in [&long, &short, &long] {
        let Ok(Message::Insert { new, .. }) = decode(bytes) else { panic!("not an insert") };
        new.index_into(&mut spans);
        assert!(spans.iter().map(|span| new.cell(*span)).eq(new.cells()));
        assert_eq!(new.is_empty(), spans.is_empty());
    }
    assert!(spans.capacity() <= 4, "no more than the columns present");
}

#[test]
#[should_panic(expected = "is of another tuple")]
fn a_place_of_another_row_is_a_fault_of_ours() {
    let (long, short) =
        (bytes_of("49 00004001 4e 0001 74 00000002\"42\""), bytes_of("49 00004001 4e 0001 6e"));
    let mut spans = Vec::new();
    let Ok(Message::Insert { new, .. }) = decode(&long) else { panic!("not an insert") };
    new.index_into(&mut spans);
    let Ok(Message::Insert { new, .. }) = decode(&short) else { panic!("not an insert") };
    let _ = new.cell(spans[0]);
}
