//! Connections of the admin server: bounds on their number, duration and size.
//!
//! Every client that reaches the address may ask, and none may block the others. Each bound keeps a
//! slow or hostile client from taking the place of Prometheus and the kubelet. When all places are
//! taken, the oldest connection whose request is not being answered is closed for a new one. If the
//! server is answering on all of them, the new connection is closed.

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

/// The most connections at once. Prometheus, probes and a few people need a handful. A new
/// connection becomes the oldest only after 63 more have arrived. Each one takes about 20 KiB.
const CONNECTIONS_MAX: usize = 64;

/// Number of connections that are accepted before the tasks of open connections get a turn. It is
/// far below [`CONNECTIONS_MAX`].
const LET_IN_AT_ONCE: usize = 16;

/// Size in bytes of each of a socket's two buffers, which hold unread requests and answers that the
/// client does not read. Linux reserves twice as much. Without this limit a buffer grows to
/// megabytes for each connection.
const SYSTEM_BUFFER_BYTES: usize = 64 * 1024;

/// Longest time for the head of a request, and again for its body.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest life of a connection, however often it is used. It also closes the connection of a
/// client that has stopped reading.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(120);

/// The most bytes of one request that hyper buffers. hyper accepts no limit below 8 KiB.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// The most bytes of a request's body, such as a list of tables and a condition.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Pause after a failed accept, which usually means that file descriptors are exhausted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until the sender of `stopped` is dropped.
pub(super) async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<()>) {
    let router =
        router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).layer(middleware::from_fn(small_body));
    let mut places = Places::default();
    let mut come = 0_usize;
    loop {
        let accepted = tokio::select! {
            biased; // 1. the end; 2. new connections
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
                // The tasks of open connections get a turn here. So a request that arrives together
                // with its connection is read before that connection can be closed for a later one.
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

/// True while a request of the connection is being answered. Such a connection is not closed for a
/// new one.
#[derive(Clone, Debug, Default)]
struct Busy(Arc<AtomicBool>);

/// The open connections, oldest first.
#[derive(Debug, Default)]
struct Places(VecDeque<(Busy, AbortHandle)>);

impl Places {
    /// Makes room for one more connection. If needed, this closes the oldest connection that is not
    /// being answered. False if there is no room, because all connections are being answered.
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
    // If the operating system refuses these sizes of buffers, its own sizes apply.
    let _ = socket
        .set_send_buffer_size(SYSTEM_BUFFER_BYTES)
        .and(socket.set_recv_buffer_size(SYSTEM_BUFFER_BYTES));
    let router = TowerToHyperService::new(router);
    let answer = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(busy.clone());
        let answer = router.call(request);
        async move {
            // Other connections get a turn before each request, so a client that sends hundreds of
            // requests at once cannot hold them up.
            tokio::task::yield_now().await;
            answer.await
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    // An error here concerns only this client: it left early or was too slow.
    let _ = tokio::time::timeout(CONNECTION_AGE_MAX, serving).await;
}

/// Refuses a body on a request other than POST, and a body that arrives too slowly or is too long.
/// Marks the connection as busy while the request is answered.
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
        Ok(Err(_)) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 16 KiB\n").into_response()
        }
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n").into_response(),
    }
}
