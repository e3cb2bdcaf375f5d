//! The schema registry's client: from a schema's text to its id, and what a refusal says.
//!
//! This is the only part of `encode` that does IO. The client knows subjects, schema texts and ids,
//! but no events, plans or caches. A call asks each URL at most once, or twice with the new output
//! of a credentials command. The caller decides when to call again, because it keeps a connection
//! to Postgres alive meanwhile. The variant of an error says what is needed: `Unavailable` needs
//! another call later, `Refused` a person for this subject, and `Denied` other credentials or
//! rights. `Broken` says that something answers that is not a registry, or not as a registry does.
//!
//! HTTP is `reqwest`'s. `schema_registry_converter` has a REST layer too. The demo's consumer
//! fetches schemas by this layer. But the errors of the layer are sentences without status, error
//! code and the registry's message. These three are needed here. After a refusal (409) or a missing
//! right (401) at one URL, the layer asks the next URL. The layer treats only 502 and 503 as
//! passing. In a subject, the layer escapes only `/`.
//!
//! No log line and no error holds a secret. Credentials are read from their source at each call,
//! and only the output of a command is kept for a time. User names and passwords are cut out of
//! URLs at the start.

mod answer;
mod credentials;
mod identity;
pub mod rule;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, Url};
use serde::Deserialize;

use crate::secret::Source;
pub use answer::RegistryError;
use answer::{Answer, read_answer};
use credentials::{Credentials, Login, identity, parse_url};
pub use identity::SchemaDigest;

/// The media type that every registry accepts.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// The longest time for making a connection to one URL. After this time the next URL is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time for which the output of a command is used before the command runs again,
/// whatever lifetime the output states.
const PRINTED_TIME_MAX: Duration = Duration::from_secs(3600);

/// The characters that are percent-encoded in a path segment: all but RFC 3986's unreserved ones.
/// So every subject is one segment, whatever characters it has.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How to reach the registry. The room `config` builds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// One or more URLs of the same registry. If one does not answer, the next one is tried. User
    /// and password of the first URL that has them count as `Auth::Basic` for every URL, unless
    /// `auth` has credentials.
    pub urls: Vec<String>,
    /// The credentials of every call. They are used in place of those in a URL, unless they are
    /// `Auth::None`.
    pub auth: Auth,
    /// The path of a PEM file with the certificate authorities that replace those of the system.
    /// The file is read when the client is made.
    pub ca_file: Option<PathBuf>,
    /// The paths of our own certificate chain and of its key, both PEM, if the registry asks for a
    /// certificate. Both are read when the client is made.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The passphrase of the client certificate's key, if the key is encrypted.
    pub key_password: Option<Source>,
    /// How long one request to one URL may take, connecting included.
    pub timeout: Duration,
    /// Whether unknown schemas are registered. Otherwise schemas are only looked up, and a missing
    /// schema is a refusal.
    pub register: bool,
}

impl Config {
    /// Makes a configuration with one URL, no credentials and a time limit of 15 s for a request.
    /// Unknown schemas are registered.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Config {
            urls: vec![url.into()],
            auth: Auth::None,
            ca_file: None,
            client_certificate: None,
            key_password: None,
            timeout: Duration::from_secs(15),
            register: true,
        }
    }
}

/// The credentials for the registry. A secret is read from its source at each call, so a rotated
/// file is picked up. Only the output of a command is kept for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// There are no credentials, except for those in a URL, which count as `Basic`.
    None,
    /// User and password. With Confluent Cloud they are an API key and its secret.
    Basic {
        /// The user id of HTTP Basic authentication (RFC 7617).
        user: String,
        /// The source of the password.
        password: Source,
    },
    /// An OAuth bearer token (RFC 6750).
    Bearer {
        /// The source of the token.
        token: Source,
    },
}

/// The registry's answer to the question whether it would accept a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compatibility {
    /// True if the schema is compatible with the subject's latest version, or the subject is new.
    pub compatible: bool,
    /// The registry's reasons, if it gives any.
    pub messages: Vec<String>,
    /// The field that the reasons name, if any, as a path of field names.
    pub field: Option<String>,
}

/// The client of one registry. Several tasks can use it, and it keeps connections between calls.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    /// The URLs without user and password.
    urls: Vec<Url>,
    /// Index of the URL that answered last. The next call begins there.
    current: AtomicUsize,
    credentials: Credentials,
    register: bool,
}

/// One request, which can be sent to each of the URLs.
struct Call<'a> {
    method: Method,
    /// The path after the registry's URL, in percent-encoded segments, and the query.
    path: String,
    subject: &'a str,
    body: Option<String>,
}

#[derive(Deserialize)]
struct WithId {
    id: i64,
}

#[derive(Deserialize)]
struct WithVerdict {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

#[derive(Deserialize)]
struct WithLevel {
    #[serde(rename = "compatibilityLevel")]
    level: String,
}

#[derive(Deserialize)]
struct WithSchema {
    schema: String,
}

impl Registry {
    /// Makes the client, without a connection.
    ///
    /// # Errors
    /// `Setup` for a text that is not a URL, for a CA file that cannot be read or holds no
    /// certificate, and for a client certificate that cannot be used.
    pub fn new(config: &Config) -> Result<Self, RegistryError> {
        let mut auth = config.auth.clone();
        let mut urls = Vec::with_capacity(config.urls.len());
        for text in &config.urls {
            let (url, user) = parse_url(text)?;
            if let (Auth::None, Some(user)) = (&auth, user) {
                auth = user;
            }
            urls.push(url);
        }
        if urls.is_empty() {
            return Err(RegistryError::Setup { detail: "no URL is given".to_owned() });
        }
        let mut builder = Client::builder()
            .user_agent(concat!("wellspring/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(config.timeout);
        if let Some(path) = &config.ca_file {
            let unusable = |detail: String| RegistryError::Setup {
                detail: format!("CA file `{}`: {detail}", path.display()),
            };
            let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|_| unusable("not PEM certificates".to_owned()))?;
            if certificates.is_empty() {
                return Err(unusable("holds no certificate".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let Some((certificate, key)) = &config.client_certificate {
            builder = builder.identity(identity(certificate, key, config.key_password.as_ref())?);
        }
        let client = builder.build().map_err(|error| RegistryError::Setup {
            detail: format!("the HTTP client: {}", error.without_url()),
        })?;
        let credentials = Credentials::of(&auth);
        Ok(Registry {
            client,
            urls,
            current: AtomicUsize::new(0),
            credentials,
            register: config.register,
        })
    }

    /// Returns the first URL of this registry, without credentials, so that it may be shown.
    #[must_use]
    pub fn url(&self) -> &str {
        self.urls.first().map_or("", Url::as_str)
    }

    /// Returns every URL of this registry, without credentials, so that they may be shown.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.urls.iter().map(Url::as_str)
    }

    /// Returns the id of a schema under a subject. The schema is registered if registration is on,
    /// and otherwise looked up.
    ///
    /// # Errors
    /// `Refused` if the registry refuses the schema, or if the schema is unknown and registration
    /// is off. See [`RegistryError`] for the others.
    pub async fn id_of(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        if self.register {
            return self.register(subject, schema).await;
        }
        match self.lookup(subject, schema).await? {
            Some(id) => Ok(id),
            None => Err(RegistryError::Refused {
                subject: subject.to_owned(),
                status: 404,
                error_code: 40403,
                message: "the schema is not registered, and registration is off".to_owned(),
                field: None,
            }),
        }
    }

    /// Registers a schema under a subject, and returns its id. A schema that is registered already
    /// keeps its id.
    ///
    /// # Errors
    /// See [`Registry::id_of`].
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let call = Call {
            method: Method::POST,
            path: format!("subjects/{}/versions", segment(subject)),
            subject,
            body: Some(body_of(schema)),
        };
        let answer: WithId = self.ask(call).await?.or_refused(subject, schema)?;
        id_in_range(answer.id)
    }

    /// Looks up the id of exactly this schema under the subject. `None` if the subject or the
    /// schema is unknown. Changes nothing.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn lookup(&self, subject: &str, schema: &str) -> Result<Option<u32>, RegistryError> {
        let call = Call {
            method: Method::POST,
            path: format!("subjects/{}", segment(subject)),
            subject,
            body: Some(body_of(schema)),
        };
        let answer = self.ask(call).await?;
        if answer.is_not_found() {
            return Ok(None);
        }
        let found: WithId = answer.or_refused(subject, schema)?;
        id_in_range(found.id).map(Some)
    }

    /// Asks whether the registry would accept a schema. Changes nothing.
    ///
    /// # Errors
    /// See [`RegistryError`]. A text that is not a schema is `Refused`.
    pub async fn check(&self, subject: &str, schema: &str) -> Result<Compatibility, RegistryError> {
        let call = Call {
            method: Method::POST,
            path: format!(
                "compatibility/subjects/{}/versions/latest?verbose=true",
                segment(subject)
            ),
            subject,
            body: Some(body_of(schema)),
        };
        let answer = self.ask(call).await?;
        if answer.is_not_found() {
            return Ok(Compatibility { compatible: true, messages: Vec::new(), field: None });
        }
        let verdict: WithVerdict = answer.or_refused(subject, schema)?;
        let field =
            verdict.messages.iter().find_map(|message| answer::field_named_in(message, schema));
        Ok(Compatibility { compatible: verdict.is_compatible, messages: verdict.messages, field })
    }

    /// Fetches the compatibility level that applies to a subject: its own, or the global one.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn level(&self, subject: &str) -> Result<String, RegistryError> {
        let call = Call {
            method: Method::GET,
            path: format!("config/{}?defaultToGlobal=true", segment(subject)),
            subject,
            body: None,
        };
        let answer: WithLevel = self.ask(call).await?.or_refused(subject, "")?;
        Ok(answer.level)
    }

    /// Fetches the text of the schema with this id. `None` if there is no such schema.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn schema(&self, id: u32) -> Result<Option<String>, RegistryError> {
        let call = Call {
            method: Method::GET,
            path: format!("schemas/ids/{id}"),
            subject: "",
            body: None,
        };
        let answer = self.ask(call).await?;
        if answer.is_not_found() {
            return Ok(None);
        }
        let found: WithSchema = answer.or_refused("", "")?;
        Ok(Some(found.schema))
    }

    /// Checks that the registry answers and accepts our credentials.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn probe(&self) -> Result<(), RegistryError> {
        let call = Call { method: Method::GET, path: "config".to_owned(), subject: "", body: None };
        let _: WithLevel = self.ask(call).await?.or_refused("", "")?;
        Ok(())
    }

    /// Asks one URL after the other until one answers. A refusal is an answer, too. After a refusal
    /// no other URL is asked.
    ///
    /// If the registry denies access with the output of a command, the command runs once more, and
    /// the call is repeated.
    async fn ask(&self, call: Call<'_>) -> Result<Answer, RegistryError> {
        match self.ask_as(&call).await {
            Err(RegistryError::Denied { .. }) if self.credentials.forget().await => {
                self.ask_as(&call).await
            }
            other => other,
        }
    }

    async fn ask_as(&self, call: &Call<'_>) -> Result<Answer, RegistryError> {
        let sent = self.credentials.read().await?;
        let first = self.current.load(Ordering::Relaxed);
        let mut last = None;
        for at in (first..first + self.urls.len()).map(|at| at % self.urls.len()) {
            let Some(url) = self.urls.get(at) else { break };
            match self.ask_one(url, call, &sent).await {
                Err(unavailable @ RegistryError::Unavailable { .. }) => last = Some(unavailable),
                other => {
                    self.current.store(at, Ordering::Relaxed);
                    return other;
                }
            }
        }
        Err(last.unwrap_or(RegistryError::Setup { detail: "no URL is given".to_owned() }))
    }

    async fn ask_one(
        &self,
        url: &Url,
        call: &Call<'_>,
        sent: &Login,
    ) -> Result<Answer, RegistryError> {
        let full = format!("{}/{}", url.as_str().trim_end_matches('/'), call.path);
        let mut request =
            self.client.request(call.method.clone(), full).header("accept", MEDIA_TYPE);
        if let Some(body) = &call.body {
            request = request.header("content-type", MEDIA_TYPE).body(body.clone());
        }
        let response =
            sent.put_on(request).send().await.map_err(|error| RegistryError::Unavailable {
                url: url.to_string(),
                status: None,
                retry_after: None,
                detail: "no answer".to_owned(),
                source: Some(Box::new(error.without_url())),
            })?;
        read_answer(url, call.subject, response).await
    }
}

fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Makes the body of a request with a schema. The body names no type, because registries then
/// assume Avro.
fn body_of(schema: &str) -> String {
    serde_json::json!({ "schema": schema }).to_string()
}

fn id_in_range(id: i64) -> Result<u32, RegistryError> {
    // The id has four bytes in every record, which Java reads as a signed number.
    u32::try_from(id).ok().filter(|id| i32::try_from(*id).is_ok()).ok_or_else(|| {
        RegistryError::Broken { status: 200, detail: format!("schema id {id} is out of range") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn user_and_password_leave_the_url_before_anything_can_print_it() {
        let config = Config::new("http://me:hun%2Fter2@registry.example:8081/base?x=1");
        let registry = Registry::new(&config).unwrap();
        assert_eq!(registry.url(), "http://registry.example:8081/base");
        assert!(!format!("{registry:?}").contains("hun"));
        let Ok(Login::Basic(user, password)) = registry.credentials.read().await else {
            panic!("no credentials")
        };
        assert_eq!((user.as_str(), password.reveal()), ("me", "hun/ter2"));
    }

    #[test]
    fn a_url_that_is_none_is_a_fault_that_does_not_repeat_it() {
        for text in ["me:hunter2@registry:8081", "ftp://me:hunter2@registry", "://hunter2", ""] {
            let error = Registry::new(&Config::new(text)).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn subjects_are_one_path_segment_whatever_is_in_them() {
        assert_eq!(segment("shop.public.orders-value"), "shop.public.orders-value");
        assert_eq!(segment("a b/c#d%e?f\"ü"), "a%20b%2Fc%23d%25e%3Ff%22%C3%BC");
    }

    #[test]
    fn ids_are_what_fits_the_four_bytes_of_a_record() {
        assert_eq!(id_in_range(1).unwrap(), 1);
        assert!(id_in_range(-1).is_err());
        assert!(id_in_range(1 << 31).is_err());
    }
}
