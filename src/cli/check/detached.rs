//! Findings about the detached tables in the state topic, and about the quarantine topic.

use super::Findings;
use crate::config::Checked;
use crate::continuity::Chain;
use crate::continuity::checkpoint::State;
use crate::continuity::detached::OnRefusal;
use crate::kafka::{self, StateTopic, TopicInfo};

/// Reports each detached table in the state, and returns the state; `None` if it cannot be read.
/// The caller has checked that the state topic exists, so reading the topic creates none.
pub(super) async fn tables(
    checked: &Checked,
    config: &kafka::Config,
    findings: &mut Findings,
) -> Option<State> {
    let entries = match StateTopic::open(config).await {
        Ok(topic) => topic.read_all().await,
        Err(error) => Err(error),
    };
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            findings.failed(error);
            return None;
        }
    };
    let state = match State::read(&checked.slot, &entries) {
        Ok(state) => state,
        Err(error) => {
            findings.fail(
                Chain(&error).to_string(),
                "run the version that wrote the state, or repair the topic",
            );
            return None;
        }
    };
    for (table, detached) in &state.detached {
        let doing = if detached.is_quarantined() { "detached" } else { "being repaired" };
        let (from, reason) = (detached.commit, &detached.reason);
        let what = format!(
            "table {table} is {doing}, its topic lacks changes from {from} on ({reason}): {}",
            detached.detail
        );
        findings.warn(what, detached.next(table));
    }
    Some(state)
}

/// Checks the quarantine topic, unless `events.on_refusal` is `stop`, which detaches no table.
pub(super) fn quarantine(
    checked: &Checked,
    config: &kafka::Config,
    info: Option<&TopicInfo>,
    findings: &mut Findings,
) {
    if checked.on_refusal == OnRefusal::Stop {
        return;
    }
    let name = checked.encode.quarantine_topic();
    match info {
        Some(info) if info.is_compacted() => findings.fail(
            format!("quarantine topic {name} is compacted: it would keep one change of each table"),
            format!("kafka-configs --alter --topic {name} --add-config cleanup.policy=delete"),
        ),
        Some(_) => findings.ok(format!("quarantine topic {name} is there")),
        None if config.topics.create => {
            findings.ok(format!("quarantine topic {name} will be created when first needed"));
        }
        None => findings.warn(
            format!(
                "quarantine topic {name} does not exist, and topics.create is off: no table \
                can be detached"
            ),
            format!(
                "kafka-topics --create --topic {name} --bootstrap-server {}",
                config.brokers.join(",")
            ),
        ),
    }
}
