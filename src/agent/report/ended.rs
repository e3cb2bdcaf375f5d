//! The last log line of a stop on request. It says what the next start sends again.

use super::Reporter;
use crate::core::Stopped;
use tracing::{info, warn};

impl Reporter {
    /// Logs how the stop ended.
    pub fn stopped(&mut self, stopped: Stopped) {
        match stopped {
            Stopped::Whole => {
                info!("stopped: everything sent is delivered, recorded and confirmed")
            }
            Stopped::NothingSent => {
                info!("stopped before the stream was reached: nothing was sent")
            }
            Stopped::InTransaction => {
                warn!(
                    "stopped in the middle of a transaction: the next start sends the whole \
                     transaction again"
                );
            }
            Stopped::InCopy => {
                warn!(
                    "stopped in the middle of the first copy: the next start copies the tables \
                     that are not complete"
                );
            }
            Stopped::Unanswered => {
                warn!(
                    "stopped before everything was delivered and confirmed: the next start repeats \
                     what was not"
                );
            }
        }
    }
}
