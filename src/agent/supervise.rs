//! What a failure means, and what the operator reads: one exhaustive match, no catch-all.

use crate::continuity::checkpoint::RecordError;
use crate::continuity::{Chain, Halt, Trouble, TroubleReason};
use crate::core::Stopped;
use crate::kafka::{KafkaError, Remedy, StateError};
use crate::plans::keeper::KeeperError;
use crate::postgres::PgError;
use crate::rows::RowsError;

/// How the process ends when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Asked to, with everything delivered and confirmed, or before anything was sent.
    Stopped,
    /// Asked to, before everything was delivered and confirmed: the next start sends a part of the stream again.
    Repeats,
    /// `--exit-on-halt`.
    Halted,
    /// Postgres refuses us at the first connect: most likely the configuration.
    SourceRefuses,
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

/// What a failure means.
#[derive(Clone, Debug, PartialEq)]
pub enum Disposition {
    /// Try again soon; it passes by itself.
    Retry(Trouble),
    /// Try again at leisure; at the first connect of a process, give up with this.
    Refused(Trouble, Exit),
    /// Only a person ends it.
    Halt(Halt),
}

/// Why a connection did not come to be, or ended.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Postgres.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// The row path.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The state.
    #[error(transparent)]
    State(#[from] KeeperError),
    /// The state holds what we cannot read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Continuity is not proven.
    #[error("{}: {}", .0.reason.code(), .0.detail)]
    Halt(Halt),
    /// Something that a person or time changes.
    #[error("{}", .0.detail)]
    Trouble(Trouble),
    /// Something that only a person changes.
    #[error("{}", .0.detail)]
    Refused(Trouble),
    /// Nothing came from the walsender for too long, and it does not move.
    #[error("the walsender (pid {pid}) is {state}")]
    Silent {
        /// Its pid.
        pid: i32,
        /// `gone` or `frozen`.
        state: &'static str,
    },
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Goodbye,
}

/// The one place that decides.
#[must_use]
pub fn disposition(error: &PipelineError) -> Disposition {
    match error {
        PipelineError::Postgres(error) => postgres(error),
        PipelineError::Rows(RowsError::Postgres(error)) => postgres(error),
        PipelineError::Rows(RowsError::Halt(halt)) | PipelineError::Halt(halt) => Disposition::Halt(halt.clone()),
        PipelineError::Rows(error @ (RowsError::Decode(_) | RowsError::Change(_) | RowsError::Send(_))) => {
            Disposition::Retry(Trouble::new(TroubleReason::StreamBroke, "the stream".to_owned(), error))
        }
        PipelineError::State(KeeperError::State(error)) => state(error),
        PipelineError::State(error @ KeeperError::Gone) => {
            Disposition::Retry(Trouble::new(TroubleReason::StateUnavailable, "the state".to_owned(), error))
        }
        PipelineError::Record(error) => {
            Disposition::Halt(Halt::new(crate::continuity::Reason::StateUnreadable, Chain(error).to_string()))
        }
        PipelineError::Kafka(error) => kafka(error),
        PipelineError::Trouble(trouble) => Disposition::Retry(trouble.clone()),
        PipelineError::Refused(trouble) => Disposition::Refused(trouble.clone(), Exit::SourceRefuses),
        PipelineError::Silent { .. } | PipelineError::Goodbye => {
            Disposition::Retry(Trouble::new(TroubleReason::PostgresUnavailable, "the stream".to_owned(), error))
        }
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
        | PgError::WrongRole { .. } => Disposition::Retry(trouble(TroubleReason::PostgresUnavailable)),
        PgError::NoHost { attempts } => match attempts.errors().last() {
            Some(last) => postgres(last),
            None => Disposition::Retry(trouble(TroubleReason::PostgresUnavailable)),
        },
        PgError::TlsRefused { .. }
        | PgError::DirectTlsRefused { .. }
        | PgError::Tls { .. }
        | PgError::TlsFile { .. }
        | PgError::TlsKey { .. }
        | PgError::TlsSetup { .. } => Disposition::Refused(trouble(TroubleReason::TlsRefused), Exit::SourceRefuses),
        PgError::PasswordSource { .. }
        | PgError::PasswordMissing { .. }
        | PgError::Auth { .. }
        | PgError::AuthUnsupported { .. } => {
            Disposition::Refused(trouble(TroubleReason::PostgresRefuses), Exit::SourceRefuses)
        }
        PgError::TooOld { .. } | PgError::SettingIgnored { .. } | PgError::FrameTooLong { .. } => {
            Disposition::Refused(trouble(TroubleReason::PostgresSettings), Exit::SourceRefuses)
        }
        PgError::Protocol { .. } | PgError::Answer { .. } => Disposition::Retry(trouble(TroubleReason::StreamBroke)),
        PgError::Server { source, .. } => match source.sqlstate.as_str() {
            "55006" => Disposition::Retry(trouble(TroubleReason::SlotInUse)),
            // Connection, resources, operator intervention, internal: pass by themselves.
            state if ["08", "53", "57", "58", "XX"].iter().any(|class| state.starts_with(class)) => {
                Disposition::Retry(trouble(TroubleReason::PostgresUnavailable))
            }
            // A lock not had in time; the rest of class 55 is a setting, such as wal_level.
            "55P03" => Disposition::Retry(trouble(TroubleReason::PostgresUnavailable)),
            _ => Disposition::Refused(trouble(TroubleReason::PostgresSettings), Exit::SourceRefuses),
        },
    }
}

/// What to do where brokers refuse our login.
pub const LOGIN_NEXT: &str = "correct sasl.username and sasl.mechanism in [kafka.client], and what kafka.password_file or \
                              token_command holds: it is read again, and tried again by itself";

/// What to do where a file, or a command that prints a secret, gives nothing.
pub const FILE_NEXT: &str = "see that the file or command that the message names gives what it should, and that the agent may \
                             read it; it is tried again by itself";

/// What it means that a client of Kafka or the registry cannot be made: a file, a password or a setting of it is at fault.
///
/// At the first connection of a process the configuration is most likely wrong, so the process ends. Later the same
/// configuration has worked, so a file was most likely just being replaced, and that passes by itself.
#[must_use]
pub fn without_client(trouble: Trouble, has_streamed: bool) -> Disposition {
    if has_streamed { Disposition::Retry(trouble) } else { Disposition::Refused(trouble, Exit::SinkRefuses) }
}

fn kafka(error: &KafkaError) -> Disposition {
    let refused = || Trouble::new(TroubleReason::KafkaRefuses, "Kafka".to_owned(), error);
    match error.remedy() {
        // Brokers that take connections and refuse who we are: somebody may be about to make us known.
        Remedy::Retry if error.is_login() => Disposition::Retry(Trouble { next: LOGIN_NEXT.to_owned(), ..refused() }),
        Remedy::Operator if error.is_login() => {
            Disposition::Refused(Trouble { next: LOGIN_NEXT.to_owned(), ..refused() }, Exit::SinkRefuses)
        }
        Remedy::Retry if matches!(error, KafkaError::Secret { .. }) => {
            let trouble = Trouble::new(TroubleReason::KafkaUnavailable, "Kafka".to_owned(), error);
            Disposition::Retry(Trouble { next: FILE_NEXT.to_owned(), ..trouble })
        }
        Remedy::Operator if matches!(error, KafkaError::File { .. }) => {
            Disposition::Refused(Trouble { next: FILE_NEXT.to_owned(), ..refused() }, Exit::SinkRefuses)
        }
        Remedy::Retry => Disposition::Retry(Trouble::new(TroubleReason::KafkaUnavailable, "Kafka".to_owned(), error)),
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
    use crate::continuity::Reason;
    use crate::metrics::REASONS;

    #[test]
    fn a_login_that_kafka_refuses_says_what_to_correct_and_a_broker_that_is_away_does_not() {
        let said = |detail: &str| {
            let error = KafkaError::Unreachable { brokers: "b:9092".to_owned(), detail: detail.to_owned() };
            match disposition(&PipelineError::Kafka(error)) {
                Disposition::Retry(trouble) => (trouble.reason, trouble.next),
                other => panic!("{other:?}"),
            }
        };
        let (reason, next) = said("SASL authentication error: Authentication failed during authentication");
        assert_eq!((reason, next.contains("password_file")), (TroubleReason::KafkaRefuses, true));
        assert_eq!(said("Connect to ipv4#127.0.0.1:9092 failed").0, TroubleReason::KafkaUnavailable);
    }

    #[test]
    fn a_client_that_cannot_be_made_ends_only_a_process_that_never_streamed() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = KafkaError::File { property: "ssl.ca.location", path: "/etc/ca.pem".into(), source };
        let Disposition::Refused(trouble, exit) = disposition(&PipelineError::Kafka(error)) else { panic!("refused") };
        assert_eq!((exit, trouble.reason, &*trouble.next), (Exit::SinkRefuses, TroubleReason::KafkaRefuses, FILE_NEXT));
        assert!(trouble.detail.contains("/etc/ca.pem"), "{}", trouble.detail);
        let first = Disposition::Refused(trouble.clone(), Exit::SinkRefuses);
        assert_eq!(without_client(trouble.clone(), false), first);
        assert_eq!(without_client(trouble.clone(), true), Disposition::Retry(trouble));
    }

    /// How many arms a match in a source text has that begins like this.
    fn arms(source: &str, arm: &str) -> usize {
        source.lines().filter(|line| line.trim_start().starts_with(arm) && line.contains("=>")).count()
    }

    #[test]
    fn metrics_know_every_reason_code_and_no_other() {
        let troubles = TroubleReason::ALL.map(TroubleReason::code);
        let halts = Reason::ALL.map(Reason::code);
        let codes: Vec<&str> = troubles.into_iter().chain(halts).collect();
        assert_eq!(codes, REASONS);
    }

    #[test]
    fn the_lists_hold_every_reason() {
        let code = include_str!("../continuity/trouble.rs").split("const fn code").nth(1).unwrap();
        let code = code.split("const fn needs_a_person").next().unwrap();
        assert_eq!(arms(code, "TroubleReason::"), TroubleReason::ALL.len());
        let text = include_str!("../continuity/reason.rs").split("const fn text").nth(1).unwrap();
        assert_eq!(arms(text.split("const fn lifting").next().unwrap(), "Reason::"), Reason::ALL.len());
    }
}
