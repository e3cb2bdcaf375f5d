//! Tests of the registry's client with the built-in registry, and with a server that gives scripted
//! answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use tokio::net::TcpListener;
use wellspring::encode::registry::{Auth, Config, Registry, RegistryError};
use wellspring::peers::registry::Registry as BuiltIn;
use wellspring::secret::{Secret, Source};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const ID: &str = r#"{"type":"record","name":"Key","fields":[{"name":"id","type":"int"}]}"#;
const ID_AND_MAIL: &str = r#"{"type":"record","name":"Key","fields":[{"name":"id","type":"int"},{"name":"mail","type":"string"}]}"#;

/// One answer of the script.
#[derive(Clone, Copy)]
enum Line {
    Say(u16, &'static str),
    Wait,
    Hang,
}

#[derive(Clone, Default)]
struct Script {
    lines: Arc<Mutex<VecDeque<Line>>>,
    /// Each request in its order: method, path and query, authorization, body.
    heard: Arc<Mutex<Vec<[String; 4]>>>,
}

async fn answer(
    State(script): State<Script>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap, String) {
    let authorization = headers
        .get("authorization")
        .map(|v| v.to_str().unwrap_or("").to_owned())
        .unwrap_or_default();
    script.heard.lock().expect("heard").push([
        method.to_string(),
        uri.to_string(),
        authorization,
        String::from_utf8_lossy(&body).into_owned(),
    ]);
    let line =
        script.lines.lock().expect("lines").pop_front().expect("the script has another line");
    let mut headers = HeaderMap::new();
    match line {
        Line::Say(status, body) => {
            (StatusCode::from_u16(status).expect("status"), headers, body.to_owned())
        }
        Line::Wait => {
            headers.insert("retry-after", "7".parse().expect("header"));
            (StatusCode::TOO_MANY_REQUESTS, headers, "slow down".to_owned())
        }
        Line::Hang => std::future::pending().await,
    }
}

/// Starts a server that answers each request with the next of these lines.
async fn scripted(lines: &[Line]) -> (String, Script) {
    let script = Script {
        lines: Arc::new(Mutex::new(lines.iter().copied().collect())),
        ..Script::default()
    };
    let listener = TcpListener::bind(SocketAddr::from(LOOPBACK)).await.expect("listen");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let app = Router::new().fallback(answer).with_state(script.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, script)
}

async fn built_in(level: &str) -> (BuiltIn, Registry) {
    let server = BuiltIn::start(SocketAddr::from(LOOPBACK), level).expect("registry");
    let client = Registry::new(&Config::new(server.url())).expect("client");
    (server, client)
}

async fn register_at(config: &Config) -> Result<u32, RegistryError> {
    Registry::new(config).expect("client").id_of("shop.public.orders-value", ID).await
}

#[tokio::test]
async fn one_schema_has_one_id_each_time_and_under_every_subject() {
    let (_server, client) = built_in("NONE").await;
    let id = client.register("a-key", ID).await.expect("registered");
    assert_eq!(client.register("a-key", ID).await.expect("again"), id);
    assert_eq!(client.register("b \"odd\"/sub#ject%-key", ID).await.expect("elsewhere"), id);
    let other = client.register("a-key", ID_AND_MAIL).await.expect("another");
    assert_ne!(other, id);
    assert_eq!(client.schema(other).await.expect("asked").as_deref(), Some(ID_AND_MAIL));
    assert_eq!(client.schema(999).await.expect("asked"), None);
    assert_eq!(client.level("a-key").await.expect("asked"), "NONE");
    client.probe().await.expect("it is one");
}

#[tokio::test]
async fn without_registration_a_lookup_refuses_a_missing_schema() {
    let (server, client) = built_in("NONE").await;
    assert_eq!(client.lookup("a-key", ID).await.expect("asked"), None);
    let config = Config { register: false, ..Config::new(server.url()) };
    let reader = Registry::new(&config).expect("client");
    let error = reader.id_of("a-key", ID).await.expect_err("not there");
    assert!(matches!(error, RegistryError::Refused { status: 404, .. }), "{error}");
    let id = client.register("a-key", ID).await.expect("registered");
    assert_eq!(reader.id_of("a-key", ID).await.expect("there"), id);
}

#[tokio::test]
async fn an_incompatible_schema_is_refused_with_subject_and_field() {
    let (_server, client) = built_in("BACKWARD").await;
    client.register("a-value", ID).await.expect("registered");
    let verdict = client.check("a-value", ID_AND_MAIL).await.expect("asked");
    assert!(!verdict.compatible && !verdict.messages.is_empty(), "{verdict:?}");
    assert!(client.check("new-value", ID_AND_MAIL).await.expect("asked").compatible);
    match client.register("a-value", ID_AND_MAIL).await.expect_err("incompatible") {
        RegistryError::Refused { subject, status, error_code, message, .. } => {
            assert_eq!((subject.as_str(), status, error_code), ("a-value", 409, 409));
            assert!(message.contains("incompatible with an earlier schema"), "{message}");
            assert!(message.contains("mail"), "{message}");
        }
        other => panic!("{other}"),
    }
    assert!(matches!(
        client.register("a-value", "{\"type\":\"nonsense\"}").await,
        Err(RegistryError::Refused { status: 422, error_code: 42201, .. })
    ));
}

#[tokio::test]
async fn the_field_is_read_out_of_the_registrys_words() {
    let confluent = r#"{"error_code":409,"message":"Schema being registered is incompatible with an earlier schema for subject \"x\", details: [{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'mail' at path '/fields/1' in the new schema has no default value and is missing in the old schema', additionalInfo:'mail'}]"}"#;
    let (url, _) = scripted(&[Line::Say(409, confluent)]).await;
    let client = Registry::new(&Config::new(url)).expect("client");
    let error = client.register("x", ID_AND_MAIL).await.expect_err("refused");
    assert!(
        matches!(&error, RegistryError::Refused { field: Some(field), .. } if field == "mail"),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_passes_is_told_from_what_does_not() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        let (url, _) =
            scripted(&[Line::Say(status, r#"{"error_code":50001,"message":"store"}"#)]).await;
        let error = register_at(&Config::new(url)).await.expect_err("an error");
        assert!(
            matches!(&error, RegistryError::Unavailable { status: Some(s), .. } if *s == status),
            "{error:?}"
        );
    }
    for status in [401, 403] {
        let (url, _) =
            scripted(&[Line::Say(status, r#"{"error_code":40301,"message":"no"}"#)]).await;
        let error = register_at(&Config::new(url)).await.expect_err("an error");
        assert!(matches!(&error, RegistryError::Denied { .. }), "{error:?}");
    }
    for line in [
        Line::Say(404, "<html>nothing here</html>"),
        Line::Say(200, "<html>hello</html>"),
        Line::Say(200, "{}"),
    ] {
        let (url, _) = scripted(&[line]).await;
        let error = register_at(&Config::new(url)).await.expect_err("an error");
        assert!(matches!(&error, RegistryError::Broken { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn it_says_when_it_wants_to_be_asked_again() {
    let (url, _) = scripted(&[Line::Wait]).await;
    let error = register_at(&Config::new(url)).await.expect_err("busy");
    let seven = Some(Duration::from_secs(7));
    assert!(
        matches!(error, RegistryError::Unavailable { status: Some(429), retry_after, .. } if retry_after == seven)
    );
}

#[tokio::test]
async fn a_registry_that_hangs_or_is_not_there_is_unavailable() {
    let (url, _) = scripted(&[Line::Hang]).await;
    let config = Config { timeout: Duration::from_millis(200), ..Config::new(url) };
    assert!(matches!(
        register_at(&config).await,
        Err(RegistryError::Unavailable { status: None, .. })
    ));
    let listener = TcpListener::bind(SocketAddr::from(LOOPBACK)).await.expect("listen");
    let nobody = format!("http://me:hunter2@{}", listener.local_addr().expect("address"));
    drop(listener);
    let error = register_at(&Config::new(nobody)).await.expect_err("nobody listens");
    assert!(matches!(error, RegistryError::Unavailable { status: None, .. }));
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

#[tokio::test]
async fn the_next_url_is_asked_where_one_is_away_not_where_it_refuses() {
    let (away, first) = scripted(&[Line::Say(503, "")]).await;
    let (server, _) = built_in("NONE").await;
    let config = Config { urls: vec![away, server.url()], ..Config::new("") };
    let client = Registry::new(&config).expect("client");
    assert_eq!(client.register("a-key", ID).await.expect("by the second"), 1);
    assert_eq!(client.register("a-key", ID).await.expect("at once by the second"), 1);
    assert_eq!(first.heard.lock().expect("heard").len(), 1);

    let (refusing, _) =
        scripted(&[Line::Say(422, r#"{"error_code":42205,"message":"read-only"}"#)]).await;
    let (unasked, second) = scripted(&[]).await;
    let config = Config { urls: vec![refusing, unasked], ..Config::new("") };
    assert!(matches!(
        register_at(&config).await,
        Err(RegistryError::Refused { error_code: 42205, .. })
    ));
    assert!(second.heard.lock().expect("heard").is_empty());
}

#[tokio::test]
async fn credentials_are_read_anew_for_each_call_and_never_shown() {
    let fine = Line::Say(200, r#"{"id":5}"#);
    let (url, script) = scripted(&[fine; 4]).await;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("password");
    std::fs::write(&path, "hunter2\n").expect("written");
    let basic = Auth::Basic { user: "me".to_owned(), password: Source::File(path.clone()) };
    let client = Registry::new(&Config { auth: basic, ..Config::new(&url) }).expect("client");
    client.register("s", ID).await.expect("registered");
    std::fs::write(&path, "two\n").expect("written");
    client.register("s", ID).await.expect("registered");
    let bearer = Auth::Bearer { token: Source::Inline(Secret::new("tok")) };
    register_at(&Config { auth: bearer, ..Config::new(&url) }).await.expect("registered");
    register_at(&Config::new(url.replace("http://", "http://me:hunter2@")))
        .await
        .expect("registered");
    let heard: Vec<String> =
        script.heard.lock().expect("heard").iter().map(|[_, _, auth, _]| auth.clone()).collect();
    assert_eq!(
        heard,
        ["Basic bWU6aHVudGVyMg==", "Basic bWU6dHdv", "Bearer tok", "Basic bWU6aHVudGVyMg=="]
    );
    std::fs::remove_file(&path).expect("removed");
    assert!(matches!(client.register("s", ID).await, Err(RegistryError::Secret { .. })));
    assert!(!format!("{client:?}").contains("hunter2"));
}

#[tokio::test]
async fn subjects_and_schemas_are_sent_as_they_are() {
    let (url, script) = scripted(&[Line::Say(200, r#"{"id":5}"#)]).await;
    let client = Registry::new(&Config::new(format!("{url}/apis/ccompat/v7/"))).expect("client");
    client.register("a b/c?d#e%f.ü-key", ID).await.expect("registered");
    let heard = script.heard.lock().expect("heard").clone();
    let [method, uri, _, body] = &heard[0];
    assert_eq!(method, "POST");
    assert_eq!(uri, "/apis/ccompat/v7/subjects/a%20b%2Fc%3Fd%23e%25f.%C3%BC-key/versions");
    let sent: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(sent, serde_json::json!({ "schema": ID }));
}
