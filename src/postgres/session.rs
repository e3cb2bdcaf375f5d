//! Opens a session with one server: tries the hosts, logs in, reads the greeting and pins the
//! settings. Runs the simple query protocol on the session.
//!
//! Replication and SQL connections both begin here, so TLS, passwords, pinned settings and errors
//! are the same for both. `replication` and `copies` use the open session itself, and `sql` hands
//! it to `tokio_postgres`.

use crate::postgres::auth::{self, Channel, Refusal, Scram};
use crate::postgres::config::{Config, Host};
use crate::postgres::error::{Attempts, PgError, ServerError};
use crate::postgres::inbox::Inbox;
use crate::postgres::socket::{Address, Socket, addresses};
use crate::postgres::startup::{self, Purpose};
use crate::postgres::tls;
use crate::secret::{self, Source};
use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;
use std::collections::BTreeMap;
use std::future::poll_fn;
use tokio::io::AsyncWriteExt as _;

/// The longest message that is accepted until the greeting has been read. libpq accepts errors of
/// 30,000 bytes during a login.
const GREETING_BYTES_MAX: usize = 64 * 1024;

/// The most warnings of the server that are kept from one greeting. A server has one about the form
/// of the password and one about its age, and extensions may add more.
const WARNINGS_MAX: usize = 8;

/// The most bytes of rows in the answer to one simple query. The answers to our queries have a few
/// hundred bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A connection to a server, with the bytes that were read and are not yet used. [`Session::open`]
/// returns it after the login and all checks.
pub(super) struct Session {
    pub(super) socket: Socket,
    pub(super) inbox: Inbox,
    pub(super) host: Host,
    /// The values that the server reported in ParameterStatus messages, such as `server_version`.
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) backend_pid: i32,
    pub(super) secret_key: i32,
    /// `server_version_num`, for example 170002 for 17.2.
    pub(super) version: u32,
    /// Warnings that the server sent in its greeting, such as the one about an md5 password (from
    /// 19 on).
    pub(super) warnings: Vec<ServerError>,
    /// True from the begin of a call until its answer is complete. If it is true when the next call
    /// begins, the earlier call was given up, and the next bytes belong to its answer.
    pub(super) abandoned: bool,
}

/// Rows of a simple query, with each value as text. `None` is NULL.
pub(super) type Rows = Vec<Vec<Option<String>>>;

impl Session {
    /// Tries every address of every host, in order, until one accepts our login and passes the
    /// checks of its greeting. A refused login ends the search, because the next host would refuse
    /// the login, too.
    pub(super) async fn open(
        config: &Config,
        purpose: Purpose,
        suffix: &str,
    ) -> Result<Self, PgError> {
        let config = &with_printed_password(config).await?;
        let mut attempts = Vec::new();
        for host in &config.hosts {
            let found = match tokio::time::timeout(config.connect_timeout, addresses(host)).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    attempts.push(error);
                    continue;
                }
                Err(_) => {
                    attempts.push(PgError::ConnectTimeout {
                        host: host.clone(),
                        limit: config.connect_timeout,
                    });
                    continue;
                }
            };
            for address in found {
                let entering = Session::enter(config, host, &address, purpose, suffix);
                let error = match tokio::time::timeout(config.connect_timeout, entering).await {
                    Ok(Ok(session)) => return Ok(session),
                    Ok(Err(error)) => error,
                    Err(_) => PgError::ConnectTimeout {
                        host: host.clone(),
                        limit: config.connect_timeout,
                    },
                };
                let final_word = is_refused_login(&error);
                attempts.push(error);
                if final_word {
                    return Err(one_of(attempts));
                }
            }
        }
        Err(one_of(attempts))
    }

    async fn enter(
        config: &Config,
        host: &Host,
        address: &Address,
        purpose: Purpose,
        suffix: &str,
    ) -> Result<Self, PgError> {
        let mut session = Session {
            socket: Socket::open(config, host, address, purpose).await?,
            inbox: Inbox::new(GREETING_BYTES_MAX),
            host: host.clone(),
            parameters: BTreeMap::new(),
            backend_pid: 0,
            secret_key: 0,
            version: 0,
            warnings: Vec::new(),
            abandoned: false,
        };
        let greeting = startup::message(config, purpose, suffix).map_err(encoding)?;
        if let Err(error) = session.send(&greeting, "begin the session").await {
            // A server that has closed the connection may have sent a TLS alert before. This read
            // finds the alert, which says more than `error`.
            let last = session
                .fill("begin the session")
                .await
                .err()
                .map(|last| tls::refused_late(host, last));
            return Err(last.filter(|last| matches!(last, PgError::Tls { .. })).unwrap_or(error));
        }
        session.log_in(config).await.map_err(|error| tls::refused_late(host, error))?;
        session.read_greeting(config).await?;
        session.check_greeting(config.target)?;
        session.inbox.set_bytes_max(config.frame_bytes_max);
        session.pin().await?;
        Ok(session)
    }

    async fn log_in(&mut self, config: &Config) -> Result<(), PgError> {
        const CALL: &str = "log in";
        let channel = Channel {
            binding: config.tls.channel_binding,
            end_point: self.socket.tls_server_end_point(),
            private: self.socket.is_private(),
        };
        let source = config.password.as_ref();
        let host = self.host.clone();
        let refused = |refusal| refused_login(config, &host, refusal);
        let asked = match self.message(CALL).await? {
            Message::AuthenticationOk => return auth::unbound(&channel).map_err(refused),
            other => other,
        };
        let mut out = BytesMut::new();
        match asked {
            Message::AuthenticationCleartextPassword => {
                let password = auth::cleartext(&channel, source).map_err(refused)?;
                frontend::password_message(password.reveal().as_bytes(), &mut out)
                    .map_err(encoding)?;
                self.send(&out, CALL).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let answer =
                    auth::md5(&channel, source, &config.user, body.salt()).map_err(refused)?;
                frontend::password_message(answer.reveal().as_bytes(), &mut out)
                    .map_err(encoding)?;
                self.send(&out, CALL).await?;
            }
            Message::AuthenticationSasl(offer) => {
                let mut scram = Scram::begin(&channel, source, &offer).map_err(refused)?;
                frontend::sasl_initial_response(scram.mechanism, scram.message(), &mut out)
                    .map_err(encoding)?;
                self.send(&out, CALL).await?;
                let challenge = match self.message(CALL).await? {
                    Message::AuthenticationSaslContinue(body) => body,
                    other => return Err(self.unexpected_login(config, &other)),
                };
                scram.challenged(challenge.data()).map_err(refused)?;
                out.clear();
                frontend::sasl_response(scram.message(), &mut out).map_err(encoding)?;
                self.send(&out, CALL).await?;
                let proof = match self.message(CALL).await? {
                    Message::AuthenticationSaslFinal(body) => body,
                    other => return Err(self.unexpected_login(config, &other)),
                };
                scram.finished(proof.data()).map_err(refused)?;
            }
            other => return Err(self.unexpected_login(config, &other)),
        }
        match self.message(CALL).await? {
            Message::AuthenticationOk => Ok(()),
            other => Err(self.unexpected_login(config, &other)),
        }
    }

    /// The error for a message that does not continue a login: an error of the server, a request
    /// for a method that we do not speak, or a message out of place.
    fn unexpected_login(&self, config: &Config, message: &Message) -> PgError {
        let method = match message {
            Message::ErrorResponse(body) => {
                let (user, host, source) =
                    (config.user.clone(), self.host.clone(), Box::new(ServerError::of_wire(body)));
                return match source.sqlstate.as_bytes() {
                    [b'2', b'8', ..] => PgError::Auth { user, host, source },
                    _ => PgError::Server {
                        call: "open database",
                        object: config.database.clone(),
                        source,
                    },
                };
            }
            Message::AuthenticationGss | Message::AuthenticationGssContinue(_) => "GSSAPI",
            Message::AuthenticationSspi => "SSPI",
            Message::AuthenticationKerberosV5 => "Kerberos 5",
            Message::AuthenticationScmCredential => "SCM credentials",
            _ => {
                let what = "a message that has no place in a login".to_owned();
                return PgError::Protocol { call: "log in", what };
            }
        };
        let reason = format!(
            "the server asks for {method}, which is not spoken here; use scram-sha-256 in \
             pg_hba.conf"
        );
        refused_login(config, &self.host, Refusal::Because(reason))
    }

    async fn read_greeting(&mut self, config: &Config) -> Result<(), PgError> {
        loop {
            match self.message("read the greeting").await? {
                Message::BackendKeyData(body) => {
                    self.backend_pid = body.process_id();
                    self.secret_key = body.secret_key();
                }
                Message::ParameterStatus(body) => self.note_parameter(&body),
                Message::NoticeResponse(body) if self.warnings.len() < WARNINGS_MAX => {
                    let notice = ServerError::of_notice(&body);
                    self.warnings.extend((notice.severity == "WARNING").then_some(notice));
                }
                Message::NoticeResponse(_) => {}
                Message::ReadyForQuery(_) => return Ok(()),
                // After the password, the server sends errors such as "must be superuser or
                // replication role", "database does not exist" and "the system is shutting down".
                other => return Err(self.unexpected_login(config, &other)),
            }
        }
    }

    pub(super) fn note_parameter(
        &mut self,
        body: &postgres_protocol::message::backend::ParameterStatusBody,
    ) {
        if let (Ok(name), Ok(value)) = (body.name(), body.value()) {
            self.parameters.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Runs one simple query and returns its rows. On a walsender the query can be a replication
    /// command.
    ///
    /// If the future is dropped half-way, the session cannot be used again, and the next call
    /// reports that.
    pub(super) async fn query(
        &mut self,
        call: &'static str,
        object: &str,
        sql: &str,
    ) -> Result<Rows, PgError> {
        self.ask(call, sql).await?;
        let (mut rows, mut failure, mut bytes) = (Vec::new(), None, 0);
        loop {
            match self.message(call).await? {
                Message::DataRow(body) => {
                    bytes += body.buffer().len();
                    if bytes > ANSWER_BYTES_MAX {
                        return Err(PgError::FrameTooLong { bytes, bytes_max: ANSWER_BYTES_MAX });
                    }
                    rows.push(row_of(&body).ok_or(PgError::Answer {
                        call,
                        object: object.to_owned(),
                        field: "row",
                    })?);
                }
                Message::ErrorResponse(body) => {
                    let error = self.server_error(call, object, &body);
                    if matches!(&error, PgError::Server { source, .. } if source.severity != "ERROR")
                    {
                        // ReadyForQuery never comes, because the connection ends after FATAL
                        return Err(error);
                    }
                    failure = Some(error);
                }
                Message::ReadyForQuery(_) => {
                    self.abandoned = false;
                    return failure.map_or(Ok(rows), Err);
                }
                Message::ParameterStatus(body) => self.note_parameter(&body),
                _ => {} // RowDescription, CommandComplete, notices: nothing we act on
            }
        }
    }

    /// Sends a command to which the server answers with CopyBothResponse, and waits for this
    /// answer.
    pub(super) async fn begin_copy_both(
        &mut self,
        call: &'static str,
        object: &str,
        sql: &str,
    ) -> Result<(), PgError> {
        self.ask(call, sql).await?;
        loop {
            let (tag, message) = self.whole_message(call).await?;
            if tag == b'W' {
                return Ok(());
            }
            match parsed(call, tag, message)? {
                Message::ErrorResponse(body) => {
                    let error = self.server_error(call, object, &body);
                    return Err(error);
                }
                Message::NoticeResponse(_) => {}
                Message::ParameterStatus(body) => self.note_parameter(&body),
                _ => return Err(unexpected(call, tag)),
            }
        }
    }

    /// Sets `abandoned`, which the caller clears when the answer is complete. Fails if `abandoned`
    /// is set already, because an earlier call was given up half-way.
    pub(super) fn begin(&mut self, call: &'static str) -> Result<(), PgError> {
        if std::mem::replace(&mut self.abandoned, true) {
            let what = "an earlier call on this connection was given up half-way; connect again"
                .to_owned();
            return Err(PgError::Protocol { call, what });
        }
        Ok(())
    }

    pub(super) async fn ask(&mut self, call: &'static str, sql: &str) -> Result<(), PgError> {
        self.begin(call)?;
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(encoding)?;
        self.send(&out, call).await
    }

    pub(super) fn server_error(
        &self,
        call: &'static str,
        object: &str,
        body: &postgres_protocol::message::backend::ErrorResponseBody,
    ) -> PgError {
        PgError::Server {
            call,
            object: object.to_owned(),
            source: Box::new(ServerError::of_wire(body)),
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8], call: &'static str) -> Result<(), PgError> {
        let io = |source| PgError::Io { call, source };
        self.socket.write_all(bytes).await.map_err(io)?;
        self.socket.flush().await.map_err(io)
    }

    pub(super) async fn message(&mut self, call: &'static str) -> Result<Message, PgError> {
        let (tag, message) = self.whole_message(call).await?;
        parsed(call, tag, message)
    }

    pub(super) async fn whole_message(
        &mut self,
        call: &'static str,
    ) -> Result<(u8, BytesMut), PgError> {
        loop {
            if let Some(message) = self.inbox.split()? {
                return Ok(message);
            }
            self.fill(call).await?;
        }
    }

    /// Waits for one read from the socket into the inbox. The end of the stream is the error
    /// `Closed`. Cancel-safe.
    pub(super) async fn fill(&mut self, call: &'static str) -> Result<(), PgError> {
        let (inbox, socket) = (&mut self.inbox, &mut self.socket);
        match poll_fn(|cx| inbox.poll_fill(cx, socket)).await {
            Ok(0) => Err(PgError::Closed { call }),
            Ok(_) => Ok(()),
            Err(source) => Err(PgError::Io { call, source }),
        }
    }
}

pub(super) fn parsed(
    call: &'static str,
    tag: u8,
    mut message: BytesMut,
) -> Result<Message, PgError> {
    match Message::parse(&mut message) {
        Ok(Some(message)) => Ok(message),
        Ok(None) | Err(_) => Err(unexpected(call, tag)),
    }
}

pub(super) fn unexpected(call: &'static str, tag: u8) -> PgError {
    PgError::Protocol {
        call,
        what: format!("a message with tag {tag:#04x} that has no place here or no sense"),
    }
}

/// The error for a message that cannot be written because a text in it has a zero byte.
fn encoding(source: std::io::Error) -> PgError {
    PgError::Io { call: "write a message", source }
}

fn refused_login(config: &Config, host: &Host, refusal: Refusal) -> PgError {
    let (user, host) = (config.user.clone(), host.clone());
    match refusal {
        Refusal::NoPassword => PgError::PasswordMissing { user, host },
        Refusal::Source(source) => PgError::PasswordSource { user, source },
        Refusal::Because(reason) => PgError::AuthUnsupported { user, host, reason },
    }
}

/// A copy of the configuration, in which the output of the password's command replaces the command.
/// The command runs once for all hosts, before the first connect. The time of the command thus
/// counts neither for `connect_timeout` nor for the server's `authentication_timeout`.
async fn with_printed_password(config: &Config) -> Result<Config, PgError> {
    let mut config = config.clone();
    if let Some(source @ Source::Command(_)) = &config.password {
        let printed = secret::fetch(source).await;
        let printed = printed
            .map_err(|source| PgError::PasswordSource { user: config.user.clone(), source })?;
        // The tool of a cloud may print the end of the token's life beside the token. Only the
        // token is the password.
        config.password =
            Some(Source::Inline(secret::Token::of(&printed, std::time::Duration::ZERO).secret));
    }
    Ok(config)
}

fn is_refused_login(error: &PgError) -> bool {
    matches!(
        error,
        PgError::Auth { .. }
            | PgError::AuthUnsupported { .. }
            | PgError::PasswordMissing { .. }
            | PgError::PasswordSource { .. }
            | PgError::TlsSetup { .. }
            | PgError::TlsFile { .. }
            | PgError::TlsKey { .. }
    )
}

/// The error if no host accepted us: the error of its only attempt, or the errors of all attempts.
fn one_of(mut attempts: Vec<PgError>) -> PgError {
    match (attempts.len(), attempts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            attempts.extend(last);
            PgError::NoHost { attempts: Attempts(attempts) }
        }
    }
}

/// The values of a row. `None` if a value is not UTF-8 or the row is malformed.
fn row_of(body: &DataRowBody) -> Option<Vec<Option<String>>> {
    let (buffer, mut ranges, mut values) = (body.buffer(), body.ranges(), Vec::new());
    while let Some(range) = ranges.next().ok()? {
        values.push(match range {
            None => None,
            Some(range) => Some(std::str::from_utf8(buffer.get(range)?).ok()?.to_owned()),
        });
    }
    Some(values)
}
