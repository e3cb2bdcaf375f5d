//! Answers requests from outside (see `agent::request`).

use super::Runner;
use crate::agent::request::{PendingRequest, Request};
use crate::continuity::{Granted, Refused, Reply};
use crate::core::Event;

const PAUSED: &str = "paused: no change is read until `wellspring resume` or a restart; Postgres \
    keeps the WAL meanwhile";
const RESUMED: &str = "resumed where it was paused";

impl Runner {
    /// Takes one request. The answer goes out before the loop turns again, except for copies, skips
    /// and reloads, which are begun and answered later.
    pub(super) fn on_request(&mut self, request: PendingRequest) {
        let PendingRequest { request, reply } = request;
        let name = request.name();
        self.reporter.count_request();
        // A skip is not noted here: the state records it with the name and the reason of the
        // operator.
        let note = (name != "skip").then(|| self.reporter.note_answer(name));
        let reply = Reply::new(move |answer| {
            match &answer {
                Ok(Granted(done)) => {
                    tracing::info!(request = name, "a request is carried out: {done}")
                }
                Err(why) => tracing::warn!(request = name, "a request is refused: {why}"),
            }
            if let Some(note) = note {
                note(&answer);
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
                reply.send(Ok(Granted::beside(self.core.halted(), PAUSED)));
            }
            Request::Resume => {
                let done = if self.core.is_paused() { RESUMED } else { "it was not paused" };
                self.apply(Event::Resume);
                reply.send(Ok(Granted::beside(self.core.halted(), done)));
            }
            Request::Snapshot { tables, filter } => match self.without_stream() {
                Some(refused) => reply.send(Err(refused)),
                None => self.on_snapshot_request(&tables, filter, reply),
            },
            Request::CancelSnapshot => {
                reply.send(Ok(Granted(self.windows_cancelled())));
            }
            Request::Skip(consent) => self.on_skip_request(&consent, reply),
            Request::Reload(config) => {
                self.reload(*config, reply);
            }
        }
    }

    /// Returns the refusal of a request that needs the stream, if the stream is halted or this
    /// process has not streamed yet. `None` if the request may be carried out.
    pub(super) fn without_stream(&self) -> Option<Refused> {
        Refused::without_stream(self.core.halted(), self.process.streamed)
    }
}
