//! `POST /pause`, `/resume`, `/reload`, `/skip`, `/snapshot` and `/snapshot/cancel`: the requests
//! that change something.
//!
//! Each action needs `Authorization: Bearer` with the token that a file holds or a command prints.
//! The file is read for each request, so a rotated token counts at once. The command runs at most
//! once a minute. Without a configured token every action is refused, and the answer says why. A
//! page of another origin cannot set the header, because no route here answers a preflight request.

use super::events::EventsRequest;
use crate::agent::request::{self, Handle, Request};
use crate::change::Position;
use crate::continuity::skipped::Consent;
use crate::continuity::{Answer, Refused, Reply};
use crate::lsn::Lsn;
use crate::secret::{Kept, Source};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use openssl::sha::sha256;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest wait for an answer. The loop answers between two bursts, and a reload asks Postgres
/// first. Both take far less time, unless the loop or Postgres is stuck.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// Shortest accepted token, in bytes. Nobody can guess 16 random bytes at the rate at which a port
/// answers requests.
const TOKEN_BYTES_MIN: usize = 16;

/// Longest time for which a token that a command printed is kept. So a revoked token is refused
/// after a minute at most.
const PRINTED_TIME_MAX: Duration = Duration::from_secs(60);

/// The tasks that carry out the actions, and the token that a request for an action must have.
#[derive(Clone, Debug)]
pub struct Actions {
    /// Handle to the running agent.
    pub agent: Handle,
    /// Channel to the task that reads the configuration again. The task answers through the
    /// `Reply` that it receives.
    pub reload: mpsc::Sender<Reply>,
    /// Channel to the thread that reads the newest events from Kafka.
    pub events: mpsc::Sender<EventsRequest>,
    /// The token of the actions. `None` refuses every action.
    pub token: Option<Arc<Kept>>,
}

/// Reads the token of actions: from a file for each request, from a command at most once a minute.
#[must_use]
pub fn token(source: Source) -> Arc<Kept> {
    Arc::new(Kept::new(source, PRINTED_TIME_MAX))
}

/// The body of `POST /snapshot`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Copy {
    /// Captured tables to copy, as `namespace.name`.
    tables: Vec<String>,
    /// An SQL condition on the rows to copy; without one, all rows are copied.
    #[serde(default, rename = "where")]
    filter: Option<String>,
}

pub(super) async fn pause(State(actions): State<Actions>, headers: HeaderMap) -> Response {
    asked(&actions, &headers, Request::Pause).await
}

pub(super) async fn resume(State(actions): State<Actions>, headers: HeaderMap) -> Response {
    asked(&actions, &headers, Request::Resume).await
}

pub(super) async fn cancel_snapshot(
    State(actions): State<Actions>,
    headers: HeaderMap,
) -> Response {
    asked(&actions, &headers, Request::CancelSnapshot).await
}

pub(super) async fn snapshot(
    State(actions): State<Actions>,
    headers: HeaderMap,
    body: Result<Json<Copy>, JsonRejection>,
) -> Response {
    // A client without the token gets no hint about a valid body.
    if let Err(refusal) = authorise(actions.token.as_deref(), &headers).await {
        return refusal.into_response();
    }
    match body {
        Ok(Json(Copy { tables, .. })) if tables.is_empty() => {
            told(Err(Refused::Faulty("`tables` is empty: name the tables to copy".to_owned())))
        }
        Ok(Json(Copy { tables, filter })) => {
            asked(&actions, &headers, Request::Snapshot { tables, filter }).await
        }
        Err(error) => told(Err(Refused::Faulty(format!(
            "the body is not {{\"tables\": [\"public.orders\"], \"where\": \"optional\"}}: {}",
            error.body_text()
        )))),
    }
}

/// The body of `POST /skip`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Skip {
    /// Table of the change, as `namespace.name`.
    table: String,
    /// Commit LSN of the change.
    commit: Lsn,
    /// Ordinal of the change within its transaction.
    ordinal: u64,
    /// Name of the person who consents to leave the change out.
    by: String,
    /// Reason that this person gives.
    why: String,
}

pub(super) async fn skip(
    State(actions): State<Actions>,
    headers: HeaderMap,
    body: Result<Json<Skip>, JsonRejection>,
) -> Response {
    if let Err(refusal) = authorise(actions.token.as_deref(), &headers).await {
        return refusal.into_response();
    }
    match body {
        Ok(Json(Skip { table, commit, ordinal, by, why })) => {
            let consent = Consent { table, at: Position { commit, ordinal }, by, why };
            asked(&actions, &headers, Request::Skip(consent)).await
        }
        Err(error) => told(Err(Refused::Faulty(format!(
            "the body is not {{\"table\": \"public.orders\", \"commit\": \"0/16B3748\", \
             \"ordinal\": 2, \"by\": \"who\", \"why\": \"why\"}}: {}",
            error.body_text()
        )))),
    }
}

pub(super) async fn reload(State(actions): State<Actions>, headers: HeaderMap) -> Response {
    if let Err(refusal) = authorise(actions.token.as_deref(), &headers).await {
        return refusal.into_response();
    }
    let (reply, answer) = request::reply();
    told(match handed_over(&actions.reload, reply) {
        Ok(()) => in_time(answer).await,
        Err(refused) => Err(refused),
    })
}

/// Hands a request to the task that carries it out, unless too many wait or the task has ended.
pub(super) fn handed_over<T>(task: &mpsc::Sender<T>, request: T) -> Result<(), Refused> {
    task.try_send(request).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => Refused::Busy,
        mpsc::error::TrySendError::Closed(_) => Refused::Stopping,
    })
}

async fn asked(actions: &Actions, headers: &HeaderMap, request: Request) -> Response {
    if let Err(refusal) = authorise(actions.token.as_deref(), headers).await {
        return refusal.into_response();
    }
    told(in_time(actions.agent.ask(request)).await)
}

async fn in_time(answer: impl Future<Output = Answer>) -> Answer {
    let late = || {
        Refused::NotAvailable(format!("no answer for {} s; see /livez", ANSWER_PATIENCE.as_secs()))
    };
    tokio::time::timeout(ANSWER_PATIENCE, answer).await.unwrap_or_else(|_| Err(late()))
}

fn told(answer: Answer) -> Response {
    match answer {
        Ok(granted) => json(StatusCode::OK, "done", &granted.0),
        Err(refused) => told_why(&refused),
    }
}

/// The HTTP answer to a request that the agent or one of its tasks refused.
pub(super) fn told_why(refused: &Refused) -> Response {
    let code = match refused {
        Refused::NotAvailable(_) => StatusCode::CONFLICT,
        Refused::Faulty(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Busy => StatusCode::TOO_MANY_REQUESTS,
        Refused::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(code, "error", &refused.to_string())
}

fn json(code: StatusCode, name: &str, text: &str) -> Response {
    json_of(code, serde_json::json!({ name: text }))
}

/// An answer in JSON. Its headers tell caches not to keep it, and browsers not to guess another
/// content type.
pub(super) fn json_of(code: StatusCode, body: impl Serialize) -> Response {
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (code, headers, Json(body)).into_response()
}

/// Why a client may not use an action.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token is configured, or the configured token cannot be read or is too short. The text
    /// says which of these is true.
    Off(String),
    /// The request has no bearer token.
    Missing,
    /// The request has a wrong token.
    Wrong,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::Off(why) => {
                json(StatusCode::FORBIDDEN, "error", &format!("actions are off: {why}"))
            }
            Refusal::Missing | Refusal::Wrong => {
                let text = if self == Refusal::Missing {
                    "send the token of admin.token_file or token_command as `Authorization: Bearer \
                     ...`"
                } else {
                    "not the token of admin.token_file or token_command"
                };
                let mut response = json(StatusCode::UNAUTHORIZED, "error", text);
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                response
            }
        }
    }
}

/// Checks that the header `Authorization` has the configured token. An error says why it has not.
pub(super) async fn authorise(token: Option<&Kept>, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = token else {
        return Err(Refusal::Off("set admin.token_file to a file that holds a token".to_owned()));
    };
    // The header is checked first, so that a client that sends no token cannot make the command of
    // `admin.token_command` run.
    let sent = headers.get(header::AUTHORIZATION).ok_or(Refusal::Missing)?;
    let sent = sent.as_bytes().strip_prefix(b"Bearer ").ok_or(Refusal::Missing)?;
    let wanted = token.get().await.map_err(|error| {
        let cause = std::error::Error::source(&error)
            .map_or_else(String::new, |cause| format!(": {cause}"));
        Refusal::Off(format!("{error}{cause}"))
    })?;
    if wanted.reveal().len() < TOKEN_BYTES_MIN {
        return Err(Refusal::Off(format!("the token has fewer than {TOKEN_BYTES_MIN} bytes")));
    }
    // The digests have equal length for any input, and the comparison takes constant time.
    let is_same = openssl::memcmp::eq(&sha256(sent), &sha256(wanted.reveal().as_bytes()));
    if is_same { Ok(()) } else { Err(Refusal::Wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const TOKEN: &str = "0123456789abcdef";

    fn bearer(token: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            header::AUTHORIZATION,
            HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
        )])
    }

    #[tokio::test]
    async fn only_the_whole_token_opens() {
        let kept = token(Source::Inline(Secret::new(TOKEN)));
        let check = async |headers: &HeaderMap| authorise(Some(&kept), headers).await;
        assert_eq!(check(&bearer(TOKEN)).await, Ok(()));
        for wrong in ["", "0123456789abcde", "0123456789abcdefg", "0123456789abcdeF"] {
            assert_eq!(check(&bearer(wrong)).await, Err(Refusal::Wrong), "{wrong}");
        }
        assert_eq!(check(&HeaderMap::new()).await, Err(Refusal::Missing));
        let basic = HeaderMap::from_iter([(
            header::AUTHORIZATION,
            HeaderValue::from_static("Basic 0123456789abcdef"),
        )]);
        assert_eq!(check(&basic).await, Err(Refusal::Missing));
    }

    #[tokio::test]
    async fn a_rotated_file_counts_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = token(Source::File(file.path().to_owned()));
        std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
        assert_eq!(authorise(Some(&source), &bearer(TOKEN)).await, Ok(()));
        std::fs::write(file.path(), "fedcba9876543210").unwrap();
        assert_eq!(authorise(Some(&source), &bearer(TOKEN)).await, Err(Refusal::Wrong));
        assert_eq!(authorise(Some(&source), &bearer("fedcba9876543210")).await, Ok(()));
    }

    #[tokio::test]
    async fn without_a_good_token_nothing_opens_and_the_reason_is_told() {
        let why = async |source: Option<Source>| match authorise(
            source.map(token).as_deref(),
            &bearer(""),
        )
        .await
        {
            Err(Refusal::Off(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(None).await.contains("admin.token_file"));
        assert!(why(Some(Source::Inline(Secret::new("")))).await.contains("fewer than 16"));
        assert!(why(Some(Source::File("nowhere".into()))).await.contains("nowhere: No such file"));
    }
}
