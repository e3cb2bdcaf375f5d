//! The loop in which a plan is tried until it is complete, and the pauses between the tries.

use super::{Failure, PlanMaker, PlanOf, REFUSED_RETRY, Ready};
use crate::encode::{Draft, PlanError, Planner};
use std::time::Duration;

/// The first pause after a failure that can pass by itself. Each further pause is twice as long as
/// the one before, up to [`BUSY_RETRY_MAX`].
const BUSY_RETRY_MIN: Duration = Duration::from_millis(200);
pub(super) const BUSY_RETRY_MAX: Duration = Duration::from_secs(10);

/// The pauses between the tries of one plan.
pub(super) struct Pauses {
    /// The pause after the next failure that can pass by itself.
    busy: Duration,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Pauses { busy: BUSY_RETRY_MIN }
    }

    /// The pause after this failure. A longer pause that the registry asks for is kept, up to
    /// [`BUSY_RETRY_MAX`].
    pub(super) fn after(&mut self, failure: &Failure) -> Duration {
        match failure {
            Failure::Refused(_) | Failure::OfTable(_) => REFUSED_RETRY,
            Failure::Busy(_) => self.busy_after(Duration::ZERO),
            Failure::Paused(_, asked) => self.busy_after(*asked),
        }
    }

    fn busy_after(&mut self, asked: Duration) -> Duration {
        let pause = self.busy;
        self.busy = (pause * 2).min(BUSY_RETRY_MAX);
        pause.max(asked).min(BUSY_RETRY_MAX)
    }
}

impl PlanMaker {
    /// Tries until the plan is complete, with a pause after each failure. Each failure is reported
    /// as trouble. When the tries end, the end of the trouble is reported.
    ///
    /// # Errors
    /// The failure that `gives_up` turns into an error. `gives_up` hands back every other failure.
    pub(super) async fn until_ready<E>(
        &mut self,
        of: PlanOf<'_>,
        draft: impl Fn(&Planner) -> Result<Draft, PlanError>,
        gives_up: impl Fn(Failure) -> Result<Failure, E>,
    ) -> Result<Box<Ready>, E> {
        let mut pauses = Pauses::new();
        let mut troubled = false;
        let ended = loop {
            let failure = match self.once(of, &draft).await {
                Ok(ready) => break Ok(Box::new(ready)),
                Err(failure) => match gives_up(failure) {
                    Ok(failure) => failure,
                    Err(error) => break Err(error),
                },
            };
            let pause = pauses.after(&failure);
            troubled = true;
            // A send fails only while the agent stops. Then nobody needs the report.
            let _ = self.troubles.send(Some(failure.trouble())).await;
            tokio::time::sleep(pause).await;
        };
        if troubled {
            let _ = self.troubles.send(None).await;
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuity::{Trouble, TroubleReason};

    fn trouble() -> Trouble {
        Trouble::plain(TroubleReason::RegistryUnavailable, "busy".to_owned(), "wait")
    }

    #[test]
    fn pauses_begin_with_the_shortest_and_double() {
        let mut pauses = Pauses::new();
        let told: Vec<u128> =
            (0..8).map(|_| pauses.after(&Failure::Busy(trouble())).as_millis()).collect();
        assert_eq!(told, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(pauses.after(&Failure::Refused(trouble())), REFUSED_RETRY);
        assert_eq!(Pauses::new().after(&Failure::OfTable(trouble())), REFUSED_RETRY);
    }

    #[test]
    fn a_pause_that_the_registry_asks_for_is_kept_within_the_bound() {
        let mut pauses = Pauses::new();
        let mut after = |asked_ms| {
            pauses.after(&Failure::Paused(trouble(), Duration::from_millis(asked_ms))).as_millis()
        };
        assert_eq!([7000, 0, 100, 60_000].map(&mut after), [7000, 400, 800, 10_000]);
    }
}
