//! The reasons for a trouble: conditions under which the agent keeps trying.

super::reasons! {
    /// Condition under which the agent keeps trying.
    pub enum TroubleReason {
        /// The next step for the operator, or the event that the agent waits for.
        fn next;
        PostgresUnavailable: "postgres_unavailable",
            "check that the server runs and can be reached; the agent tries again by itself";
        PostgresRefuses: "postgres_refuses",
            "correct the role, its password or pg_hba.conf; the agent tries again by itself";
        TlsRefused: "tls_refused",
            "set up TLS on the server or correct sslrootcert; sslmode says how much is proven \
             (disable, require, verify-ca, verify-full)";
        PostgresSettings: "postgres_settings",
            "run `wellspring check`: it names the setting or right, with the SQL";
        SlotInUse: "slot_in_use",
            "stop the other agent, or wait until the server drops its dead connection";
        Standby: "standby",
            "nothing has to be done; this agent begins when the slot is free";
        SlotWaits: "slot_waits",
            "end these transactions, or wait; the agent tries again by itself";
        StreamBroke: "stream_broke",
            "nothing has to be done; the agent reads the stream again from the confirmed position";
        SynchronousStandby: "synchronous_standby",
            "take our application_name out of synchronous_standby_names, or list names there \
             instead of *";
        StandbyBehind: "standby_behind",
            "nothing has to be done; the agent goes on when the standby has replayed far enough";
        StandbyAwaited: "standby_awaited",
            "start this standby again, or take its slot out of synchronized_standby_slots and \
             reload the server";
        KafkaUnavailable: "kafka_unavailable",
            "check that the brokers run and can be reached; the agent tries again by itself";
        KafkaRefuses: "kafka_refuses",
            "give the producer's principal the rights that `wellspring check` lists";
        StateUnavailable: "state_unavailable",
            "check that Kafka runs, and the rights on the state topic; the agent tries again by \
             itself";
        TopicUnavailable: "topic_unavailable",
            "create the topic, or let the agent create it (topics.create = true and the right \
             to)";
        RegistryUnavailable: "registry_unavailable",
            "check that the registry runs and can be reached; the agent tries again by itself";
        SchemaRefused: "schema_refused",
            "make the schema compatible or lower the subject's compatibility; the agent tries \
             again every 30 s";
        SchemaIdsDiffered: "schema_ids_differed",
            "have the registry serve the earlier schemas under their ids again, or run \
             `wellspring snapshot` for each table and tell its consumers which records they \
             cannot read";
        TableRefused: "table_refused",
            "change what the message names, or exclude the table; the agent tries again every 30 s";
        TableNotCopied: "table_not_copied",
            "correct the cause, then copy each table with `wellspring snapshot`; to go on without \
             its existing rows, name it in snapshot.skip and restart the agent";
        PublicationIncomplete: "publication_incomplete",
            "run the SQL as the tables' owner; the agent tries again by itself";
    }
}

impl TroubleReason {
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
            | TroubleReason::TableNotCopied
            | TroubleReason::PublicationIncomplete => true,
        }
    }
}
