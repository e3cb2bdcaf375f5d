//! Connections of the admin server: how many, how long, how large.
//!
//! Whoever reaches the address may ask; nobody may hold it up. Each bound keeps a slow or hostile client from taking the
//! place of Prometheus and the kubelet.

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Request, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Connections served at once; others wait in the system's queue. Prometheus, probes and a few people need a handful.
const CONNECTIONS_MAX: usize = 32;

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
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let come = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased; // 1. the end; 2. whoever comes
            _ = stopped.changed() => return,
            come = come => come,
        };
        match accepted {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    connection(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the admin address was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A client that goes away in the middle, or is too slow, is its own affair.
    let _ = tokio::time::timeout(CONNECTION_AGE_MAX, serving).await;
}

/// Refuses a body where there is nothing to send one to, and cuts off one that comes too slowly or is too long.
async fn small_body(request: Request<Body>, next: Next) -> Response {
    use axum::body::HttpBody;
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    if request.method() != Method::POST {
        return (StatusCode::PAYLOAD_TOO_LARGE, "no GET here has a body\n").into_response();
    }
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(HEADER_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(_)) => (StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 16 KiB\n").into_response(),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body did not come in time\n").into_response(),
    }
}
