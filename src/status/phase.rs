//! The phase of the agent, with its reason, detail and next step. The state of the core and the
//! troubles of the agent decide it.

use crate::continuity::{Trouble, TroubleReason};
use crate::core::Core;
use crate::status::Phase;

/// Kafka counts as unreachable if records are in flight and nothing is acknowledged for this long,
/// even if its connections work. A busy broker answers within a few seconds.
const SILENT_MS: i64 = 10_000;

/// The phase of the agent, with its reason and the next step, as the status shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseReport {
    /// What the agent is doing at the moment.
    pub phase: Phase,
    /// Stable code of the reason; empty if the phase needs none.
    pub reason: String,
    /// The reason as a sentence.
    pub detail: String,
    /// The next step for the operator.
    pub next: String,
}

/// What decides the phase of the agent, besides the core.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The trouble that the agent has at the moment.
    pub trouble: Option<&'a Trouble>,
    /// The trouble that brokers accept connections and refuse our login. It is not in `trouble`,
    /// because no call fails then.
    pub login: Option<&'a Trouble>,
    /// Milliseconds since the last delivery report, or since no record was in flight.
    pub silent_ms: i64,
    /// A trouble beside which changes still flow. `None` if there is none.
    pub beside: Option<&'a Trouble>,
    /// The phase that was shown before.
    pub before: Phase,
}

impl PhaseReport {
    fn plain(phase: Phase) -> Self {
        PhaseReport { phase, reason: String::new(), detail: String::new(), next: String::new() }
    }

    fn of(phase: Phase, trouble: &Trouble) -> Self {
        let Trouble { reason, detail, next } = trouble.clone();
        PhaseReport { phase, reason: reason.code().to_owned(), detail, next }
    }

    /// Finds the phase of an agent with this core and these facts, and makes the report about it.
    #[must_use]
    pub fn new(core: &Core, facts: &Facts<'_>) -> Self {
        if core.is_stopping() {
            return PhaseReport::plain(Phase::Stopping);
        }
        if let Some(halt) = core.halted() {
            let (reason, next) = (halt.reason.code().to_owned(), halt.next());
            return PhaseReport { phase: Phase::Halted, reason, detail: halt.told(), next };
        }
        if let Some(trouble) = facts.trouble {
            return PhaseReport::of(Phase::under(trouble.reason), trouble);
        }
        if let Some(trouble) = facts.login {
            return PhaseReport::of(Phase::Retrying, trouble);
        }
        if !core.is_streaming() {
            let begins = facts.before == Phase::Connecting;
            return PhaseReport::plain(if begins { Phase::Connecting } else { Phase::Retrying });
        }
        if core.is_paused() {
            return PhaseReport {
                phase: Phase::Paused,
                reason: "paused".to_owned(),
                detail: "an operator asked for it; Postgres keeps the WAL meanwhile".to_owned(),
                next: "`wellspring resume` goes on".to_owned(),
            };
        }
        if facts.silent_ms > SILENT_MS {
            let detail = format!("no acknowledgement for {} s", facts.silent_ms / 1000);
            let reason = TroubleReason::KafkaUnavailable;
            return PhaseReport::of(
                Phase::Retrying,
                &Trouble::plain(reason, detail, reason.next()),
            );
        }
        if core.is_copying() {
            return PhaseReport::plain(Phase::Snapshot);
        }
        match facts.beside {
            Some(trouble) => PhaseReport::of(Phase::Streaming, trouble),
            None => PhaseReport::plain(Phase::Streaming),
        }
    }
}
