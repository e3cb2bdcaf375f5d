//! Tests with streams of real servers: of the one that is installed here, and the recordings in
//! `tests/data/pgoutput`.
//!
//! A recording is a sequence of frames. Each frame is a length in four bytes (big endian) and one
//! CopyData payload of the walsender: `w`, start, end, clock, message. `WELLSPRING_RECORD=1` writes
//! the recordings anew.

use super::model::Said;
use super::{folder, swallow};
use crate::support::postgres::Server;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;
use wellspring::change::{Changes, Position, Step};
use wellspring::lsn::{Lsn, PgMicros};
use wellspring::pgoutput::{Message, decode};
use wellspring::postgres::{Config, Frame, Origins, Replication, StartOptions, parse_url};

/// Longest wait for a script of a few dozen statements on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Bytes of a frame before its message: tag, start, end and clock.
const HEADER_BYTES: usize = 25;

/// Prefix of the logical message that ends every script.
const LAST: &str = "the end";

/// One frame of a stream.
#[derive(Clone)]
pub struct Sent {
    pub start: Lsn,
    pub message: Vec<u8>,
}

/// The recordings by name, in the order of their names.
pub fn streams() -> Vec<(String, Vec<Sent>)> {
    let read = |name: String| {
        let frames = frames_of(&fs::read(folder().join(format!("{name}.bin"))).unwrap());
        (name, frames)
    };
    names().into_iter().map(read).collect()
}

/// The names of the scripts, without `.sql`.
fn names() -> Vec<String> {
    let scripts = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        scripts.filter_map(|name| name.strip_suffix(".sql").map(str::to_owned)).collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

fn frames_of(mut file: &[u8]) -> Vec<Sent> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = file.split_first_chunk() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length).try_into().unwrap());
        let (header, message) = frame.split_at(HEADER_BYTES);
        assert_eq!(header[0], b'w');
        let start = Lsn::new(u64::from_be_bytes(*header[1..].first_chunk().unwrap()));
        frames.push(Sent { start, message: message.to_vec() });
        file = rest;
    }
    assert!(file.is_empty(), "a recording ends inside a frame");
    frames
}

#[track_caller]
fn assert_said_again(name: &str, frames: &[Sent]) {
    for (number, frame) in frames.iter().enumerate() {
        let message = decode(&frame.message)
            .unwrap_or_else(|error| panic!("{name}, frame {number}: {error}"));
        let said = Said::of(&message);
        assert_eq!(said.encode(), frame.message, "{name}, frame {number}: {said:?}");
    }
}

/// The Position of each change in the stream, as `change` gives it.
fn positions(frames: &[Sent]) -> Vec<Position> {
    let mut changes = Changes::resume(None);
    let mut found = Vec::new();
    for frame in frames {
        let message = decode(&frame.message).unwrap();
        match changes.look(frame.start, PgMicros(0), message).unwrap() {
            Step::Row(_, context, _) | Step::Logical { context, .. } => {
                found.push(context.position)
            }
            Step::Truncate(slots, context) => found.extend((0..).zip(slots).map(|(i, _)| {
                Position { ordinal: context.position.ordinal + i, ..context.position }
            })),
            Step::Begin { .. } | Step::Commit(_) | Step::Relation(..) | Step::Nothing => {}
        }
        changes.take(&message);
    }
    assert!(!changes.in_transaction());
    found
}

#[test]
fn says_every_recorded_message_again_byte_for_byte() {
    for (name, frames) in streams() {
        assert_said_again(&name, &frames);
    }
}

#[test]
fn the_recordings_hold_every_kind_of_message_and_of_cell() {
    let mut kinds = BTreeSet::new();
    for (_, frames) in streams() {
        for frame in frames {
            let message = decode(&frame.message).unwrap();
            let kind = char::from(frame.message[0]);
            kinds.insert(match message {
                Message::Update { old: Some(old), .. } => {
                    format!("{kind}{}", if old.is_key_only() { 'K' } else { 'O' })
                }
                Message::Delete { old, .. } => {
                    format!("{kind}{}", if old.is_key_only() { 'K' } else { 'O' })
                }
                Message::Logical { transactional, .. } => {
                    format!("{kind}{}", u8::from(transactional))
                }
                Message::Truncate(truncate) => {
                    let (cascade, restart) =
                        (u8::from(truncate.cascade), u8::from(truncate.restart_identity));
                    format!("{kind}{cascade}{restart}x{}", truncate.relations().count())
                }
                Message::Relation(relation) => format!("{kind}{}", char::from(relation.identity)),
                _ => kind.to_string(),
            });
            let rows = match message {
                Message::Insert { new, .. } | Message::Update { new, .. } => Some(new),
                _ => None,
            };
            let cells = rows.into_iter().flat_map(|row| row.cells());
            kinds.extend(
                cells.map(|cell| format!("{cell:?}").split('(').next().unwrap().to_owned()),
            );
        }
    }
    let kinds: Vec<_> = kinds.into_iter().collect();
    expect_test::expect!["B C DK DO I M0 M1 Null O Rd Rf Ri Rn T00x1 T00x2 T01x1 T10x3 T11x3 Text U UK UO Unchanged Y"]
        .assert_eq(&kinds.join(" "));
}

#[test]
fn every_recorded_change_has_a_place_after_the_one_before() {
    for (name, frames) in streams() {
        let found = positions(&frames);
        assert!(found.len() > 3, "{name}: {found:?}");
        assert!(found.is_sorted_by(|a, b| a < b), "{name}: {found:?}");
        assert_eq!(found, positions(&frames), "{name}: a replay");
    }
}

#[test]
fn a_recording_that_lost_a_frame_is_refused_or_read_to_its_end() {
    for (_, frames) in streams() {
        for lost in 0..frames.len() {
            let mut changes = Changes::resume(None);
            let rest = frames.iter().enumerate().filter(|(number, _)| *number != lost);
            let read = rest
                .take_while(|(_, frame)| swallow(&mut changes, frame.start, &frame.message))
                .count();
            let dropped = decode(&frames[lost].message).unwrap();
            if matches!(dropped, Message::Begin { .. } | Message::Commit { .. })
                && lost + 2 < frames.len()
            {
                assert!(
                    read < frames.len() - 1,
                    "the stream made sense without frame {lost}, {dropped:?}"
                );
            }
        }
    }
}

/// Runs a script in a database of its own. Returns the frames from the slot's creation to the
/// script's last message.
async fn record(server: &Server, number: usize, script: &str) -> Vec<u8> {
    let database = format!("d{number}");
    server.sql("postgres", &format!("create database {database}"));
    server.sql(&database, "create publication p for all tables");
    let slot = format!("s{number}");
    server.sql(
        &database,
        &format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')"),
    );
    server.sql(&database, script);
    server.sql(&database, &format!("select pg_logical_emit_message(false, '{LAST}', '')"));
    let config = Config::from_url(parse_url(&server.url(&database)).unwrap()).unwrap();
    let options = StartOptions {
        slot,
        publication: "p".into(),
        messages: true,
        origins: Origins::Any,
        from: Lsn::ZERO,
    };
    let mut stream = Replication::connect(&config).await.unwrap().start(&options).await.unwrap();
    let mut file = Vec::new();
    loop {
        while let Some(frame) = stream.next_frame().unwrap() {
            let Frame::XLogData { start, end, sent_at, payload } = frame else { continue };
            file.extend(u32::try_from(HEADER_BYTES + payload.len()).unwrap().to_be_bytes());
            file.push(b'w');
            file.extend([start.bytes(), end.bytes()].map(u64::to_be_bytes).concat());
            file.extend(sent_at.0.to_be_bytes());
            file.extend(payload);
            if matches!(decode(payload), Ok(Message::Logical { prefix: LAST, .. })) {
                stream.finish().await;
                return file;
            }
        }
        stream.fill().await.unwrap();
    }
}

#[tokio::test]
async fn everything_that_the_installed_server_says_is_understood() {
    let server = Server::start();
    for (number, name) in names().iter().enumerate() {
        let script = fs::read_to_string(folder().join(format!("{name}.sql"))).unwrap();
        let recording = record(&server, number, &script);
        let file =
            tokio::time::timeout(SOON, recording).await.expect("the last message did not come");
        let frames = frames_of(&file);
        if std::env::var_os("WELLSPRING_RECORD").is_some() {
            fs::write(folder().join(format!("{name}.bin")), &file).unwrap();
        }
        assert_said_again(name, &frames);
        let found = positions(&frames);
        assert!(found.is_sorted_by(|a, b| a < b), "{name}: {found:?}");
    }
}
