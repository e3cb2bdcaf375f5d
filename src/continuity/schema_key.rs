//! Keys of the state records that hold schema ids. This file is pure.
//!
//! A key is `<subject>/<SHA-256 of the text>/<URL of the registry>`, because an id belongs to the
//! registry that assigned it. Earlier versions wrote no URL. A registry can have several URLs, and
//! an id is recorded under the first one.

use super::checkpoint::State;
use crate::encode::AvroSchema;
use std::collections::BTreeMap;

/// Subject and fingerprint of a schema: the part of the key before the registry's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaKey(String);

/// A schema id from the state, and whether the configured registry assigned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedId {
    /// Id that a registry assigned to the schema.
    pub id: u32,
    /// True if one of the configured registry's URLs is in the key. Also true for a record of an
    /// earlier version, which knew only one registry.
    pub is_same_registry: bool,
}

impl SchemaKey {
    /// The key of a schema, from its subject and text.
    #[must_use]
    pub fn of(schema: &AvroSchema) -> Self {
        let digest = openssl::sha::sha256(schema.text.as_bytes());
        let fingerprint: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        SchemaKey(format!("{}/{fingerprint}", schema.subject))
    }

    /// The full key for the registry at `url`.
    #[must_use]
    pub fn at(&self, url: &str) -> String {
        format!("{}/{url}", self.0)
    }

    /// The key that earlier versions wrote, without a URL.
    #[must_use]
    pub fn bare(&self) -> &str {
        &self.0
    }

    /// Finds the recorded id of this schema. An entry with one of these URLs comes first, then an
    /// entry of an earlier version, which has no URL, then an entry with any other URL.
    #[must_use]
    pub fn find<'a>(
        &self,
        schemas: &BTreeMap<String, u32>,
        mut urls: impl Iterator<Item = &'a str>,
    ) -> Option<RecordedId> {
        let ours = urls.find_map(|url| schemas.get(&self.at(url)));
        if let Some(&id) = ours.or_else(|| schemas.get(&self.0)) {
            return Some(RecordedId { id, is_same_registry: true });
        }
        let prefix = self.at("");
        let (_, &id) =
            schemas.range(prefix.clone()..).next().filter(|(key, _)| key.starts_with(&prefix))?;
        Some(RecordedId { id, is_same_registry: false })
    }
}

impl State {
    /// The key in the state topic for a key of [`State::schemas`].
    #[must_use]
    pub fn schema_key(key: &str) -> String {
        format!("schema/{key}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_the_registry_that_gave_it() {
        let schema = |text: &str| AvroSchema { subject: "t-key".to_owned(), text: text.to_owned() };
        let key = SchemaKey::of(&schema("a"));
        let find = |schemas: &[(String, u32)], urls: &[&str]| {
            let found = key.find(&schemas.iter().cloned().collect(), urls.iter().copied());
            found.map(|recorded| (recorded.id, recorded.is_same_registry))
        };
        let (ours, others) = ((key.at("http://a/"), 1), (key.at("http://b/"), 2));
        let (earlier, another) =
            ((key.bare().to_owned(), 3), (SchemaKey::of(&schema("b")).at("http://a/"), 4));
        let all = [ours, others.clone(), earlier.clone(), another.clone()];
        assert_eq!(find(&all, &["http://a/"]), Some((1, true)));
        assert_eq!(find(&all, &["http://c/", "http://b/"]), Some((2, true)));
        assert_eq!(find(&all, &["http://c/"]), Some((3, true)));
        assert_eq!(find(&[others, another.clone()], &["http://c/"]), Some((2, false)));
        assert_eq!(find(&[another], &["http://a/"]), None);
    }
}
