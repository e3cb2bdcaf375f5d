//! An ordinary SQL connection: `tokio_postgres` on a session that `session` opened.
//!
//! It serves to read the catalog and to run the commands of an operator. The agent also keeps one
//! idle connection as the sentinel: the end of this connection shows that the server shuts down.
//! The server ends a statement after 30 s, and we wait a little longer. Names resolve in
//! `pg_catalog` only, except for a heartbeat's own statements.

use crate::postgres::config::{Config, Host};
use crate::postgres::error::{PgError, ServerError};
use crate::postgres::resume::Resumed;
use crate::postgres::session::Session;
use crate::postgres::startup::Purpose;
use std::time::Duration;
use tokio::sync::watch;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{NoTls, Row, SimpleQueryMessage};

/// The longest wait for the answer to a statement. This wait is longer than the server's own limit
/// of 30 s. A timeout therefore means a dead connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);

/// An open SQL connection to a server. Dropping it ends the session.
pub struct Sql {
    client: tokio_postgres::Client,
    ended: watch::Receiver<Option<Ended>>,
    backend_pid: i32,
    version: u32,
    host: Host,
    database: String,
    warnings: Vec<ServerError>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The error that the server sent as the connection ended, such as 57P01 in a fast shutdown.
    /// `None` if it sent none.
    pub error: Option<ServerError>,
}

/// A parameter of a statement with its type. Because the type is given, the server need not be
/// asked for it by preparing the statement.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// The call and the object of a query: two texts, such as `read publication` and the publication's
/// name, which the errors of the query contain.
#[derive(Clone, Copy)]
pub(super) struct SqlCall<'a> {
    pub(super) call: &'static str,
    pub(super) object: &'a str,
}

impl SqlCall<'_> {
    /// Reads the column `field` of a row. Fails with `Answer` if there is no such column, or if its
    /// type does not fit.
    pub(super) fn get<'r, T: FromSql<'r>>(
        self,
        row: &'r Row,
        field: &'static str,
    ) -> Result<T, PgError> {
        row.try_get(field).map_err(|_| self.unreadable(field))
    }

    pub(super) fn unreadable(self, field: &'static str) -> PgError {
        PgError::Answer { call: self.call, object: self.object.to_owned(), field }
    }
}

impl Sql {
    /// Connects as the configuration says. A task on the present tokio runtime drives the
    /// connection.
    ///
    /// # Errors
    /// An error of the connection, or a variant of [`PgError`] from `Resolve` to `SettingIgnored`;
    /// `Server` with 57P03 while the server starts or shuts down.
    pub async fn connect(config: &Config) -> Result<Self, PgError> {
        Sql::connect_as(config, "").await
    }

    /// Like [`Sql::connect`], with a suffix to the session's `application_name` that tells its
    /// purpose.
    ///
    /// # Errors
    /// As [`Sql::connect`].
    pub async fn connect_as(config: &Config, suffix: &str) -> Result<Self, PgError> {
        let session = Session::open(config, Purpose::Sql, suffix).await?;
        let (backend_pid, version, host) =
            (session.backend_pid, session.version, session.host.clone());
        let warnings = session.warnings.clone();
        let mut settings = tokio_postgres::Config::new();
        settings.user(&config.user).ssl_mode(tokio_postgres::config::SslMode::Disable);
        let (client, connection) =
            settings.connect_raw(Resumed::new(session), NoTls).await.map_err(|error| {
                PgError::of_client("take over the session with", &config.database, error)
            })?;
        let (tell, ended) = watch::channel(None);
        tokio::spawn(async move {
            let error = connection
                .await
                .err()
                .as_ref()
                .and_then(|e| e.as_db_error().map(ServerError::of_db));
            // If the `Sql` was dropped, nobody receives the end, and the error of `send` means
            // nothing.
            let _ = tell.send(Some(Ended { error }));
        });
        Ok(Sql {
            client,
            ended,
            backend_pid,
            version,
            host,
            database: config.database.clone(),
            warnings,
        })
    }

    /// Process id of the server process of this session.
    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// The server's version as in `server_version_num`: 150018 is 15.18.
    #[must_use]
    pub fn server_version(&self) -> u32 {
        self.version
    }

    /// The host of `Config::hosts` that accepted the login.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Name of the database to which we are connected.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The warnings that the server sent at the login, such as the one about an md5 password.
    #[must_use]
    pub fn warnings(&self) -> &[ServerError] {
        &self.warnings
    }

    /// Waits until the connection has ended, and returns how it ended. Returns at once if the
    /// connection has ended before. Cancel-safe.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(Ended { error: None }),
            Err(_) => Ended { error: None }, // the runtime dropped the connection
        }
    }

    /// Runs one statement without parameters. Returns its rows, with every value as Postgres prints
    /// it; `None` is NULL.
    ///
    /// # Errors
    /// `Server` if the statement fails, `Closed`, `Timeout` after 35 s.
    pub async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, PgError> {
        let asked = SqlCall { call: "query", object: &self.database };
        let messages = self.limited(asked, self.client.simple_query(sql)).await?;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
            }
            _ => None,
        };
        Ok(messages.iter().filter_map(row).collect())
    }

    /// Runs statements in one transaction, and discards the rows that they return.
    ///
    /// # Errors
    /// As [`Sql::query`].
    pub async fn execute(&self, sql: &str) -> Result<(), PgError> {
        self.run(SqlCall { call: "execute in", object: &self.database }, sql).await
    }

    /// Cancels the present query of another session (`pg_cancel_backend`). Returns false if there
    /// is no such session.
    ///
    /// # Errors
    /// `Server` with 42501 if the session is another role's; an error of the connection.
    pub async fn cancel_backend(&self, pid: i32) -> Result<bool, PgError> {
        let asked = SqlCall { call: "cancel the call of session", object: &pid.to_string() };
        let rows =
            self.ask(asked, "SELECT pg_cancel_backend($1) AS sent", &[(&pid, Type::INT4)]).await?;
        rows.first().map_or(Ok(false), |row| asked.get(row, "sent"))
    }

    /// Runs the operator's own statements of a heartbeat, in one transaction. Names without a
    /// namespace are looked up by Postgres's default search path, because the statements were
    /// written for a session with `public` in its search path.
    ///
    /// # Errors
    /// An error of the connection; `Server` if a statement fails.
    pub async fn beat(&self, statements: &str) -> Result<(), PgError> {
        let asked =
            SqlCall { call: "run the heartbeat's query in database", object: &self.database };
        self.run(asked, &format!("SET LOCAL search_path = \"$user\", public; {statements}")).await
    }

    pub(super) async fn run(&self, asked: SqlCall<'_>, sql: &str) -> Result<(), PgError> {
        self.limited(asked, self.client.batch_execute(sql)).await
    }

    pub(super) async fn ask(
        &self,
        asked: SqlCall<'_>,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, PgError> {
        self.limited(asked, self.client.query_typed(sql, parameters)).await
    }

    async fn limited<T>(
        &self,
        asked: SqlCall<'_>,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PgError> {
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => {
                answer.map_err(|error| PgError::of_client(asked.call, asked.object, error))
            }
            Err(_) => {
                let (call, object) = (asked.call, asked.object.to_owned());
                Err(PgError::Timeout { call, object, limit: ANSWER_TIMEOUT })
            }
        }
    }
}
