//! Connections of the admin server: how many, how long, how large.
//!
//! Whoever reaches the address may ask; nobody may hold it up. Each bound keeps a slow or hostile client from taking the
//! place of Prometheus and the kubelet: whoever comes is let in, and where there is no room the one goes that has held a
//! place longest without a whole request.

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Request, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Connections served at once. Prometheus, probes and a few people need a handful; a new one has so many others come after
/// it before it is the oldest, and each takes some 20 KiB.
const CONNECTIONS_MAX: usize = 64;

/// Connections let in between two turns of those there are: far fewer than places.
const LET_IN_AT_ONCE: usize = 16;

/// What the system buffers of an answer that nobody reads, and of requests, in bytes; it takes twice as much. Left to
/// itself it grows to megabytes a connection.
const SYSTEM_BUFFER_BYTES: usize = 64 * 1024;

/// How long a client may take to send its request's head, and how long its body.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one connection lives, however often it is used: a reader that stops reading is cut off here.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(120);

/// The most bytes buffered of one request; hyper takes no less than 8 KiB.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// The most bytes of a body: a list of tables and a condition.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// How long to wait when accepting fails, for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stopped` closes.
pub(super) async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<()>) {
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).layer(middleware::from_fn(small_body));
    let mut places = Places::default();
    let mut come = 0_usize;
    loop {
        let accepted = tokio::select! {
            biased; // 1. the end; 2. whoever comes
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                if places.make_room() {
                    let busy = Busy::default();
                    let serving = tokio::spawn(connection(stream, router.clone(), busy.clone()));
                    places.0.push_back((busy, serving.abort_handle()));
                }
                // So that a request that came with its connection is read before its place could be taken.
                come = come.wrapping_add(1);
                if come.is_multiple_of(LET_IN_AT_ONCE) {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the admin address was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether a connection's request is being answered: it is not cut off then.
#[derive(Clone, Debug, Default)]
struct Busy(Arc<AtomicBool>);

/// The connections, the oldest first.
#[derive(Debug, Default)]
struct Places(VecDeque<(Busy, AbortHandle)>);

impl Places {
    /// Whether there is room for one more, the one that has waited longest for its client cut off if need be.
    fn make_room(&mut self) -> bool {
        if self.0.len() < CONNECTIONS_MAX {
            return true;
        }
        self.0.retain(|(_, serving)| !serving.is_finished());
        if self.0.len() < CONNECTIONS_MAX {
            return true;
        }
        let waits = self.0.iter().position(|(busy, _)| !busy.0.load(Ordering::Relaxed));
        match waits.and_then(|at| self.0.remove(at)) {
            Some((_, serving)) => serving.abort(),
            None => return false,
        }
        true
    }
}

async fn connection(stream: TcpStream, router: Router, busy: Busy) {
    let socket = SockRef::from(&stream);
    // Where the system refuses, its own bounds hold.
    let _ = socket.set_send_buffer_size(SYSTEM_BUFFER_BYTES).and(socket.set_recv_buffer_size(SYSTEM_BUFFER_BYTES));
    let router = TowerToHyperService::new(router);
    let answer = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(busy.clone());
        let answer = router.call(request);
        async move {
            // One request a turn: whoever sends hundreds at once waits for the others.
            tokio::task::yield_now().await;
            answer.await
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    // A client that goes away in the middle, or is too slow, is its own affair.
    let _ = tokio::time::timeout(CONNECTION_AGE_MAX, serving).await;
}

/// Refuses a body where there is nothing to send one to, and cuts off one that comes too slowly or is too long.
async fn small_body(request: Request<Body>, next: Next) -> Response {
    use axum::body::HttpBody;
    let busy = request.extensions().get::<Busy>().cloned().unwrap_or_default();
    let answer = async |request| {
        busy.0.store(true, Ordering::Relaxed);
        let answer = next.run(request).await;
        busy.0.store(false, Ordering::Relaxed);
        answer
    };
    if request.body().is_end_stream() {
        return answer(request).await;
    }
    if request.method() != Method::POST {
        return (StatusCode::PAYLOAD_TOO_LARGE, "no GET here has a body\n").into_response();
    }
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(HEADER_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => answer(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(_)) => (StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 16 KiB\n").into_response(),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n").into_response(),
    }
}
