//! The built-in schema registry. The registry answers those requests that our agent and readers of
//! Avro send, as Confluent's registry answers them.
//!
//! Schemas are kept in memory, and one schema has one id under all subjects. `apache_avro` checks
//! compatibility if the level of the subject asks for that. The registry knows Avro only: no
//! references, deletion, modes or access rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

/// The most requests that wait for the task with the schemas. The handler of a further request
/// waits until there is room.
const QUESTIONS_MAX: usize = 64;

/// A registry on a loopback port, until it is dropped. The registry has its own thread, because the
/// thread that started it may wait for a task that in turn waits for the registry.
pub struct Registry {
    address: SocketAddr,
    /// The sender is dropped with this struct. The drop tells the registry's thread to end.
    _stop: watch::Sender<()>,
}

impl Registry {
    /// Listens on `address`; port 0 takes any free one. `level` is the compatibility level of every
    /// subject that has none of its own: `NONE`, `BACKWARD`, ..
    ///
    /// # Errors
    /// The system provides no address, thread or runtime.
    pub fn start(address: SocketAddr, level: &str) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = {
            let _entered = runtime.enter(); // `from_std` needs the runtime that it will poll on
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = watch::channel(());
        let store = Store::new(level);
        std::thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || runtime.block_on(serve(listener, store, stopped)))?;
        Ok(Registry { address, _stop: stop })
    }

    /// Returns the registry's URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn serve(listener: TcpListener, mut store: Store, mut stopped: watch::Receiver<()>) {
    let (questions, mut asked) = mpsc::channel::<Question>(QUESTIONS_MAX);
    // This task alone owns the store. The task ends when the HTTP server ends, because the server
    // and its handlers have the only senders.
    tokio::spawn(async move {
        while let Some(question) = asked.recv().await {
            question(&mut store);
        }
    });
    tokio::select! {
        biased; // the end comes first, however many requests wait
        _ = stopped.changed() => {}
        ended = axum::serve(listener, router(Asker(questions))) => if let Err(error) = ended {
            tracing::error!(%error, "the built-in registry ended");
        },
    }
}

/// A request to the store, as a function that also sends the answer back.
type Question = Box<dyn FnOnce(&mut Store) + Send>;

#[derive(Clone)]
struct Asker(mpsc::Sender<Question>);

impl Asker {
    async fn ask(
        &self,
        what: impl FnOnce(&mut Store) -> Result<Value, Fault> + Send + 'static,
    ) -> Answer {
        let (tell, told) = oneshot::channel();
        let question: Question = Box::new(move |store| drop(tell.send(what(store))));
        let gone =
            || Fault(StatusCode::INTERNAL_SERVER_ERROR, 50001, "the registry is ending".to_owned());
        self.0.send(question).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?.map(|value| reply(&value))
    }
}

struct Store {
    /// Schema texts as they were registered. A schema's id is its index plus one.
    schemas: Vec<String>,
    /// Schema ids of each subject. A version is the index plus one.
    subjects: BTreeMap<String, Vec<usize>>,
    level: String,
    levels: BTreeMap<String, String>,
}

/// An error in the form of Confluent's registry: HTTP status, error code and message.
struct Fault(StatusCode, i64, String);

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let Fault(status, error_code, message) = self;
        (status, reply(&json!({ "error_code": error_code, "message": message }))).into_response()
    }
}

type Answer = Result<Response, Fault>;

fn reply(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")], value.to_string())
        .into_response()
}

fn subject_unknown(subject: &str) -> Fault {
    Fault(StatusCode::NOT_FOUND, 40401, format!("Subject '{subject}' not found."))
}

fn schema_unknown() -> Fault {
    Fault(StatusCode::NOT_FOUND, 40403, "Schema not found".to_owned())
}

fn invalid(detail: &str) -> Fault {
    Fault(
        StatusCode::UNPROCESSABLE_ENTITY,
        42201,
        format!("Input schema is an invalid Avro schema, details: {detail}"),
    )
}

fn router(asker: Asker) -> Router {
    Router::new()
        .route("/", get(async || reply(&json!({}))))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(lookup))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route("/schemas/ids/{id}", get(schema))
        .route("/compatibility/subjects/{subject}/versions/latest", post(check))
        .route("/config", get(global_level).put(set_global_level))
        .route("/config/{subject}", get(subject_level).put(set_subject_level))
        .with_state(asker)
}

async fn subjects(State(asker): State<Asker>) -> Answer {
    asker.ask(|store| Ok(json!(store.subjects.keys().collect::<Vec<_>>()))).await
}

async fn register(State(asker): State<Asker>, Path(subject): Path<String>, body: Bytes) -> Answer {
    let text = schema_of(&body)?;
    asker.ask(move |store| Ok(json!({ "id": store.register(&subject, text)? }))).await
}

async fn lookup(State(asker): State<Asker>, Path(subject): Path<String>, body: Bytes) -> Answer {
    let text = schema_of(&body)?;
    asker.ask(move |store| store.lookup(&subject, &text)).await
}

async fn versions(State(asker): State<Asker>, Path(subject): Path<String>) -> Answer {
    asker.ask(move |store| Ok(json!((1..=store.ids(&subject)?.len()).collect::<Vec<_>>()))).await
}

async fn version(
    State(asker): State<Asker>,
    Path((subject, version)): Path<(String, String)>,
) -> Answer {
    asker.ask(move |store| store.version(&subject, &version)).await
}

async fn schema(State(asker): State<Asker>, Path(id): Path<usize>) -> Answer {
    asker.ask(move |store| Ok(json!({ "schema": store.text(id)? }))).await
}

async fn check(State(asker): State<Asker>, Path(subject): Path<String>, body: Bytes) -> Answer {
    let text = schema_of(&body)?;
    asker
        .ask(move |store| {
            store.ids(&subject)?;
            Ok(match store.incompatibility(&subject, &parse(&text)?)? {
                None => json!({ "is_compatible": true }),
                Some(reason) => json!({ "is_compatible": false, "messages": [reason] }),
            })
        })
        .await
}

async fn global_level(State(asker): State<Asker>) -> Answer {
    asker.ask(|store| Ok(json!({ "compatibilityLevel": store.level }))).await
}

async fn set_global_level(State(asker): State<Asker>, body: Bytes) -> Answer {
    let level = level_of(&body)?;
    asker
        .ask(move |store| {
            store.level.clone_from(&level);
            Ok(json!({ "compatibility": level }))
        })
        .await
}

async fn subject_level(
    State(asker): State<Asker>,
    Path(subject): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Answer {
    let or_global = query.get("defaultToGlobal").is_some_and(|value| value == "true");
    asker
        .ask(move |store| match store.levels.get(&subject) {
            Some(level) => Ok(json!({ "compatibilityLevel": level })),
            None if or_global => Ok(json!({ "compatibilityLevel": store.level })),
            None => {
                let message = format!(
                    "Subject '{subject}' does not have subject-level compatibility configured"
                );
                Err(Fault(StatusCode::NOT_FOUND, 40408, message))
            }
        })
        .await
}

async fn set_subject_level(
    State(asker): State<Asker>,
    Path(subject): Path<String>,
    body: Bytes,
) -> Answer {
    let level = level_of(&body)?;
    asker
        .ask(move |store| {
            store.levels.insert(subject, level.clone());
            Ok(json!({ "compatibility": level }))
        })
        .await
}

fn schema_of(body: &[u8]) -> Result<String, Fault> {
    let request: Value =
        serde_json::from_slice(body).map_err(|error| invalid(&error.to_string()))?;
    match request.get("schemaType").and_then(Value::as_str) {
        None | Some("AVRO") => {}
        Some(other) => return Err(invalid(&format!("schema type {other} is not supported here"))),
    }
    request
        .get("schema")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| invalid("there is no schema"))
}

fn level_of(body: &[u8]) -> Result<String, Fault> {
    let request: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    match request.get("compatibility").and_then(Value::as_str) {
        Some(
            level @ ("NONE"
            | "BACKWARD"
            | "BACKWARD_TRANSITIVE"
            | "FORWARD"
            | "FORWARD_TRANSITIVE"
            | "FULL"
            | "FULL_TRANSITIVE"),
        ) => Ok(level.to_owned()),
        _ => Err(Fault(
            StatusCode::UNPROCESSABLE_ENTITY,
            42203,
            "Invalid compatibility level".to_owned(),
        )),
    }
}

fn parse(text: &str) -> Result<Schema, Fault> {
    Schema::parse_str(text).map_err(|error| invalid(&error.to_string()))
}

/// Reads a schema's text as JSON. Two texts give equal values if they differ only in spaces and the
/// order of attributes.
fn canonical(text: &str) -> Result<Value, Fault> {
    serde_json::from_str(text).map_err(|error| invalid(&error.to_string()))
}

impl Store {
    fn new(level: &str) -> Self {
        Store {
            schemas: Vec::new(),
            subjects: BTreeMap::new(),
            level: level.to_owned(),
            levels: BTreeMap::new(),
        }
    }

    fn ids(&self, subject: &str) -> Result<&[usize], Fault> {
        self.subjects.get(subject).map(Vec::as_slice).ok_or_else(|| subject_unknown(subject))
    }

    fn lookup(&self, subject: &str, text: &str) -> Result<Value, Fault> {
        let ids = self.ids(subject)?;
        let wanted = canonical(text)?;
        for (at, id) in ids.iter().enumerate() {
            let known = self.text(*id)?;
            if canonical(known)? == wanted {
                return Ok(
                    json!({ "subject": subject, "version": at + 1, "id": id, "schema": known }),
                );
            }
        }
        Err(schema_unknown())
    }

    fn version(&self, subject: &str, version: &str) -> Result<Value, Fault> {
        let ids = self.ids(subject)?;
        let number = if version == "latest" { ids.len() } else { version.parse().unwrap_or(0) };
        let id = number.checked_sub(1).and_then(|at| ids.get(at));
        let id = id.ok_or_else(|| {
            Fault(StatusCode::NOT_FOUND, 40402, format!("Version {version} not found."))
        })?;
        Ok(json!({ "subject": subject, "version": number, "id": id, "schema": self.text(*id)? }))
    }

    fn text(&self, id: usize) -> Result<&String, Fault> {
        id.checked_sub(1).and_then(|at| self.schemas.get(at)).ok_or_else(schema_unknown)
    }

    fn register(&mut self, subject: &str, text: String) -> Result<usize, Fault> {
        let schema = parse(&text)?;
        let wanted = canonical(&text)?;
        let mut id = None;
        for (at, known) in self.schemas.iter().enumerate() {
            if canonical(known)? == wanted {
                id = Some(at + 1);
            }
        }
        if let (Some(id), Some(ids)) = (id, self.subjects.get(subject))
            && ids.contains(&id)
        {
            return Ok(id);
        }
        if let Some(reason) = self.incompatibility(subject, &schema)? {
            let message = format!(
                "Schema being registered is incompatible with an earlier schema for subject \
                 \"{subject}\", details: [{{errorType:'INCOMPATIBLE', description:'{reason}'}}]"
            );
            return Err(Fault(StatusCode::CONFLICT, 409, message));
        }
        let id = id.unwrap_or_else(|| {
            self.schemas.push(text);
            self.schemas.len()
        });
        self.subjects.entry(subject.to_owned()).or_default().push(id);
        Ok(id)
    }

    /// Says why a schema is incompatible with the earlier schemas of a subject, under the subject's
    /// level. `None` if it is compatible.
    fn incompatibility(&self, subject: &str, schema: &Schema) -> Result<Option<String>, Fault> {
        let level = self.levels.get(subject).unwrap_or(&self.level);
        let ids = self.subjects.get(subject).map_or(&[][..], Vec::as_slice);
        let earlier = if level.ends_with("_TRANSITIVE") {
            ids
        } else {
            ids.last().map_or(&[][..], std::slice::from_ref)
        };
        for id in earlier {
            let old = parse(self.text(*id)?)?;
            let backward = !level.starts_with("NONE") && !level.starts_with("FORWARD");
            let forward = level.starts_with("FORWARD") || level.starts_with("FULL");
            let verdict = match (backward, forward) {
                (true, true) => SchemaCompatibility::mutual_read(&old, schema),
                (true, false) => SchemaCompatibility::can_read(&old, schema),
                (false, true) => SchemaCompatibility::can_read(schema, &old),
                (false, false) => return Ok(None),
            };
            if let Err(error) = verdict {
                return Ok(Some(reason_of(&error)));
            }
        }
        Ok(None)
    }
}

/// Returns the text of an error with its causes. The innermost cause names the field.
fn reason_of(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        reason = format!("{reason}: {inner}");
        cause = inner.source();
    }
    reason
}
