//! A session of our own that reads rows in bulk: by statements of the simple protocol, and by COPY
//! in large pieces of whole rows.
//!
//! `tokio_postgres` would cost a channel hop and an allocation for each row. A call that was given
//! up half-way leaves the session unusable, and the next call reports that. `snapshot` decides what
//! is read.

use crate::lsn::Oid;
use crate::postgres::config::Config;
use crate::postgres::error::PgError;
use crate::postgres::session::{Rows, Session, parsed, unexpected};
use crate::postgres::startup::Purpose;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use std::time::Duration;

/// The size in bytes at which [`CopySession::next`] returns a piece. That is some 1000 rows of a
/// common size. Handing over a piece then costs next to nothing per row. The pieces of several
/// workers are small beside the byte budget. A single larger row makes a larger piece.
const PIECE_BYTES: usize = 128 * 1024;

/// The longest wait for the answer to a statement that is not a COPY. Such a statement waits only
/// for locks, which `lock_timeout` limits.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest wait while [`CopySession::close`] sends its Terminate message.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Whole rows in COPY's text format, in the order in which the server sent them.
#[derive(Default)]
pub struct Piece {
    /// Each row as the server sent it: a length of four bytes that counts itself, and the line.
    bytes: Vec<u8>,
    rows: usize,
}

impl std::fmt::Debug for Piece {
    /// Row values stay out of logs and panics: only the size is printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Piece({} rows, {} bytes)", self.rows, self.bytes.len())
    }
}

impl Piece {
    /// Number of lines of COPY in this piece, one for each row.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of bytes in this piece, lengths included.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The line whose length is at the offset `at` (0 for the first line), and the offset for the
    /// next line. `None` after the last line.
    #[inline]
    #[must_use]
    pub fn line(&self, at: usize) -> Option<(&[u8], usize)> {
        let (length, _) = self.bytes.get(at..)?.split_first_chunk()?;
        let end = at + usize::try_from(u32::from_be_bytes(*length)).ok()?;
        Some((self.bytes.get(at + 4..end)?, end))
    }
}

/// A column of a statement's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultColumn {
    /// The server's label of the column, which need not be unique.
    pub name: String,
    /// `pg_type.oid` as RowDescription has it. For a domain this is the oid of the base type.
    pub type_oid: Oid,
}

/// A session for reading rows with COPY and with statements. The role's own search path applies,
/// and there is no statement timeout.
pub struct CopySession {
    session: Session,
}

impl CopySession {
    /// Opens a session. `suffix` is added to the session's `application_name` and tells its
    /// purpose.
    ///
    /// # Errors
    /// As [`crate::postgres::Sql::connect`].
    pub async fn connect(config: &Config, suffix: &str) -> Result<Self, PgError> {
        Ok(CopySession { session: Session::open(config, Purpose::Copy, suffix).await? })
    }

    /// Process id of the server process of this session.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.session.backend_pid
    }

    /// The server's version as in `server_version_num`: 150018 is 15.18.
    #[must_use]
    pub fn server_version(&self) -> u32 {
        self.session.version
    }

    /// Runs statements of the simple protocol, and returns the rows of all of them, with every
    /// value as Postgres prints it.
    ///
    /// # Errors
    /// An error of the connection; `Server` if a statement fails; `Timeout` after 60 s.
    pub async fn query(
        &mut self,
        call: &'static str,
        object: &str,
        sql: &str,
    ) -> Result<Rows, PgError> {
        match tokio::time::timeout(QUESTION_TIMEOUT, self.session.query(call, object, sql)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(PgError::Timeout { call, object: object.to_owned(), limit: QUESTION_TIMEOUT })
            }
        }
    }

    /// The columns that a statement would return. The server parses the statement and does not run
    /// it. A text with more than one statement is refused.
    ///
    /// # Errors
    /// An error of the connection; `Server` with the server's objection; `Timeout` after 60 s.
    pub async fn columns_of(
        &mut self,
        object: &str,
        statement: &str,
    ) -> Result<Vec<ResultColumn>, PgError> {
        const CALL: &str = "try the query of";
        match tokio::time::timeout(QUESTION_TIMEOUT, self.described(CALL, object, statement)).await
        {
            Ok(answer) => answer,
            Err(_) => Err(PgError::Timeout {
                call: CALL,
                object: object.to_owned(),
                limit: QUESTION_TIMEOUT,
            }),
        }
    }

    async fn described(
        &mut self,
        call: &'static str,
        object: &str,
        statement: &str,
    ) -> Result<Vec<ResultColumn>, PgError> {
        let mut out = BytesMut::new();
        let written = frontend::parse("", statement, [], &mut out)
            .and_then(|()| frontend::describe(b'S', "", &mut out));
        written.map_err(|source| PgError::Io { call, source })?;
        frontend::sync(&mut out);
        self.session.begin(call)?;
        self.session.send(&out, call).await?;
        let (mut columns, mut failure) = (Vec::new(), None);
        loop {
            match self.session.message(call).await? {
                Message::RowDescription(body) => {
                    let mut fields = body.fields();
                    while let Ok(Some(field)) = fields.next() {
                        let (name, type_oid) = (field.name().to_owned(), Oid(field.type_oid()));
                        columns.push(ResultColumn { name, type_oid });
                    }
                }
                Message::ErrorResponse(body) => {
                    failure = Some(self.session.server_error(call, object, &body))
                }
                Message::ReadyForQuery(_) => {
                    self.session.abandoned = false;
                    return failure.map_or(Ok(columns), Err);
                }
                Message::ParameterStatus(body) => self.session.note_parameter(&body),
                _ => {} // ParseComplete, ParameterDescription, NoData, notices
            }
        }
    }

    /// Starts a `COPY ... TO STDOUT` of any length. [`CopySession::next`] returns its rows.
    ///
    /// # Errors
    /// An error of the connection; `Server` if the statement is refused. After `Server` the session
    /// can be used again.
    pub async fn begin(&mut self, object: &str, sql: &str) -> Result<(), PgError> {
        self.session.ask(CALL, sql).await?;
        loop {
            let (tag, message) = self.session.whole_message(CALL).await?;
            if tag == b'H' {
                return Ok(());
            }
            match parsed(CALL, tag, message)? {
                Message::ErrorResponse(body) => {
                    let error = self.session.server_error(CALL, object, &body);
                    return Err(self.failed(error).await);
                }
                Message::NoticeResponse(_) => {}
                Message::ParameterStatus(body) => self.session.note_parameter(&body),
                _ => return Err(unexpected(CALL, tag)),
            }
        }
    }

    /// Waits for the next rows of the last COPY that was started, and returns them. `None` when the
    /// COPY is complete.
    ///
    /// # Errors
    /// An error of the connection; `Server` if the statement fails half-way. After `Server` the
    /// session can be used again.
    pub async fn next(&mut self, object: &str) -> Result<Option<Piece>, PgError> {
        let mut piece = Piece { bytes: Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4), rows: 0 };
        loop {
            while let Some((tag, body)) = self.session.inbox.take()? {
                match tag {
                    b'd' => {
                        // The piece keeps the line with the four bytes of its length.
                        let line = self.session.inbox.bytes(body.start - 4..body.end);
                        piece.bytes.extend_from_slice(line);
                        piece.rows += 1;
                        if piece.bytes.len() >= PIECE_BYTES {
                            return Ok(Some(piece));
                        }
                    }
                    b'c' | b'C' | b'N' | b'S' => {}
                    b'Z' => {
                        self.session.abandoned = false;
                        return Ok((piece.rows > 0).then_some(piece));
                    }
                    b'E' => {
                        let mut message = BytesMut::with_capacity(body.len() + 5);
                        message
                            .extend_from_slice(self.session.inbox.bytes(body.start - 5..body.end));
                        let Message::ErrorResponse(body) = parsed(CALL, tag, message)? else {
                            return Err(unexpected(CALL, tag));
                        };
                        let error = self.session.server_error(CALL, object, &body);
                        return Err(self.failed(error).await);
                    }
                    other => return Err(unexpected(CALL, other)),
                }
            }
            if !self.session.abandoned && piece.rows == 0 {
                return Ok(None); // ReadyForQuery came with the piece before
            }
            self.session.fill(CALL).await?;
        }
    }

    /// Waits until the session ends, and returns the reason. Messages other than an error are
    /// ignored.
    pub async fn ended(&mut self) -> PgError {
        loop {
            match self.session.message("hold the session").await {
                Ok(Message::ErrorResponse(body)) => {
                    return self.session.server_error("hold", "the session", &body);
                }
                Ok(Message::ParameterStatus(body)) => self.session.note_parameter(&body),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Ends the session with a goodbye message, which may take at most 1 s.
    pub async fn close(mut self) {
        let mut goodbye = BytesMut::with_capacity(5);
        frontend::terminate(&mut goodbye);
        // A failure needs no handling, because the connection ends either way.
        let _ =
            tokio::time::timeout(CLOSE_LIMIT, self.session.send(&goodbye, "end the session")).await;
    }

    /// Reads on to the end of the answer to a statement that failed, so that the session can be
    /// used again. Returns `error`.
    async fn failed(&mut self, error: PgError) -> PgError {
        if matches!(&error, PgError::Server { source, .. } if source.severity != "ERROR") {
            return error; // FATAL: ReadyForQuery never comes
        }
        loop {
            match self.session.message(CALL).await {
                Ok(Message::ReadyForQuery(_)) => {
                    self.session.abandoned = false;
                    return error;
                }
                Ok(_) => {}
                Err(_) => return error, // the server's first error is the cause
            }
        }
    }
}

const CALL: &str = "copy";
