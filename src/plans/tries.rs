//! The loop in which a plan is tried until it is complete.

use super::{BUSY_RETRY_MAX, BUSY_RETRY_MIN, Failure, PlanMaker, REFUSED_RETRY, Ready};
use crate::encode::{Draft, PlanError, Planner};

impl PlanMaker {
    /// Tries until the plan is complete, with a pause after each failure. Each failure is reported
    /// as trouble. When the tries end, the end of the trouble is reported.
    ///
    /// # Errors
    /// The failure that `gives_up` turns into an error. `gives_up` hands back every other failure.
    pub(super) async fn until_ready<E>(
        &mut self,
        name: &str,
        draft: impl Fn(&Planner) -> Result<Draft, PlanError>,
        gives_up: impl Fn(Failure) -> Result<Failure, E>,
    ) -> Result<Box<Ready>, E> {
        let mut delay = BUSY_RETRY_MIN;
        let mut troubled = false;
        let ended = loop {
            let failure = match self.once(name, &draft).await {
                Ok(ready) => break Ok(Box::new(ready)),
                Err(failure) => match gives_up(failure) {
                    Ok(failure) => failure,
                    Err(error) => break Err(error),
                },
            };
            let (trouble, pause) = match failure {
                Failure::Refused(trouble) | Failure::OfTable(trouble) => (trouble, REFUSED_RETRY),
                Failure::Busy(trouble) => {
                    delay = (delay * 2).min(BUSY_RETRY_MAX);
                    (trouble, delay)
                }
            };
            troubled = true;
            // A send fails only while the agent stops. Then nobody needs the report.
            let _ = self.troubles.send(Some(trouble)).await;
            tokio::time::sleep(pause).await;
        };
        if troubled {
            let _ = self.troubles.send(None).await;
        }
        ended
    }
}
