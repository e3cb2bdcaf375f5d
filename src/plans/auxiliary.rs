//! Plans the topics of heartbeats and notices, which are auxiliary records.

use super::{Outcome, Patience, PlanMaker, PlanOf};
use crate::postgres::PgError;

impl PlanMaker {
    /// Plans the topic of heartbeats.
    ///
    /// # Errors
    /// See [`PlanMaker::relation`].
    pub async fn heartbeats(mut self) -> (Self, Result<Outcome, PgError>) {
        let outcome = self
            .until_done(PlanOf::Other("heartbeats"), Patience::Endless, |planner| {
                Ok(planner.heartbeat_draft())
            })
            .await;
        (self, outcome)
    }

    /// Plans the topic of notices. The result is `Excluded` if the configuration names no such
    /// topic.
    ///
    /// # Errors
    /// See [`PlanMaker::relation`].
    pub async fn notices(mut self) -> (Self, Result<Outcome, PgError>) {
        let Some(draft) = self.planner.notice_draft() else { return (self, Ok(Outcome::Excluded)) };
        let outcome = self
            .until_done(PlanOf::Other("notifications"), Patience::Endless, |_| Ok(draft.clone()))
            .await;
        (self, outcome)
    }
}
