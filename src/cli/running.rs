//! Asks the agent that runs under this configuration for its `/status`. That changes nothing and
//! needs no token.

use super::request::reachable;
use crate::config::Checked;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for the agent's answer. The agent answers from memory, so only a stuck machine or
/// another program takes longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The fields of `/status` that commands use.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Running {
    pub phase: String,
    pub reason: String,
    pub detail: String,
    pub next: String,
    pub slot: String,
    pub needs_a_person: bool,
    pub lag_seconds: Option<f64>,
    pub tables: BTreeMap<String, Part>,
    pub windows: Vec<Copy>,
}

/// State of one table in `/status`.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Part {
    pub state: String,
    pub reason: String,
    pub detail: String,
    pub next: String,
}

/// State of one backfill in `/status`.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Copy {
    pub table: String,
    pub state: String,
    pub reason: String,
    pub detail: String,
    pub next: String,
}

impl Running {
    /// One line with the agent's phase, the reason for the phase, and the lag.
    pub(super) fn summary(&self) -> String {
        let mut phase = self.phase.clone();
        if !self.reason.is_empty() {
            phase = format!("{phase} ({})", self.reason);
        }
        let lag = self.lag_seconds.map_or("unknown".to_owned(), |lag| format!("{lag:.1} s"));
        format!("{phase}, lag {lag}")
    }
}

/// The status of the agent at `admin.listen`. `None` if no agent of this slot answers there.
pub(super) async fn ask(checked: &Checked) -> Option<Running> {
    let address = reachable(checked.admin?);
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().ok()?;
    let answer = client.get(format!("http://{address}/status")).send().await.ok()?;
    let text = answer.bytes().await.ok()?;
    let running: Running = serde_json::from_slice(&text).ok()?;
    (running.slot == checked.slot).then_some(running)
}
