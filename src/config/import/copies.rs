//! Imports how existing rows are copied: mode, tables, queries and locks.

use super::Input;
use super::capture::expressions;
use super::source::Given;
use super::target::Target;
use crate::table::names::REGEX;

pub(super) fn snapshot_mode(input: Input<'_>, given: &Given, target: &mut Target) {
    let mode = input.or("snapshot.mode", "initial").trim().to_ascii_lowercase();
    let based = |flag: &str| input.is(&format!("snapshot.mode.configuration.based.{flag}"), "true");
    let ours = match mode.as_str() {
        "initial" | "always" | "initial_only" | "no_data" | "when_needed" => mode.as_str(),
        "never" | "schema_only" => "no_data",
        "configuration_based"
            if based("snapshot.on.schema.error") || based("snapshot.on.data.error") =>
        {
            "when_needed"
        }
        "configuration_based" => match (based("snapshot.data"), based("start.stream")) {
            (true, true) => "initial",
            (true, false) => "initial_only",
            (false, true) => "no_data",
            (false, false) => {
                return target.refuse(&given.written, "would neither copy nor stream");
            }
        },
        "custom" => return target.refuse(&given.written, "names a Java class; there is none here"),
        _ => {
            return target
                .refuse(&given.written, "is no mode of Debezium's connector for Postgres");
        }
    };
    target.text("snapshot", "mode", ours, "");
}

/// Imports the list of tables to copy: `snapshot.skip` gets a pattern that matches every table that
/// the list does not name.
pub(super) fn copied(_: Input<'_>, given: &Given, target: &mut Target) {
    let copied = expressions(&given.value).join("|");
    target.list(
        "snapshot",
        "skip",
        &[format!("{REGEX}(?!(?:{copied})\\z).*")],
        "every table that is not copied",
    );
}

/// Imports the tables that are copied by a SELECT of their own, each into `snapshot.query`.
pub(super) fn overrides(input: Input<'_>, given: &Given, target: &mut Target) {
    let Some(table) = given.name.strip_prefix("snapshot.select.statement.overrides.") else {
        return target.idle(&given.written, "each statement names its table");
    };
    let listed = expressions(input.or("snapshot.select.statement.overrides", ""));
    if listed.iter().any(|listed| listed == table) {
        target.text("snapshot.query", table, &given.value, "");
    } else {
        target
            .refuse(&given.written, "snapshot.select.statement.overrides does not list the table");
    }
}

pub(super) fn locking(_: Input<'_>, given: &Given, target: &mut Target) {
    if given.value.trim() == "custom" {
        target.refuse(&given.written, "names a Java class; there is none here");
    } else {
        target.idle(&given.written, "the copy holds ACCESS SHARE, as every reader does");
    }
}

pub(super) fn query_mode(_: Input<'_>, given: &Given, target: &mut Target) {
    if given.value.trim() == "custom" {
        target.refuse(&given.written, "names a Java class; there is none here");
    } else {
        target.idle(&given.written, "whole tables are read");
    }
}
