//! The startup message of a session: user, database, and the settings that the session needs.

use crate::postgres::config::Config;
use bytes::BytesMut;
use postgres_protocol::message::frontend;

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The server gives the connection a walsender for the database.
    Replication,
    /// The connection runs short statements on the catalog, with a statement timeout.
    Sql,
    /// The connection reads rows for as long as it takes. Names resolve by the role's own search
    /// path, as in the walsender.
    Copy,
}

/// The settings, with their values, that the defaults of a role or a database must not change in
/// our sessions, because other values would end our sessions or alter values of rows.
///
/// They are sent as startup parameters of their own, which the server applies after `options`.
const PINNED: [(&str, &str); 10] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("standard_conforming_strings", "on"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "3"),
    ("row_security", "off"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
];

/// A pinned setting: the first version that has it, its name and its value. It is no startup
/// parameter, because servers before this version refuse it. Only [`pinning`] sets it.
const TRANSACTION_TIMEOUT: (u32, &str, &str) = (170_000, "transaction_timeout", "0");

/// Makes the statements that set every pinned setting once more, and read back the value of each. A
/// pooler or a proxy may have dropped startup parameters, and the server reports only some of them.
pub(super) fn pinning(version: u32) -> String {
    let settings = pinned(version);
    let sets: String =
        settings.iter().map(|(name, value)| format!("SET {name} = '{value}'; ")).collect();
    let asked: Vec<String> =
        settings.iter().map(|(name, _)| format!("current_setting('{name}')")).collect();
    format!("{sets}SELECT {}", asked.join(", "))
}

/// Returns the first pinned setting that has another value than we want, and the value that it has.
/// `None` if every setting has the wanted value. `answer` has one value for each setting of
/// [`pinning`], in its order.
pub(super) fn unpinned(version: u32, answer: &[Option<String>]) -> Option<(&'static str, String)> {
    let settings = pinned(version);
    settings.into_iter().enumerate().find_map(|(at, (name, wanted))| {
        let found = answer.get(at).and_then(Option::as_deref);
        // The value of DateStyle has two parts, such as `ISO, MDY`. The first part is compared.
        let is_pinned = found.and_then(|found| found.split(',').next()) == Some(wanted);
        (!is_pinned).then(|| (name, found.map_or_else(|| "unknown".to_owned(), str::to_owned)))
    })
}

fn pinned(version: u32) -> Vec<(&'static str, &'static str)> {
    let (since, name, value) = TRANSACTION_TIMEOUT;
    PINNED.into_iter().chain((version >= since).then_some((name, value))).collect()
}

/// The `statement_timeout` of our statements on the catalog, in ms. A statement takes this long
/// only if it waits for a lock that a DDL statement holds.
const STATEMENT_TIMEOUT_MS: &str = "30000";

/// The most bytes of an `application_name` that Postgres keeps (NAMEDATALEN - 1).
const NAME_BYTES_MAX: usize = 63;

/// Makes the StartupMessage, which has the pinned settings. `suffix` is added to the
/// `application_name`, which shows in `pg_stat_activity`.
pub(super) fn message(
    config: &Config,
    purpose: Purpose,
    suffix: &str,
) -> std::io::Result<BytesMut> {
    let name = application_name(&config.application_name, suffix);
    let mut parameters = vec![
        ("user", config.user.as_str()),
        ("database", config.database.as_str()),
        ("application_name", name.as_str()),
    ];
    match purpose {
        Purpose::Replication => {
            parameters.extend([("replication", "database"), ("statement_timeout", "0")])
        }
        Purpose::Copy => parameters.extend([("statement_timeout", "0")]),
        // With this search path, names in our SQL and in the results do not depend on the role's
        // search path.
        Purpose::Sql => {
            parameters.extend([
                ("statement_timeout", STATEMENT_TIMEOUT_MS),
                ("search_path", "pg_catalog"),
            ]);
        }
    }
    if let Some(options) = &config.options {
        parameters.push(("options", options));
    }
    parameters.extend(PINNED);
    let mut out = BytesMut::new();
    frontend::startup_message(parameters, &mut out)?;
    Ok(out)
}

/// The `application_name` with its suffix, cut to the length that Postgres keeps. The suffix is
/// never cut.
fn application_name(base: &str, suffix: &str) -> String {
    let room = NAME_BYTES_MAX.saturating_sub(suffix.len());
    let kept = (0..=base.len().min(room)).rev().find_map(|end| base.get(..end));
    let Some(kept) = kept else { unreachable!("no text is cut at its beginning") };
    format!("{kept}{suffix}")
}

/// Turns a server's version text into the form of `server_version_num`: 190000 for `19beta1`,
/// 150018 for `15.18 (Debian ...)`. `None` if the text does not begin with a number.
pub(super) fn version_number(text: &str) -> Option<u32> {
    let number = |text: &str| {
        text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
    };
    let (major, rest) = text.split_once('.').unwrap_or((text, ""));
    let (major, minor): (u32, u32) = (number(major)?, number(rest).unwrap_or(0));
    major.checked_mul(10_000)?.checked_add(minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_as_its_number() {
        for (text, number) in [
            ("15.18 (Debian 15.18-0+deb12u1)", Some(150_018)),
            ("14.0", Some(140_000)),
            ("18beta1", Some(180_000)),
            ("19devel", Some(190_000)),
            ("", None),
            ("x.y", None),
        ] {
            assert_eq!(version_number(text), number, "{text}");
        }
    }

    #[test]
    fn an_application_name_keeps_its_suffix() {
        assert_eq!(application_name("wellspring", ":catalog"), "wellspring:catalog");
        let long = application_name(&"ä".repeat(60), ":catalog");
        assert!(long.len() <= NAME_BYTES_MAX && long.ends_with("ä:catalog"), "{long}");
    }
}
