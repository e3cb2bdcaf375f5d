//! The runner answers requests from outside: see `request`.

use super::*;
use crate::pipeline::request::{Asked, Granted, Refused, Reply, Request};

impl Runner {
    /// Takes one request. The answer goes out before the loop turns again, except for what [`Runner::beyond_the_stream`]
    /// begins and answers later.
    pub(super) fn asked(&mut self, asked: Asked) {
        let Asked { request, reply } = asked;
        let name = request.name();
        if self.core.is_stopping() {
            return reply.send(Err(Refused::Stopping));
        }
        match request {
            Request::Pause => {
                self.apply(Event::Pause);
                self.reporter.asked(name);
                reply.send(Ok(Granted(
                    "paused: no change is read until `wellspring resume` or a restart; Postgres keeps the log meanwhile"
                        .to_owned(),
                )));
            }
            Request::Resume => {
                self.apply(Event::Resume);
                self.reporter.asked(name);
                reply.send(Ok(Granted("resumed where it was paused".to_owned())));
            }
            request @ (Request::Snapshot { .. } | Request::CancelSnapshot | Request::Reload(_)) => {
                self.beyond_the_stream(request, reply);
            }
        }
    }

    /// THE SEAM for everything that needs copies of tables: `Snapshot`, `CancelSnapshot`, and `Reload`, which may add
    /// tables to copy. It owns the reply, and may keep it until the request is begun.
    fn beyond_the_stream(&mut self, request: Request, reply: Reply) {
        reply.send(Err(Refused::NotAvailable(format!("this version has no {}", request.name()))));
    }
}
