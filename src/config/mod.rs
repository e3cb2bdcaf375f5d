//! Reads the configuration, one TOML file and the environment, and builds the `Config` of each
//! room.
//!
//! There are two stages. `document` keeps the keys as typed, each with its place. [`Checked`] holds
//! the rooms' configurations. `source`, `sink` and this file build them through `reader`, which
//! learns the known keys from the calls that read them. serde is not used, because it stops at the
//! first fault, and the operator wants all faults at once.
//!
//! Precedence: `WELLSPRING_SECTION__KEY` from the environment, then the file, then the default. A
//! secret is a [`crate::secret::Source`] or is stored in a type that masks it. Neither [`Faults`]
//! nor [`Shown`] can hold one.

mod about;
mod capture;
mod conditions;
mod conversions;
mod copies;
mod document;
mod examples;
mod faults;
mod foreign;
pub mod import;
mod reader;
mod records;
mod reference;
mod reference_page;
mod show;
mod sink;
mod source;
mod outbox;
mod transforms;
mod types;
mod unwrap;
mod value;

#[cfg(test)]
mod capture_tests;
#[cfg(test)]
mod secret_tests;
#[cfg(test)]
mod tests;

pub use document::Environment;
pub use faults::{Fault, Faults, Origin};
pub use reference_page::{json_schema, reference_page};
pub use show::Shown;
pub use value::ByteSize;

use crate::agent;
use crate::continuity::detached::OnRefusal;
use crate::encode::{self, Format, registry};
use crate::plans::SinkConfig;
use crate::postgres;
use crate::secret::Source;
use crate::snapshot;
use crate::table::Selection;
use crate::transform::Chain;
use reader::Reader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Upper bound of most durations. It reveals a wrong unit: a timeout of a month is an error.
const DAY: Duration = Duration::from_secs(86_400);

/// The checked configuration of an agent.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Connection to the database.
    pub postgres: postgres::Config,
    /// Name of the replication slot.
    pub slot: String,
    /// Name of the publication.
    pub publication: String,
    /// Origins whose changes are published.
    pub origins: postgres::Origins,
    /// True if the slot is created or altered so that standbys can keep a copy of it.
    pub failover: bool,
    /// Interval at which the slot's `catalog_xmin` is read; `None` if it is never read.
    pub xmin_interval: Option<Duration>,
    /// Replica identities that the agent sets at the start.
    pub identities: Vec<postgres::identity::Rule>,
    /// How existing rows are copied.
    pub snapshot: snapshot::Config,
    /// True if a missing publication is created.
    pub create_publication: bool,
    /// Which tables are captured.
    pub selection: Selection,
    /// Form of the records.
    pub encode: encode::Config,
    /// The schema registry; `None` if the format needs none.
    pub registry: Option<registry::Config>,
    /// Heartbeat records to send; `None` if none are sent.
    pub heartbeat: Option<agent::Heartbeat>,
    /// What happens if one table is refused: the stream waits or halts, or the table is detached.
    pub on_refusal: OnRefusal,
    /// Where the records go: Kafka or stdout.
    pub sink: SinkConfig,
    /// Limits of memory, time and lag.
    pub limits: Limits,
    /// Address of `/status` and the other pages; `None` for "off".
    pub admin: Option<SocketAddr>,
    /// Source of the token that actions need; `None` refuses every action.
    pub admin_token: Option<Source>,
    /// What is logged to stderr, and in which form.
    pub log: Log,
    /// Guarantees that the operator's choice makes weaker, as sentences for log and status.
    pub warnings: Vec<String>,
    /// Digest of the settings that decide the form of records and the captured tables. It contains
    /// no secret.
    pub fingerprint: String,
}

impl Checked {
    /// Makes the configuration of the agent. With `exit_on_halt` the process ends on a halt, and
    /// without it the process stays up to report the halt.
    #[must_use]
    pub fn pipeline(&self, exit_on_halt: bool) -> agent::Config {
        agent::Config {
            postgres: self.postgres.clone(),
            slot: self.slot.clone(),
            publication: self.publication.clone(),
            origins: self.origins,
            failover: self.failover,
            identities: self.identities.clone(),
            xmin_interval: self.xmin_interval,
            snapshot: self.snapshot.clone(),
            create_publication: self.create_publication,
            selection: self.selection.clone(),
            encode: self.encode.clone(),
            registry: self.registry.clone(),
            heartbeat: self.heartbeat.clone(),
            log_notices: self.log.notifications,
            sink: self.sink.clone(),
            budget_bytes: self.limits.memory.bytes(),
            confirm_hold: self.limits.confirm_hold,
            stop_patience: self.limits.shutdown,
            on_refusal: self.on_refusal,
            warnings: self.warnings.clone(),
            exit_on_halt,
            fingerprint: self.fingerprint.clone(),
        }
    }
}

/// Limits of memory, time and lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The byte budget of all queues, librdkafka's included.
    pub memory: ByteSize,
    /// Length of a confirm hold after an unclean stop.
    pub confirm_hold: Duration,
    /// Longest time for which a stop waits for Kafka.
    pub shutdown: Duration,
    /// The lag above which `/readyz` reports not ready.
    pub ready_lag: Duration,
}

/// What is logged to stderr, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Form of a log line: text or JSON.
    pub format: LogFormat,
    /// Lowest level that is logged.
    pub level: tracing::Level,
    /// True if the log reports copies as Debezium's notifications do.
    pub notifications: bool,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text, for people.
    Text,
    /// One JSON object in each line.
    Json,
}

/// The sections that a reload can change in a running agent.
const RELOADABLE: [&str; 3] = ["tables.", "snapshot.", "registry."];
/// Keys of those sections that need a restart: the signal table gets a plan of its own at the
/// start, the signal topic is followed from the start, and replica identities are set at the start.
const AT_START: [&str; 3] =
    ["snapshot.signal_table", "snapshot.signal_topic", "tables.set_replica_identity."];

/// A checked configuration, together with the origin of its values.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration that the rooms get.
    pub checked: Checked,
    /// The text that `config show` prints.
    pub shown: Shown,
}

impl Loaded {
    /// The keys whose values differ from another configuration, sorted: first those that a reload
    /// can change, then those that need a restart.
    #[must_use]
    pub fn differences(&self, other: &Loaded) -> (Vec<String>, Vec<String>) {
        let keys = self.shown.differences(&other.shown);
        let is_reloadable =
            |key: &String| RELOADABLE.iter().any(|section| key.starts_with(section));
        keys.into_iter().partition(|key| {
            !AT_START.iter().any(|at_start| key.starts_with(at_start)) && is_reloadable(key)
        })
    }
}

/// Why a configuration could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("read the configuration file {}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// The configuration was read and has faults.
    #[error(transparent)]
    Faulty(#[from] Faults),
}

/// Reads a file and checks it under an environment. The file may be missing if `is_optional` is
/// true and the environment holds keys, because the environment can set every key.
///
/// # Errors
/// `Unreadable`, or `Faulty` with all faults.
pub fn load(
    path: &Path,
    is_optional: bool,
    environment: &Environment,
) -> Result<Loaded, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && is_optional
                && has_keys(environment) =>
        {
            String::new()
        }
        read => read.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?,
    };
    Ok(check(&path.display().to_string(), &text, environment)?)
}

/// The environment of this process, in the form that [`load`] takes.
///
/// # Errors
/// `Faulty`, with each variable that sets a key and has a value that is not UTF-8.
pub fn environment() -> Result<Environment, ConfigError> {
    let read = document::environment(std::env::vars_os());
    Ok(read.map_err(|faults| Faults { file: "the environment".to_owned(), faults })?)
}

fn has_keys(environment: &Environment) -> bool {
    environment.keys().any(|name| name.starts_with("WELLSPRING_") && name.contains("__"))
}

/// Checks the text of a file. Faults call the file `name`.
///
/// # Errors
/// All faults, in the order of the file.
pub fn check(name: &str, text: &str, environment: &Environment) -> Result<Loaded, Faults> {
    let (document, syntax) = document::read(text, environment);
    let mut reader = Reader::new(document, environment);
    let checked = read_all(&mut reader);
    let (mut faults, lines) = reader.finish();
    if !syntax.is_empty() {
        // After a broken line, keys may be missing or run together. Only a fault with a place of
        // its own, on another line, is reliable.
        let line = |fault: &Fault| match fault.at {
            Origin::File { line, .. } => Some(line),
            Origin::Environment(_) | Origin::Default => None,
        };
        faults.retain(|fault| {
            fault.at != Origin::Default && !syntax.iter().any(|other| line(other) == line(fault))
        });
        faults.retain(|fault| !fault.what.starts_with("is missing"));
        faults.extend(syntax);
    }
    faults.sort();
    faults.dedup();
    match checked {
        Some(mut checked) if faults.is_empty() => {
            checked.warnings = warnings(&checked);
            let shown = Shown { file: name.to_owned(), lines };
            checked.fingerprint = shown.fingerprint();
            Ok(Loaded { checked, shown })
        }
        _ => Err(Faults { file: name.to_owned(), faults }),
    }
}

/// Reads every key of every section, even after a fault, so that all faults are found. `None` if
/// there is a fault.
fn read_all(reader: &mut Reader<'_>) -> Option<Checked> {
    let prefix = sink::prefix(reader);
    let database = source::read(reader, prefix.as_deref());
    let selection = capture::selection(reader);
    let identities = capture::identities(reader);
    let xmin_interval = capture::xmin_interval(reader);
    let rules = capture::rules(reader, xmin_interval.flatten().is_some());
    let topics = sink::topics(reader);
    let limits = limits(reader);
    let sink = sink::sink(reader, prefix.as_deref(), topics, limits.map(|limits| limits.memory));
    let transforms = transforms::read(reader);
    let shaping = rules.zip(transforms);
    let encode =
        events(reader, prefix.as_deref(), shaping, matches!(sink, Some(SinkConfig::Stdout { .. })));
    let refusals = [("stop", OnRefusal::Stop), ("detach", OnRefusal::Detach)];
    let on_refusal = reader.or("events.on_refusal", value::one_of(&refusals), "stop");
    let registry = sink::registry(reader, encode.as_ref().map(|encode| encode.format));
    let snapshot = copies::read(reader);
    if matches!(sink, Some(SinkConfig::Stdout { .. })) && reader.is_given("snapshot.signal_topic") {
        reader.fault(
            "snapshot.signal_topic",
            "with sink = \"stdout\" there is no Kafka to read it from",
        );
    }
    let heartbeat = capture::heartbeat(reader);
    let admin = reader.or("admin.listen", value::listen, "127.0.0.1:9630");
    let admin_token = reader.one_secret(&["admin.token_file", "admin.token_command"]);
    let log = log(reader);
    let database = database?;
    Some(Checked {
        postgres: database.postgres,
        slot: database.slot,
        publication: database.publication,
        create_publication: database.create_publication,
        origins: database.origins,
        failover: database.failover,
        identities: identities?,
        xmin_interval: xmin_interval?,
        selection: selection?
            .with(snapshot.as_ref().and_then(|snapshot| snapshot.signal_table.clone())),
        snapshot: snapshot?,
        encode: encode?,
        registry: registry?,
        heartbeat: heartbeat?,
        on_refusal: on_refusal?,
        sink: sink?,
        limits: limits?,
        admin: admin?,
        admin_token,
        log: log?,
        warnings: Vec::new(),
        fingerprint: String::new(), // `check` computes it from the effective values
    })
}

fn events(
    reader: &mut Reader<'_>,
    prefix: Option<&str>,
    shaping: Option<(encode::Rules, Chain)>,
    is_stdout: bool,
) -> Option<encode::Config> {
    let formats =
        [("avro", Format::Avro), ("json", Format::Json), ("json-schema", Format::JsonSchema)];
    let format = reader.or(
        "events.format",
        value::one_of(&formats),
        if is_stdout { "json" } else { "avro" },
    );
    let tombstones = reader.or("events.tombstones", value::flag, "true");
    let truncates = reader.or("events.truncates", value::flag, "true");
    let messages = reader.or("events.messages", value::flag, "true");
    let context_headers = reader.or("events.context_headers", value::flag, "true");
    let identity_headers = reader.or("events.identity_headers", value::flag, "false");
    let placeholder =
        reader.or("events.placeholder", types::placeholder, encode::Config::PLACEHOLDER);
    let modes = types::modes(reader);
    if is_stdout && format == Some(Format::Avro) {
        reader.fault(
            "events.format",
            "Avro is no text; with sink = \"stdout\" write \"json\" or \"json-schema\"",
        );
    }
    let adjusts =
        shaping.as_ref().is_none_or(|(rules, _)| rules.schema_names != encode::Adjust::None);
    if let Some(part) =
        prefix.filter(|_| !adjusts).and_then(|prefix| not_an_avro_name(prefix, format))
    {
        let what = format!(
            "with Avro each part of the prefix is part of a namespace: a letter or _, then \
             letters, digits and _; `{part}` is not; events.schema_names = \"avro\" adjusts it"
        );
        reader.fault("topics.prefix", what);
    }
    let (rules, chain) = shaping?;
    Some(encode::Config {
        prefix: prefix?.to_owned(),
        format: format?,
        tombstones: tombstones?,
        truncates: truncates?,
        messages: messages?,
        context_headers: context_headers?,
        identity_headers: identity_headers?,
        placeholder: placeholder?,
        modes: modes?,
        rules: Arc::new(rules),
        transforms: Arc::new(chain),
    })
}

/// Returns the first part of the prefix (between its dots) that is no valid name in Avro, so that
/// the first schema would be refused. `None` if there is no such part or the format is not Avro.
fn not_an_avro_name(prefix: &str, format: Option<Format>) -> Option<&str> {
    let is_name = |part: &str| {
        let starts =
            part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        starts && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    (format == Some(Format::Avro)).then(|| prefix.split('.').find(|part| !is_name(part))).flatten()
}

fn limits(reader: &mut Reader<'_>) -> Option<Limits> {
    // Below 4 MiB the read buffer and one record of 1 MiB leave no room for a queue. A value above
    // 64 GiB is a typing error.
    let memory =
        reader.or("limits.memory", value::size(ByteSize(4 << 20), ByteSize(64 << 30)), "32MiB");
    let confirm_hold = reader.or("limits.quarantine", value::duration(Duration::ZERO, DAY), "60s");
    let shutdown =
        reader.or("limits.shutdown", value::duration(Duration::from_secs(1), DAY), "30s");
    let ready_lag =
        reader.or("limits.ready_lag", value::duration(Duration::from_secs(1), DAY), "60s");
    Some(Limits {
        memory: memory?,
        confirm_hold: confirm_hold?,
        shutdown: shutdown?,
        ready_lag: ready_lag?,
    })
}

fn log(reader: &mut Reader<'_>) -> Option<Log> {
    use tracing::Level;
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let format = reader.or("log.format", value::one_of(&formats), "text");
    let level = reader.or("log.level", value::one_of(&levels), "info");
    let notifications = reader.or("log.notifications", value::flag, "false");
    Some(Log { format: format?, level: level?, notifications: notifications? })
}

/// The guarantees that this configuration makes weaker, as sentences. A weak connection to Postgres
/// is not among them, because the agent adds that sentence itself.
fn warnings(checked: &Checked) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(registry) = &checked.registry
        && registry.urls.iter().any(|url| url.starts_with("http://"))
    {
        warnings.push("registry over http: schemas can be read and changed on the way".to_owned());
    }
    if let SinkConfig::Kafka(kafka) = &checked.sink {
        let protocol = kafka.client.get("security.protocol").map_or("plaintext", String::as_str);
        if protocol.to_ascii_lowercase().ends_with("plaintext") {
            let secret = kafka.secret_in_clear();
            let what = secret.map_or("records".to_owned(), |it| format!("records and the {it}"));
            warnings.push(format!("kafka over {protocol}: {what} travel in the clear"));
        }
    }
    if let Some(listen) = checked.admin.filter(|listen| !listen.ip().is_loopback()) {
        warnings.push(format!(
            "admin.listen is {listen}: /status and /metrics can be read from other machines"
        ));
        if checked.admin_token.is_some() {
            warnings.push(format!(
                "admin.listen is {listen}: the token for actions travels in the clear"
            ));
        }
    }
    warnings
}
