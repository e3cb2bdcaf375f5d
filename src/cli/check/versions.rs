//! Findings that depend on the major version of the server.

use super::Findings;
use crate::postgres::ServerError;
use crate::postgres::preflight::{Decoding, Facts};
use postgres_protocol::escape::escape_identifier;

/// The oldest version that the Postgres project still maintains, and the month in which the support
/// of the version before it ended.
const MAINTAINED: u32 = 150_000;
const UNMAINTAINED_SINCE: &str = "November 2026";

/// Reports a version of Postgres that gets no fixes any more. The agent works with it all the same.
pub(super) fn support(version: u32, findings: &mut Findings) {
    if version < MAINTAINED {
        let major = version / 10_000;
        let what = format!(
            "Postgres {major} is out of support since {UNMAINTAINED_SINCE}: it gets no fixes"
        );
        findings.warn(what, "upgrade the server; docs/runbooks.md, major upgrade, has the steps");
    }
}

/// Reports what the server warned of at the login, for example an md5 password (19 on).
pub(super) fn warnings(user: &str, warnings: &[ServerError], findings: &mut Findings) {
    for warning in warnings {
        let detail =
            warning.detail.as_deref().map_or_else(String::new, |detail| format!(" ({detail})"));
        let fix = match &warning.hint {
            _ if warning.message.contains("MD5") => format!(
                "SET password_encryption = 'scram-sha-256';\nALTER ROLE {} PASSWORD '...';\n\
                 -- and scram-sha-256 in pg_hba.conf",
                escape_identifier(user)
            ),
            Some(hint) => hint.clone(),
            None => String::new(),
        };
        findings.warn(format!("the server warns at the login: {}{detail}", warning.message), fix);
    }
}

/// Checks that logical decoding is on, or that the first logical slot will turn it on.
pub(super) fn decoding(facts: &Facts, findings: &mut Findings) {
    let (set, now) = (&facts.wal_level_set, &facts.wal_level);
    match facts.decoding() {
        Decoding::On if set == "logical" => findings.ok("wal_level is logical"),
        Decoding::On => {
            findings.ok(format!(
                "wal_level is {set}, and effective_wal_level is logical while there is a \
                     logical slot"
            ));
        }
        Decoding::WithSlot => {
            findings.ok(format!(
                "wal_level is {set}, and the first logical slot turns logical decoding on"
            ));
        }
        Decoding::Off => {
            findings.fail(
                format!("wal_level is {now}, changes cannot be decoded"),
                facts.decoding_fix(),
            );
        }
    }
}

/// The text that explains the `invalidation_reason` of a slot: why the server invalidated the slot.
pub(super) fn invalidation(reason: &str) -> &'static str {
    match reason {
        "wal_level_insufficient" => "logical decoding went off on the server or on its primary",
        "idle_timeout" => "it was unused for longer than idle_replication_slot_timeout",
        "rows_removed" | "conflicting" => {
            "vacuum on the primary removed rows of the catalog that it needs"
        }
        _ => "the server discarded WAL that it needs",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Area, Level, as_text};
    use super::*;

    fn found(find: impl FnOnce(&mut Findings)) -> (Level, String) {
        let mut findings = Findings::new(Area::Postgres);
        find(&mut findings);
        let finding = findings.list.first().expect("a finding");
        (finding.level, as_text(finding, false))
    }

    #[test]
    fn an_md5_warning_comes_with_the_sql_that_ends_it() {
        let warning = ServerError {
            severity: "WARNING".to_owned(),
            sqlstate: "01000".to_owned(),
            message: "authenticated with an MD5-encrypted password".to_owned(),
            detail: Some("MD5 password support is deprecated.".to_owned()),
            hint: None,
        };
        let (level, text) = found(|findings| warnings("w s", &[warning], findings));
        assert_eq!(level, Level::Warn);
        assert!(
            text.contains("MD5-encrypted password (MD5 password support is deprecated.)"),
            "{text}"
        );
        assert!(text.contains("ALTER ROLE \"w s\" PASSWORD '...';"), "{text}");
    }

    #[test]
    fn each_way_of_losing_a_slot_has_its_own_words() {
        let words = ["wal_removed", "idle_timeout", "rows_removed", "wal_level_insufficient"]
            .map(invalidation);
        let distinct: std::collections::BTreeSet<&str> = words.into_iter().collect();
        assert_eq!(distinct.len(), words.len());
        assert_eq!(invalidation("wal_removed"), "the server discarded WAL that it needs");
    }

    #[test]
    fn a_version_without_support_is_a_warning_and_no_fault() {
        let (level, text) = found(|findings| support(140_025, findings));
        assert_eq!(level, Level::Warn);
        assert!(text.contains("Postgres 14 is out of support since November 2026"), "{text}");
        for maintained in [150_000, 190_000] {
            let mut findings = Findings::new(Area::Postgres);
            support(maintained, &mut findings);
            assert!(findings.list.is_empty(), "{maintained}");
        }
    }
}
