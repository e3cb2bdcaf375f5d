//! `wellspring check` and `wellspring slot` against a real server, through the binary.

use crate::support::postgres::Server;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use wellspring::peers::{broker::Broker, registry::Registry};

fn configure(folder: &Path, url: &str) {
    let text = format!(
        "sink = \"stdout\"\n[postgres]\nurl = \"{url}\"\n[tables]\ninclude = [\"public.*\"]\n[topics]\nprefix = \"p\"\n\
         "
    );
    std::fs::write(folder.join("wellspring.toml"), text).unwrap();
}

fn wellspring(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
    command.args(arguments).current_dir(folder).env_clear().output().unwrap()
}

/// Runs `check`. Returns its exit status, and each finding that is not ok as `level: what` with
/// its fix below.
fn check(folder: &Path) -> (Option<i32>, String) {
    let output = wellspring(folder, &["check", "--json"]);
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let wrong = findings.iter().filter(|finding| finding["level"] != "ok");
    let lines: Vec<String> = wrong
        .map(|finding| {
            format!(
                "{}: {}\n{}",
                text(finding, "level"),
                text(finding, "what"),
                text(finding, "fix")
            )
        })
        .collect();
    (output.status.code(), lines.join("\n"))
}

/// The numbers of slots and publications, which a check must not change.
fn traces(server: &Server) -> String {
    server.sql(
        "postgres",
        "SELECT (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_publication)",
    )
}

#[test]
fn check_names_what_is_wrong_and_its_fixes_put_it_right() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    server.sql(
        "postgres",
        "CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE \"Log\" (v text); CREATE UNLOGGED TABLE cache (id int PRIMARY KEY);
         CREATE ROLE agent LOGIN;",
    );
    let url = server.url("postgres").replace("postgres@", "agent@");
    configure(folder.path(), &url);
    let (code, wrong) = check(folder.path());
    assert_eq!(code, Some(4), "{wrong}");
    for text in [
        "fail: role agent may not replicate\nALTER ROLE \"agent\" REPLICATION;",
        "fail: public.Log has no replica identity",
        "ALTER TABLE public.\"Log\" REPLICA IDENTITY FULL;",
        "fail: public.cache is unlogged",
        "CREATE PUBLICATION \"wellspring_p\" FOR TABLE ONLY \"public\".\"orders\" WITH",
    ] {
        assert!(wrong.contains(text), "{text}\n{wrong}");
    }
    server.sql(
        "postgres",
        "ALTER ROLE agent REPLICATION; ALTER TABLE public.\"Log\" REPLICA IDENTITY FULL;
         ALTER TABLE public.cache SET LOGGED;
         CREATE PUBLICATION wellspring_p FOR TABLE ONLY public.orders WITH (publish_via_partition_root = true);",
    );
    let (code, wrong) = check(folder.path());
    assert_eq!(code, Some(4), "{wrong}");
    for start in ["ALTER PUBLICATION", "GRANT SELECT"] {
        server.sql("postgres", wrong.lines().find(|line| line.starts_with(start)).expect(start));
    }
    let (code, wrong) = check(folder.path());
    assert_eq!(code, Some(0), "{wrong}");
    assert_eq!(traces(&server).trim(), "0|1", "a check leaves nothing behind");
}

#[test]
fn check_warns_of_a_publication_that_breaks_uncaptured_tables() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    server.sql(
        "postgres",
        "CREATE TABLE orders (id int PRIMARY KEY); CREATE SCHEMA other; CREATE TABLE other.log (v text);
         CREATE PUBLICATION wellspring_p FOR ALL TABLES;",
    );
    configure(folder.path(), &server.url("postgres"));
    let (code, wrong) = check(folder.path());
    assert_eq!(code, Some(4), "{wrong}");
    assert!(wrong.contains("fail: the application's UPDATE of other.log fails"), "{wrong}");
    assert!(wrong.contains("warn: publication wellspring_p is FOR ALL TABLES"), "{wrong}");
    assert!(wrong.contains("warn: role postgres is a superuser"), "{wrong}");
    assert!(wrong.contains("CREATE ROLE wellspring LOGIN REPLICATION PASSWORD '...';"), "{wrong}");
}

#[test]
fn check_tells_what_is_around_and_leaves_it_alone() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    server.sql(
        "postgres",
        "CREATE TABLE orders (id int PRIMARY KEY, net int, gross int GENERATED ALWAYS AS (net * 2) STORED);
         CREATE ROLE agent LOGIN REPLICATION CREATEDB; GRANT SELECT, UPDATE ON orders TO agent;
         SELECT pg_create_logical_replication_slot('wellspring_gone', 'pgoutput');
         CREATE PUBLICATION wellspring_p FOR TABLE ONLY orders WITH (publish_via_partition_root = true);",
    );
    configure(folder.path(), &server.url("postgres").replace("postgres@", "agent@"));
    let (code, wrong) = check(folder.path());
    assert_eq!(code, Some(0), "{wrong}");
    for text in [
        "warn: max_slot_wal_keep_size is unlimited",
        "warn: slot wellspring_gone of database postgres is held by nobody",
        "SELECT pg_drop_replication_slot('wellspring_gone');",
        "warn: public.orders: generated columns are not in the stream: gross",
        "warn: role agent has CREATEDB: more than the agent needs\nALTER ROLE \"agent\" NOCREATEDB;",
        "warn: role agent may write to 1 captured table, public.orders for one",
    ] {
        assert!(wrong.contains(text), "{text}\n{wrong}");
    }
    assert_eq!(traces(&server).trim(), "1|1", "a check leaves everything as it was");
}

#[tokio::test]
async fn check_asks_the_registry_about_each_schema_and_registers_none() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(([127, 0, 0, 1], 0).into(), "BACKWARD").unwrap();
    let broker = Broker::start(1, 4).unwrap();
    server
        .sql("postgres", "CREATE TABLE orders (id int PRIMARY KEY, v text); CREATE TABLE stock (id int PRIMARY KEY);");
    let text = format!(
        "[postgres]\nurl = \"{}\"\n[tables]\ninclude = [\"public.*\"]\n[topics]\nprefix = \"p\"\n[registry]\nurl = \"{}\"\n\
         [kafka]\nbrokers = [\"{}\"]\n[snapshot]\nmode = \"no_data\"\n",
        server.url("postgres"),
        registry.url(),
        broker.bootstrap()
    );
    std::fs::write(folder.path().join("wellspring.toml"), text).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let foreign = serde_json::json!({ "schema": "{\"type\":\"record\",\"name\":\"Key\",\"namespace\":\"p.public.orders\",\"fields\":[{\"name\":\"id\",\"type\":\"string\"}]}" });
    let url = format!("{}/subjects/p.public.orders-key/versions", registry.url());
    assert!(client.post(&url).json(&foreign).send().await.unwrap().status().is_success());
    let (code, wrong) = check(folder.path());
    assert_eq!(code, Some(5), "{wrong}");
    assert!(wrong.contains("fail: subject p.public.orders-key would refuse its schema"), "{wrong}");
    let subjects = client
        .get(format!("{}/subjects", registry.url()))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(subjects, "[\"p.public.orders-key\"]", "nothing was registered");
}

#[test]
fn remove_shows_first_and_leaves_nothing_of_ours() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let remove = |arguments: &[&str]| {
        let output = wellspring(folder.path(), &[&["remove"], arguments].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    configure(folder.path(), &server.url("postgres"));
    let sql = "CREATE TABLE orders (id int PRIMARY KEY); CREATE PUBLICATION wellspring_p FOR TABLE orders;";
    server.sql("postgres", sql);
    server.sql("postgres", "SELECT pg_create_logical_replication_slot('other', 'pgoutput')");
    assert_eq!(wellspring(folder.path(), &["slot", "create"]).status.code(), Some(0));
    let state = folder.path().join("p.wellspring-state.json");
    assert!(std::fs::read_to_string(&state).unwrap().contains("confirm/wellspring_p/"));

    let (code, out) = remove(&[]);
    assert!(code == Some(0) && out.contains("slot         `wellspring_p` keeps"), "{out}");
    let stays = "publication  `wellspring_p` stays: this pipeline has not made it";
    assert!(out.contains(stays) && out.contains("again with --yes"), "{out}");
    assert_eq!(traces(&server).trim(), "2|1", "looking removes nothing");

    let (code, out) = remove(&["--yes"]);
    assert!(code == Some(0) && out.contains("removed slot `wellspring_p`"), "{out}");
    assert_eq!(
        traces(&server).trim(),
        "1|1",
        "the slot of another and a publication that is not ours stay"
    );
    assert!(!std::fs::read_to_string(&state).unwrap().contains("confirm/"), "the record is gone");
    let (code, out) = remove(&["--yes"]);
    assert!(code == Some(0) && out.contains("does not exist"), "{out}");

    server.sql("postgres", "DROP PUBLICATION wellspring_p");
    let (code, out) = remove(&[]);
    assert!(code == Some(0) && out.contains("there is nothing to remove"), "{out}");
    assert!(!out.contains("--yes"), "{out}");
}

#[test]
fn a_slot_is_created_shown_dropped_and_accepted_by_command_only() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let slot = |arguments: &[&str]| {
        let output = wellspring(folder.path(), &[&["slot"], arguments].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    configure(folder.path(), &server.url("postgres"));
    server.sql("postgres", "CREATE TABLE orders (id int PRIMARY KEY)");
    let (code, out, _) = slot(&["status"]);
    assert!(code == Some(0) && out.contains("first_start"), "{out}");
    assert_eq!(traces(&server).trim(), "0|0");

    let (code, _, err) = slot(&["create"]);
    assert!(code == Some(4) && err.contains("publication `wellspring_p` does not exist"), "{err}");
    server.sql("postgres", "CREATE PUBLICATION wellspring_p FOR TABLE orders");
    let (code, out, err) = slot(&["create"]);
    assert!(code == Some(0) && out.contains("created slot `wellspring_p`"), "{out}{err}");
    assert_eq!(slot(&["status"]).0, Some(0));
    let (code, out, err) = slot(&["accept"]);
    assert!(code == Some(0) && out.contains("there is nothing to accept"), "{out}{err}");

    let (code, out, _) = slot(&["drop"]);
    assert!(code == Some(0) && out.contains("is not dropped") && out.contains("--yes"), "{out}");
    assert_eq!(traces(&server).trim(), "1|1", "a drop that is not confirmed drops nothing");
    assert_eq!(slot(&["drop", "--yes"]).0, Some(0));
    assert_eq!(traces(&server).trim(), "0|1");
    let (code, _, err) = slot(&["create"]);
    assert!(code == Some(3) && err.contains("a new slot loses what came after it"), "{err}");
    assert_eq!(traces(&server).trim(), "0|1", "a slot over a record is a loss, and not made");
    let (code, out, _) = slot(&["status", "--json"]);
    let look: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, look["verdict"].as_str()), (Some(3), Some("slot_missing")), "{out}");

    let (code, _, err) = slot(&["accept", "--from", "0/1", "--to", "0/2"]);
    assert!(code == Some(3) && err.contains("not within the range"), "{err}");
    let range = |end: &str| look["range"][end].as_str().unwrap().to_owned();
    let (code, out, err) = slot(&["accept", "--from", &range("from")]);
    assert_eq!(code, Some(2), "half a range is a fault of the command line: {out}{err}");
    // The server writes on after the status was read, so the gap ends later than the shown range.
    // It is accepted only if `--to` is beyond that end.
    server.sql("postgres", "INSERT INTO orders SELECT generate_series(1, 1000)");
    let (code, _, err) = slot(&["accept", "--from", &range("from"), "--to", &range("to")]);
    assert!(code == Some(3) && err.contains("not within the range"), "{err}");
    let (code, out, err) = slot(&["accept", "--from", &range("from"), "--to", "FFFFFFFF/0"]);
    assert!(code == Some(0) && out.contains("epoch 2 goes on"), "{out}{err}");
    assert!(out.contains("`wellspring snapshot public.orders` copies its tables again"), "{out}");
    // The accepted range ends where the new slot begins.
    let (_, out, _) = slot(&["status", "--json"]);
    let look: Value = serde_json::from_str(&out).unwrap();
    let accepted = look["record"]["accepted"].as_array().unwrap().last().unwrap();
    assert_eq!(accepted["to"], look["slot"]["confirmed_flush_lsn"], "{out}");
    assert_eq!(slot(&["status"]).0, Some(0));
}

/// Starts a registry like Apicurio's: its root URL serves a page, and the API of Confluent's
/// registry is below it. Returns the root URL.
fn apicurio() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut request = [0; 4096];
            let read = socket.read(&mut request).unwrap_or_default();
            let (status, kind, body) =
                if request[..read].starts_with(b"GET /apis/ccompat/v7/config ") {
                    ("200 OK", "application/json", "{\"compatibilityLevel\":\"NONE\"}")
                } else {
                    ("404 Not Found", "text/html", "<html><body>404</body></html>")
                };
            let size = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = socket.write_all(answer.as_bytes()); // the client may be gone
        }
    });
    url
}

#[test]
fn check_tells_why_a_side_cannot_be_reached_as_configured() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(1, 1).unwrap();
    let brokers = broker.bootstrap();
    let registry = apicurio();
    let url = server.url("no_such");
    let text = format!(
        "[postgres]\nurl = \"{url}\"\n[tables]\ninclude = [\"public.*\"]\n[topics]\nprefix = \"p\"\n\
         [registry]\nurl = \"{registry}\"\n[kafka]\nbrokers = [\"{brokers}\"]\n\
         [kafka.client]\n\"security.protocol\" = \"ssl\"\n"
    );
    std::fs::write(folder.path().join("wellspring.toml"), text).unwrap();
    let (code, wrong) = check(folder.path());
    assert_eq!(code, Some(4), "{wrong}");
    for text in [
        "database \"no_such\" does not exist\n\
         correct the database in postgres.url; the server has: postgres\n\
         -- or: CREATE DATABASE \"no_such\";",
        &format!("fail: {brokers} does not speak TLS"),
        "set kafka.client \"security.protocol\" = \"plaintext\", or name the broker's TLS port",
        &format!("set registry.url = \"{registry}/apis/ccompat/v7\": Apicurio serves"),
    ] {
        assert!(wrong.contains(text), "{text}\n{wrong}");
    }
    assert!(!wrong.contains("sslmode"), "what stays on this machine needs no TLS: {wrong}");
}
