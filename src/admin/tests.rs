//! Tests over a real socket: the answer of each page, and the limits that no client can pass.

use super::*;
use crate::agent::request::{self, PendingRequest, Request};
use crate::continuity::{Granted, Refused, Reply};
use crate::lsn::Lsn;
use crate::metrics::PHASES;
use crate::secret::{Secret, Source};
use std::io::{Read, Write as _};
use std::net::TcpStream;
use tokio::sync::mpsc;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct World {
    server: Server,
    metrics: Metrics,
    tell: watch::Sender<Status>,
    tell_config: watch::Sender<String>,
    asked: mpsc::Receiver<PendingRequest>,
    reloads: mpsc::Receiver<Reply>,
    events: mpsc::Receiver<EventsRequest>,
}

fn world() -> World {
    let metrics = Metrics::new("0.0.0");
    metrics.heartbeat.beat(unix_ms());
    let (tell, status) = watch::channel(Status::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (agent, asked) = request::channel();
    let (reload, reloads) = mpsc::channel(1);
    let (ask_events, events) = mpsc::channel(1);
    let token = Some(token(Source::Inline(Secret::new(TOKEN))));
    let actions = Actions { agent, reload, events: ask_events, token };
    let (tell_config, config) = watch::channel("[postgres]\n".to_owned());
    let ready_lag = Duration::from_secs(10);
    let server =
        Server::start(listener, ready_lag, metrics.clone(), status, config, actions).unwrap();
    World { server, metrics, tell, tell_config, asked, reloads, events }
}

impl World {
    /// Sends bytes over a new connection, and returns all that the server answers until it closes
    /// the connection.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        // A server that answers before it has read everything may close the socket during this
        // write.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path)
    }

    fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let answer = self.raw(
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (code, body.to_owned())
    }

    /// Sends a POST from a thread, and answers each request that reaches a channel with `answer`,
    /// as the loop would. Returns status code, body, and the requests to the loop.
    fn post(
        &mut self,
        path: &str,
        token: &str,
        body: &str,
        answer: Result<Granted, Refused>,
    ) -> (u16, String, Vec<Request>) {
        let length = body.len();
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \
             {token}\r\n{kind}content-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        );
        let address = self.server.address();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let mut requests = Vec::new();
        while !client.is_finished() {
            if let Ok(PendingRequest { request, reply }) = self.asked.try_recv() {
                requests.push(request);
                reply.send(answer.clone());
            }
            if let Ok(reply) = self.reloads.try_recv() {
                reply.send(answer.clone());
            }
            if let Ok(EventsRequest { table, reply }) = self.events.try_recv() {
                let events = vec!["{\"offset\":7}".to_owned()];
                reply.send(Ok(Events { topic: format!("shop.{table}"), events })).unwrap();
            }
            std::thread::yield_now();
        }
        let answer = client.join().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned(), requests)
    }

    fn is(&self, status: Status) {
        self.tell.send_replace(status);
    }
}

fn streaming() -> Status {
    Status { phase: Phase::Streaming, lag_seconds: Some(0.0), ..Status::default() }
}

#[test]
fn lives_while_the_loop_turns_and_only_then() {
    let world = world();
    assert_eq!(world.get("/livez").0, 200);
    // The server started a minute ago, and the loop turned last at that moment.
    let minute_ago = unix_ms() - 60_000;
    let served = Served {
        made: watch::Sender::new((Status::default(), Bytes::new())),
        metrics: world.metrics.clone(),
        status: world.tell.subscribe(),
        config: world.tell_config.subscribe(),
        ready_lag: Duration::from_secs(10),
        started_ms: minute_ago,
    };
    world.metrics.heartbeat.beat(minute_ago);
    assert!(!served.is_alive());
    assert!(served.unready().unwrap().contains("not turned for 60 s"));
    world.metrics.heartbeat.beat(unix_ms());
    assert!(served.is_alive());
    // A halted agent is alive: the process stays up and reports the reason.
    world.is(Status { phase: Phase::Halted, ..Status::default() });
    assert_eq!(world.get("/livez").0, 200);
}

#[test]
fn is_ready_only_while_streaming_within_the_lag_limit() {
    let world = world();
    assert_eq!(world.get("/readyz"), (503, "not ready: connecting\n".to_owned()));
    world.is(streaming());
    assert_eq!(world.get("/readyz").0, 200);
    world.is(Status { lag_seconds: None, ..streaming() });
    assert_eq!(world.get("/readyz"), (503, "not ready: the lag is not known\n".to_owned()));
    world.is(Status { lag_seconds: Some(10.5), ..streaming() });
    assert_eq!(world.get("/readyz"), (503, "not ready: lag 10.5 s, above 10 s\n".to_owned()));
    world.is(Status {
        phase: Phase::Halted,
        reason: "slot_missing".to_owned(),
        ..Status::default()
    });
    assert_eq!(world.get("/readyz"), (503, "not ready: halted (slot_missing)\n".to_owned()));
}

#[test]
fn an_agent_that_lacks_rows_is_ready_and_says_so() {
    let world = world();
    let (reason, detail) = ("table_not_copied".to_owned(), "public.t: a NaN".to_owned());
    world.is(Status { needs_a_person: true, reason, detail, ..streaming() });
    assert_eq!(
        world.get("/readyz"),
        (200, "ok, but table_not_copied: public.t: a NaN\n".to_owned())
    );
}

#[test]
fn a_standby_is_ready_so_that_it_blocks_no_rollout() {
    let world = world();
    world.is(Status { phase: Phase::Standby, reason: "standby".to_owned(), ..Status::default() });
    assert_eq!(world.get("/readyz"), (200, "ok\n".to_owned()));
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
fn serves_the_runbook_of_each_reason() {
    let (code, body) = world().get("/runbooks.md");
    assert_eq!(code, 200);
    for reason in crate::reason::codes() {
        assert!(body.contains(&format!("\n### `{reason}`\n")), "{reason}");
    }
}

#[test]
fn serves_the_configuration_that_is_in_force() {
    let world = world();
    assert_eq!(world.get("/config"), (200, "[postgres]\n".to_owned()));
    world.tell_config.send_replace("[tables]\n".to_owned()); // as a reload does
    assert_eq!(world.get("/config"), (200, "[tables]\n".to_owned()));
    assert_eq!(world.ask("POST", "/config").0, 405);
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
fn an_action_needs_the_token_and_reaches_the_loop_with_it() {
    let mut world = world();
    let done = || Ok(Granted("paused".to_owned()));
    for token in ["", "wrong", &TOKEN[1..]] {
        for path in ["/pause", "/resume", "/reload", "/skip", "/snapshot", "/snapshot/cancel"] {
            let (code, body, asked) = world.post(path, token, "", done());
            assert!(
                code == 401 && body.contains("admin.token_file") && asked.is_empty(),
                "{path}: {code} {body}"
            );
        }
    }
    let (code, body, asked) = world.post("/pause", TOKEN, "", done());
    assert_eq!((code, body.as_str(), asked.len()), (200, "{\"done\":\"paused\"}", 1));
    let (code, ..) = world.post("/reload", TOKEN, "", done());
    assert_eq!(code, 200);
    let body = "{\"tables\":[\"public.orders\"],\"where\":\"id > 5\"}";
    let (code, _, asked) = world.post("/snapshot", TOKEN, body, done());
    let copied = |request: &Request| matches!(request, Request::Snapshot { tables, filter } if tables == &["public.orders"] && filter.as_deref() == Some("id > 5"));
    assert!(code == 200 && asked.iter().all(copied) && asked.len() == 1, "{asked:?}");
    // A GET never acts, whoever sends it.
    assert_eq!(world.get("/pause").0, 405);
    let skip =
        "{\"table\":\"p.t\",\"commit\":\"0/10\",\"ordinal\":2,\"by\":\"ada\",\"why\":\"ticket 7\"}";
    let (code, _, asked) = world.post("/skip", TOKEN, skip, done());
    assert_eq!((code, asked.first().map(Request::name)), (200, Some("skip")));
    let (code, body, asked) = world.post("/skip", TOKEN, "{\"table\":\"p.t\"}", done());
    assert!(code == 422 && asked.is_empty() && body.contains("commit"), "{body}");
}

#[test]
fn events_are_shown_to_nobody_without_the_token() {
    let mut world = world();
    let unused = || Err(Refused::Stopping);
    let body = "{\"table\":\"public.orders\"}";
    for token in ["", "wrong", &TOKEN[1..]] {
        let (code, told, _) = world.post("/events", token, body, unused());
        assert!(code == 401 && !told.contains("offset"), "{code} {told}");
    }
    let (code, told, _) = world.post("/events", TOKEN, body, unused());
    let expected = "{\"topic\":\"shop.public.orders\",\"events\":[\"{\\\"offset\\\":7}\"]}";
    assert_eq!((code, told.as_str()), (200, expected));
    let (code, told, _) = world.post("/events", TOKEN, "{}", unused());
    assert!(code == 422 && told.contains("public.orders"), "{told}");
    assert_eq!(world.get("/events").0, 405);
}

#[test]
fn a_refusal_has_its_own_status_and_says_why() {
    let mut world = world();
    for (refused, expected) in [
        (Refused::NotAvailable("not yet".to_owned()), 409),
        (Refused::Faulty("no such table".to_owned()), 422),
        (Refused::Busy, 429),
        (Refused::Stopping, 503),
    ] {
        let (code, body, _) = world.post("/pause", TOKEN, "", Err(refused.clone()));
        assert_eq!((code, body), (expected, format!("{{\"error\":{:?}}}", refused.to_string())));
    }
    for body in ["", "{", "[]", "{\"tables\":[]}", "{\"table\":\"a\"}"] {
        let (code, text, asked) = world.post("/snapshot", TOKEN, body, Err(Refused::Busy));
        assert!(
            code == 422 && text.contains("tables") && asked.is_empty(),
            "{body}: {code} {text}"
        );
    }
    let (code, ..) = world.post("/snapshot", TOKEN, &"x".repeat(17 * 1024), Err(Refused::Busy));
    assert_eq!(code, 413);
}

#[test]
fn no_page_of_another_origin_is_let_in() {
    let world = world();
    let preflight = world.raw(
        b"OPTIONS /pause HTTP/1.1\r\nhost: x\r\norigin: \
          http://elsewhere\r\naccess-control-request-method: POST\r\n\
          access-control-request-headers: authorization\r\nconnection: close\r\n\r\n",
    );
    assert!(
        preflight.starts_with("HTTP/1.1 405") && !preflight.contains("access-control-allow"),
        "{preflight}"
    );
}

#[test]
fn refuses_bodies_and_endless_headers() {
    let world = world();
    let body = world.raw(
        b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello",
    );
    assert!(body.starts_with("HTTP/1.1 413"), "{body}");
    let endless = [b"GET /livez HTTP/1.1\r\nx: ".to_vec(), vec![b'y'; 64 * 1024]].concat();
    let answer = world.raw(&endless);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(world.get("/livez").0, 200);
}

/// Longest wait for the answer to one probe. A slow machine needs less. The timeouts of hundreds of
/// idle clients, one after another, would take far longer.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// Opens connections of clients that send no complete request, or do not read the answers.
fn idlers(world: &World, number: usize) -> Vec<TcpStream> {
    let half = b"GET /livez HTTP/1.1\r\nhost: x\r\nslow: ".as_slice();
    let body = b"POST /pause HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nx".as_slice();
    // These requests cause far more bytes than the system buffers, and the client reads none of
    // them.
    let many = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(400);
    let kinds = [b"".as_slice(), half, body, &many];
    let open = |kind: &[u8]| {
        let mut stream = TcpStream::connect(world.server.address()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let _ = stream.write(kind); // writes as much as the socket accepts
        stream
    };
    (0..number).zip(kinds.into_iter().cycle()).map(|(_, kind)| open(kind)).collect()
}

#[test]
fn hundreds_of_clients_that_never_finish_do_not_keep_a_probe_out() {
    let world = world();
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.extend(idlers(&world, 100));
        let mut probe = TcpStream::connect(world.server.address()).unwrap();
        probe.set_read_timeout(Some(PROBE_PATIENCE)).unwrap();
        probe.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?} after {} idlers", idle.len());
    }
}

#[test]
fn an_action_under_way_is_not_cut_off_by_those_who_come_after_it() {
    let mut world = world();
    let request = format!(
        "POST /pause HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: \
         close\r\n\r\n"
    );
    let mut client = TcpStream::connect(world.server.address()).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    let PendingRequest { reply, .. } = world.asked.blocking_recv().unwrap();
    let _idle = idlers(&world, 200);
    assert_eq!(world.get("/livez").0, 200);
    reply.send(Ok(Granted("paused".to_owned())));
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("{\"done\":\"paused\"}"), "{answer}");
}

#[test]
fn whoever_asks_for_status_again_gets_what_is_true_by_then() {
    let world = world();
    for detail in ["one", "two", "two", "three"] {
        world.is(Status { detail: detail.to_owned(), ..streaming() });
        for _ in 0..2 {
            let (code, body) = world.get("/status");
            let shown: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (code, &shown["detail"], &shown["phase"]),
                (200, &detail.into(), &"streaming".into())
            );
        }
    }
}
