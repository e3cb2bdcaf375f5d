//! A walsender connection before it streams: the identity of the server, slots, and ordinary SQL in
//! the simple protocol.
//!
//! Names are quoted wherever they go into a command, because there are no bind parameters here. A
//! walsender answers one call at a time. A call that was given up half-way leaves the connection
//! unusable, and the next call reports that.

use crate::lsn::Lsn;
use crate::postgres::config::Config;
use crate::postgres::error::PgError;
use crate::postgres::session::{Rows, Session};
use crate::postgres::startup::Purpose;
use crate::postgres::stream::Stream;
use bytes::BytesMut;
use postgres_protocol::escape::escape_identifier;
use postgres_protocol::message::frontend;
use std::time::Duration;

/// The longest wait for the answer to any command but CREATE_REPLICATION_SLOT, which waits for
/// other transactions. It equals the `statement_timeout` of our SQL sessions.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest wait while [`Replication::close`] sends its Terminate message. The five bytes of
/// this message wait only if the server has stopped reading and the socket's buffer is full.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A replication connection to one database, not yet streaming.
pub struct Replication {
    session: Session,
    frame_bytes_max: usize,
}

/// The answer to IDENTIFY_SYSTEM: the identifier of the Postgres cluster, its timeline, its WAL
/// position, and our database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The identifier that initdb gave to the Postgres cluster. Standbys and restored physical
    /// backups of the cluster have the same one.
    pub system_id: u64,
    /// The timeline that a primary writes, or that a standby replays.
    pub timeline: u32,
    /// The position up to which a primary has flushed its WAL. On a standby, it is the position up
    /// to which WAL was replayed, or was received and flushed, whichever is later.
    pub flushed: Lsn,
    /// Name of the database to which we are connected.
    pub database: String,
}

/// The end of one timeline, as the history file of a later timeline records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline that ended.
    pub timeline: u32,
    /// The position at which the next timeline branches off. WAL of the ended timeline beyond this
    /// position is not part of the history.
    pub switched_at: Lsn,
}

/// A slot that was just created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedSlot {
    /// The consistent point: the slot streams every transaction that commits after this position,
    /// and the snapshot has those before it.
    pub consistent_point: Lsn,
    /// The name of the exported snapshot. Other sessions can import it until the next call on this
    /// connection. `None` if the server exported none.
    pub snapshot: Option<String>,
}

/// The first version, as in `server_version_num`, whose slots standbys can keep a copy of.
pub const FAILOVER_SINCE: u32 = 170_000;

/// The origins whose changes are streamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Every change, whether it was made on this server or replicated to it.
    #[default]
    Any,
    /// Only changes without a replication origin. Changes that a subscription applies have an
    /// origin. Servers support this from 16 on.
    None,
}

impl Origins {
    /// The first version, as in `server_version_num`, whose pgoutput takes the option `origin`.
    pub const SINCE: u32 = 160_000;
}

/// The arguments of START_REPLICATION for pgoutput.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartOptions {
    /// Name of a logical slot of this database with the plugin pgoutput.
    pub slot: String,
    /// The exact name of the publication. The server looks it up when it decodes, not at the start.
    pub publication: String,
    /// True if the server is to stream the messages of `pg_logical_emit_message`, too.
    pub messages: bool,
    /// The origins whose changes are streamed.
    pub origins: Origins,
    /// The server leaves out transactions whose commit record begins below this position. Any
    /// position below the slot's confirmed position, such as zero, stands for the confirmed
    /// position. The start does not change the confirmed position of the slot.
    pub from: Lsn,
}

impl Replication {
    /// Connects, logs in and pins the session's settings.
    ///
    /// # Errors
    /// An error of the connection, or a variant of [`PgError`] from `Resolve` to `SettingIgnored`;
    /// `Server` with 57P03 while the server starts or shuts down; `Auth` with 28000 or `Server`
    /// with 42501 if the role may not replicate.
    pub async fn connect(config: &Config) -> Result<Self, PgError> {
        let session = Session::open(config, Purpose::Replication, "").await?;
        Ok(Replication { session, frame_bytes_max: config.frame_bytes_max })
    }

    /// The walsender's process id, by which `pg_replication_slots.active_pid` names us.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.session.backend_pid
    }

    /// The server's version as in `server_version_num`: 150018 is 15.18.
    #[must_use]
    pub fn server_version(&self) -> u32 {
        self.session.version
    }

    /// Asks for the identity of the server, its timeline, our database, and how far the server has
    /// flushed its WAL.
    ///
    /// # Errors
    /// An error of the connection or of the server, or `Answer` if the answer cannot be read.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, PgError> {
        const CALL: &str = "identify";
        let rows = self.command(CALL, "system", "IDENTIFY_SYSTEM").await?;
        let answer = |field| PgError::Answer { call: CALL, object: "system".to_owned(), field };
        let [Some(system_id), Some(timeline), Some(flushed), Some(database)] = first_row(&rows)
        else {
            return Err(answer("row"));
        };
        Ok(SystemIdentity {
            system_id: system_id.parse().map_err(|_| answer("systemid"))?,
            timeline: timeline.parse().map_err(|_| answer("timeline"))?,
            flushed: flushed.parse().map_err(|_| answer("xlogpos"))?,
            database: database.to_owned(),
        })
    }

    /// Reads the timelines from which `timeline` descends, and the position at which each ended,
    /// oldest first. Empty for timeline 1, which has no history.
    ///
    /// # Errors
    /// An error of the connection; `Server` with 58P01 if the history file is gone; `Answer` if the
    /// file has another form.
    pub async fn timeline_history(
        &mut self,
        timeline: u32,
    ) -> Result<Vec<TimelineSwitch>, PgError> {
        const CALL: &str = "read the history of timeline";
        if timeline <= 1 {
            return Ok(Vec::new());
        }
        let object = timeline.to_string();
        let rows = self.command(CALL, &object, &format!("TIMELINE_HISTORY {timeline}")).await?;
        let answer = |field| PgError::Answer { call: CALL, object: object.clone(), field };
        // The column `content` has the raw bytes of the file. A history file is ASCII except for
        // the reason at the end of each line, which is not read.
        let [_, Some(content)] = first_row(&rows) else { return Err(answer("content")) };
        history_of(content).ok_or_else(|| answer("content"))
    }

    /// Creates a logical slot for pgoutput and exports its snapshot.
    ///
    /// The call waits for every transaction that is writing at that moment, up to `lock_timeout`
    /// for each. `slot::blockers` lists these transactions. The call has no other limit. A dropped
    /// future does not end the wait on the server, but `Sql::cancel_backend` ends it.
    ///
    /// # Errors
    /// `Server`: 42710 the slot exists, 55P03 a transaction outlasted `lock_timeout`, 53400 no free
    /// slot, 55000 wal_level is not logical.
    pub async fn create_slot(
        &mut self,
        name: &str,
        lock_timeout: Duration,
    ) -> Result<CreatedSlot, PgError> {
        self.created(name, "", "", lock_timeout).await
    }

    /// Like [`Replication::create_slot`], with a slot of which standbys can keep a copy. The server
    /// has to be of [`FAILOVER_SINCE`] or later.
    ///
    /// # Errors
    /// As [`Replication::create_slot`].
    pub async fn create_failover_slot(
        &mut self,
        name: &str,
        lock_timeout: Duration,
    ) -> Result<CreatedSlot, PgError> {
        self.created(name, "", ", FAILOVER true", lock_timeout).await
    }

    /// Lets standbys keep a copy of a slot that nobody uses. The server has to be of
    /// [`FAILOVER_SINCE`] or later.
    ///
    /// # Errors
    /// `Server`: 42704 no such slot, 55006 in use, 55000 the slot is temporary or the server is a
    /// standby.
    pub async fn alter_to_failover(&mut self, name: &str) -> Result<(), PgError> {
        let sql = format!("ALTER_REPLICATION_SLOT {} (FAILOVER true)", escape_identifier(name));
        self.command("alter replication slot", name, &sql).await.map(drop)
    }

    /// Like [`Replication::create_slot`], with a slot that lives only as long as this connection.
    /// The snapshot survives the connection in a session that has imported it.
    ///
    /// # Errors
    /// As [`Replication::create_slot`].
    pub async fn create_temporary_slot(
        &mut self,
        name: &str,
        lock_timeout: Duration,
    ) -> Result<CreatedSlot, PgError> {
        self.created(name, "TEMPORARY ", "", lock_timeout).await
    }

    async fn created(
        &mut self,
        name: &str,
        kind: &str,
        options: &str,
        lock_timeout: Duration,
    ) -> Result<CreatedSlot, PgError> {
        const CALL: &str = "create replication slot";
        let limit = format!("SET lock_timeout = {}", lock_timeout.as_millis());
        self.command(CALL, name, &limit).await?;
        let slot = escape_identifier(name);
        let sql = if self.server_version() >= 150_000 {
            format!(
                "CREATE_REPLICATION_SLOT {slot} {kind}LOGICAL pgoutput (SNAPSHOT 'export'{options})"
            )
        } else {
            format!("CREATE_REPLICATION_SLOT {slot} {kind}LOGICAL pgoutput EXPORT_SNAPSHOT")
        };
        let rows = self.session.query(CALL, name, &sql).await?;
        let answer = |field| PgError::Answer { call: CALL, object: name.to_owned(), field };
        let [_, Some(point), snapshot, _] = first_row(&rows) else { return Err(answer("row")) };
        Ok(CreatedSlot {
            consistent_point: point.parse().map_err(|_| answer("consistent_point"))?,
            snapshot: snapshot.map(str::to_owned),
        })
    }

    /// Drops a slot that nobody uses.
    ///
    /// # Errors
    /// `Server`: 42704 no such slot, 55006 in use.
    pub async fn drop_slot(&mut self, name: &str) -> Result<(), PgError> {
        let sql = format!("DROP_REPLICATION_SLOT {}", escape_identifier(name));
        self.command("drop replication slot", name, &sql).await.map(drop)
    }

    /// Runs one SQL statement in the simple protocol. Every value is returned as Postgres prints
    /// it.
    ///
    /// # Errors
    /// An error of the connection; `Server` if the statement fails; `Timeout` after 30 s.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, PgError> {
        self.command("query", "the walsender", sql).await
    }

    /// Reads `wal_sender_timeout`, the silence after which the server drops a client. `None` for no
    /// limit.
    ///
    /// # Errors
    /// As [`Replication::query`].
    pub async fn wal_sender_timeout(&mut self) -> Result<Option<Duration>, PgError> {
        let sql = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'";
        let rows = self.command("read setting", "wal_sender_timeout", sql).await?;
        let [Some(setting)] = first_row(&rows) else {
            return Err(PgError::Answer {
                call: "read setting",
                object: "wal_sender_timeout".into(),
                field: "setting",
            });
        };
        Ok(setting.parse().ok().filter(|&ms| ms > 0).map(Duration::from_millis))
    }

    /// Starts streaming from the slot that `options` names. No other session can use the slot until
    /// this connection ends.
    ///
    /// # Errors
    /// `Server`: 55006 another session holds the slot, 42704 the slot does not exist, 55000 the
    /// slot is invalidated or is of another database.
    pub async fn start(mut self, options: &StartOptions) -> Result<Stream, PgError> {
        // The lock timeout that was set for the creation of the slot must not end the decoding.
        self.command("pin a setting", "lock_timeout", "SET lock_timeout = 0").await?;
        let sql = start_command(options);
        let begun =
            self.session.begin_copy_both("start replication from slot", &options.slot, &sql);
        match tokio::time::timeout(COMMAND_TIMEOUT, begun).await {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(PgError::Timeout {
                    call: "start replication from slot",
                    object: options.slot.clone(),
                    limit: COMMAND_TIMEOUT,
                });
            }
        }
        Ok(Stream::new(
            self.session.socket,
            self.session.inbox,
            self.session.backend_pid,
            self.frame_bytes_max,
        ))
    }

    /// Sends a Terminate message, for 1 s at most, and ends the connection. Without this message
    /// the server may log an unexpected end of the connection. An exported snapshot ends with the
    /// connection.
    pub async fn close(mut self) {
        let mut goodbye = BytesMut::with_capacity(5);
        frontend::terminate(&mut goodbye);
        // A failure needs no handling, because the connection ends either way.
        let _ =
            tokio::time::timeout(CLOSE_LIMIT, self.session.send(&goodbye, "end the session")).await;
    }

    async fn command(
        &mut self,
        call: &'static str,
        object: &str,
        sql: &str,
    ) -> Result<Rows, PgError> {
        match tokio::time::timeout(COMMAND_TIMEOUT, self.session.query(call, object, sql)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(PgError::Timeout { call, object: object.to_owned(), limit: COMMAND_TIMEOUT })
            }
        }
    }
}

/// Makes the START_REPLICATION command. A start position of 0/0 means the slot's confirmed
/// position: by law 2 of ARCHITECTURE.md the server decides where to resume. With protocol version
/// 1 the server sends whole transactions, after their commit.
fn start_command(options: &StartOptions) -> String {
    // The value of `publication_names` is a list of identifiers inside a literal, so the name is
    // quoted twice.
    let publication = quote_literal(&escape_identifier(&options.publication));
    let messages = if options.messages { ", messages 'true'" } else { "" };
    let slot = escape_identifier(&options.slot);
    let origin = match options.origins {
        Origins::Any => "", // `any` is the default; servers before 16 refuse the option
        Origins::None => ", origin 'none'",
    };
    format!(
        "START_REPLICATION SLOT {slot} LOGICAL {} \
         (proto_version '1', publication_names {publication}{messages}{origin})",
        options.from
    )
}

/// Quotes a text for a replication command. The grammar of these commands doubles a quote. A
/// backslash has no meaning in it.
fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The values of the first row of an answer whose rows must have `N` columns. All values are `None`
/// if there is no row, or if the row has another number of columns.
fn first_row<const N: usize>(rows: &Rows) -> [Option<&str>; N] {
    let columns: Vec<Option<&str>> =
        rows.first().into_iter().flatten().map(Option::as_deref).collect();
    columns.try_into().unwrap_or([None; N])
}

/// Reads the text of a timeline's history file. `None` if a line has another form. Each line is
/// `<timeline> <tab> <lsn> <tab> <reason>`. Lines that begin with `#` are comments.
fn history_of(content: &str) -> Option<Vec<TimelineSwitch>> {
    content
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut fields = line.split_ascii_whitespace();
            Some(TimelineSwitch {
                timeline: fields.next()?.parse().ok()?,
                switched_at: fields.next()?.parse().ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_names_for_the_grammar_they_go_into() {
        let options = StartOptions {
            slot: "s".into(),
            publication: r#"o'b"r\x, y"#.into(),
            messages: true,
            origins: Origins::None,
            from: Lsn::ZERO,
        };
        assert_eq!(
            start_command(&options),
            r#"START_REPLICATION SLOT "s" LOGICAL 0/0 (proto_version '1', publication_names '"o''b""r\x, y"', messages 'true', origin 'none')"#
        );
    }

    #[test]
    fn reads_a_history_file() {
        let file =
            "1\t0/30000A0\tno recovery target specified\n\n# a note\n2\t1/A\tbefore 2024-01-01\n";
        let switch =
            |timeline, lsn: &str| TimelineSwitch { timeline, switched_at: lsn.parse().unwrap() };
        assert_eq!(history_of(file), Some(vec![switch(1, "0/30000A0"), switch(2, "1/A")]));
        assert_eq!(history_of("x\t0/1"), None);
    }
}
