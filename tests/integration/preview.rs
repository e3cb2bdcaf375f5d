//! `wellspring preview` and conditions with a real Postgres: what a preview shows is what a stream
//! sends.

use super::stdout::Program;
use crate::support::postgres::Server;
use std::io::BufRead;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A server with a table whose columns have many types. The condition of [`CHAIN`] drops one of its
/// rows.
fn server() -> Server {
    let server = Server::start();
    server.sql(
        "postgres",
        "create table a (id int primary key, name text, price numeric(10,2), free numeric, at timestamptz,
           day date, tags text[], kind uuid, ok boolean, rate real, secret text);
         alter table a replica identity full;
         insert into a values
           (1, 'ann', 10.50, 1.25, '2025-01-01', '2025-01-01', '{x}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', true, 0.5, 's'),
           (2, 'bob', 3.00, null, null, null, null, null, false, 0.1, 's'),
           (3, E'tab\\tand \\\\ it', 99.99, 100000000000000000000.5, null, null, null, null, true, 0.5, 's')",
    );
    server
}

/// Transforms whose condition reads every type that an expression takes.
const CHAIN: &str = "[masks.hidden]\ncolumns = [\"public.a.secret\"]\nmethod = \"stars\"\nlength = 3\n\
    [[transform]]\ntype = \"filter\"\ncondition = \"\"\"op == 't' || op == 'd' || (after.price >= 10.5 && after.free > 1 \
    && after.ok && after.rate == 0.5 && after.secret == '***' && (after.day == null || after.day > 20000) \
    && (after.tags == null || after.kind.startsWith('a0ee') && after.at == '2025-01-01T00:00:00.000000Z'))\"\"\"\n\
    [[transform]]\ntype = \"content-router\"\ntopic = \"op != 't' && op != 'd' && after.id == 3 ? 'p.public.third' : null\"\n\
    [[transform]]\ntype = \"replace-field\"\nexclude = [\"source\", \"ts_ms\", \"ts_us\", \"ts_ns\", \"transaction\"]\n";

fn configured(server: &Server, folder: &Path, sink: &str) {
    let text = format!(
        "{sink}[postgres]\nurl = \"{}\"\n[tables]\ninclude = [\"public.*\"]\n[topics]\nprefix = \"p\"\n{CHAIN}",
        server.url("postgres")
    );
    std::fs::write(folder.join("wellspring.toml"), text).unwrap();
}

fn preview(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
    command.arg("preview").args(arguments).current_dir(folder).env_clear().output().unwrap()
}

/// Runs a preview that has to succeed, and returns its output.
#[track_caller]
fn shown(folder: &Path, arguments: &[&str]) -> String {
    let output = preview(folder, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_preview_shows_rows_before_and_after_and_sends_nothing() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    // Neither Kafka nor the registry can be reached.
    let away = "[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[registry]\nurl = \"http://127.0.0.1:1\"\n";
    configured(&server, folder.path(), away);
    let all = shown(folder.path(), &["--table", "public.a", "--rows", "2"]);
    assert!(all.contains("row 1 of public.a") && all.contains("row 2 of public.a"), "{all}");
    assert!(!all.contains("row 3"), "{all}");
    let (third, second) = all.split_once("row 2 of").unwrap();
    assert!(third.contains("before:\n    topic    p.public.a\n    key      {\"id\":3}"), "{third}");
    assert!(third.contains("after:\n    topic    p.public.third\n"), "{third}");
    assert!(third.contains(r#""name":"tab\tand \\ it""#), "{third}");
    assert!(second.contains("after: nothing is sent"), "{second}");
    assert!(!all.contains("\"secret\":\"s\"") && all.contains("\"secret\":\"***\""), "{all}");
    let given =
        r#"{"id": 9, "price": 10.49, "free": 2, "ok": true, "rate": 0.5, "secret": "it's"}"#;
    let more = r#"{"id": 9, "price": 10.5, "free": 2, "ok": true, "rate": 0.5, "secret": "it's"}"#;
    let rows = shown(folder.path(), &["--table", "public.a", "--row", given, "--row", more]);
    let (less, enough) = rows.split_once("row 2 of").unwrap();
    assert!(less.contains("after: nothing is sent"), "{less}");
    assert!(enough.contains("\"op\":\"c\"") && !enough.contains("it's"), "{enough}");
    let deleted = shown(folder.path(), &["--table", "public.a", "--row", given, "--op", "delete"]);
    assert!(deleted.contains("\"op\":\"d\"") && deleted.contains("value    none"), "{deleted}");
    assert!(third.contains("\"snapshot\":\"true\"") && third.contains("\"txId\":1"), "{third}");
    assert!(less.contains("\"snapshot\":\"false\""), "{less}");
    let lacking = shown(folder.path(), &["--table", "public.a", "--row", r#"{"price": 1}"#]);
    assert!(lacking.contains("column `id` was not given"), "{lacking}");
    let missing = preview(folder.path(), &["--table", "public.b"]);
    assert_eq!(missing.status.code(), Some(2));
    let traces = "select (select count(*) from pg_replication_slots) + (select count(*) from pg_publication)";
    assert_eq!(server.sql("postgres", traces).trim(), "0");
}

#[test]
fn a_preview_tells_a_condition_that_cannot_be_answered() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "sink = \"stdout\"\n[postgres]\nurl = \"{}\"\n[tables]\ninclude = [\"public.*\"]\n[topics]\nprefix = \"p\"\n\
         [[transform]]\ntype = \"filter\"\ncondition = \"op == 't' || before.name == after.nmae\"\n",
        server.url("postgres")
    );
    std::fs::write(folder.path().join("wellspring.toml"), text).unwrap();
    let output = preview(folder.path(), &["--table", "public.a"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("transform 1 (filter)") && said.contains("no field `nmae`"), "{said}");
}

#[test]
fn copied_and_streamed_rows_are_filtered_and_routed_alike() {
    let server = server();
    let mut program = Program::start_with(&server, Stdio::piped(), CHAIN);
    let mut lines = program.lines().lines();
    let mut next = || lines.next().unwrap().unwrap();
    let first = next();
    assert!(first.starts_with(r#"{"topic":"p.public.a","key":{"id":1}"#), "{first}");
    assert!(next().starts_with(r#"{"topic":"p.public.third","key":{"id":3}"#));
    server.sql(
        "postgres",
        "update a set price = 2 where id = 1; update a set price = 11 where id = 1;
         insert into a select 4, 'dan', 1; delete from a where id = 2",
    );
    let updated = next();
    assert!(updated.contains(r#""key":{"id":1}"#) && updated.contains(r#""op":"u""#), "{updated}");
    let deleted = next();
    assert!(deleted.contains(r#""key":{"id":2}"#) && deleted.contains(r#""op":"d""#), "{deleted}");
    assert_eq!(next(), r#"{"topic":"p.public.a","key":{"id":2},"value":null}"#);
    drop(lines);
    server.sql("postgres", "update a set price = 12 where id = 1");
    let (code, said) = program.ended();
    assert_eq!(code, Some(7), "{said}");
    assert!(!said.contains("ERROR"), "{said}");
}
