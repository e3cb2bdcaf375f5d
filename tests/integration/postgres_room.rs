//! The postgres room against a real server: logging in, the stream, the catalog.

mod catalog;
mod certificates;
mod copies;
mod failover;
mod login;
mod nineteen;
mod stream;
mod values;

use crate::support::postgres::Server;
use std::time::Duration;
use wellspring::lsn::Lsn;
use wellspring::pgoutput::{self, Cell, Message};
use wellspring::postgres::{
    Config, Frame, Origins, Replication, Sql, StartOptions, Stream, parse_url,
};

/// Longest wait for anything that takes milliseconds if all is well.
const SOON: Duration = Duration::from_secs(30);

fn config(url: &str) -> Config {
    Config::from_url(parse_url(url).unwrap()).unwrap()
}

async fn replication(server: &Server) -> Replication {
    Replication::connect(&config(&server.url("postgres"))).await.unwrap()
}

async fn sql(server: &Server) -> Sql {
    Sql::connect(&config(&server.url("postgres"))).await.unwrap()
}

fn options() -> StartOptions {
    StartOptions {
        slot: "s".into(),
        publication: "p".into(),
        messages: true,
        origins: Origins::Any,
        from: Lsn::ZERO,
    }
}

/// Reads frames until `seen` returns a value for one, and returns this value.
async fn read_until<T>(stream: &mut Stream, mut seen: impl FnMut(Frame<'_>) -> Option<T>) -> T {
    let reading = async {
        loop {
            while let Some(frame) = stream.next_frame().unwrap() {
                if let Some(found) = seen(frame) {
                    return found;
                }
            }
            stream.fill().await.unwrap();
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("the frames waited for did not come")
}

/// Reads the next transaction that is not empty. Returns its messages as text, and its end.
/// Postgres 14 also sends empty transactions, such as those of autovacuum.
async fn transaction(stream: &mut Stream) -> (Vec<String>, Lsn) {
    let mut told = Vec::new();
    read_until(stream, |frame| {
        let Frame::XLogData { payload, .. } = frame else { return None };
        match pgoutput::decode(payload).unwrap() {
            Message::Begin { .. } => told = vec!["begin".to_owned()],
            Message::Insert { new, .. } => {
                let cells = new.cells().map(|cell| match cell {
                    Cell::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    other => format!("{other:?}"),
                });
                told.push(format!("insert {}", cells.collect::<Vec<_>>().join(",")));
            }
            Message::Logical { prefix, .. } => told.push(format!("message {prefix}")),
            Message::Commit { end_lsn, .. } if told.len() > 1 => {
                return Some((std::mem::take(&mut told), end_lsn));
            }
            _ => {}
        }
        None
    })
    .await
}
