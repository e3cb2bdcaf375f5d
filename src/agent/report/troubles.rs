//! Reports what is wrong while the agent keeps trying, and keeps the last errors for the status.

use super::{ERRORS_MAX, LOGIN_REFUSED, Reporter};
use crate::agent::supervise::{Disposition, LOGIN_NEXT};
use crate::continuity::{Trouble, TroubleReason};
use crate::status::LastError;
use tracing::{error, info, warn};

impl Reporter {
    /// Reports that trouble began or changed. `None` means that it ended.
    pub fn trouble(&mut self, trouble: Option<Trouble>) {
        let is_standby = |trouble: &&Trouble| trouble.reason == TroubleReason::Standby;
        if let Some(trouble) = trouble.as_ref().filter(is_standby) {
            // To wait as a standby is no failure, so it is logged as information and not
            // remembered.
            if self.trouble.as_ref() != Some(trouble) {
                info!(next = trouble.next, "standing by: {}", trouble.detail);
            }
        } else if let Some(trouble) = &trouble {
            self.metrics.failed(trouble.reason.code());
            if self
                .trouble
                .as_ref()
                .is_none_or(|was| was.reason != trouble.reason || was.detail != trouble.detail)
            {
                warn!(reason = trouble.reason.code(), next = trouble.next, "{}", trouble.detail);
                self.remember(trouble.reason.code(), &trouble.detail, &trouble.next);
            }
        } else if let Some(was) = &self.trouble {
            info!(reason = was.reason.code(), "recovered");
        }
        match &trouble {
            Some(trouble) if is_standby(&trouble) => self.lag.stand_by(),
            Some(_) => self.lag.lost(), // Until the server answers again.
            None => {}
        }
        self.trouble = trouble;
        self.updated_ms = 0;
    }

    /// Reports a failure by its meaning: as a trouble, or as a halt.
    pub fn failed(&mut self, disposition: &Disposition) {
        match disposition {
            Disposition::Retry(trouble) | Disposition::Refused(trouble, _) => {
                self.trouble(Some(trouble.clone()))
            }
            Disposition::Halt(halt) => {
                let (code, next) = (halt.reason.code(), halt.next());
                let range = halt
                    .range
                    .map_or_else(String::new, |range| format!("{} to {}", range.from, range.to));
                error!(reason = code, range, next, "halted: {}", halt.told());
                self.metrics.failed(code);
                self.remember(code, &halt.told(), &next);
                self.updated_ms = 0;
            }
        }
    }

    pub(super) fn remember(&mut self, reason: &str, message: &str, next: &str) {
        let excess = (self.status.errors.len() + 1).saturating_sub(ERRORS_MAX);
        self.status.errors.drain(..excess);
        self.status.errors.push(LastError {
            at_ms: crate::agent::runner::unix_nanos() / 1_000_000,
            reason: reason.to_owned(),
            message: message.to_owned(),
            next: next.to_owned(),
        });
    }

    /// Reports that brokers refused our login, and that reading the login again gave the same one.
    pub fn login_refused(&mut self) {
        let now_ms = crate::agent::runner::unix_nanos() / 1_000_000;
        if self.answers.login_refused_ms.replace(now_ms).is_none() {
            let code = TroubleReason::KafkaRefuses.code();
            warn!(reason = code, next = LOGIN_NEXT, "{LOGIN_REFUSED}");
            self.metrics.failed(code);
            self.remember(code, LOGIN_REFUSED, LOGIN_NEXT);
        }
        self.updated_ms = 0;
    }

    /// Whether this agent waits as a standby for the slot.
    pub fn stands_by(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.reason == TroubleReason::Standby)
    }

    /// Ends the trouble, if there is any.
    pub fn trouble_over(&mut self) {
        if self.trouble.is_some() {
            self.trouble(None);
        }
    }

    /// True while a trouble is reported.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        self.trouble.is_some()
    }

    /// Ends the trouble if it has this reason.
    pub fn trouble_over_if(&mut self, reason: TroubleReason) {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.reason == reason) {
            self.trouble(None);
        }
    }
}
