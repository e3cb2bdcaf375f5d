//! Over a real socket: what each page answers, and what no client can do.

use super::*;
use crate::lsn::Lsn;
use crate::metrics::PHASES;
use std::io::{Read, Write as _};
use std::net::TcpStream;

struct World {
    server: Server,
    metrics: Metrics,
    tell: watch::Sender<Status>,
}

fn world() -> World {
    let metrics = Metrics::new("0.0.0");
    metrics.heartbeat.beat(unix_ms());
    let (tell, status) = watch::channel(Status::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::start(listener, Duration::from_secs(10), metrics.clone(), status).unwrap();
    World { server, metrics, tell }
}

impl World {
    /// Sends bytes and reads to the end of the connection.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        // A server that answers before it has read everything may close the socket under our hands.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path)
    }

    fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let answer = self.raw(format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (code, body.to_owned())
    }

    fn is(&self, status: Status) {
        self.tell.send_replace(status);
    }
}

fn streaming() -> Status {
    Status { phase: Phase::Streaming, ..Status::default() }
}

#[test]
fn lives_while_the_loop_turns_and_only_then() {
    let world = world();
    assert_eq!(world.get("/livez").0, 200);
    // Started long ago, and turned last a minute ago.
    let minute_ago = unix_ms() - 60_000;
    let told = Told {
        metrics: world.metrics.clone(),
        status: world.tell.subscribe(),
        ready_lag: Duration::from_secs(10),
        started_ms: minute_ago,
    };
    world.metrics.heartbeat.beat(minute_ago);
    assert!(!told.is_alive());
    assert!(told.unready().unwrap().contains("not turned for 60 s"));
    world.metrics.heartbeat.beat(unix_ms());
    assert!(told.is_alive());
    // Halted is alive: the process stays up and says why.
    world.is(Status { phase: Phase::Halted, ..Status::default() });
    assert_eq!(world.get("/livez").0, 200);
}

#[test]
fn is_ready_only_while_streaming_within_the_lag_limit() {
    let world = world();
    assert_eq!(world.get("/readyz"), (503, "not ready: connecting\n".to_owned()));
    world.is(streaming());
    assert_eq!(world.get("/readyz").0, 200);
    world.is(Status { lag_seconds: 10.5, ..streaming() });
    assert_eq!(world.get("/readyz"), (503, "not ready: lag 10.5 s, above 10 s\n".to_owned()));
    world.is(Status { phase: Phase::Halted, reason: "slot_missing".to_owned(), ..Status::default() });
    assert_eq!(world.get("/readyz"), (503, "not ready: halted (slot_missing)\n".to_owned()));
}

#[test]
fn tells_the_status_that_was_last_published() {
    let world = world();
    let mut status = streaming();
    status.lsn.confirmed = Lsn::new(0x16_B374_D848);
    world.is(status);
    let (code, body) = world.get("/status");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (code, json["phase"].as_str(), json["lsn"]["confirmed"].as_str()),
        (200, Some("streaming"), Some("16/B374D848"))
    );
}

#[test]
fn serves_the_metrics() {
    let world = world();
    world.metrics.phase.set("halted");
    let (code, body) = world.get("/metrics");
    assert_eq!(code, 200);
    assert!(body.contains("wellspring_phase{phase=\"halted\"} 1"), "{body}");
}

#[test]
fn the_phases_of_status_and_metrics_are_the_same_words() {
    assert_eq!(Phase::ALL.map(Phase::name), PHASES);
}

#[test]
fn the_first_page_says_what_is_wrong_and_where_things_are() {
    let world = world();
    world.is(Status {
        phase: Phase::Halted,
        reason: "slot_missing".to_owned(),
        next: "do this".to_owned(),
        ..Status::default()
    });
    let (code, body) = world.get("/");
    assert_eq!(code, 200);
    for text in ["halted", "slot_missing", "do this", "/status", "/metrics", "/livez", "/readyz"] {
        assert!(body.contains(text), "{text}\n{body}");
    }
}

#[test]
fn changes_nothing_for_anybody() {
    let world = world();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(world.ask(method, "/status").0, 405, "{method}");
    }
    assert_eq!(world.get("/nothing").0, 404);
}

#[test]
fn refuses_bodies_and_endless_headers() {
    let world = world();
    let body = world.raw(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello");
    assert!(body.starts_with("HTTP/1.1 413"), "{body}");
    let endless = [b"GET /livez HTTP/1.1\r\nx: ".to_vec(), vec![b'y'; 64 * 1024]].concat();
    let answer = world.raw(&endless);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(world.get("/livez").0, 200);
}

#[test]
fn many_silent_clients_do_not_keep_a_probe_out_for_good() {
    let world = world();
    // One place is left for the probe; the header timeout frees the others.
    let silent: Vec<TcpStream> = (0..31).map(|_| TcpStream::connect(world.server.address()).unwrap()).collect();
    assert_eq!(world.get("/livez").0, 200);
    drop(silent);
}
