//! Next steps if Postgres, Kafka or the registry cannot be reached as configured. A second request
//! finds the cause: it lists the server's databases, tests if a broker's listener speaks TLS, or
//! looks for the registry's API below its URL.

use super::Failure;
use crate::agent::supervise::PipelineError;
use crate::config::Checked;
use crate::encode::registry::{self, Registry, RegistryError};
use crate::kafka::{self, KafkaError, listener};
use crate::postgres::{PgError, Sql};
use postgres_protocol::escape::escape_identifier;

/// The database that is asked for the names of the others. Nearly every server has it.
const MAINTENANCE: &str = "postgres";

/// The most databases that a next step names. A longer list helps nobody.
const DATABASES_MAX: usize = 20;

/// Path below the root URL of Apicurio at which it serves the API of Confluent's registry.
const APICURIO: &str = "apis/ccompat/v7";

/// Makes the failure to report if Postgres gave this error. If the configured database is missing,
/// the next step names the databases that the server has.
pub(super) async fn postgres(checked: &Checked, error: PgError) -> Failure {
    let is_missing = error.sqlstate() == Some("3D000");
    let failure = Failure::from(PipelineError::Postgres(error));
    if !is_missing {
        return failure;
    }
    let wanted = escape_identifier(&checked.postgres.database);
    let mut other = checked.postgres.clone();
    other.database = MAINTENANCE.to_owned();
    let names = "SELECT datname FROM pg_catalog.pg_database \
                 WHERE datallowconn AND NOT datistemplate ORDER BY 1";
    let found = match Sql::connect(&other).await {
        Ok(sql) => sql.query(names).await,
        Err(error) => Err(error),
    };
    let found = found.unwrap_or_else(|_| Vec::new()); // the role may not connect there
    let names: Vec<String> = found.into_iter().flatten().flatten().take(DATABASES_MAX).collect();
    let there = if names.is_empty() {
        String::new()
    } else {
        format!("; the server has: {}", names.join(", "))
    };
    let hint =
        format!("correct the database in postgres.url{there}\n-- or: CREATE DATABASE {wanted};");
    Failure { hint, ..failure }
}

/// Makes the failure to report if Kafka gave this error. If only the broker or only our client uses
/// TLS, the failure says so.
pub(super) async fn kafka(config: &kafka::Config, error: KafkaError) -> Failure {
    let is_unreachable = matches!(error, KafkaError::Unreachable { .. });
    let failure = Failure::from(error);
    if !is_unreachable {
        return failure;
    }
    let protocol = config.client.get("security.protocol");
    let protocol = protocol.map_or("plaintext", String::as_str).to_owned();
    let brokers = config.brokers.clone();
    let found = tokio::task::spawn_blocking(move || listener::mismatch(&brokers, &protocol)).await;
    let Some(listener::Mismatch { broker, protocol, speaks_tls }) = found.ok().flatten() else {
        return failure;
    };
    let (has, other) = if speaks_tls {
        let ssl = if protocol.starts_with("sasl") { "sasl_ssl" } else { "ssl" };
        let also = if ssl == "ssl" { " (with a login: \"sasl_ssl\")" } else { "" };
        ("speaks TLS", format!("\"{ssl}\"{also}, or name the broker's plain port"))
    } else if protocol.starts_with("sasl") {
        let other = "\"sasl_plaintext\" with kafka.insecure = true, which shows the password";
        ("does not speak TLS", format!("{other}; better name the broker's TLS port"))
    } else {
        ("does not speak TLS", "\"plaintext\", or name the broker's TLS port".to_owned())
    };
    let primary = format!(
        "{broker} {has}, and kafka.client \"security.protocol\" is \"{protocol}\": {}",
        failure.primary
    );
    let hint = format!("set kafka.client \"security.protocol\" = {other} in kafka.brokers");
    Failure { primary, hint, ..failure }
}

/// The next step if the registry gave no usable answer. It names the right URL if `registry.url` is
/// the root of Apicurio.
pub(super) async fn registry(config: &registry::Config, error: &RegistryError) -> String {
    let general = "see registry.url, its credentials and registry.ca".to_owned();
    if matches!(error, RegistryError::Unavailable { .. }) {
        return general;
    }
    let below = |url: &String| format!("{}/{APICURIO}", url.trim_end_matches('/'));
    let other =
        registry::Config { urls: config.urls.iter().map(below).collect(), ..config.clone() };
    let Ok(client) = Registry::new(&other) else { return general };
    match client.probe().await {
        // `Registry::url` gives the URL without its password.
        Ok(()) => format!(
            "set registry.url = \"{}\": Apicurio serves the API of Confluent's registry there",
            client.url().trim_end_matches('/')
        ),
        Err(_) => general,
    }
}
