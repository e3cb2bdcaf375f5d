//! Tests only: a server whose log is a list, and the bytes of its messages.

use super::TABLES;
use crate::lsn::Lsn;

pub(super) fn relation(table: u32) -> Vec<u8> {
    let mut message = b"R".to_vec();
    message.extend((table + 100).to_be_bytes());
    message.extend(format!("s\0t{table}\0d").bytes());
    message.extend(2u16.to_be_bytes());
    for (flags, name) in [(1u8, "id"), (0, "n")] {
        message.push(flags);
        message.extend(name.bytes().chain([0]));
        message.extend(23u32.to_be_bytes());
        message.extend((-1i32).to_be_bytes());
    }
    message
}

pub(super) fn insert(table: u32, id: usize, poison: bool) -> Vec<u8> {
    let mut message = b"I".to_vec();
    message.extend((table + 100).to_be_bytes());
    message.extend(b"N\0\x02");
    for text in [id.to_string(), if poison { "no number".to_owned() } else { "7".to_owned() }] {
        message.push(b't');
        message.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        message.extend(text.bytes());
    }
    message
}

pub(super) fn truncate() -> Vec<u8> {
    let mut message = b"T".to_vec();
    message.extend(TABLES.to_be_bytes());
    message.push(0);
    (0..TABLES).for_each(|table| message.extend((table + 100).to_be_bytes()));
    message
}

/// The log of the server: for each transaction the end of its commit record, and its messages.
pub(super) struct Server(pub Vec<(Lsn, Vec<Vec<u8>>)>);

impl Server {
    pub fn commit(&mut self, changes: Vec<Vec<u8>>) {
        let at = 1000 * (self.0.len() as u64 + 1);
        let mut begin = b"B".to_vec();
        begin.extend(at.to_be_bytes());
        begin.extend(0i64.to_be_bytes());
        begin.extend(u32::try_from(self.0.len() + 1).unwrap().to_be_bytes());
        let mut commit = b"C\0".to_vec();
        commit.extend(at.to_be_bytes());
        commit.extend((at + 8).to_be_bytes());
        commit.extend(0i64.to_be_bytes());
        // Each transaction begins with the Relation messages of all tables, because a connection
        // can begin at any transaction.
        let relations = (0..TABLES).map(relation);
        self.0.push((
            Lsn::new(at + 8),
            [begin].into_iter().chain(relations).chain(changes).chain([commit]).collect(),
        ));
    }
}
