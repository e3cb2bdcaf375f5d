//! The transforms among `[[transform]]` that convert values: `cast` and `timestamp-converter`.

use super::transforms::{At, fields};
use super::value;
use crate::transform::Transform;
use crate::transform::convert::{Target, TimeTarget, TimeUnit, Times};
use crate::transform::fields::{Casts, Edit};
use crate::transform::pattern::Pattern;

pub(super) fn cast(at: &mut At<'_, '_>) -> Option<Transform> {
    let edit = casts(at).map(Edit::Cast);
    fields(at, edit, true)
}

/// Reads the key `spec` of a `cast`: pairs of a field and its type, or one type for the whole key
/// or value. `None` if it is faulty.
fn casts(at: &mut At<'_, '_>) -> Option<Casts> {
    let spec = at.some_list("spec", "spec = [\"total:int64\"]")?;
    let target = |word: &str| {
        let found = Target::WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known));
        found.map(|(_, target)| *target)
    };
    if let [whole] = &*spec
        && let Some(target) = target(whole.trim())
    {
        return Some(Casts::Whole(target));
    }
    let mut targets = Vec::new();
    for text in spec {
        let pair = text.split_once(':').map(|(name, word)| (name.trim(), target(word.trim())));
        let Some((name, Some(target))) = pair.filter(|(name, _)| !name.is_empty()) else {
            let words: Vec<&str> = Target::WORDS.iter().map(|(word, _)| *word).collect();
            let what = format!(
                "`{text}` names no field and type; write \"field:type\", or one type for the \
                 whole; the types are {}",
                words.join(", ")
            );
            at.fault("spec", what);
            return None;
        };
        targets.push((name.to_owned(), target));
    }
    Some(Casts::Fields(targets))
}

pub(super) fn timestamp_converter(at: &mut At<'_, '_>) -> Option<Transform> {
    let edit = times(at);
    fields(at, edit, true)
}

fn times(at: &mut At<'_, '_>) -> Option<Edit> {
    let field = at.maybe("field");
    let key = at.key("target_type");
    let to = value::one_of(&TimeTarget::WORDS);
    let to = at.reader.required(&key, to, "target_type = \"Timestamp\"");
    let key = at.key("unix_precision");
    let unit = at.reader.or(&key, value::one_of(&TimeUnit::WORDS), "milliseconds");
    let pattern = pattern(at, "format");
    let (to, pattern) = (to?, pattern?);
    if to == TimeTarget::Text && pattern.is_none() {
        at.fault("format", "is missing; write how texts look, as \"yyyy-MM-dd'T'HH:mm:ss.SSS'Z'\"");
        return None;
    }
    let field = field?.filter(|field| !field.is_empty());
    Some(Edit::Times(field, Times { to, pattern, unit: unit? }))
}

/// Reads a pattern of dates and times. The outer option is `None` for a faulty pattern, the inner
/// one if none is given.
pub(super) fn pattern(at: &mut At<'_, '_>, key: &str) -> Option<Option<Pattern>> {
    let Some(text) = at.maybe(key)?.filter(|text| !text.trim().is_empty()) else {
        return Some(None);
    };
    match Pattern::read(&text) {
        Ok(pattern) => Some(Some(pattern)),
        Err(fault) => {
            at.fault(key, fault.to_string());
            None
        }
    }
}
