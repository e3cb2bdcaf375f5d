//! Sections and keys of a document that no section of the configuration reads, each with the known
//! name that was most likely meant.

use super::document::Document;
use super::value::nearest;
use std::collections::BTreeSet;

/// A section or key of a document that no section of the configuration has read.
pub(super) struct Foreign {
    pub path: String,
    pub what: String,
    /// The known section or key that was most likely meant.
    pub meant: Option<String>,
}

/// A document, and the names of keys and sections that the configuration knows.
pub(super) struct Names<'a> {
    pub document: &'a Document,
    /// The keys that were read.
    pub known: &'a BTreeSet<String>,
    /// Sections in which the operator chooses the names of the keys.
    pub maps: &'a [&'static str],
    /// Keys without a default that are not given.
    pub missing: &'a BTreeSet<String>,
}

impl Names<'_> {
    /// Finds the sections and keys that are not known. An unknown section is reported once,
    /// whatever it contains.
    pub fn foreign(&self) -> Vec<Foreign> {
        let sections = self.sections();
        let mut foreign: Vec<Foreign> = Vec::new();
        for path in self.document.tables.keys() {
            let is_known = sections.contains(path.as_str()) || self.known.contains(path);
            let in_map = self.maps.iter().any(|map| is_inside(path, map));
            if !is_known && !in_map && !foreign.iter().any(|outer| is_inside(path, &outer.path)) {
                let meant = nearest(path, sections.iter().copied());
                let hint = meant
                    .map_or_else(|| format!("the sections are {}", names(&sections)), did_you_mean);
                let (what, meant) = (format!("unknown section; {hint}"), meant.map(str::to_owned));
                foreign.push(Foreign { path: path.clone(), what, meant });
            }
        }
        let foreign_tables = foreign.len();
        for key in self.document.settings.keys().filter(|key| !self.known.contains(*key)) {
            if foreign[..foreign_tables].iter().any(|outer| is_inside(key, &outer.path)) {
                continue;
            }
            let (what, meant) = if sections.contains(key.as_str()) {
                (format!("is a section: write [{key}] and its keys below"), None)
            } else {
                self.unknown_key(key)
            };
            foreign.push(Foreign { path: key.clone(), what, meant });
        }
        foreign
    }

    /// The known sections, derived from the known keys and maps.
    fn sections(&self) -> BTreeSet<&str> {
        let of_keys =
            self.known.iter().filter_map(|key| key.split_once('.').map(|(section, _)| section));
        let of_maps =
            self.maps.iter().copied().filter(|map| self.document.tables.contains_key(*map));
        of_keys.chain(of_maps).collect()
    }

    /// The fault of an unknown key, and the known key that was most likely meant. In this order: a
    /// missing key of this name, a similar name in the same section, the same name in another
    /// section, a similar path.
    fn unknown_key(&self, key: &str) -> (String, Option<String>) {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let named = |keys: &BTreeSet<String>| {
            let found =
                keys.iter().find(|key| key.rsplit_once('.').is_some_and(|(_, its)| its == name));
            found.cloned()
        };
        let in_section = self.known.iter().filter_map(|known| {
            let (its_section, its_name) = known.rsplit_once('.').unwrap_or(("", known));
            (its_section == section).then_some(its_name)
        });
        let missing = named(self.missing);
        if let (None, Some(near)) = (&missing, nearest(name, in_section)) {
            let what = format!("unknown key; {}", did_you_mean(near));
            let meant =
                if section.is_empty() { near.to_owned() } else { format!("{section}.{near}") };
            return (what, Some(meant));
        }
        let nearest = || nearest(key, self.known.iter().map(String::as_str)).map(str::to_owned);
        let meant = missing.or_else(|| named(self.known)).or_else(nearest);
        let hint =
            meant.as_deref().map_or_else(String::new, |near| format!("; {}", did_you_mean(near)));
        (format!("unknown key{hint}"), meant)
    }
}

/// True if `path` equals `outer` or lies below it.
fn is_inside(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

fn names(of: &BTreeSet<&str>) -> String {
    of.iter().copied().collect::<Vec<_>>().join(", ")
}
