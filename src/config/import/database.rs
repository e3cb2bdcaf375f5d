//! Imports the source: address, credentials, slot and publication.

use super::Input;
use super::source::Given;
use super::target::Target;
use crate::table::names::REGEX;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

const PASSWORD: &str = "WELLSPRING_POSTGRES_PASSWORD";
const KEY_PASSWORD: &str = "WELLSPRING_POSTGRES_KEY_PASSWORD";

/// Sets the defaults of Debezium that differ from ours, and refuses a missing address.
pub(super) fn defaults(input: &Input<'_>, target: &mut Target) {
    if !target.has("postgres", "url") {
        target.refuse("database.hostname", "is missing; so are the other parts of the address");
    }
    if !target.has("postgres", "slot") {
        target.text("postgres", "slot", "debezium", "Debezium's default");
    }
    if !target.has("postgres", "publication") {
        target.text("postgres", "publication", "dbz_publication", "Debezium's default");
    }
    if !target.has("postgres", "sslmode") {
        prefer(target);
    }
    if input.or("publication.autocreate.mode", "all_tables").trim() == "all_tables" {
        target.text(
            "tables",
            "later",
            "capture",
            "as Debezium: a new table streams from its first row on",
        );
    }
    if input.value("plugin.name").is_none() {
        let what = "plugin.name is not set, which means decoderbufs: a slot of that plugin has to \
            be made anew.";
        target.remarks.push(what.to_owned());
    }
}

/// Builds one URL from all properties of the address and the login. The import calls this function
/// for each of these properties, always with the same result.
pub(super) fn url(input: Input<'_>, given: &Given, target: &mut Target) {
    let (Some(host), Some(database)) =
        (input.value("database.hostname"), input.value("database.dbname"))
    else {
        let missing = if input.value("database.hostname").is_none() {
            "database.hostname"
        } else {
            "database.dbname"
        };
        return target.refuse(missing, format!("is missing, so {} says too little", given.written));
    };
    let encoded = |text: &str| utf8_percent_encode(text.trim(), NON_ALPHANUMERIC).to_string();
    let mut url = "postgresql://".to_owned();
    if let Some(user) = input.value("database.user") {
        url.push_str(&encoded(user));
        if let Some(password) =
            input.value("database.password").filter(|password| !password.is_empty())
        {
            target.hidden.retain(|hidden| hidden.variable != PASSWORD);
            target.remarks.retain(|remark| !remark.contains(PASSWORD));
            let reference = target.hide(PASSWORD, "database.password", password);
            url.push_str(&format!(":{reference}"));
        }
        url.push('@');
    }
    let host = host.trim();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    url.push_str(&format!(
        "{host}:{}/{}",
        input.or("database.port", "5432").trim(),
        encoded(database)
    ));
    // The URL may contain a reference to the password, so its `${` is not escaped.
    target.raw("postgres", "url", super::super::document::toml_text(&url), "");
}

fn prefer(target: &mut Target) {
    let remark =
        "Debezium's `prefer` would go on in plain text; write \"disable\" for a server without TLS";
    target.text("postgres", "sslmode", "require", remark);
}

pub(super) fn sslmode(_: Input<'_>, given: &Given, target: &mut Target) {
    match given.value.trim() {
        mode @ ("disable" | "require" | "verify-ca" | "verify-full") => {
            target.text("postgres", "sslmode", mode, "")
        }
        "prefer" | "allow" => prefer(target),
        _ => target.refuse(
            &given.written,
            "is none of disable, allow, prefer, require, verify-ca and verify-full",
        ),
    }
}

pub(super) fn root_certificate(_: Input<'_>, given: &Given, target: &mut Target) {
    target.text("postgres", "sslrootcert", given.value.trim(), "");
}

pub(super) fn certificate(_: Input<'_>, given: &Given, target: &mut Target) {
    target.text("postgres", "sslcert", given.value.trim(), "");
}

pub(super) fn key(_: Input<'_>, given: &Given, target: &mut Target) {
    let path = given.value.trim();
    if path.ends_with(".p12") || path.ends_with(".pfx") {
        return target.refuse(
            &given.written,
            "PKCS#12 is not read; export the key as PEM, and its certificate to sslcert",
        );
    }
    target.text("postgres", "sslkey", path, "");
}

pub(super) fn key_password(_: Input<'_>, given: &Given, target: &mut Target) {
    target.secret("postgres", "sslpassword", KEY_PASSWORD, &given.written, &given.value);
}

pub(super) fn plugin(_: Input<'_>, given: &Given, target: &mut Target) {
    if given.value.trim() == "pgoutput" {
        target.idle(&given.written, "the only plugin");
    } else {
        let what = "only pgoutput is read; a slot cannot change its plugin: end the pipeline, drop \
                    its slot, write plugin.name=pgoutput and begin anew";
        target.refuse(&given.written, what);
    }
}

pub(super) fn slot(_: Input<'_>, given: &Given, target: &mut Target) {
    target.text("postgres", "slot", given.value.trim(), "");
}

pub(super) fn publication(_: Input<'_>, given: &Given, target: &mut Target) {
    target.text("postgres", "publication", given.value.trim(), "");
}

pub(super) fn autocreate(_: Input<'_>, given: &Given, target: &mut Target) {
    match given.value.trim() {
        "disabled" | "no_tables" => target.flag("postgres", "create_publication", false, ""),
        "filtered" => target.flag("postgres", "create_publication", true, ""),
        "all_tables" => {
            let remark =
                "for the captured tables; FOR ALL TABLES is never created, one that exists is used";
            target.flag("postgres", "create_publication", true, remark);
        }
        _ => {
            target.refuse(&given.written, "is none of all_tables, disabled, filtered and no_tables")
        }
    }
}

pub(super) fn drop_on_stop(_: Input<'_>, given: &Given, target: &mut Target) {
    if given.value.trim().eq_ignore_ascii_case("false") {
        target.idle(&given.written, "a slot is dropped by command only");
    } else {
        target.refuse(
            &given.written,
            "a slot is dropped by command only (`wellspring slot drop`): its changes would be lost",
        );
    }
}

pub(super) fn failover(_: Input<'_>, given: &Given, target: &mut Target) {
    match given.value.trim() {
        value if value.eq_ignore_ascii_case("true") => {
            target.flag("postgres", "failover", true, "")
        }
        value if value.eq_ignore_ascii_case("false") => {
            target.flag("postgres", "failover", false, "")
        }
        _ => target.refuse(&given.written, "is neither true nor false"),
    }
}

pub(super) fn flush_mode(_: Input<'_>, given: &Given, target: &mut Target) {
    match given.value.trim() {
        "manual" | "false" => target.refuse(
            &given.written,
            "what is in Kafka is always confirmed; nobody else moves the slot",
        ),
        _ => target.idle(&given.written, "what is in Kafka is confirmed, keepalives included"),
    }
}

pub(super) fn mismatch(_: Input<'_>, given: &Given, target: &mut Target) {
    match given.value.trim() {
        "no_validation" | "trust_offset" => {
            target.idle(
                &given.written,
                "a slot ahead of our record halts; `wellspring slot accept` goes on",
            );
        }
        _ => target.refuse(
            &given.written,
            "a slot ahead of our record means missing changes; `wellspring slot accept` consents \
             to that",
        ),
    }
}

pub(super) fn xmin(_: Input<'_>, given: &Given, target: &mut Target) {
    match given.value.trim().parse::<u64>() {
        Ok(0) => target.idle(&given.written, "0 switches it off"),
        Ok(millis @ 1..1000) => {
            let remark =
                format!("{millis} ms at the source: the slot is looked at once a second at most");
            target.text("events", "xmin_interval", "1s", &remark);
        }
        Ok(millis) => target.text("events", "xmin_interval", &format!("{millis}ms"), ""),
        Err(_) => target.refuse(&given.written, "is no number of milliseconds"),
    }
}

pub(super) fn stream_params(_: Input<'_>, given: &Given, target: &mut Target) {
    for parameter in given.value.split(';').map(str::trim).filter(|parameter| !parameter.is_empty())
    {
        match parameter.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("origin", origin @ ("any" | "none"))) => {
                target.text("postgres", "origin", origin, "")
            }
            _ => target.refuse(
                &given.written,
                format!("`{parameter}`: only origin=any and origin=none are understood"),
            ),
        }
    }
}

/// Imports the replica identities of tables: `schema.table:FULL`, or several entries between
/// commas. Tables are given by expressions.
pub(super) fn replica_identity(_: Input<'_>, given: &Given, target: &mut Target) {
    for entry in super::capture::expressions(&given.value) {
        let Some((table, identity)) =
            entry.rsplit_once(':').map(|(table, identity)| (table.trim(), identity.trim()))
        else {
            target.refuse(&given.written, format!("`{entry}` is not `schema.table:IDENTITY`"));
            continue;
        };
        if identity.eq_ignore_ascii_case("NOTHING") {
            target.refuse(
                &given.written,
                format!("`{entry}`: UPDATE and DELETE of a published table would fail"),
            );
        } else {
            let remark = "changes the tables at each start, as replica.identity.autoset.values did";
            target.text(
                "tables.set_replica_identity",
                &format!("{REGEX}{table}"),
                identity,
                remark,
            );
        }
    }
}
