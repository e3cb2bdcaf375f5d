//! The reasons for a halt. Each has a stable code, a next step for the operator, and the ways that
//! end the halt.
//!
//! People read the table's texts, and the agent acts on `lifting`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

super::reasons! {
    /// Reason why nothing more is produced or confirmed.
    pub enum Reason {
        /// The next step for the operator.
        fn next;
        SlotMissing: "slot_missing",
            "find out who dropped the slot; `wellspring slot accept` creates a new slot and goes \
             on from there, without the changes in between";
        SlotLost: "slot_lost",
            "the detail has the server's reason; correct its cause as docs/runbooks.md says \
             (wal_removed: raise max_slot_wal_keep_size), then run `wellspring slot accept`, \
             which replaces the slot";
        SlotAhead: "slot_ahead",
            "somebody moved or recreated the slot; repair the topics from the tables if the \
             range matters, then run `wellspring slot accept`";
        SlotForeign: "slot_foreign",
            "the slot is of another plugin or database, or has two_phase; set postgres.slot to \
             another name and restart the agent; the new slot lacks the changes before it: copy \
             the tables with `wellspring snapshot`";
        StateMissing: "state_missing",
            "the slot exists, but the state has no record of it; restore the state topic, or run \
             `wellspring slot accept` to go on from the slot";
        OtherCluster: "other_cluster",
            "the address leads to another cluster; correct postgres.url and restart the agent, \
             or run `wellspring slot accept`";
        OtherDatabase: "other_database",
            "the address leads to another database; correct postgres.url and restart the agent, \
             or run `wellspring slot accept`";
        TimelineUnknown: "timeline_unknown",
            "the server's history does not contain the recorded timeline; connect to the right \
             server, or run `wellspring slot accept`";
        PublishedAhead: "published_ahead",
            "Kafka holds commits that a failover undid; compare the tables' newest rows, then \
             run `wellspring slot accept`";
        ServerWentBack: "server_went_back",
            "the server was restored from an older copy; compare the tables' newest rows, then \
             run `wellspring slot accept`";
        HistoryDiffers: "history_differs",
            "the last delivered commit is not in this server's WAL; compare the tables' newest \
             rows, then run `wellspring slot accept`; if the address was wrong, correct it, run \
             `wellspring retry`, then copy the tables again with `wellspring snapshot`";
        PublicationMissing: "publication_missing",
            "create the publication again, then run `wellspring slot accept`";
        PublicationChanged: "publication_changed",
            "the publication was made anew and changes in between may be missing; `wellspring \
             slot accept` replaces the slot and goes on from there";
        PublicationAbsent: "publication_absent",
            "the publication had another name, or did not exist, when this part of the WAL was \
             written, and nothing can decode it; run `wellspring slot accept`, which replaces the \
             slot and goes on from there, and copy the tables with `wellspring snapshot`";
        TableRecreated: "table_recreated",
            "the table was made anew and changes may be missing; run `wellspring slot accept`, \
             or exclude the table and restart the agent";
        TableRepublished: "table_republished",
            "the table left the publication for a while, or its filter or column list changed; \
             run `wellspring slot accept`, or exclude the table and restart the agent";
        TableNotPublished: "table_not_published",
            "add the table to the publication again and run `wellspring slot accept`; or exclude \
             the table and restart the agent";
        PublicationAltered: "publication_altered",
            "the publication changed while the stream ran, and changes may be missing; set it as \
             it was, run `wellspring slot accept`, and copy the tables with `wellspring \
             snapshot`";
        TableSwapped: "table_swapped",
            "another table has the captured name; publish it, run `wellspring slot accept`, and \
             copy it with `wellspring snapshot`; or exclude it and restart the agent";
        TableLeft: "table_left",
            "the table was not published under its name for a while; publish it, run `wellspring \
             slot accept`, and copy it with `wellspring snapshot`; or exclude it and restart the \
             agent";
        RecordTooLarge: "record_too_large",
            "raise the topic's max.message.bytes, or raise kafka.client \"message.max.bytes\" or \
             exclude the table and restart the agent: the record is then tried once more; \
             `wellspring skip` leaves out this one change";
        RowUnencodable: "row_unencodable",
            "exclude the table and restart the agent; or drop the column's NOT NULL and run \
             `wellspring retry`; `wellspring skip` leaves out this one change";
        Undeliverable: "undeliverable",
            "give the producer what the broker refuses it (a right, a policy), then run \
             `wellspring retry`";
        OffsetsWentBack: "offsets_went_back",
            "the topic was made anew or lost acknowledged records; run `wellspring slot accept`, \
             then copy its table again with `wellspring snapshot`";
        StateUnreadable: "state_unreadable",
            "run the version that wrote the state, or repair the state topic";
        CopyUnfinished: "copy_unfinished",
            "set snapshot.mode to \"initial\" (the rest is copied while the stream runs) or to \
             \"when_needed\" (everything is copied anew), and restart the agent";
    }
}

/// When the cause of a halt can be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Each connect observes the cause for as long as it exists. The halt ends by itself when a
    /// connect no longer observes it.
    EachConnect,
    /// The cause was observed once. A later connect can miss it although changes are lost, so the
    /// recorded halt decides.
    Once,
    /// Every reader of the state topic meets the cause before it can read a recorded halt. The halt
    /// is therefore not recorded.
    Reading,
}

/// One way to end a halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The cause is corrected, and the next connect observes that.
    Correction,
    /// The operator runs `wellspring slot accept`, which records consent under a new epoch.
    Accept,
    /// The operator runs `wellspring skip`, which leaves out the one change that cannot be sent.
    Skip,
    /// Topic and producer accept a record of the refused size now. This allows one attempt.
    Limit,
    /// The program's version or the relevant configuration has changed. This allows one attempt.
    Configuration,
    /// The halt's table is no longer captured.
    Exclusion,
    /// The operator runs `wellspring retry`, which allows one attempt.
    Retry,
}

impl By {
    /// Returns the words for this way in the table of halts in `docs/runbooks.md`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            By::Correction => "correcting the cause",
            By::Accept => "`wellspring slot accept`",
            By::Skip => "`wellspring skip`",
            By::Limit => "a limit that takes the record (one try)",
            By::Configuration => "another configuration or version (one try)",
            By::Exclusion => "excluding the table",
            By::Retry => "`wellspring retry` (one try)",
        }
    }
}

/// When the cause of a halt can be observed, and what ends the halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifting {
    /// When the cause of the halt can be observed.
    pub proof: Proof,
    /// The ways that end the halt. Nothing else ends it.
    pub by: &'static [By],
}

impl Lifting {
    /// True if `way` is one of the ways that end the halt.
    #[must_use]
    pub fn is_by(&self, way: By) -> bool {
        self.by.contains(&way)
    }
}

impl Reason {
    /// When the cause of a halt for this reason can be observed, and what ends the halt.
    #[must_use]
    pub const fn lifting(self) -> Lifting {
        use By::{Accept, Configuration, Correction, Exclusion, Limit, Retry, Skip};
        let (proof, by): (Proof, &'static [By]) = match self {
            // A slot's position never falls, and a slot that is created anew begins above the
            // checkpoint. So each connect observes the cause.
            Reason::SlotMissing | Reason::SlotAhead => (Proof::EachConnect, &[Correction, Accept]),
            // An invalidated slot stays invalidated. Its replacement is observed as `slot_ahead`.
            Reason::SlotLost => (Proof::EachConnect, &[Accept]),
            Reason::SlotForeign | Reason::CopyUnfinished => (Proof::EachConnect, &[Correction]),
            Reason::StateMissing
            | Reason::OtherCluster
            | Reason::OtherDatabase
            | Reason::TimelineUnknown => (Proof::EachConnect, &[Correction, Accept]),
            // Only the process that has sent the commits knows of them until a checkpoint records
            // them. Another process would observe nothing.
            Reason::PublishedAhead => (Proof::Once, &[Accept]),
            // A restored server writes new WAL, so its position later exceeds the recorded one. A
            // connect after that would observe nothing.
            Reason::ServerWentBack => (Proof::Once, &[Accept]),
            // A retry reads up to the same commit again, so it checks the history once more.
            Reason::HistoryDiffers => (Proof::Once, &[Accept, Retry]),
            // A recreated publication or table has another oid, which each connect observes.
            Reason::PublicationMissing | Reason::PublicationChanged => {
                (Proof::EachConnect, &[Accept])
            }
            Reason::TableRecreated | Reason::TableRepublished => {
                (Proof::EachConnect, &[Accept, Exclusion])
            }
            // A table that leaves a published namespace and returns keeps its oids. A later connect
            // would observe nothing.
            Reason::TableNotPublished => (Proof::Once, &[Accept, Exclusion]),
            // If the alteration is undone, a later connect finds no difference.
            Reason::PublicationAltered | Reason::PublicationAbsent => (Proof::Once, &[Accept]),
            Reason::TableSwapped | Reason::TableLeft => (Proof::Once, &[Accept, Exclusion]),
            Reason::RecordTooLarge => (Proof::Once, &[Limit, Configuration, Skip, Retry]),
            Reason::RowUnencodable => (Proof::Once, &[Configuration, Skip, Retry]),
            Reason::Undeliverable => (Proof::Once, &[Configuration, Retry]),
            // A new process knows no earlier offsets of Kafka to compare with.
            Reason::OffsetsWentBack => (Proof::Once, &[Accept]),
            Reason::StateUnreadable => (Proof::Reading, &[Correction]),
        };
        Lifting { proof, by }
    }

    /// True if a look at the catalog, while the stream ran, found the cause. The range of the halt
    /// is then the time between two looks.
    #[must_use]
    pub const fn is_watched(self) -> bool {
        matches!(self, Reason::PublicationAltered | Reason::TableSwapped | Reason::TableLeft)
    }

    /// True if a connect finds the cause by comparing the captured tables with the recorded ones.
    /// The connect knows no narrower range of lost changes than from the confirmed position on.
    #[must_use]
    pub const fn is_of_members(self) -> bool {
        matches!(
            self,
            Reason::TableRecreated | Reason::TableRepublished | Reason::TableNotPublished
        )
    }

    /// True if `wellspring slot accept` lets the stream go on with a new slot. The WAL that the old
    /// slot needs is gone, or nothing can decode this WAL, because it was written while the
    /// publication did not exist.
    #[must_use]
    pub const fn is_passed_by_a_new_slot(self) -> bool {
        matches!(
            self,
            Reason::SlotMissing
                | Reason::SlotLost
                | Reason::PublicationChanged
                | Reason::PublicationAbsent
        )
    }

    /// True if the slot is not of our kind, or the address leads to another Postgres cluster or
    /// database. Another replica of this agent does not cause that, so the halt applies even while
    /// another session uses the slot.
    #[must_use]
    pub const fn is_other(self) -> bool {
        matches!(self, Reason::SlotForeign | Reason::OtherCluster | Reason::OtherDatabase)
    }

    /// True if the slot's position is lost or no longer ours. `snapshot.mode = "when_needed"`
    /// consents to a new start for these reasons.
    #[must_use]
    pub const fn is_lost_position(self) -> bool {
        matches!(
            self,
            Reason::SlotMissing | Reason::SlotLost | Reason::SlotAhead | Reason::StateMissing
        )
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        let known = Reason::ALL.iter().copied().find(|reason| reason.code() == code);
        known.ok_or_else(|| {
            serde::de::Error::custom(format!("`{code}` is no reason that this version knows"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_names_each_command_that_ends_the_halt() {
        for &reason in Reason::ALL {
            let (code, next) = (reason.code(), reason.next());
            let commands = [(By::Accept, "wellspring slot accept"), (By::Skip, "wellspring skip")];
            for (by, command) in commands {
                assert_eq!(next.contains(command), reason.lifting().is_by(by), "{code}: {command}");
            }
            let said = next.contains("wellspring retry");
            assert!(!said || reason.lifting().is_by(By::Retry), "{code}");
        }
        assert!(Reason::Undeliverable.next().contains("wellspring retry"));
    }

    #[test]
    fn every_halt_has_something_that_ends_it() {
        for &reason in Reason::ALL {
            assert!(!reason.lifting().by.is_empty(), "{}", reason.code());
        }
    }

    #[test]
    fn a_halt_seen_once_is_never_ended_by_a_connect_alone() {
        let once =
            Reason::ALL.iter().copied().filter(|reason| reason.lifting().proof == Proof::Once);
        for reason in once {
            assert!(!reason.lifting().is_by(By::Correction), "{}", reason.code());
        }
    }

    #[test]
    fn a_reason_is_recorded_by_its_code_and_read_back() {
        for &reason in Reason::ALL {
            let text = serde_json::to_string(&reason).unwrap();
            assert_eq!(text, format!("\"{}\"", reason.code()));
            assert_eq!(serde_json::from_str::<Reason>(&text).unwrap(), reason);
        }
        assert!(serde_json::from_str::<Reason>("\"later\"").is_err());
    }
}
