//! The errors of calls to a Postgres server, each with its call and object.
//!
//! No variant holds a password, a row's value or the text of a query. This file only distinguishes
//! failures, and `agent` decides what a failure means.

use crate::postgres::config::Host;
use crate::secret::{KeyError, SourceError};
use postgres_protocol::message::backend::{ErrorFields, ErrorResponseBody, NoticeResponseBody};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The most characters that are kept of each text (message, detail, hint) of a server's error.
/// Postgres's own texts are shorter, and a broken server cannot make us log more.
const SERVER_TEXT_CHARS_MAX: usize = 1000;

/// A failed call to a Postgres server.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum PgError {
    /// The name of a host could not be resolved into an address.
    #[error("resolve the host of {host}")]
    Resolve {
        host: Host,
        #[source]
        source: io::Error,
    },
    /// The socket to the server cannot be opened.
    #[error("connect to {host}")]
    Connect {
        host: Host,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// Socket, TLS, password exchange and greeting took longer than `connect_timeout` together, or
    /// the resolution of the host's name did.
    #[error("connect to {host}: not finished within {} s", limit.as_secs())]
    ConnectTimeout { host: Host, limit: Duration },
    /// None of several hosts or addresses accepted us. [`PgError::sqlstate`] is that of the last
    /// attempt that has one.
    #[error("no host of the list took the connection")]
    NoHost {
        /// The errors of the attempts, in their order.
        #[source]
        attempts: Attempts,
    },
    /// TLS is required and the server does not offer it. Nothing but the request for TLS was sent.
    #[error(
        "TLS to {host}: the server does not offer it (ssl = off); set it up there, or ask for \
         sslmode=disable"
    )]
    TlsRefused { host: Host },
    /// The TLS handshake failed, because of the certificate chain, the host name or the protocol
    /// version.
    #[error("TLS to {host}: {what}")]
    Tls {
        host: Host,
        /// The step that failed.
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server does not begin with TLS, as `sslnegotiation=direct` requires.
    #[error(
        "TLS to {host}: {what}; sslnegotiation=direct needs Postgres 17 or later with ssl = on, \
         and nothing on the way that reads the protocol: ask for sslnegotiation=postgres"
    )]
    DirectTlsRefused {
        host: Host,
        /// What the server did instead.
        what: &'static str,
        #[source]
        source: Option<openssl::ssl::Error>,
    },
    /// `sslcert` cannot be read.
    #[error("read sslcert {}", path.display())]
    TlsFile {
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// `sslkey` is not a key that we may or can use.
    #[error("use sslkey")]
    TlsKey {
        /// What is wrong with the key, and what to do.
        #[source]
        source: KeyError,
    },
    /// OpenSSL could not be set up, `sslrootcert` could not be read, a file has no certificate, or
    /// `sslkey` is not the key of `sslcert`.
    #[error("set up TLS from {what}")]
    TlsSetup {
        /// The file, or the step that failed.
        what: String,
        #[source]
        source: openssl::error::ErrorStack,
    },
    /// The password cannot be read from its source.
    #[error("read the password of `{user}`")]
    PasswordSource {
        user: String,
        /// Names the file or command that holds the password, and says why it failed.
        #[source]
        source: SourceError,
    },
    /// The server asks for a password, and none is configured.
    #[error("log in as `{user}` at {host}: the server asks for a password and none is configured")]
    PasswordMissing { user: String, host: Host },
    /// The server refused role or password (SQLSTATE class 28), or access by pg_hba.conf.
    #[error("log in as `{user}` at {host}")]
    Auth {
        user: String,
        host: Host,
        /// The error that the server sent.
        #[source]
        source: Box<ServerError>,
    },
    /// The server asks for a login method that we do not speak, or that is not safe here.
    #[error("log in as `{user}` at {host}: {reason}")]
    AuthUnsupported {
        user: String,
        host: Host,
        /// The method that the server asked for, and what to do.
        reason: String,
    },
    /// The server is older than 14.
    #[error(
        "{host} runs Postgres {}.{}; 14 is the oldest that works", version / 10000, version % 10000
    )]
    TooOld { host: Host, version: u32 },
    /// `target_session_attrs` asks for another kind of server.
    #[error("{host} is {found}, and target_session_attrs asks for {wanted}")]
    WrongRole {
        host: Host,
        found: &'static str,
        /// The kind of server that was asked for.
        wanted: &'static str,
    },
    /// A pooler or proxy dropped the settings that our sessions depend on.
    #[error(
        "{host} did not take our setting: {setting} is `{found}`; connect to the server itself, \
         not to a pooler"
    )]
    SettingIgnored { host: Host, setting: &'static str, found: String },
    /// The server answered a call with an error.
    #[error("{call} `{object}`")]
    Server {
        /// The call that failed.
        call: &'static str,
        /// The slot, publication, table or database of the call.
        object: String,
        /// The error that the server sent.
        #[source]
        source: Box<ServerError>,
    },
    /// The server broke the protocol or speaks one that we do not know, or an earlier call on the
    /// connection was given up half-way.
    #[error("{call}: {what}")]
    Protocol {
        /// The call that failed.
        call: &'static str,
        /// The fault as a text. It may name tags and lengths of messages, and it quotes no content.
        what: String,
    },
    /// A message is longer than the limit for messages, which is `frame_bytes_max` after the login,
    /// or the rows of one answer together are longer than the limit for answers. The connection is
    /// of no more use.
    ///
    /// A change of the publication concerns only rows that are written after the change, so the
    /// stream still meets a row that is in the WAL already.
    #[error(
        "a message of {bytes} bytes exceeds the limit of {bytes_max}, which no key changes; if it \
         is a row, keep rows of this size out of the publication (by a column list, or without the \
         table)"
    )]
    FrameTooLong {
        /// Length of the message with its header, or of the rows so far.
        bytes: usize,
        bytes_max: usize,
    },
    #[error("{call}: the connection failed")]
    Io {
        /// The call that failed.
        call: &'static str,
        /// The error of the operating system or of OpenSSL.
        #[source]
        source: io::Error,
    },
    /// The server closed the connection without an error message.
    #[error("{call}: the server closed the connection")]
    Closed {
        /// The call that failed.
        call: &'static str,
    },
    /// The server did not answer within our limit for the call.
    #[error("{call} `{object}`: no answer within {} s", limit.as_secs())]
    Timeout { call: &'static str, object: String, limit: Duration },
    /// An answer is not of the form that every supported server gives.
    #[error("{call} `{object}`: the answer's `{field}` cannot be read")]
    Answer {
        call: &'static str,
        object: String,
        /// The part of the answer that is missing or cannot be read.
        field: &'static str,
    },
    /// A failure that `tokio_postgres` reports and that is neither an error of the server nor the
    /// end of the connection.
    #[error("{call} `{object}`")]
    Client {
        call: &'static str,
        object: String,
        #[source]
        source: tokio_postgres::Error,
    },
}

impl PgError {
    /// The `call` in the error with which the server ends a stream that has begun.
    pub(super) const STREAM: &'static str = "stream from";

    /// The error with which the server ended a stream that had begun. `None` for any other failure.
    #[must_use]
    pub fn of_stream(&self) -> Option<&ServerError> {
        match self {
            PgError::Server { call, source, .. } if *call == Self::STREAM => Some(source),
            _ => None,
        }
    }

    /// The SQLSTATE of an error that the server sent. `None` for an error that the server did not
    /// send. For [`PgError::NoHost`] it is that of the last attempt that has one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            PgError::Auth { source, .. } => Some(&source.sqlstate),
            PgError::Server { source, .. } => Some(&source.sqlstate),
            PgError::NoHost { attempts } => attempts.0.iter().rev().find_map(PgError::sqlstate),
            _ => None,
        }
    }

    /// Whether the server is shutting down, or has ended this session by an administrator's
    /// command: SQLSTATE 57P01, 57P02 or 57P03.
    ///
    /// A server that is starting sends 57P03, too. In each case a later attempt may succeed.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        matches!(self.sqlstate(), Some("57P01" | "57P02" | "57P03"))
    }

    /// Whether another session holds the slot (55006). Nothing but this keeps two agents from
    /// streaming from one slot.
    #[must_use]
    pub fn is_slot_in_use(&self) -> bool {
        self.sqlstate() == Some("55006")
    }

    /// Turns an error of `tokio_postgres` into one of these variants: `Server`, `Closed` or
    /// `Client`.
    pub(super) fn of_client(
        call: &'static str,
        object: &str,
        source: tokio_postgres::Error,
    ) -> Self {
        if let Some(error) = source.as_db_error() {
            return PgError::Server {
                call,
                object: object.to_owned(),
                source: Box::new(ServerError::of_db(error)),
            };
        }
        if source.is_closed() {
            return PgError::Closed { call };
        }
        PgError::Client { call, object: object.to_owned(), source }
    }
}

/// One error for each host or address that was tried.
#[derive(Debug)]
pub struct Attempts(pub(super) Vec<PgError>);

impl Attempts {
    /// The errors, in the order of the attempts.
    #[must_use]
    pub fn errors(&self) -> &[PgError] {
        &self.0
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
            let mut cause = std::error::Error::source(error);
            while let Some(inner) = cause {
                write!(f, ": {inner}")?;
                cause = inner.source();
            }
        }
        Ok(())
    }
}

impl std::error::Error for Attempts {}

/// An error or a notice of the server, without the texts that may quote a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`; for a notice a word such as `WARNING`.
    pub severity: String,
    /// The five characters of the SQLSTATE, of which the first two are the class; empty if the
    /// server sent none.
    pub sqlstate: String,
    pub(crate) message: String,
    /// The detail that the server sent. `None` if the server sent none, or if the detail might
    /// quote a row.
    pub detail: Option<String>,
    /// The hint that the server sent. `None` if the server sent none, or if the hint might quote a
    /// row.
    pub hint: Option<String>,
}

impl ServerError {
    /// Reads an ErrorResponse. A missing text is left empty, and bytes that are not UTF-8 are
    /// replaced.
    pub(super) fn of_wire(body: &ErrorResponseBody) -> Self {
        ServerError::of_fields(body.fields())
    }

    /// Reads a NoticeResponse, which has the form of an ErrorResponse.
    pub(super) fn of_notice(body: &NoticeResponseBody) -> Self {
        ServerError::of_fields(body.fields())
    }

    fn of_fields(mut fields: ErrorFields<'_>) -> Self {
        use fallible_iterator::FallibleIterator as _;
        let (mut localized, mut severity) = (None, None);
        let (mut sqlstate, mut message, mut detail, mut hint) = (None, None, None, None);
        while let Ok(Some(field)) = fields.next() {
            let text = || Some(String::from_utf8_lossy(field.value_bytes()).into_owned());
            match field.type_() {
                b'S' => localized = text(),
                b'V' => severity = text(),
                b'C' => sqlstate = text(),
                b'M' => message = text(),
                b'D' => detail = text(),
                b'H' => hint = text(),
                _ => {}
            }
        }
        ServerError {
            severity: severity.or(localized).unwrap_or_default(),
            sqlstate: sqlstate.unwrap_or_default(),
            message: message.unwrap_or_default(),
            detail,
            hint,
        }
        .without_values()
    }

    pub(super) fn of_db(error: &tokio_postgres::error::DbError) -> Self {
        ServerError {
            severity: error.severity().to_owned(),
            sqlstate: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
        }
        .without_values()
    }

    /// Replaces the message and removes detail and hint if they may quote values of rows: in errors
    /// of bad data (class 22, except for 22023, which quotes options) and of violated constraints
    /// (class 23), and in those that a function raises itself (P0001). Cuts other texts to
    /// [`SERVER_TEXT_CHARS_MAX`].
    fn without_values(mut self) -> Self {
        let quotes_values = (self.sqlstate.starts_with("22") && self.sqlstate != "22023")
            || self.sqlstate.starts_with("23")
            || self.sqlstate == "P0001";
        if quotes_values {
            self.message =
                "the message is withheld, it may quote a row; the server's log has it".to_owned();
            self.detail = None;
            self.hint = None;
        }
        for text in [Some(&mut self.message), self.detail.as_mut(), self.hint.as_mut()]
            .into_iter()
            .flatten()
        {
            if let Some((cut, _)) = text.char_indices().nth(SERVER_TEXT_CHARS_MAX) {
                text.truncate(cut);
            }
        }
        self
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.sqlstate, self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_names_a_limit_that_cannot_be_raised() {
        let told = PgError::FrameTooLong { bytes: 300, bytes_max: 256 }.to_string();
        assert!(told.starts_with("a message of 300 bytes exceeds the limit of 256"), "{told}");
        assert!(!told.contains("raise") && !told.contains("drop the slot"), "{told}");
    }

    fn error(sqlstate: &str) -> ServerError {
        ServerError {
            severity: "ERROR".into(),
            sqlstate: sqlstate.into(),
            message: "invalid input: \"4711\"".into(),
            detail: Some("Key (id)=(4711) exists.".into()),
            hint: None,
        }
        .without_values()
    }

    #[test]
    fn keeps_row_values_out_of_texts() {
        for sqlstate in ["22P02", "23505", "P0001"] {
            assert!(!error(sqlstate).to_string().contains("4711"), "{sqlstate}");
        }
        assert!(error("55006").to_string().contains("4711"), "a pid is wanted");
    }

    #[test]
    fn a_host_list_answers_with_the_state_of_the_last_that_spoke() {
        let server = |state: &str| PgError::Server {
            call: "a",
            object: "b".into(),
            source: Box::new(error(state)),
        };
        let all = PgError::NoHost {
            attempts: Attempts(vec![
                server("55006"),
                server("57P03"),
                PgError::Closed { call: "read" },
            ]),
        };
        assert_eq!(all.sqlstate(), Some("57P03"));
        assert!(all.is_shutting_down());
    }
}
