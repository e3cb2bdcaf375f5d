//! Imports the channels of signals and notifications.

use super::Input;
use super::source::Given;
use super::target::Target;

/// Debezium's default for the channels that signals are read from.
const SIGNAL_CHANNELS: &str = "source";

fn channels(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|channel| !channel.is_empty())
}

fn reads(input: Input<'_>, channel: &str) -> bool {
    channels(input.value("signal.enabled.channels").unwrap_or(SIGNAL_CHANNELS))
        .any(|listed| listed == channel)
}

/// Imports the signal table. Debezium also accepts its name with the database in front.
pub(super) fn table(input: Input<'_>, given: &Given, target: &mut Target) {
    let table = given.value.trim();
    let database = format!("{}.", input.or("database.dbname", "").trim());
    let rest = table.strip_prefix(&database).filter(|rest| rest.contains('.')).unwrap_or(table);
    if rest.is_empty() || !reads(input, "source") {
        target.idle(&given.written, "without the channel `source` no table is read for signals");
    } else {
        target.text("snapshot", "signal_table", rest, "");
    }
}

/// Imports the list of signal channels. The topic of the channel `kafka` has a default name.
pub(super) fn channels_of_signals(input: Input<'_>, given: &Given, target: &mut Target) {
    let mut is_idle = true;
    for channel in channels(&given.value) {
        match channel {
            "source" if input.value("signal.data.collection").is_some() => is_idle = false,
            "source" => {}
            "kafka" => {
                is_idle = false;
                let default = format!("{}-signal", input.or("topic.prefix", ""));
                let topic = input
                    .value("signal.kafka.topic")
                    .map(str::trim)
                    .filter(|topic| !topic.is_empty());
                target.text("snapshot", "signal_topic", topic.unwrap_or(&default), "");
            }
            other => target.refuse(
                &given.written,
                format!(
                    "there is no channel `{other}`: signals are read from a table (source) and \
                     from a topic (kafka); `wellspring snapshot` asks the running agent for a copy"
                ),
            ),
        }
    }
    if is_idle {
        target.idle(&given.written, "without a signal table or topic it does nothing");
    }
}

/// Reports `signal.file` as not needed. If the channel `file` is enabled, `channels_of_signals`
/// refuses it.
pub(super) fn file(_: Input<'_>, given: &Given, target: &mut Target) {
    target.idle(
        &given.written,
        "there is no channel `file`: `wellspring snapshot` asks the running agent for a copy",
    );
}

/// Imports the properties of the channel `kafka`.
pub(super) fn kafka(input: Input<'_>, given: &Given, target: &mut Target) {
    if !reads(input, "kafka") {
        return target
            .idle(&given.written, "without the channel `kafka` no topic is read for signals");
    }
    match given.name.as_str() {
        "signal.kafka.topic" => {} // imported with the list of channels
        "signal.kafka.bootstrap.servers" => match input.value("bootstrap.servers") {
            Some(brokers) if sorted(brokers) != sorted(&given.value) => target.refuse(
                &given.written,
                "is not bootstrap.servers: signals are read from the cluster that records go to",
            ),
            _ => {
                target.idle(&given.written, "signals are read from the cluster that records go to")
            }
        },
        "signal.kafka.groupId" => {
            target.idle(&given.written, "how far signals are obeyed is in the state topic")
        }
        name if name.starts_with("signal.consumer.") => {
            target.idle(&given.written, "signals are read with the settings of [kafka]");
        }
        _ => target.idle(&given.written, "signals are read as they come"),
    }
}

fn sorted(brokers: &str) -> Vec<&str> {
    let mut brokers: Vec<&str> = channels(brokers).collect();
    brokers.sort_unstable();
    brokers
}

/// Imports the channels of notifications, and the topic of the channel `sink`.
pub(super) fn notifications(input: Input<'_>, given: &Given, target: &mut Target) {
    let listed: Vec<&str> = channels(input.or("notification.enabled.channels", "")).collect();
    let topic = input
        .value("notification.sink.topic.name")
        .map(str::trim)
        .filter(|topic| !topic.is_empty());
    if given.name == "notification.sink.topic.name" {
        if !listed.contains(&"sink") {
            target.idle(&given.written, "without the channel `sink` there is no topic");
        }
        return;
    }
    for channel in &listed {
        match *channel {
            "log" => target.flag("log", "notifications", true, ""),
            "jmx" => target.idle(
                &given.written,
                "instead of JMX the progress of copies is in status and metrics",
            ),
            "sink" => match topic {
                Some(topic) => target.text("topics", "notifications", topic, ""),
                None => target.refuse(
                    "notification.sink.topic.name",
                    "is missing; the channel `sink` needs it",
                ),
            },
            other => {
                let what = "there is no channel";
                let ways = "notifications go to a topic (sink) and to the log; /status and \
                    /metrics say the same to who asks";
                target.refuse(&given.written, format!("{what} `{other}`: {ways}"));
            }
        }
    }
    if listed.is_empty() {
        target.idle(&given.written, "without a channel nobody is notified");
    }
}
