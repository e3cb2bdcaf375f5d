//! Imports `predicates`: each becomes a condition of the transform that names it.

use super::Input;
use super::target::Target;

/// The options of a predicate by its Java class: our key, and the option that holds its value.
const PREDICATES: &[(&str, &str, &str)] = &[
    ("TopicNameMatches", "when_topic", "pattern"),
    ("HasHeaderKey", "when_header", "name"),
    ("RecordIsTombstone", "when_tombstone", ""),
];
const PREDICATE_PACKAGE: &str = "org.apache.kafka.connect.transforms.predicates.";

/// Writes the condition into a section of the transform.
pub(super) fn predicate(
    input: Input<'_>,
    alias: &str,
    (section, negate): (&str, bool),
    target: &mut Target,
) {
    let name = format!("predicates.{alias}");
    let java = input.or(&format!("{name}.type"), "");
    let short = java.strip_prefix(PREDICATE_PACKAGE).unwrap_or("");
    let Some((_, key, option)) = PREDICATES.iter().find(|(class, ..)| *class == short) else {
        return target.refuse(&format!("{name}.type"), "names no predicate that has a counterpart");
    };
    match *option {
        "" => target.flag(section, key, true, ""),
        option => target.text(section, key, input.or(&format!("{name}.{option}"), ""), ""),
    }
    if negate {
        target.flag(section, "negate", true, "");
    }
}
