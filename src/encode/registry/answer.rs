//! Finds out what a registry's answer means, and which field a refusal is about.
//!
//! Only `class_of` decides to which class an HTTP status belongs, and every status has a class.
//! Registries answer a refusal with `{"error_code": .., "message": ..}`. If the body of a refusal
//! has another form, its beginning is kept as the message.

use std::time::Duration;

use crate::secret::SourceError;
use reqwest::{Response, Url, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The longest answer that is read. A schema of some thousand columns fits, and a longer answer is
/// not that of a registry.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The most characters that are kept of a refusal's message, because registries repeat whole
/// schemas in messages.
const MESSAGE_CHARS_MAX: usize = 2_000;

/// Why a call to the registry did not return what was asked for.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum RegistryError {
    /// The registry refuses this schema, because it is incompatible or invalid, or because the
    /// subject is read-only. A person has to act.
    #[error(
        "register schema under subject `{subject}`: the registry refuses ({status}, code \
         {error_code}): {message}"
    )]
    Refused {
        subject: String,
        /// HTTP status: 409, 422, or 404 if registration is off.
        status: u16,
        /// The registry's own code, or 0 if it gave none.
        error_code: i64,
        /// The registry's own message, cut to 2,000 characters.
        message: String,
        /// The field that the message names, if any, as a path of field names (`after.email`).
        field: Option<String>,
    },
    /// The registry is unreachable, busy or failing. A later call can succeed.
    #[error(
        "reach the schema registry at {url}{}: {detail}",
        status.map_or_else(String::new, |s| format!(" ({s})"))
    )]
    Unavailable {
        /// The URL, without credentials.
        url: String,
        /// HTTP status, if there was one: 408, 425, 429 or 5xx.
        status: Option<u16>,
        /// The pause after which the registry wants the next call. `None` if it states none.
        retry_after: Option<Duration>,
        detail: String,
        /// The error of the HTTP client, without the URL. `None` if the registry's answer was
        /// whole.
        #[source]
        source: Option<Box<reqwest::Error>>,
    },
    /// Our credentials are missing, wrong, or lack the right.
    #[error("the schema registry at {url} denies access ({status}): {message}")]
    Denied {
        url: String,
        status: u16,
        /// The registry's own message.
        message: String,
    },
    /// Something answers that is not a registry, or that does not answer as a registry does.
    #[error("the schema registry's answer ({status}) cannot be used: {detail}")]
    Broken {
        status: u16,
        /// What is wrong with the answer.
        detail: String,
    },
    /// A secret cannot be read from its source. The next call may succeed.
    #[error("read the credentials for the schema registry")]
    Secret {
        /// The file or command, and why it failed.
        #[source]
        source: SourceError,
    },
    /// The client cannot be made from this configuration.
    #[error("set up the schema registry's client: {detail}")]
    Setup { detail: String },
}

/// An answer that is not an error of transport, access or availability. The answer may still be a
/// refusal.
pub(super) struct Answer {
    status: u16,
    body: Vec<u8>,
}

#[derive(Deserialize, Default)]
struct Fault {
    #[serde(default)]
    error_code: i64,
    #[serde(default)]
    message: String,
}

/// The class of an HTTP status.
#[derive(Debug, PartialEq, Eq)]
enum Class {
    Success,
    NotFound,
    Refused,
    Denied,
    Unavailable,
    Broken,
}

fn class_of(status: u16) -> Class {
    match status {
        200..=299 => Class::Success,
        401 | 403 => Class::Denied,
        404 => Class::NotFound,
        409 | 422 => Class::Refused,
        408 | 425 | 429 | 500..=599 => Class::Unavailable,
        _ => Class::Broken,
    }
}

/// Reads an answer within bounds. An answer that is too long, or that is no success, no refusal and
/// no 404, becomes a [`RegistryError`].
pub(super) async fn read_answer(
    url: &Url,
    subject: &str,
    mut response: Response,
) -> Result<Answer, RegistryError> {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_BYTES_MAX => {
                body.extend_from_slice(&chunk)
            }
            Ok(Some(_)) => {
                let detail = format!("longer than {ANSWER_BYTES_MAX} bytes");
                return Err(RegistryError::Broken { status, detail });
            }
            Ok(None) => break,
            Err(error) => {
                return Err(RegistryError::Unavailable {
                    url: url.to_string(),
                    status: Some(status),
                    retry_after,
                    detail: "the answer broke off".to_owned(),
                    source: Some(Box::new(error.without_url())),
                });
            }
        }
    }
    let answer = Answer { status, body };
    match class_of(status) {
        Class::Success | Class::NotFound | Class::Refused => Ok(answer),
        Class::Denied => Err(RegistryError::Denied {
            url: url.to_string(),
            status,
            message: answer.fault().message,
        }),
        Class::Unavailable => Err(RegistryError::Unavailable {
            url: url.to_string(),
            status: Some(status),
            retry_after,
            detail: answer.fault().message,
            source: None,
        }),
        Class::Broken => {
            let detail = format!("subject `{subject}`: {}", answer.fault().message);
            Err(RegistryError::Broken { status, detail })
        }
    }
}

impl Answer {
    /// True if subject, version or schema is unknown (codes 404xx). A 404 without such a code does
    /// not come from a registry.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == 404 && (40_400..40_500).contains(&self.fault().error_code)
    }

    /// Reads the value from the answer's JSON. Returns an error if the registry refuses `schema`
    /// under `subject`, and for every other answer without success.
    pub(super) fn or_refused<T: DeserializeOwned>(
        &self,
        subject: &str,
        schema: &str,
    ) -> Result<T, RegistryError> {
        match class_of(self.status) {
            Class::Success => {
                serde_json::from_slice(&self.body).map_err(|error| RegistryError::Broken {
                    status: self.status,
                    detail: format!("not the JSON expected: {error}"),
                })
            }
            Class::Refused => {
                let Fault { error_code, message } = self.fault();
                // The field is looked for in the whole body, because the message is cut short.
                let field = field_named_in(&String::from_utf8_lossy(&self.body), schema);
                Err(RegistryError::Refused {
                    subject: subject.to_owned(),
                    status: self.status,
                    error_code,
                    message,
                    field,
                })
            }
            Class::NotFound | Class::Denied | Class::Unavailable | Class::Broken => {
                Err(RegistryError::Broken { status: self.status, detail: self.fault().message })
            }
        }
    }

    fn fault(&self) -> Fault {
        let mut fault: Fault = serde_json::from_slice(&self.body).unwrap_or_else(|_| Fault {
            error_code: 0,
            message: String::from_utf8_lossy(
                self.body.get(..MESSAGE_CHARS_MAX).unwrap_or(&self.body),
            )
            .into_owned(),
        });
        if let Some((cut, _)) = fault.message.char_indices().nth(MESSAGE_CHARS_MAX) {
            fault.message.truncate(cut);
            fault.message.push('…');
        }
        fault
    }
}

impl super::Registry {
    /// Returns the URL at which an operator can set the compatibility level of a subject.
    #[must_use]
    pub fn level_url(&self, subject: &str) -> String {
        format!("{}/config/{}", self.url().trim_end_matches('/'), super::segment(subject))
    }
}

/// Finds the field that an incompatibility is about, as a path of field names in `schema`. `None`
/// if the message names no field.
///
/// Confluent's registry and Apicurio write a path into the schema
/// (`path '/fields/0/type/1/fields/3'`, `at /fields/3`). Other registries write only a name
/// (`field 'email'`).
pub(super) fn field_named_in(message: &str, schema: &str) -> Option<String> {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap_or(serde_json::Value::Null);
    let by_path = message
        .match_indices("/fields/")
        .find_map(|(at, _)| names_along(pointer_at(message, at), &schema));
    by_path
        .or_else(|| quoted_after(message, "field ").map(str::to_owned))
        .or_else(|| quoted_after(message, "Field ").map(str::to_owned))
}

/// Returns the whole JSON pointer around a place in a message.
fn pointer_at(message: &str, at: usize) -> &str {
    let outside = |c: char| !(c.is_ascii_alphanumeric() || c == '/');
    let (before, rest) = message.split_at_checked(at).unwrap_or(("", message));
    let start = before
        .rfind(outside)
        .map_or(0, |last| last + before[last..].chars().next().map_or(1, char::len_utf8));
    let end = rest.find(outside).map_or(message.len(), |first| at + first);
    message.get(start..end).unwrap_or("")
}

/// Finds the first text in quotes right after a word: 'x', "x" or \"x\".
fn quoted_after<'m>(message: &'m str, word: &str) -> Option<&'m str> {
    message.match_indices(word).find_map(|(at, _)| {
        let rest = message.get(at + word.len()..)?.trim_start_matches('\\');
        let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let inner = rest.get(1..)?;
        let end = inner.find(quote)?;
        inner.get(..end).map(|text| text.trim_end_matches('\\')).filter(|text| !text.is_empty())
    })
}

/// Follows a JSON pointer through an Avro schema, and collects the names of the fields on its way.
fn names_along(path: &str, schema: &serde_json::Value) -> Option<String> {
    let mut at = schema;
    let mut names: Vec<&str> = Vec::new();
    let mut steps = path.split('/').filter(|step| !step.is_empty());
    while let Some(step) = steps.next() {
        if let Some(name) = at.as_str() {
            at = find_type(schema, name)?; // a named type used again
        }
        at = match step.parse::<usize>() {
            Ok(index) => at.get(index)?,
            Err(_) => at.get(step)?,
        };
        if step == "fields" {
            at = at.get(steps.next()?.parse::<usize>().ok()?)?;
            names.push(at.get("name")?.as_str()?);
        }
    }
    (!names.is_empty()).then(|| names.join("."))
}

/// Finds the definition of a named type anywhere in the schema, by full or short name.
fn find_type<'s>(schema: &'s serde_json::Value, name: &str) -> Option<&'s serde_json::Value> {
    let short = name.rsplit('.').next().unwrap_or(name);
    match schema {
        serde_json::Value::Object(map) => {
            let named =
                map.get("name").and_then(|n| n.as_str()).is_some_and(|n| n == name || n == short);
            if named && map.contains_key("fields") {
                return Some(schema);
            }
            map.values().find_map(|inner| find_type(inner, name))
        }
        serde_json::Value::Array(list) => list.iter().find_map(|inner| find_type(inner, name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: &str = r#"{"type":"record","name":"Envelope","namespace":"shop.public.orders","fields":[
        {"name":"before","type":["null",{"type":"record","name":"Value","fields":[
            {"name":"id","type":"int"},{"name":"email","type":"string"}]}]},
        {"name":"after","type":["null","Value"]},
        {"name":"op","type":"string"}]}"#;

    #[test]
    fn every_status_has_its_class() {
        for (status, class) in [
            (200, Class::Success),
            (401, Class::Denied),
            (403, Class::Denied),
            (404, Class::NotFound),
            (409, Class::Refused),
            (422, Class::Refused),
            (408, Class::Unavailable),
            (425, Class::Unavailable),
            (429, Class::Unavailable),
            (500, Class::Unavailable),
            (502, Class::Unavailable),
            (504, Class::Unavailable),
            (301, Class::Broken),
            (400, Class::Broken),
            (405, Class::Broken),
        ] {
            assert_eq!(class_of(status), class, "{status}");
        }
    }

    #[test]
    fn names_the_field_that_confluents_path_points_to() {
        let message = "Schema being registered is incompatible with an earlier schema for subject \"s\", details: \
            [{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'email' at path \
            '/fields/0/type/1/fields/1' in the new schema has no default value and is missing in the old schema'";
        assert_eq!(field_named_in(message, ENVELOPE).as_deref(), Some("before.email"));
        let type_of = "description:'The type (path '/fields/0/type/1/fields/0/type') of a field in the new schema'";
        assert_eq!(field_named_in(type_of, ENVELOPE).as_deref(), Some("before.id"));
        let apicurio =
            "list of diff types: [READER_FIELD_MISSING_DEFAULT_VALUE at /fields/0/type/1/fields/1]";
        assert_eq!(field_named_in(apicurio, ENVELOPE).as_deref(), Some("before.email"));
        let used_again = "path '/fields/1/type/1/fields/1/type'";
        assert_eq!(field_named_in(used_again, ENVELOPE).as_deref(), Some("after.email"));
    }

    #[test]
    fn takes_the_name_where_there_is_no_path() {
        assert_eq!(
            field_named_in("Incompatible field 'email': no default", ENVELOPE).as_deref(),
            Some("email")
        );
        assert_eq!(
            field_named_in("the field \\\"email\\\" changed", ENVELOPE).as_deref(),
            Some("email")
        );
        assert_eq!(field_named_in("path '/fields/9/type'", ENVELOPE), None);
        assert_eq!(field_named_in("nothing of the kind", ENVELOPE), None);
        assert_eq!(field_named_in("field ''", "not a schema"), None);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let long = Answer {
            status: 409,
            body: format!("{{\"message\":\"{}\"}}", "ü".repeat(5_000)).into_bytes(),
        };
        assert_eq!(long.fault().message.chars().count(), MESSAGE_CHARS_MAX + 1);
    }
}
