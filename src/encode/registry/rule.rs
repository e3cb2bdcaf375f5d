//! Finds the rule of a compatibility level that a new schema breaks, and the field.
//!
//! A registry that refuses a schema often says no more than that it is incompatible. The schemas
//! are compared again here, by Avro's rules for reading.

use super::{Call, Registry, RegistryError, WithSchema, segment};
use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use reqwest::Method;
use std::error::Error;

impl Registry {
    /// Fetches the text of the newest schema of a subject. `None` if the registry does not know the
    /// subject.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn latest(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        let path = format!("subjects/{}/versions/latest", segment(subject));
        let call = Call { method: Method::GET, path, subject, body: None };
        let answer = self.ask(call).await?;
        if answer.is_not_found() {
            return Ok(None);
        }
        let found: WithSchema = answer.or_refused(subject, "")?;
        Ok(Some(found.schema))
    }
}

/// Says in words which rule of the level `new` breaks after `latest`, and at which field. `None` if
/// `new` breaks no rule of the level after `latest`, or if a text is no Avro schema. The cause of a
/// refusal is then an earlier version, or a rule of the registry's own.
#[must_use]
pub fn broken_rule(level: &str, latest: &str, new: &str) -> Option<String> {
    let (old, new) = (Schema::parse_str(latest).ok()?, Schema::parse_str(new).ok()?);
    let backward = level.starts_with("BACKWARD") || level.starts_with("FULL");
    let forward = level.starts_with("FORWARD") || level.starts_with("FULL");
    let rule = |is_held: bool, writer, reader, words: &str| {
        let fault = SchemaCompatibility::can_read(writer, reader).err().filter(|_| is_held)?;
        Some(format!("{level} wants that {words}: {}", innermost(&fault)))
    };
    rule(backward, &old, &new, "readers with the new schema read records of the registered one")
        .or_else(|| {
            let words = "readers with the registered schema read records of the new one";
            rule(forward, &new, &old, words)
        })
}

/// The most characters of the text that says which field is incompatible. The Avro library prints
/// both schemas if their types differ.
const RULE_CHARS_MAX: usize = 1000;

/// Joins the texts of an error and of its causes, which name the fields down to the incompatible
/// one. A text of more than [`RULE_CHARS_MAX`] characters is cut.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    let text =
        text.replace("Incompatible schemata! ", "").replace("Incompatible schema types! ", "");
    if text.chars().nth(RULE_CHARS_MAX).is_none() {
        return text;
    }
    text.chars().take(RULE_CHARS_MAX).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"r","fields":[{{"name":"id","type":"int"}}{fields}]}}"#)
    }

    #[test]
    fn a_field_without_default_breaks_what_reads_old_records() {
        let (old, new) = (schema(""), schema(r#",{"name":"email","type":"string"}"#));
        let told = broken_rule("BACKWARD", &old, &new).unwrap();
        assert!(told.starts_with("BACKWARD wants") && told.contains("'email'"), "{told}");
        assert!(told.contains("must have a default value"), "{told}");
        assert_eq!(broken_rule("FORWARD", &old, &new), None, "old readers leave the field out");
        assert!(broken_rule("FORWARD_TRANSITIVE", &new, &old).unwrap().contains("'email'"));
        assert!(
            broken_rule("FULL", &old, &new).is_some() && broken_rule("FULL", &new, &old).is_some()
        );
        assert_eq!(broken_rule("NONE", &old, &new), None);
    }

    #[test]
    fn a_changed_type_names_its_field() {
        let field = |kind: &str| schema(&format!(r#",{{"name":"total","type":"{kind}"}}"#));
        let told = broken_rule("BACKWARD", &field("string"), &field("int")).unwrap();
        assert!(told.contains("'total'"), "{told}");
        assert_eq!(broken_rule("BACKWARD", "not a schema", &field("int")), None);
    }
}
