//! `POST /events`: the newest events of one table, for a person who has the token.
//!
//! The events come from Kafka, as consumers get them, so masks and transforms have been applied.
//! Neither the agent nor this server keeps an event: it is read on request, sent to the client, and
//! dropped.

use super::action::{Actions, authorise, handed_over, json_of, told_why};
use crate::continuity::Refused;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Longest wait of a client for an answer. The thread that reads events answers one request after
/// another, and drops a request whose client has gone away.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// The newest events of a table's topic.
#[derive(Debug, Serialize)]
pub struct Events {
    /// Topic from which the events were read.
    pub topic: String,
    /// Each event as one line of JSON, newest last. A long line is cut off.
    pub events: Vec<String>,
}

/// A request for the newest events of one table.
#[derive(Debug)]
pub struct EventsRequest {
    /// Captured table, as `namespace.name`.
    pub table: String,
    /// Channel for the answer. Its receiver is dropped if the client has gone away.
    pub reply: oneshot::Sender<Result<Events, Refused>>,
}

/// The body of `POST /events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Captured table, as `namespace.name`.
    table: String,
}

pub(super) async fn events(
    State(actions): State<Actions>,
    headers: HeaderMap,
    body: Result<Json<Wanted>, JsonRejection>,
) -> Response {
    if let Err(refusal) = authorise(actions.token.as_deref(), &headers).await {
        return refusal.into_response();
    }
    let answer = match body {
        Ok(Json(Wanted { table })) => ask(&actions.events, table).await,
        Err(error) => Err(Refused::Faulty(format!(
            "the body is not {{\"table\": \"public.orders\"}}: {}",
            error.body_text()
        ))),
    };
    match answer {
        Ok(events) => json_of(StatusCode::OK, events),
        Err(refused) => told_why(&refused),
    }
}

async fn ask(reader: &mpsc::Sender<EventsRequest>, table: String) -> Result<Events, Refused> {
    let (reply, answer) = oneshot::channel();
    handed_over(reader, EventsRequest { table, reply })?;
    match tokio::time::timeout(ANSWER_PATIENCE, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Refused::Stopping),
        Err(_) => {
            let seconds = ANSWER_PATIENCE.as_secs();
            Err(Refused::NotAvailable(format!("the events were not read within {seconds} s")))
        }
    }
}
