//! Log lines on standard error, in text or JSON.

use super::progress::CLEAR_LINE;
use crate::config::{Log, LogFormat};
use std::io::{IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// Begins logging. A second call in a process has no effect.
///
/// `log.level` applies to our code only, and the libraries stay at warnings. Their debug lines do
/// not keep our law that rows and secrets stay out of logs.
pub(super) fn start(log: Log) {
    let filter = EnvFilter::new(format!("warn,wellspring={}", log.level));
    let is_terminal = std::io::stderr().is_terminal();
    let is_colourful = is_terminal && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || {
        let mut out = std::io::stderr();
        if is_terminal {
            // The terminal's present line may show the progress of a copy. If the line cannot be
            // cleared, the output is only less tidy.
            let _ = out.write_all(CLEAR_LINE.as_bytes());
        }
        out
    });
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(is_colourful).with_target(false).try_init(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
    };
    // An error means that a subscriber is already installed, by an earlier call or by a program
    // that embeds us. That subscriber stays.
    drop(started);
}
