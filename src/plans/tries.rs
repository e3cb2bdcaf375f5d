//! The pauses between the tries of one plan, and the trouble that is told meanwhile.

use super::{BUSY_RETRY_MAX, BUSY_RETRY_MIN, Failure, REFUSED_RETRY};
use crate::continuity::Trouble;
use std::time::Duration;
use tokio::sync::mpsc;

/// The tries of one plan. A send fails only while the agent stops, so its result is ignored.
pub(super) struct Tries {
    troubles: mpsc::Sender<Option<Trouble>>,
    delay: Duration,
    troubled: bool,
}

impl Tries {
    /// No try has failed yet.
    pub(super) fn new(troubles: &mpsc::Sender<Option<Trouble>>) -> Self {
        Tries { troubles: troubles.clone(), delay: BUSY_RETRY_MIN, troubled: false }
    }

    /// Tells the trouble of a failed try, and waits until the next try is due.
    pub(super) async fn failed(&mut self, failure: Failure) {
        let (trouble, wait) = match failure {
            Failure::Refused(trouble) | Failure::OfTable(trouble) => (trouble, REFUSED_RETRY),
            Failure::Busy(trouble) => {
                self.delay = (self.delay * 2).min(BUSY_RETRY_MAX);
                (trouble, self.delay)
            }
        };
        self.troubled = true;
        let _ = self.troubles.send(Some(trouble)).await;
        tokio::time::sleep(wait).await;
    }

    /// Tells that the trouble is over, if one was told.
    pub(super) async fn over(&mut self) {
        if std::mem::take(&mut self.troubled) {
            let _ = self.troubles.send(None).await;
        }
    }
}
