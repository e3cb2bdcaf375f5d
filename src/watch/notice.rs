//! The meaning of a notice that the server sends into the stream.
//!
//! A notice is translated into the server's language, so only its SQLSTATE and the names that it
//! quotes are compared (PostgreSQL 19: `pgoutput.c` `LoadPublications`, `slot.c`
//! `StandbySlotsHaveCaughtup`).

/// `object_not_in_prerequisite_state`: the SQLSTATE of every notice that has a meaning here.
const NOT_READY: &str = "55000";

/// The parameter that names the standbys that a stream waits for (PostgreSQL 17 and later).
const STANDBYS: &str = "\"synchronized_standby_slots\"";

/// What a notice says about the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Changes are skipped, because the publication does not exist at this place of the WAL
    /// (PostgreSQL 18 and later).
    PublicationSkipped,
    /// The stream waits for the standby of this physical slot.
    StandbyAwaited {
        /// The name of the standby's physical slot, if the notice quotes one.
        slot: Option<String>,
    },
    /// A notice that says nothing about the changes in the stream.
    Other,
}

/// `undefined_object`: the SQLSTATE of the error by which a server before PostgreSQL 18 ends the
/// stream if the publication does not exist.
const UNDEFINED: &str = "42704";

/// True if an error of the stream says that `publication` does not exist at this place of the WAL.
#[must_use]
pub fn is_absence(sqlstate: &str, message: &str, publication: &str) -> bool {
    sqlstate == UNDEFINED && message.contains(&format!("\"{publication}\""))
}

/// Returns the meaning of a notice with this SQLSTATE and message, for a stream of `publication`.
#[must_use]
pub fn meaning(sqlstate: &str, message: &str, publication: &str) -> Notice {
    if sqlstate != NOT_READY {
        return Notice::Other;
    }
    if message.contains(STANDBYS) {
        let slot = message.split('"').nth(1).filter(|name| !STANDBYS.contains(name));
        return Notice::StandbyAwaited { slot: slot.map(str::to_owned) };
    }
    if message.contains(&format!("\"{publication}\"")) {
        return Notice::PublicationSkipped;
    }
    Notice::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_about_a_standby_names_its_slot() {
        let message = "replication slot \"standby_1\" specified in parameter \
                       \"synchronized_standby_slots\" does not have active_pid";
        let slot = Some("standby_1".to_owned());
        assert_eq!(meaning("55000", message, "p"), Notice::StandbyAwaited { slot });
    }

    #[test]
    fn a_skipped_publication_is_known_in_every_language() {
        let message = "das Laden der Publikation \"p\" wurde übersprungen";
        assert_eq!(meaning("55000", message, "p"), Notice::PublicationSkipped);
        assert_eq!(meaning("55000", message, "other"), Notice::Other);
    }

    #[test]
    fn a_notice_of_another_state_has_no_meaning() {
        assert_eq!(meaning("01000", "\"synchronized_standby_slots\"", "p"), Notice::Other);
    }
}
