//! Postgres: a replication connection of our own, ordinary SQL, and facts of the catalog.
//!
//! This room knows neither Kafka nor Avro nor pgoutput: frames leave as bytes, and positions come
//! in as arguments. Only a call whose name says so changes anything on a server, such as a slot, a
//! publication or a replica identity. Servers from 14 on are supported.
//!
//! `session` opens every connection, with the help of `url`, `config`, `socket`, `tls` and `auth`.
//! `replication` and `stream` talk to a walsender. `sql` is an ordinary connection, which
//! `catalog`, `slot`, `publication`, `preflight` and others use. `copies` reads rows in bulk, under
//! the snapshot that `holder` keeps.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )
)]

mod auth;
pub mod catalog;
mod config;
pub mod copies;
mod error;
mod greeting;
pub mod harm;
pub mod holder;
pub mod identity;
mod inbox;
mod outbox;
pub mod preflight;
pub mod publication;
pub mod readers;
mod replication;
mod resume;
mod session;
pub mod slot;
mod socket;
mod sql;
mod startup;
mod stream;
pub mod surroundings;
mod tls;
#[cfg(test)]
mod unread_tests;
mod url;

pub use config::{
    APPLICATION_NAME_DEFAULT, CONNECT_TIMEOUT_DEFAULT, CONNECT_TIMEOUT_MAX, ChannelBinding, Config,
    ConfigError, FRAME_BYTES_MAX_DEFAULT, Host, Keepalive, PORT_DEFAULT, SslMode, SslNegotiation,
    TargetSession, Tls,
};
pub use error::{Attempts, PgError, ServerError};
pub use outbox::StandbyStatus;
pub use replication::{
    CreatedSlot, FAILOVER_SINCE, Origins, Replication, StartOptions, SystemIdentity, TimelineSwitch,
};
pub use sql::{Ended, Sql};
pub use stream::{Frame, Stream};
pub use url::{TlsParts, UrlError, UrlParts, may_show_parameter, parse_url, sslmode};
