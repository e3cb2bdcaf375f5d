//! The schema registry's client: from a schema's text to its id, and what a refusal says.
//!
//! The one part of `encode` that does IO. It knows subjects, schema texts and ids; it does not know
//! events, plans or caches, and it does not repeat a call: a caller that holds a connection to
//! Postgres alive decides when to ask again. What an error asks for is in its variant:
//! `Unavailable` again later, for ever; `Refused` a person, for this subject; `Denied` credentials;
//! `Broken` something that is not a registry.
//!
//! HTTP is `reqwest`'s. `schema_registry_converter` brings a REST layer too, and the demo's
//! consumer fetches schemas by it, but its errors are sentences: status, error code and the
//! registry's message, on which everything above rests, are lost; a refusal (409) or missing right
//! (401) at one URL sends it to the next; of what can pass it names only 502 and 503; and it
//! escapes no more of a subject than `/`.
//!
//! No secret leaves by a log line or an error: credentials are read from their source at each call,
//! and user names and passwords are cut out of URLs at the start.

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

/// The media type every registry speaks.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// How long a connection may take to be made; the next URL is tried after it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest that what a command printed is sent without running it again, whatever it says of
/// itself.
const PRINTED_TIME_MAX: Duration = Duration::from_secs(3600);

/// Everything but RFC 3986's unreserved characters: subjects hold spaces, `#`, `%`, `/` and quotes
/// where tables do.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How to reach the registry. Built by `config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// One or more URLs of the same registry, tried in turn while one does not answer. User and
    /// password in a URL are taken as `Auth::Basic` unless `auth` says otherwise.
    pub urls: Vec<String>,
    /// The credentials of every call, which go before those in a URL.
    pub auth: Auth,
    /// Names a PEM file with the certificate authorities that replace those of the system. The file
    /// is read when the client is made.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate chain and its key, both PEM, where the registry asks for one; read when
    /// the client is made.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The passphrase of the key, where it is encrypted.
    pub key_password: Option<Source>,
    /// How long one call may take, connecting included.
    pub timeout: Duration,
    /// Whether unknown schemas are registered; otherwise they are only looked up, and a missing one
    /// is a refusal.
    pub register: bool,
}

impl Config {
    /// One URL, no credentials, 15 s, schemas are registered.
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

/// Who we are to the registry. Secrets are read from their source at each call, so a rotated file
/// is picked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// No credentials but those in a URL, which are taken as `Basic`.
    None,
    /// User and password; with Confluent Cloud, key and secret.
    Basic {
        /// The user id of HTTP Basic authentication (RFC 7617).
        user: String,
        /// Where the password is.
        password: Source,
    },
    /// An OAuth bearer token (RFC 6750).
    Bearer {
        /// Where the token is kept; read again at each call.
        token: Source,
    },
}

/// Whether the registry would take a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compatibility {
    /// Its verdict, against the subject's latest version; a new subject is compatible.
    pub compatible: bool,
    /// Its reasons, where it gives any.
    pub messages: Vec<String>,
    /// The field the reasons name, as a path of field names, where they name one.
    pub field: Option<String>,
}

/// One registry. Cheap to use from several tasks; keeps connections between calls.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    /// Without user or password.
    urls: Vec<Url>,
    /// The URL that answered last; the next call begins there.
    current: AtomicUsize,
    credentials: Credentials,
    register: bool,
}

/// One request, as often as there are URLs.
struct Call<'a> {
    method: Method,
    /// Percent-encoded path segments, and the query.
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
    /// Makes the client; connects to nothing.
    ///
    /// # Errors
    /// `Setup` for a URL that is none, or a CA file that cannot be read or holds no certificate.
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

    /// The first URL, fit to be shown.
    #[must_use]
    pub fn url(&self) -> &str {
        self.urls.first().map_or("", Url::as_str)
    }

    /// Every URL, fit to be shown: they all lead to this registry.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.urls.iter().map(Url::as_str)
    }

    /// The id of a schema under a subject: registered if it is new and we may, else looked up.
    ///
    /// # Errors
    /// `Refused` where the registry does not take it, or where it is unknown and we may not
    /// register; the rest as in [`RegistryError`].
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

    /// Registers a schema; one that is there already keeps its id.
    ///
    /// # Errors
    /// As [`Registry::id_of`].
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

    /// The id of exactly this schema under the subject, or `None` where either is unknown. Changes
    /// nothing.
    ///
    /// # Errors
    /// As [`RegistryError`].
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

    /// Whether the registry would take a schema. Changes nothing.
    ///
    /// # Errors
    /// As [`RegistryError`]; a schema that is not one is `Refused`.
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

    /// The compatibility level that holds for a subject, its own or the global one.
    ///
    /// # Errors
    /// As [`RegistryError`].
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

    /// The text of a schema by its id, or `None` where there is none.
    ///
    /// # Errors
    /// As [`RegistryError`].
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

    /// Whether there is a registry, and it lets us in.
    ///
    /// # Errors
    /// As [`RegistryError`].
    pub async fn probe(&self) -> Result<(), RegistryError> {
        let call = Call { method: Method::GET, path: "config".to_owned(), subject: "", body: None };
        let _: WithLevel = self.ask(call).await?.or_refused("", "")?;
        Ok(())
    }

    /// Asks one URL after the other until one answers. An answer is an answer: a refusal is not
    /// asked elsewhere.
    ///
    /// Where it does not let us in with what a command printed, the command runs again, once.
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

/// Avro is what a registry takes a schema for that names no type.
fn body_of(schema: &str) -> String {
    serde_json::json!({ "schema": schema }).to_string()
}

fn id_in_range(id: i64) -> Result<u32, RegistryError> {
    // Four bytes of every record, read as a signed number by Java.
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
