//! Findings about Kafka and the schema registry.

use super::source::{Captured, SourceFacts};
use super::{Area, Finding, Findings, detached, reachability, schemas};
use crate::config::Checked;
use crate::continuity::checkpoint::State;
use crate::encode::registry::{Registry, RegistryError};
use crate::kafka::{self, Policy, TopicInfo, TopicSpec, Topics};
use crate::plans::{SinkConfig, TooFewPartitions};
use std::collections::BTreeMap;
use std::path::Path;

/// Limit of a topic's `max.message.bytes` below which the check warns. Brokers have a larger
/// default, and records of rows with long texts soon exceed a smaller limit.
const SMALL_MESSAGE_BYTES: usize = 1_000_000;

/// Makes the findings about Kafka and the registry.
pub(super) async fn look(checked: &Checked, seen: &SourceFacts) -> Vec<Finding> {
    let mut findings = Findings::new(Area::Kafka);
    let state = match &checked.sink {
        SinkConfig::Kafka(kafka) => topics(checked, kafka, seen, &mut findings).await,
        SinkConfig::Stdout { state_file } => {
            file(state_file, &mut findings);
            None
        }
    };
    let mut registry = Findings::new(Area::Registry);
    if let Some(config) = &checked.registry {
        match probe(config).await {
            Ok(client) => {
                registry.ok(format!("the registry at {} answers", client.url()));
                schemas::ask(&client, config.register, &seen.drafted, &mut registry).await;
                let recorded = state.map_or_else(BTreeMap::new, |state| state.schemas);
                schemas::recorded(&client, &recorded, &seen.drafted, &mut registry).await;
            }
            Err(error) => {
                let fix = reachability::registry(config, &error).await;
                registry.fail(crate::continuity::Chain(&error).to_string(), fix);
            }
        }
    }
    findings.list.extend(registry.list);
    findings.list
}

async fn probe(config: &crate::encode::registry::Config) -> Result<Registry, RegistryError> {
    let registry = Registry::new(config)?;
    registry.probe().await?;
    Ok(registry)
}

/// Checks the topics. Returns the state from the state topic; `None` if there is none, or if it
/// cannot be read.
async fn topics(
    checked: &Checked,
    config: &kafka::Config,
    seen: &SourceFacts,
    findings: &mut Findings,
) -> Option<State> {
    let tables = &seen.captured;
    let asking = Topics::new(config);
    match asking.probe().await {
        Ok(cluster) => {
            let count = cluster.brokers.len();
            let s = plural(count);
            let id = cluster.id.map_or_else(String::new, |id| format!(" of cluster {id}"));
            findings.ok(format!("{count} broker{s}{id} answered"));
        }
        Err(error) => {
            findings.failed(reachability::kafka(config, error).await);
            return None;
        }
    }
    rights(checked, config, findings);
    // A routed table names its topics by values of its rows, so the check does not know them.
    let is_routed = |table: &&Captured| checked.encode.is_routed(&table.name);
    tables.iter().filter(is_routed).for_each(|table| routed(checked, config, table, findings));
    let named: Vec<(String, &Captured)> = tables
        .iter()
        .filter(|table| !is_routed(table))
        .map(|table| (checked.encode.final_topic(&table.name), table))
        .collect();
    let mut asked: Vec<&str> = named.iter().map(|(topic, _)| topic.as_str()).collect();
    let quarantine = checked.encode.quarantine_topic();
    asked.extend([&*quarantine, &config.state_topic]);
    let mut described = match asking.describe_all(&asked).await {
        Ok(described) => described,
        Err(error) => {
            findings.failed(error);
            return None;
        }
    };
    let topic = described.pop().flatten();
    state_topic(config, topic.as_ref(), findings);
    let state = match topic {
        Some(_) => detached::tables(checked, config, findings).await,
        None => None,
    };
    detached::quarantine(checked, config, described.pop().flatten().as_ref(), findings);
    let mut to_create = 0_usize;
    for ((topic, table), info) in named.iter().zip(&described) {
        let recorded = state.as_ref().and_then(|state| state.partitions.get(topic).copied());
        spread(seen, table, (config, topic), info.as_ref(), recorded, findings);
        match info {
            Some(info) => existing(checked, table, info, findings),
            None if config.topics.create => {
                to_create += 1;
                if config.topics.cleanup_policy.contains("compact") {
                    compacted(checked, table, topic, findings);
                }
            }
            None => {
                let fix = format!(
                    "kafka-topics --create --topic {topic} --bootstrap-server {}",
                    config.brokers.join(",")
                );
                findings
                    .fail(format!("topic {topic} does not exist, and topics.create is off"), fix);
            }
        }
    }
    if to_create > 0 {
        let policy = &config.topics.cleanup_policy;
        let s = plural(to_create);
        findings.ok(format!(
            "{to_create} topic{s} will be created when first needed, cleanup.policy={policy}"
        ));
    }
    state
}

/// Reports a topic that has, or will be created with, too few partitions for the partition numbers
/// that transforms set. Nothing is reported of a new topic whose number is not configured.
fn spread(
    seen: &SourceFacts,
    table: &Captured,
    (config, topic): (&kafka::Config, &str),
    info: Option<&TopicInfo>,
    recorded: Option<i32>,
    findings: &mut Findings,
) {
    let by_rules = || TopicSpec::by(&config.topics, topic).partitions;
    let created = || if config.topics.create { by_rules() } else { 0 };
    let there = info.map_or_else(created, |info| info.partitions);
    let Some(draft) = schemas::drafted(&seen.drafted, &table.name) else { return };
    if there > 0
        && let Some(few) = TooFewPartitions::find(draft, there, recorded)
    {
        findings.fail(format!("{}: {few}", table.name), few.next());
    }
}

/// Reports that the topics of a routed table are not checked, because its rows name them.
fn routed(checked: &Checked, config: &kafka::Config, table: &Captured, findings: &mut Findings) {
    let topic = checked.encode.final_topic(&table.name);
    let what = format!(
        "the topics of table {} follow from its rows (of a row with the value `any`: {topic})",
        table.name
    );
    if config.topics.create {
        findings.ok(format!("{what}; they are not checked here, and created when first needed"));
    } else {
        let fix = "create them before their rows are written, or set topics.create = true";
        findings.warn(format!("{what}; they are not checked here, and topics.create is off"), fix);
    }
}

fn state_topic(config: &kafka::Config, info: Option<&TopicInfo>, findings: &mut Findings) {
    let name = &config.state_topic;
    let Some(info) = info else {
        if config.topics.create {
            return findings
                .ok(format!("state topic {name} does not exist and will be created, compacted"));
        }
        let fix = format!(
            "kafka-topics --create --topic {name} --partitions 1 --config cleanup.policy=compact \
             --bootstrap-server {}",
            config.brokers.join(",")
        );
        return findings
            .fail(format!("state topic {name} does not exist, and topics.create is off"), fix);
    };
    // The agent too demands one partition when it opens the state topic. Without a proven cleanup
    // policy the topic may be of the mock broker, which chooses the number of partitions itself.
    if info.partitions != 1 && info.cleanup_policy.proven().is_some() {
        let what = format!(
            "state topic {name} has {} partitions: one keeps its records in order",
            info.partitions
        );
        findings.fail(what, "delete it before the first start, or choose another topics.prefix");
    }
    match &info.cleanup_policy {
        Policy::Proven(policy) if policy == "compact" => {
            findings.ok(format!("state topic {name} is compacted"))
        }
        Policy::Proven(policy) => {
            let fix =
                format!("kafka-configs --alter --topic {name} --add-config cleanup.policy=compact");
            findings.fail(
                format!(
                    "state topic {name} has cleanup.policy={policy}: it would forget our position"
                ),
                fix,
            );
        }
        Policy::NotProven => {
            let fix = format!(
                "kafka-acls --add --operation DescribeConfigs --topic {name} --allow-principal ..."
            );
            findings.warn(
                format!("cleanup.policy of state topic {name} is not proven: it must be compact"),
                fix,
            );
        }
    }
}

fn existing(checked: &Checked, table: &Captured, info: &TopicInfo, findings: &mut Findings) {
    let before = findings.list.len();
    if info.is_compacted() {
        compacted(checked, table, &info.name, findings);
    }
    durable(info, findings);
    if let Some(bytes) = info.max_message_bytes.proven()
        && *bytes < SMALL_MESSAGE_BYTES
    {
        let fix = format!(
            "kafka-configs --alter --topic {} --add-config max.message.bytes=1048588",
            info.name
        );
        findings.warn(
            format!(
                "topic {} takes no more than {bytes} bytes: a larger row halts the pipeline",
                info.name
            ),
            fix,
        );
    }
    if findings.list.len() == before {
        let count = info.partitions;
        findings.ok(format!("topic {} has {count} partition{}", info.name, plural(count)));
    }
}

/// Checks `min.insync.replicas`. If it is 1, an acknowledged record can be lost together with one
/// broker. If it is above the number of replicas, the topic accepts no record.
fn durable(info: &TopicInfo, findings: &mut Findings) {
    let name = &info.name;
    match info.min_insync_replicas.proven() {
        Some(least) if *least < 2 && info.replication > 1 => {
            let fix =
                format!("kafka-configs --alter --topic {name} --add-config min.insync.replicas=2");
            findings.warn(
                format!(
                    "topic {name} has min.insync.replicas={least}: acks=all can mean one broker"
                ),
                fix,
            );
        }
        Some(least) if usize::try_from(*least).is_ok_and(|least| least > info.replication) => {
            let fix =
                format!("kafka-configs --alter --topic {name} --add-config min.insync.replicas=1");
            let count = info.replication;
            findings.fail(
                format!(
                    "topic {name} needs {least} in-sync replicas and has {count}: nothing can be \
                     written"
                ),
                fix,
            );
        }
        Some(_) | None => {}
    }
}

/// Lists the rights that the agent's principal needs in Kafka. Reading ACLs needs a right too, so
/// most of the listed rights cannot be proven here.
fn rights(checked: &Checked, config: &kafka::Config, findings: &mut Findings) {
    let prefix = &checked.encode.prefix;
    let state = &config.state_topic;
    let secured = config
        .client
        .get("security.protocol")
        .is_some_and(|p| !p.eq_ignore_ascii_case("plaintext"));
    let create = if config.topics.create { " Create" } else { "" };
    let signals = checked.snapshot.signal_topic.as_ref();
    let signals = signals.map_or_else(String::new, |topic| format!("; Describe Read on {topic}"));
    let notices = checked
        .encode
        .rules
        .notice_topic
        .as_ref()
        .map_or_else(String::new, |topic| format!(" and {topic}"));
    let what = format!(
        "where Kafka has ACLs the principal needs: Describe Write DescribeConfigs{create} on \
         topics {prefix}.*{notices}; Read besides on {state}{signals}"
    );
    if secured {
        findings.ok(format!("{what}; proven here: Describe. The rest shows at the first write"));
    } else {
        findings.ok(what);
    }
}

/// Reports what a compacted topic does to the table's records: it refuses records without a key,
/// keeps deleted rows if there are no tombstones, and gets no TRUNCATE.
fn compacted(checked: &Checked, table: &Captured, topic: &str, findings: &mut Findings) {
    if !table.has_key {
        let what = format!(
            "topic {topic} is compacted, and {} has no key: brokers refuse its records",
            table.name
        );
        let fix = format!(
            "give the table a primary key, or kafka-configs --alter --topic {topic} --add-config \
             cleanup.policy=delete"
        );
        return findings.fail(what, fix);
    }
    if !checked.encode.tombstones {
        let what = format!(
            "topic {topic} is compacted and events.tombstones is off: deleted rows stay in it for \
             ever"
        );
        findings.warn(what, "set events.tombstones = true");
    }
    if checked.encode.truncates {
        findings.warn(
            format!("topic {topic} is compacted: a TRUNCATE of {} is not sent there", table.name),
            "",
        );
    }
}

fn plural<T: From<u8> + PartialEq>(count: T) -> &'static str {
    if count == T::from(1) { "" } else { "s" }
}

fn file(path: &Path, findings: &mut Findings) {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let writable =
        std::fs::metadata(folder).map(|folder| folder.is_dir() && !folder.permissions().readonly());
    match writable {
        Ok(true) => findings.ok(format!("the state goes to {}", path.display())),
        Ok(false) => findings
            .fail(format!("{} cannot hold the state file", folder.display()), "set state_file"),
        Err(error) => findings.fail(
            format!("{}: {error}", folder.display()),
            "set state_file to a folder that exists",
        ),
    }
}
