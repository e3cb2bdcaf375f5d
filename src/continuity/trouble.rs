//! Troubles: conditions under which the agent keeps trying. Each has a stable code and a next step
//! for the operator.
//!
//! This file is pure. `agent::supervise` decides which error is which trouble.

use std::error::Error;
use std::fmt;

/// An error with its causes on one line, as `top: cause: cause of the cause`.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Condition under which the agent keeps trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the codes say it")]
pub enum TroubleReason {
    PostgresUnavailable,
    PostgresRefuses,
    TlsRefused,
    PostgresSettings,
    SlotInUse,
    Standby,
    SlotWaits,
    StreamBroke,
    SynchronousStandby,
    StandbyBehind,
    StandbyAwaited,
    KafkaUnavailable,
    KafkaRefuses,
    StateUnavailable,
    TopicUnavailable,
    RegistryUnavailable,
    SchemaRefused,
    SchemaIdsDiffered,
    TableRefused,
    PublicationIncomplete,
}

impl TroubleReason {
    /// Every reason, for metrics and runbooks.
    pub const ALL: [TroubleReason; 20] = [
        TroubleReason::PostgresUnavailable,
        TroubleReason::PostgresRefuses,
        TroubleReason::TlsRefused,
        TroubleReason::PostgresSettings,
        TroubleReason::SlotInUse,
        TroubleReason::Standby,
        TroubleReason::SlotWaits,
        TroubleReason::StreamBroke,
        TroubleReason::SynchronousStandby,
        TroubleReason::StandbyBehind,
        TroubleReason::StandbyAwaited,
        TroubleReason::KafkaUnavailable,
        TroubleReason::KafkaRefuses,
        TroubleReason::StateUnavailable,
        TroubleReason::TopicUnavailable,
        TroubleReason::RegistryUnavailable,
        TroubleReason::SchemaRefused,
        TroubleReason::SchemaIdsDiffered,
        TroubleReason::TableRefused,
        TroubleReason::PublicationIncomplete,
    ];

    /// Stable code of the reason.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            TroubleReason::PostgresUnavailable => "postgres_unavailable",
            TroubleReason::PostgresRefuses => "postgres_refuses",
            TroubleReason::PostgresSettings => "postgres_settings",
            TroubleReason::SlotInUse => "slot_in_use",
            TroubleReason::Standby => "standby",
            TroubleReason::SlotWaits => "slot_waits",
            TroubleReason::TlsRefused => "tls_refused",
            TroubleReason::StreamBroke => "stream_broke",
            TroubleReason::SynchronousStandby => "synchronous_standby",
            TroubleReason::StandbyBehind => "standby_behind",
            TroubleReason::StandbyAwaited => "standby_awaited",
            TroubleReason::KafkaUnavailable => "kafka_unavailable",
            TroubleReason::KafkaRefuses => "kafka_refuses",
            TroubleReason::StateUnavailable => "state_unavailable",
            TroubleReason::TopicUnavailable => "topic_unavailable",
            TroubleReason::RegistryUnavailable => "registry_unavailable",
            TroubleReason::SchemaRefused => "schema_refused",
            TroubleReason::SchemaIdsDiffered => "schema_ids_differed",
            TroubleReason::TableRefused => "table_refused",
            TroubleReason::PublicationIncomplete => "publication_incomplete",
        }
    }

    /// True if the trouble lasts until a person acts. The agent keeps checking by itself in either
    /// case.
    #[must_use]
    pub const fn needs_a_person(self) -> bool {
        match self {
            TroubleReason::PostgresUnavailable
            | TroubleReason::SlotInUse
            | TroubleReason::Standby
            | TroubleReason::SlotWaits
            | TroubleReason::StreamBroke
            | TroubleReason::StandbyBehind
            | TroubleReason::KafkaUnavailable
            | TroubleReason::StateUnavailable
            | TroubleReason::RegistryUnavailable => false,
            TroubleReason::PostgresRefuses
            | TroubleReason::TlsRefused
            | TroubleReason::PostgresSettings
            | TroubleReason::SynchronousStandby
            | TroubleReason::StandbyAwaited
            | TroubleReason::KafkaRefuses
            | TroubleReason::TopicUnavailable
            | TroubleReason::SchemaRefused
            | TroubleReason::SchemaIdsDiffered
            | TroubleReason::TableRefused
            | TroubleReason::PublicationIncomplete => true,
        }
    }

    /// The operator's next step, or the event that the agent waits for.
    #[must_use]
    pub const fn next(self) -> &'static str {
        match self {
            TroubleReason::PostgresUnavailable => {
                "nothing: it is tried again by itself; see that the server runs and can be reached"
            }
            TroubleReason::PostgresRefuses => {
                "correct the role, its password or pg_hba.conf; it is tried again by itself"
            }
            TroubleReason::PostgresSettings => {
                "run `wellspring check`: it names the setting or right, with the SQL"
            }
            TroubleReason::SlotWaits => {
                "end these transactions, or wait; it is tried again by itself"
            }
            TroubleReason::TlsRefused => {
                "set up TLS on the server or correct sslrootcert; sslmode says how much is proven (disable, require, verify-ca, verify-full)"
            }
            TroubleReason::SlotInUse => {
                "stop the other agent, or wait until the server drops its dead connection"
            }
            TroubleReason::Standby => "nothing to do: this agent goes on when the slot is free",
            TroubleReason::StreamBroke => {
                "nothing: the stream is read again from the confirmed position"
            }
            TroubleReason::SynchronousStandby => {
                "take our application_name out of synchronous_standby_names, or list names there instead of *"
            }
            TroubleReason::StandbyBehind => {
                "nothing: it goes on when the standby has replayed far enough"
            }
            TroubleReason::StandbyAwaited => {
                "start this standby again, or take its slot out of synchronized_standby_slots and reload the server"
            }
            TroubleReason::KafkaUnavailable => {
                "nothing: it is tried again by itself; see that the brokers run and can be reached"
            }
            TroubleReason::KafkaRefuses => {
                "give the producer's principal the rights that `wellspring check` lists"
            }
            TroubleReason::StateUnavailable => {
                "nothing, if Kafka is away; else see the rights on the state topic"
            }
            TroubleReason::TopicUnavailable => {
                "create the topic, or let the agent create it (topics.create = true and the right to)"
            }
            TroubleReason::RegistryUnavailable => {
                "nothing: it is tried again by itself; see that the registry runs and can be reached"
            }
            TroubleReason::SchemaRefused => {
                "make the schema compatible or lower the subject's compatibility; it is tried again every 30 s"
            }
            TroubleReason::SchemaIdsDiffered => {
                "have the registry serve the earlier schemas under their ids again, or run `wellspring snapshot` for each table and tell its consumers which records they cannot read"
            }
            TroubleReason::TableRefused => {
                "change what the message names, or exclude the table; it is tried again every 30 s"
            }
            TroubleReason::PublicationIncomplete => {
                "run the SQL as the tables' owner; it is tried again by itself"
            }
        }
    }
}

/// A trouble, as status and log show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Reason for the trouble, with its code.
    pub reason: TroubleReason,
    /// The affected object, and the cause.
    pub detail: String,
    /// The next step for the operator.
    pub next: String,
}

impl Trouble {
    /// A trouble with the object `what`, caused by an error.
    #[must_use]
    pub fn new(reason: TroubleReason, what: String, error: &dyn Error) -> Self {
        Trouble {
            reason,
            detail: format!("{what}: {}", Chain(error)),
            next: reason.next().to_owned(),
        }
    }

    /// The trouble of a process that ends: its next step is without the parts that hold only for an
    /// agent that tries again by itself.
    #[must_use]
    pub fn of_an_end(self) -> Self {
        Trouble { next: without_retries(self.next), ..self }
    }

    /// The same trouble with the given next step, or with its own if `next` is `None`.
    #[must_use]
    pub fn or_next(self, next: Option<String>) -> Self {
        Trouble { next: next.unwrap_or(self.next), ..self }
    }

    /// A trouble with a detail and a next step of its own.
    #[must_use]
    pub fn plain(reason: TroubleReason, detail: String, next: &str) -> Self {
        Trouble { reason, detail, next: next.to_owned() }
    }
}

/// Removes from a next step the parts that hold only for an agent that tries again by itself.
fn without_retries(next: String) -> String {
    let next = next.replace("nothing: it is tried again by itself; ", "");
    let next = next.replace("nothing, if Kafka is away; else ", "");
    let again = ["; it is tried again by itself", "; it is tried again every 30 s"];
    let end = again.iter().find_map(|again| next.strip_suffix(again)).map(str::to_owned);
    end.unwrap_or(next)
}
