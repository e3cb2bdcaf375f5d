//! Imports `predicates`: each limits the transform that names it.

use super::Input;
use super::source::Given;
use super::target::Target;

/// The predicates: the short name of the Java class, our key, and the option that holds the value
/// of our key. The option is empty for a predicate without a value.
const PREDICATES: &[(&str, &str, &str)] = &[
    ("TopicNameMatches", "when_topic", "pattern"),
    ("HasHeaderKey", "when_header", "name"),
    ("RecordIsTombstone", "when_tombstone", ""),
];
const PREDICATE_PACKAGE: &str = "org.apache.kafka.connect.transforms.predicates.";

/// Does nothing, because the transform that names a predicate reads it.
pub(super) fn predicates(_: Input<'_>, _: &Given, _: &mut Target) {}

/// Imports the predicate of a transform, if it names one. `has_regex` is true if the transform also
/// has `topic.regex`. Then the predicate is refused.
pub(super) fn of_transform(
    input: Input<'_>,
    transform: &str,
    (section, has_regex): (&str, bool),
    target: &mut Target,
) {
    let by = format!("{transform}.predicate");
    let Some(alias) = input.value(&by) else { return };
    if has_regex {
        let what = "limits the transform as topic.regex does, and one of the two is heeded here; \
                    write one expression for both";
        return target.refuse(&by, what);
    }
    let negate = input.is(&format!("{transform}.negate"), "true");
    predicate(input, alias.trim(), (section, negate), target);
}

fn predicate(input: Input<'_>, alias: &str, (section, negate): (&str, bool), target: &mut Target) {
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
