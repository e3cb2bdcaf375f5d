//! Imports the masks of columns: truncated, starred and hashed values.

use super::Input;
use super::capture::patterns;
use super::source::Given;
use super::table::shown;
use super::target::Target;

/// Adds a mask section under the next free name of its kind, such as `masks.hash_2`.
fn mask(target: &mut Target, given: &Given, kind: &str, settings: &[(&str, String)]) {
    let name = (1..)
        .map(|number| format!("masks.{kind}_{number}"))
        .find(|name| !target.has(name, "columns"));
    let Some(section) = name else { return };
    target.list(&section, "columns", &patterns(&given.value), "");
    for (key, value) in settings {
        target.raw(&section, key, value.clone(), "");
    }
    target.text(
        &section,
        "other_types",
        "pass",
        "as Debezium: columns of other types are not masked",
    );
}

/// Returns the number in a property's name between `before` and `after`. `None` if there is no
/// number, and the property is refused then.
fn number<'g>(given: &'g Given, before: &str, after: &str, target: &mut Target) -> Option<&'g str> {
    let number = given.name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    let number = number.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if number.is_none() {
        target.refuse(&given.written, "has no number in its name");
    }
    number
}

pub(super) fn truncate(_: Input<'_>, given: &Given, target: &mut Target) {
    let Some(units) = number(given, "column.truncate.to.", ".chars", target).map(str::to_owned)
    else {
        return;
    };
    mask(target, given, "truncate", &[("method", "\"truncate\"".to_owned()), ("length", units)]);
}

pub(super) fn stars(_: Input<'_>, given: &Given, target: &mut Target) {
    let Some(count) = number(given, "column.mask.with.", ".chars", target).map(str::to_owned)
    else {
        return;
    };
    mask(target, given, "stars", &[("method", "\"stars\"".to_owned()), ("length", count)]);
}

pub(super) fn hash(_: Input<'_>, given: &Given, target: &mut Target) {
    let rest = given.name.strip_prefix("column.mask.hash.").unwrap_or_default();
    let (method, rest) = rest.strip_prefix("v2.").map_or(("hash-v1", rest), |rest| ("hash", rest));
    let Some((algorithm, salt)) = rest.split_once(".with.salt.") else { return };
    let algorithm = match algorithm.to_ascii_uppercase().as_str() {
        "SHA" | "SHA1" => "SHA-1".to_owned(),
        known => known.to_owned(),
    };
    let variable = format!("WELLSPRING_MASK_SALT_{}", target.hidden.len() + 1);
    let reference = target.hide(&variable, &shown(&given.written), salt);
    let settings = [
        ("method", format!("\"{method}\"")),
        ("algorithm", super::super::document::toml_text(&algorithm)),
        ("salt", super::super::document::toml_text(&reference)),
    ];
    mask(target, given, "hash", &settings);
}
