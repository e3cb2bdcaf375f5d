//! Decides what each failure means and what the operator reads, in one exhaustive match without a
//! catch-all.

use crate::continuity::checkpoint::RecordError;
use crate::continuity::{Chain, Halt, Trouble, TroubleReason};
use crate::core::Stopped;
use crate::kafka::{KafkaError, Remedy, StateError};
use crate::plans::keeper::KeeperError;
use crate::postgres::PgError;
use crate::rows::RowsError;

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A stop was requested. Everything was delivered and confirmed, or nothing was sent.
    Stopped,
    /// A stop was requested before everything was delivered and confirmed. The next start sends a
    /// part of the stream again.
    Repeats,
    /// The stream is halted, and `--exit-on-halt` is set.
    Halted,
    /// Postgres refuses us at the first connect. Most likely the configuration is wrong.
    SourceRefuses,
    /// The configuration does not suit a captured table at the first connect, for example because
    /// a transform names a field that the table lacks.
    TablesRefused,
    /// Kafka or the registry refuses us at the first connect.
    SinkRefuses,
    /// The reader of standard output is gone.
    ReaderGone,
    /// Standard output cannot be written.
    StdoutFailed,
}

impl From<Stopped> for Exit {
    fn from(stopped: Stopped) -> Exit {
        match stopped {
            Stopped::Whole | Stopped::NothingSent => Exit::Stopped,
            Stopped::InTransaction | Stopped::InCopy | Stopped::Unanswered => Exit::Repeats,
        }
    }
}

/// The meaning of a failure for the loop.
#[derive(Clone, Debug, PartialEq)]
pub enum Disposition {
    /// The failure passes by itself. Try again soon.
    Retry(Trouble),
    /// A person has to act. Try again later; at the first connect of a process, end with this exit.
    Refused(Trouble, Exit),
    /// The stream halts until a person decides, or until a connect no longer finds the cause.
    Halt(Halt),
}

impl Disposition {
    /// Adapts the meaning to the first connection of a process, where a refusal ends the process.
    #[must_use]
    pub fn of_a_first_connection(self) -> Self {
        match self {
            Disposition::Refused(trouble, exit) => Disposition::Refused(trouble.of_an_end(), exit),
            passes @ (Disposition::Retry(_) | Disposition::Halt(_)) => passes,
        }
    }
}

/// Why a connection could not be opened, or why an open connection ended.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A call to Postgres failed.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// The row path cannot go on.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The state cannot be read or written.
    #[error(transparent)]
    State(#[from] KeeperError),
    /// The state holds a record that we cannot read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A call to Kafka failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The stream is halted, for example because continuity is not proven.
    #[error("{}: {}", .0.reason.code(), .0.detail)]
    Halt(Halt),
    /// Something is wrong that a person corrects, or that passes with time. The agent retries soon.
    #[error("{}", .0.detail)]
    Trouble(Trouble),
    /// Something is wrong at Postgres that only a person can correct.
    #[error("{}", .0.detail)]
    Refused(Trouble),
    /// The configuration does not suit a table, and only a person can correct that.
    #[error("{}", .0.detail)]
    Unsuitable(Trouble),
    /// The walsender has sent nothing for too long, and is gone or does nothing.
    #[error("the walsender (pid {pid}) is {state}")]
    Silent {
        /// Process id of the walsender.
        pid: i32,
        /// Either `gone` or `frozen`, for the message.
        state: &'static str,
    },
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Goodbye,
}

/// Decides what a failure means. No other place does.
#[must_use]
pub fn disposition(error: &PipelineError) -> Disposition {
    match error {
        PipelineError::Postgres(error) => postgres(error),
        PipelineError::Rows(RowsError::Postgres(error)) => postgres(error),
        PipelineError::Rows(RowsError::Halt(halt)) | PipelineError::Halt(halt) => {
            Disposition::Halt(halt.clone())
        }
        PipelineError::Rows(
            error @ (RowsError::Decode(_) | RowsError::Change(_) | RowsError::Send(_)),
        ) => Disposition::Retry(Trouble::new(
            TroubleReason::StreamBroke,
            "the stream".to_owned(),
            error,
        )),
        PipelineError::State(KeeperError::State(error)) => state(error),
        PipelineError::State(error @ KeeperError::Gone) => Disposition::Retry(Trouble::new(
            TroubleReason::StateUnavailable,
            "the state".to_owned(),
            error,
        )),
        PipelineError::Record(error) => Disposition::Halt(Halt::new(
            crate::continuity::Reason::StateUnreadable,
            Chain(error).to_string(),
        )),
        PipelineError::Kafka(error) => kafka(error),
        PipelineError::Trouble(trouble) => Disposition::Retry(trouble.clone()),
        PipelineError::Refused(trouble) => {
            Disposition::Refused(trouble.clone(), Exit::SourceRefuses)
        }
        PipelineError::Unsuitable(trouble) => {
            Disposition::Refused(trouble.clone(), Exit::TablesRefused)
        }
        PipelineError::Silent { .. } | PipelineError::Goodbye => Disposition::Retry(Trouble::new(
            TroubleReason::PostgresUnavailable,
            "the stream".to_owned(),
            error,
        )),
    }
}

fn postgres(error: &PgError) -> Disposition {
    let trouble = |reason| Trouble::new(reason, "Postgres".to_owned(), error);
    match error {
        PgError::Resolve { .. }
        | PgError::Connect { .. }
        | PgError::ConnectTimeout { .. }
        | PgError::Io { .. }
        | PgError::Closed { .. }
        | PgError::Timeout { .. }
        | PgError::Client { .. }
        | PgError::WrongRole { .. } => {
            Disposition::Retry(trouble(TroubleReason::PostgresUnavailable))
        }
        PgError::NoHost { attempts } => match attempts.errors().last() {
            Some(last) => postgres(last),
            None => Disposition::Retry(trouble(TroubleReason::PostgresUnavailable)),
        },
        PgError::TlsRefused { .. }
        | PgError::DirectTlsRefused { .. }
        | PgError::Tls { .. }
        | PgError::TlsFile { .. }
        | PgError::TlsKey { .. }
        | PgError::TlsSetup { .. } => {
            Disposition::Refused(trouble(TroubleReason::TlsRefused), Exit::SourceRefuses)
        }
        PgError::PasswordSource { .. }
        | PgError::PasswordMissing { .. }
        | PgError::Auth { .. }
        | PgError::AuthUnsupported { .. } => {
            Disposition::Refused(trouble(TroubleReason::PostgresRefuses), Exit::SourceRefuses)
        }
        PgError::TooOld { .. } | PgError::SettingIgnored { .. } | PgError::FrameTooLong { .. } => {
            Disposition::Refused(trouble(TroubleReason::PostgresSettings), Exit::SourceRefuses)
        }
        PgError::Protocol { .. } | PgError::Answer { .. } => {
            Disposition::Retry(trouble(TroubleReason::StreamBroke))
        }
        PgError::Server { source, .. } => match source.sqlstate.as_str() {
            "55006" => Disposition::Retry(trouble(TroubleReason::SlotInUse)),
            // Errors of these classes pass by themselves: connection, resources, operator
            // intervention, system, internal.
            state
                if ["08", "53", "57", "58", "XX"].iter().any(|class| state.starts_with(class)) =>
            {
                Disposition::Retry(trouble(TroubleReason::PostgresUnavailable))
            }
            // The lock was not free in time. The other codes of class 55 are about settings, such
            // as wal_level.
            "55P03" => Disposition::Retry(trouble(TroubleReason::PostgresUnavailable)),
            _ => {
                Disposition::Refused(trouble(TroubleReason::PostgresSettings), Exit::SourceRefuses)
            }
        },
    }
}

/// What the operator can do when brokers refuse our login.
pub const LOGIN_NEXT: &str = "correct sasl.username and sasl.mechanism in [kafka.client], and what \
                              kafka.password_file or token_command holds; the agent reads it \
                              again, and tries again by itself";

/// What the operator can do when a file, or a command that prints a secret, gives nothing.
pub const FILE_NEXT: &str = "check that the file or command that the message names gives the \
                             expected value, and that the agent may read it; the agent tries again \
                             by itself";

/// Decides what it means that a client of Kafka or the registry cannot be made. The cause is a
/// file, a password or a setting.
///
/// At the first connection of a process the configuration is most likely wrong, and the process
/// ends. Once the process has streamed, the same configuration has worked before. Most likely a
/// file is being replaced at this moment, and the failure passes by itself.
#[must_use]
pub fn without_client(trouble: Trouble, has_streamed: bool) -> Disposition {
    if has_streamed {
        Disposition::Retry(trouble)
    } else {
        Disposition::Refused(trouble, Exit::SinkRefuses)
    }
}

fn kafka(error: &KafkaError) -> Disposition {
    let refused = || Trouble::new(TroubleReason::KafkaRefuses, "Kafka".to_owned(), error);
    match error.remedy() {
        // Brokers accept connections and refuse our login. Somebody may be about to create our
        // user.
        Remedy::Retry if error.is_login() => {
            Disposition::Retry(Trouble { next: LOGIN_NEXT.to_owned(), ..refused() })
        }
        Remedy::Operator if error.is_login() => Disposition::Refused(
            Trouble { next: LOGIN_NEXT.to_owned(), ..refused() },
            Exit::SinkRefuses,
        ),
        Remedy::Retry if matches!(error, KafkaError::Secret { .. }) => {
            let trouble = Trouble::new(TroubleReason::KafkaUnavailable, "Kafka".to_owned(), error);
            Disposition::Retry(Trouble { next: FILE_NEXT.to_owned(), ..trouble })
        }
        Remedy::Operator if matches!(error, KafkaError::File { .. }) => Disposition::Refused(
            Trouble { next: FILE_NEXT.to_owned(), ..refused() },
            Exit::SinkRefuses,
        ),
        Remedy::Retry => Disposition::Retry(Trouble::new(
            TroubleReason::KafkaUnavailable,
            "Kafka".to_owned(),
            error,
        )),
        Remedy::Operator => Disposition::Refused(refused(), Exit::SinkRefuses),
    }
}

fn state(error: &StateError) -> Disposition {
    match error {
        StateError::Topic(error) => kafka(error),
        other => Disposition::Refused(
            Trouble::new(TroubleReason::StateUnavailable, "the state".to_owned(), other),
            Exit::SinkRefuses,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_kafka_refuses_says_what_to_correct_and_a_broker_that_is_away_does_not() {
        let said = |detail: &str| {
            let error =
                KafkaError::Unreachable { brokers: "b:9092".to_owned(), detail: detail.to_owned() };
            match disposition(&PipelineError::Kafka(error)) {
                Disposition::Retry(trouble) => (trouble.reason, trouble.next),
                other => panic!("{other:?}"),
            }
        };
        let (reason, next) =
            said("SASL authentication error: Authentication failed during authentication");
        assert_eq!((reason, next.contains("password_file")), (TroubleReason::KafkaRefuses, true));
        assert_eq!(
            said("Connect to ipv4#127.0.0.1:9092 failed").0,
            TroubleReason::KafkaUnavailable
        );
    }

    #[test]
    fn a_client_that_cannot_be_made_ends_only_a_process_that_never_streamed() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error =
            KafkaError::File { property: "ssl.ca.location", path: "/etc/ca.pem".into(), source };
        let Disposition::Refused(trouble, exit) = disposition(&PipelineError::Kafka(error)) else {
            panic!("refused")
        };
        assert_eq!(
            (exit, trouble.reason, &*trouble.next),
            (Exit::SinkRefuses, TroubleReason::KafkaRefuses, FILE_NEXT)
        );
        assert!(trouble.detail.contains("/etc/ca.pem"), "{}", trouble.detail);
        let first = Disposition::Refused(trouble.clone(), Exit::SinkRefuses);
        assert_eq!(without_client(trouble.clone(), false), first);
        assert_eq!(without_client(trouble.clone(), true), Disposition::Retry(trouble));
    }

    #[test]
    fn a_refused_table_is_no_refusal_by_postgres() {
        let exit = |error: fn(Trouble) -> PipelineError| {
            let trouble = Trouble::plain(TroubleReason::TableRefused, "t".to_owned(), "act");
            match disposition(&error(trouble)) {
                Disposition::Refused(_, exit) => exit,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(exit(PipelineError::Unsuitable), Exit::TablesRefused);
        assert_eq!(exit(PipelineError::Refused), Exit::SourceRefuses);
    }
}
