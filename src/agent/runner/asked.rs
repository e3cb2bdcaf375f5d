//! Answers requests from outside (see `request`).

use super::Runner;
use crate::agent::request::{PendingRequest, Request};
use crate::continuity::{Granted, Refused, Reply};
use crate::core::Event;

impl Runner {
    /// Takes one request. The answer goes out before the loop turns again, except for copies and
    /// reloads, which are begun and answered later.
    pub(super) fn asked(&mut self, asked: PendingRequest) {
        let PendingRequest { request, reply } = asked;
        let name = request.name();
        self.reporter.asked();
        let reply = Reply::new(move |answer| {
            match &answer {
                Ok(Granted(done)) => {
                    tracing::info!(request = name, "a request is carried out: {done}")
                }
                Err(why) => tracing::warn!(request = name, "a request is refused: {why}"),
            }
            reply.send(answer);
        });
        if self.core.is_stopping() {
            return reply.send(Err(Refused::Stopping));
        }
        if self.reporter.stands_by() {
            let why = "this agent is a standby: ask the agent that holds the slot";
            return reply.send(Err(Refused::NotAvailable(why.to_owned())));
        }
        match request {
            Request::Pause => {
                self.apply(Event::Pause);
                reply.send(Ok(Granted(
                    "paused: no change is read until `wellspring resume` or a restart; Postgres keeps the WAL meanwhile"
                        .to_owned(),
                )));
            }
            Request::Resume => {
                self.apply(Event::Resume);
                reply.send(Ok(Granted("resumed where it was paused".to_owned())));
            }
            Request::Snapshot { tables, filter } => {
                self.snapshot_asked(&tables, filter, reply);
            }
            Request::CancelSnapshot => {
                reply.send(Ok(Granted(self.windows_cancelled())));
            }
            Request::Skip(consent) => self.skip_asked(&consent, reply),
            Request::Reload(config) => {
                self.reload(*config, reply);
            }
        }
    }
}
