//! Log lines on standard error, as text or JSON.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Begins logging. A second call in a process changes nothing.
///
/// `log.level` is ours alone: the libraries stay at warnings, since what they say at debug is not held to our law that
/// rows and secrets stay out of logs.
pub(super) fn start(log: Log) {
    let filter = EnvFilter::new(format!("warn,wellspring={}", log.level));
    let is_colourful = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(is_colourful).with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    // There is a subscriber already: somebody embeds us, and listens in their own way.
    drop(started);
}
