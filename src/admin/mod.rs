//! HTTP for Prometheus, Kubernetes and people: `/metrics`, `/livez`, `/readyz`, `/status`, `/`, and
//! the actions.
//!
//! The server has its own thread and runtime, so it can report that the loop is stuck. A GET reads
//! only metrics and watch channels. It changes nothing and shows no row and no secret. A change
//! needs a POST with a token (`action`), and so does a look at events (`events`). The server
//! listens on loopback unless the configuration says otherwise.

mod action;
mod events;
mod serve;

pub use action::{Actions, token};
pub use events::{Events, EventsRequest};

use crate::metrics::Metrics;
use crate::status::{Phase, Status};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Longest time since the last turn of the main loop at which `/livez` still answers 200. The loop
/// turns at least every 10 s, for the status update to Postgres. Three missed turns mean that it is
/// stuck. Kubernetes asks several times before it restarts the process.
const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(30);

/// Content security policy of the page: it loads only files of this server. `data:` permits the
/// icon, which is drawn inline. `unsafe-inline` permits the widths and places of bars that the
/// page's script sets.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A running server. Dropping it stops the server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    /// This sender is dropped with this struct, and then the server's thread ends.
    _stop: watch::Sender<()>,
}

impl Server {
    /// Serves on a bound listener. The caller binds first, so that an unusable address is noticed
    /// before anything else starts. `ready_lag` is the largest lag at which `/readyz` reports
    /// ready. `config` is the effective configuration as text, without secrets.
    ///
    /// # Errors
    /// The system provides no thread or no runtime.
    pub fn start(
        listener: TcpListener,
        ready_lag: Duration,
        metrics: Metrics,
        status: watch::Receiver<Status>,
        config: watch::Receiver<String>,
        actions: Actions,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(());
        let made = watch::Sender::new((Status::default(), Bytes::new()));
        let served = Served { metrics, status, config, made, ready_lag, started_ms: unix_ms() };
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            // `from_std` must be called within the runtime that will poll the listener.
            let listener = {
                let _entered = runtime.enter();
                tokio::net::TcpListener::from_std(listener)
            };
            match listener {
                Ok(listener) => {
                    runtime.block_on(serve::serve(listener, router(served, actions), stopped))
                }
                Err(error) => tracing::error!(%error, "the admin address cannot be served"),
            }
        })?;
        Ok(Server { address, _stop: stop })
    }

    /// The address on which the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The data from which GET requests are answered.
#[derive(Clone)]
struct Served {
    metrics: Metrics,
    status: watch::Receiver<Status>,
    config: watch::Receiver<String>,
    /// The newest JSON of `/status`, and the status from which it was made. Concurrent requests get
    /// the same bytes.
    made: watch::Sender<(Status, Bytes)>,
    ready_lag: Duration,
    started_ms: i64,
}

impl Served {
    /// `/status` as JSON. It is rendered again only when the status has changed, which is a few
    /// times per second at most, however many clients ask.
    fn json(&self) -> Result<Bytes, serde_json::Error> {
        let status = self.status.borrow();
        {
            let made = self.made.borrow();
            if !made.1.is_empty() && made.0 == *status {
                return Ok(made.1.clone());
            }
        }
        let json = Bytes::from(serde_json::to_vec_pretty(&*status)?);
        self.made.send_replace((status.clone(), json.clone()));
        Ok(json)
    }

    /// Milliseconds since the last turn of the main loop, or since the start of this server if the
    /// loop has not turned since then.
    fn heartbeat_age_ms(&self) -> i64 {
        unix_ms().saturating_sub(self.metrics.heartbeat.last_unix_ms().max(self.started_ms))
    }

    fn is_alive(&self) -> bool {
        u128::try_from(self.heartbeat_age_ms())
            .is_ok_and(|age| age <= HEARTBEAT_AGE_MAX.as_millis())
            || self.heartbeat_age_ms() < 0
    }

    /// The text that `/readyz` appends to `ok` while the agent streams but a person has to mend
    /// something: reason and detail of the fault. It is empty if nobody has to.
    fn but(&self) -> String {
        let status = self.status.borrow();
        let is_told = status.phase == Phase::Streaming && status.needs_a_person;
        if !is_told || status.reason.is_empty() {
            return String::new();
        }
        format!(", but {}: {}", status.reason, status.detail)
    }

    /// Why the agent is not ready; `None` if it is ready.
    fn unready(&self) -> Option<String> {
        let status = self.status.borrow();
        if !self.is_alive() {
            return Some(stuck(self.heartbeat_age_ms()));
        }
        // A standby counts as ready. A rollout that waited until it streams would wait for ever.
        if status.phase == Phase::Standby {
            return None;
        }
        if status.phase != Phase::Streaming {
            let reason = if status.reason.is_empty() {
                String::new()
            } else {
                format!(" ({})", status.reason)
            };
            return Some(format!("{}{reason}", status.phase.name()));
        }
        let lag_max = self.ready_lag.as_secs_f64();
        match status.lag_seconds {
            None => Some("the lag is not known".to_owned()),
            Some(lag) => (lag > lag_max).then(|| format!("lag {lag:.1} s, above {lag_max} s")),
        }
    }
}

fn router(served: Served, actions: Actions) -> Router {
    let changing = Router::new()
        .route("/pause", post(action::pause))
        .route("/resume", post(action::resume))
        .route("/reload", post(action::reload))
        .route("/skip", post(action::skip))
        .route("/snapshot", post(action::snapshot))
        .route("/snapshot/cancel", post(action::cancel_snapshot))
        .route("/events", post(events::events))
        .with_state(actions);
    Router::new()
        .route("/", get(index))
        .route(
            "/page.css",
            get(async || asset("text/css; charset=utf-8", include_str!("page/page.css"))),
        )
        .route(
            "/page.js",
            get(async || asset("text/javascript; charset=utf-8", include_str!("page/page.js"))),
        )
        .route(
            "/runbooks.md",
            get(async || {
                asset("text/markdown; charset=utf-8", include_str!("../../docs/runbooks.md"))
            }),
        )
        .route("/config", get(config))
        .route("/history", get(history))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .with_state(served)
        .merge(changing)
}

async fn metrics(State(served): State<Served>) -> Response {
    page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", served.metrics.render())
}

async fn livez(State(served): State<Served>) -> Response {
    if served.is_alive() {
        return text(StatusCode::OK, "ok\n".to_owned());
    }
    text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", stuck(served.heartbeat_age_ms())))
}

async fn readyz(State(served): State<Served>) -> Response {
    match served.unready() {
        None => text(StatusCode::OK, format!("ok{}\n", served.but())),
        Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn status(State(served): State<Served>) -> Response {
    match served.json() {
        Ok(json) => page(StatusCode::OK, "application/json", json),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn config(State(served): State<Served>) -> Response {
    text(StatusCode::OK, served.config.borrow().clone())
}

async fn history(State(served): State<Served>) -> Response {
    let history = std::sync::Arc::clone(&served.status.borrow().history);
    match serde_json::to_string(&*history) {
        Ok(json) => page(StatusCode::OK, "application/json", json),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Answers `/`: with the page if the client asks for HTML, as a browser does, and otherwise with a
/// few lines of text, as for `curl`.
async fn index(State(served): State<Served>, headers: HeaderMap) -> Response {
    let wants_html =
        headers.get(header::ACCEPT).is_some_and(|kinds| kinds.as_bytes().starts_with(b"text/html"));
    if !wants_html {
        return text(StatusCode::OK, lines(&served.status.borrow()));
    }
    let mut response = asset("text/html; charset=utf-8", include_str!("page/index.html"));
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response.headers_mut().insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

fn lines(status: &Status) -> String {
    let mut page =
        format!("wellspring {}\n\nphase   {}\n", env!("CARGO_PKG_VERSION"), status.phase.name());
    for (name, value) in
        [("reason", &status.reason), ("detail", &status.detail), ("next", &status.next)]
    {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(page, "{name:7} {value}");
        }
    }
    page.push_str(
        "\n/         this, as a page for a browser\n/status   everything, as JSON\n/metrics  for \
         Prometheus\n\
         /readyz   streaming within the lag limit, or a standby\n/livez    the main loop turns\n",
    );
    page
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    page(StatusCode::OK, kind, text)
}

fn stuck(age_ms: i64) -> String {
    format!("the main loop has not turned for {} s", age_ms / 1000)
}

fn text(code: StatusCode, body: String) -> Response {
    page(code, "text/plain; charset=utf-8", body)
}

fn page(code: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (code, headers, body.into()).into_response()
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
