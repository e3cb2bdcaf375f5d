//! Tests of schema ids while the registry is exchanged, emptied, away or refuses us. They run the
//! whole agent, a real Postgres, a mock cluster, and the built-in registry behind a proxy.

use crate::support::world::{Row, Running, World};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use wellspring::agent::request::Request;
use wellspring::peers::registry::Registry;
use wellspring::status::Phase;

const TABLE: &str = "create table t (id int primary key, v text)";

/// What answers at the URL of the registry.
#[derive(Clone, Copy)]
enum Behind {
    Registry(SocketAddr),
    /// Connections are closed at once.
    Nobody,
    /// Every request is answered with this status.
    Status(u16),
}

/// A proxy with a fixed URL. A test decides what answers behind it.
struct Door {
    url: String,
    behind: Arc<Mutex<Behind>>,
}

impl Door {
    fn to(registry: &Registry) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let behind = Arc::new(Mutex::new(Behind::Registry(address(registry))));
        let door = Door { url, behind: Arc::clone(&behind) };
        std::thread::spawn(move || {
            for visitor in listener.incoming().flatten() {
                let behind = Arc::clone(&behind);
                std::thread::spawn(move || visit(visitor, &behind));
            }
        });
        door
    }

    fn leads_to(&self, behind: Behind) {
        *self.behind.lock().unwrap() = behind;
    }

    fn leads_to_registry(&self, registry: &Registry) {
        self.leads_to(Behind::Registry(address(registry)));
    }
}

/// Answers one request. The client connects anew for the next one, which is answered by what is
/// behind the proxy at that time.
fn visit(mut visitor: TcpStream, behind: &Mutex<Behind>) {
    let request = read_message(&mut visitor);
    let behind = *behind.lock().unwrap();
    let answer = match behind {
        Behind::Nobody => return,
        Behind::Status(status) => {
            format!("HTTP/1.1 {status} No\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}")
                .into_bytes()
        }
        Behind::Registry(address) => exchange(address, &request),
    };
    drop(visitor.write_all(&answer)); // a visitor may have gone
    drop(visitor.shutdown(Shutdown::Both));
}

/// Sends a request to a registry and returns its answer. The connection is closed then.
fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let Ok(mut stream) = TcpStream::connect(address) else { return Vec::new() };
    let text = String::from_utf8_lossy(request).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Reads a request with its body.
fn read_message(stream: &mut TcpStream) -> Vec<u8> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return bytes;
            }
        }
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return bytes,
        }
    }
}

fn address(registry: &Registry) -> SocketAddr {
    registry.url().trim_start_matches("http://").parse().unwrap()
}

fn empty() -> Registry {
    Registry::start(([127, 0, 0, 1], 0).into(), "NONE").unwrap()
}

/// A registry in which the first ids belong to schemas of other subjects.
fn foreign() -> Registry {
    let registry = empty();
    for number in 1..=6 {
        let schema = json!({"type": "record", "name": format!("Other{number}"), "namespace": "x", "fields": []});
        let body = json!({ "schema": schema.to_string() }).to_string();
        let length = body.len();
        let request = format!(
            "POST /subjects/other-{number}/versions HTTP/1.1\r\nHost: r\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let answer = exchange(address(&registry), request.as_bytes());
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    registry
}

/// The full name of the schema that a registry serves under an id; empty if it serves none.
fn name_of(registry: &Registry, id: u32) -> String {
    let request = format!("GET /schemas/ids/{id} HTTP/1.1\r\nHost: r\r\n\r\n");
    let answer = String::from_utf8(exchange(address(registry), request.as_bytes())).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let answer: Value = serde_json::from_str(body).unwrap();
    let Some(text) = answer["schema"].as_str() else { return String::new() };
    let schema: Value = serde_json::from_str(text).unwrap();
    let part = |name: &str| schema[name].as_str().unwrap_or_default().to_owned();
    format!("{}.{}", part("namespace"), part("name"))
}

/// The id in Confluent's framing; small ones are ASCII, so that a lossy text keeps them.
fn id_in(value: &Value) -> u32 {
    let framed = value.as_str().unwrap().as_bytes();
    assert!(framed.len() >= 5 && framed[0] == 0, "{value:?}");
    framed[1..5].iter().fold(0, |id, byte| id << 8 | u32::from(*byte))
}

/// Names of the schemas under which a registry has a record's key and value.
fn names(registry: &Registry, row: &Row) -> [String; 2] {
    [&row.key, &row.value].map(|part| name_of(registry, id_in(part)))
}

const NAMES: [&str; 2] = ["p.public.t.Key", "p.public.t.Envelope"];

fn avro(url: &str) -> String {
    format!(
        "[events]\nformat = \"avro\"\n[snapshot]\nmode = \"no_data\"\n[registry]\nurl = \"{url}\"\ntimeout = \"2s\""
    )
}

/// Runs an agent that publishes one row with ids of the registry at this URL, and stops it.
fn begun(world: &World, url: &str) {
    let agent = world.agent(&avro(url));
    agent.streams();
    world.sql("insert into t values (1, 'a')");
    world.records("t", 1);
    agent.stop();
}

fn unproven(agent: &Running) -> f64 {
    agent.metric("wellspring_schema_ids_unproven")
}

#[test]
fn another_registry_behind_the_same_state_gives_the_ids() {
    for (second, case) in [(empty(), "empty"), (foreign(), "with other schemas under these ids")] {
        let (world, first) = (World::new(TABLE, &["t"]), empty());
        world.topic("p.message");
        begun(&world, &first.url());
        let found = world.check(&avro(&second.url()));
        assert!(
            found.contains(
                "does not serve the schema recorded under id 1 of subject p.public.t-key and 1 more"
            ),
            "{found}"
        );

        let agent = world.agent(&avro(&second.url()));
        agent.streams();
        world.sql("insert into t values (2, 'b'); select pg_logical_emit_message(true, 'p', 'x')");
        let rows = world.records("t", 2);
        assert_eq!(names(&second, &rows[1]), NAMES, "{case}");
        let messages = world.until_in("p.message", |rows| rows.len() == 1);
        assert_eq!(
            names(&second, &messages[0])[1],
            "io.debezium.connector.postgresql.MessageValue",
            "{case}"
        );
        let status = agent.status();
        assert_eq!(
            (status.reason.as_str(), status.needs_a_person),
            ("", false),
            "another registry is the operator's wish"
        );
        agent.stop();
    }
}

#[test]
fn recorded_ids_are_proven_once_a_process_and_only_asked_for() {
    let (world, registry) = (World::new(TABLE, &["t"]), empty());
    begun(&world, &registry.url());
    let agent = world.agent(&avro(&registry.url()));
    agent.streams();
    world.sql("insert into t values (2, 'b')");
    world.records("t", 2);
    assert_eq!(agent.metric("wellspring_registry_requests_total"), 2.0, "key and value");
    world.sql("select pg_terminate_backend(active_pid) from pg_replication_slots");
    agent.until("a new connection", |status| {
        status.reconnects == 1 && status.phase == Phase::Streaming
    });
    world.sql("insert into t values (3, 'c')");
    world.until("t", |rows| rows.len() >= 3);
    assert_eq!(agent.metric("wellspring_registry_requests_total"), 2.0);
    assert_eq!(agent.metric("wellspring_registry_failures_total"), 0.0);
    assert_eq!(unproven(&agent), 0.0);
    agent.stop();
}

#[test]
fn a_registry_that_is_away_delays_no_row_and_proves_ids_later() {
    let (world, registry) = (World::new(TABLE, &["t"]), empty());
    let door = Door::to(&registry);
    begun(&world, &door.url);
    door.leads_to(Behind::Nobody);
    let found = world.check(&avro(&door.url));
    assert!(found.contains("FAIL") && found.contains("reach the schema registry"), "{found}");
    let agent = world.agent(&avro(&door.url));
    agent.streams();
    world.sql("insert into t values (2, 'b')");
    let rows = world.records("t", 2);
    assert_eq!(names(&registry, &rows[1]), NAMES);
    let status = agent.until("two ids in doubt", |status| status.schema_ids.unproven == 2);
    assert!(
        status.warnings.iter().any(|warning| warning.contains("has not confirmed")),
        "{status:#?}"
    );
    assert_eq!(
        (status.phase, status.needs_a_person, unproven(&agent)),
        (Phase::Streaming, false, 2.0)
    );
    // An answer that says nothing about the id changes nothing.
    for code in [401, 500] {
        door.leads_to(Behind::Status(code));
        let told = format!("({code})");
        agent.until(&told, |status| status.warnings.iter().any(|warning| warning.contains(&told)));
    }
    world.sql("insert into t values (3, 'c')");
    world.records("t", 3);
    door.leads_to_registry(&registry);
    let status = agent.until("every id is proven", |status| status.schema_ids.unproven == 0);
    assert!(
        !status.warnings.iter().any(|warning| warning.contains("has not confirmed")),
        "{status:#?}"
    );
    assert_eq!(
        (status.reconnects, status.schema_ids.differed.len(), status.needs_a_person),
        (0, 0, false)
    );
    world.sql("insert into t values (4, 'd')");
    world.records("t", 4);
    agent.stop();
}

#[test]
fn ids_that_became_other_schemas_are_replaced_and_told() {
    let cases = [
        (empty(), foreign(), "other schemas under these ids"),
        (foreign(), empty(), "nothing under these ids"),
    ];
    for (first, second, case) in cases {
        let world = World::new(TABLE, &["t"]);
        let door = Door::to(&first);
        begun(&world, &door.url);
        door.leads_to(Behind::Nobody);
        let agent = world.agent(&avro(&door.url));
        agent.streams();
        world.sql("insert into t values (2, 'b')");
        let was = id_in(&world.records("t", 2)[1].key);
        agent.until("two ids in doubt", |status| status.schema_ids.unproven == 2);
        door.leads_to_registry(&second);
        let status = agent.until("ids that differ", |status| {
            status.schema_ids.differed.len() == 2 && status.phase == Phase::Streaming
        });
        let differed = &status.schema_ids.differed[0];
        assert_eq!(
            (differed.plan.as_str(), differed.topic.as_str(), differed.was),
            ("public.t", "p.public.t", was),
            "{case}"
        );
        assert!(
            differed.from.is_some_and(|from| !from.commit_lsn.is_zero())
                && differed.from == differed.to
        );
        assert_eq!((status.reason.as_str(), status.needs_a_person), ("schema_ids_differed", true));
        assert!(
            status.detail.contains("Position") && status.next.contains("wellspring snapshot"),
            "{status:#?}"
        );
        let before = world.until("t", |_| true).len();
        world.sql("insert into t values (3, 'c')");
        let rows = world.until("t", |rows| rows.len() > before);
        assert_eq!(names(&second, rows.last().unwrap()), NAMES, "{case}");
        assert_eq!(agent.metric("wellspring_failures_total{reason=\"schema_ids_differed\"}"), 1.0);

        agent.ask(Request::Snapshot { tables: vec!["public.t".to_owned()], filter: None }).unwrap();
        let status = agent.until("a copy under the new ids", |status| !status.needs_a_person);
        assert_eq!((status.reason.as_str(), status.schema_ids.differed.len()), ("", 0));
        agent.stop();
    }
}

#[test]
fn a_reload_with_another_registry_takes_its_ids_from_there() {
    let (world, first, second) = (World::new(TABLE, &["t"]), empty(), foreign());
    let agent = world.agent(&avro(&first.url()));
    agent.streams();
    world.sql("insert into t values (1, 'a')");
    world.records("t", 1);
    agent.ask(Request::Reload(Box::new(world.config(&avro(&second.url()))))).unwrap();
    world.sql("insert into t values (2, 'b')");
    let rows = world.until("t", |rows| rows.len() >= 2 && id_in(&rows.last().unwrap().key) > 6);
    assert_eq!(names(&second, rows.last().unwrap()), NAMES);
    assert!(!agent.status().needs_a_person);
    agent.stop();
}
