//! Decides whether a person has to act, and which phase the status shows.

use super::{LOGIN_REFUSED, REFUSED_MS, Reporter};
use crate::agent::supervise::LOGIN_NEXT;
use crate::continuity::{Trouble, TroubleReason};
use crate::core::Core;
use crate::status::phase::{Facts, PhaseReport};

/// The most tables that the detail of a trouble names. `tables` in the status has all of them.
const NAMED_MAX: usize = 5;

impl Reporter {
    pub(super) fn phase(&self, core: &Core, now_ms: i64) -> PhaseReport {
        let plain = |reason, detail: &str, next| Trouble::plain(reason, detail.to_owned(), next);
        let refused = self.answers.login_refused_ms.filter(|at| now_ms - at < REFUSED_MS);
        let login = refused.map(|_| plain(TroubleReason::KafkaRefuses, LOGIN_REFUSED, LOGIN_NEXT));
        let reason = TroubleReason::SchemaIdsDiffered;
        let beside = self.schemas.needs_a_person();
        let beside = beside.map(|detail| plain(reason, &detail, reason.next()));
        let beside = beside.or_else(|| self.not_copied());
        let facts = Facts {
            trouble: self.trouble.as_ref(),
            login: login.as_ref(),
            silent_ms: now_ms.saturating_sub(self.answers.answered_ms),
            beside: beside.as_ref(),
            before: self.status.phase,
        };
        PhaseReport::new(core, &facts)
    }

    /// Whether something lasts until a person acts. `reason` is the reason code of the present
    /// phase.
    pub(super) fn needs_a_person(&self, core: &Core, reason: &str) -> bool {
        core.halted().is_some()
            || self.trouble.as_ref().is_some_and(|trouble| trouble.reason.needs_a_person())
            || reason == TroubleReason::KafkaRefuses.code()
            || self.warnings.unidentified.is_some()
            || !self.copy.lacking.is_empty()
            || self.schemas.needs_a_person().is_some()
    }

    /// Makes the trouble about tables whose topics lack rows. If there is one such table, the next
    /// step is the step for this table. `None` if no topic lacks rows.
    fn not_copied(&self) -> Option<Trouble> {
        let reason = TroubleReason::TableNotCopied;
        let (first, left) = self.copy.lacking.first_key_value()?;
        if self.copy.lacking.len() == 1 {
            let detail = format!("{first} is not copied: {}", left.detail);
            return Some(Trouble::plain(reason, detail, &left.next));
        }
        let named: Vec<&str> =
            self.copy.lacking.keys().map(String::as_str).take(NAMED_MAX).collect();
        let more = self.copy.lacking.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let detail = format!("tables are not copied: {}{more}", named.join(", "));
        Some(Trouble::plain(reason, detail, reason.next()))
    }
}
