//! Reads the transforms `filter` and `content-router`, whose keys are expressions over records.

use super::reader::Reader;
use super::transforms::{At, SECTION};
use super::value;
use crate::transform::content::ContentRouter;
use crate::transform::expression::Expression;
use crate::transform::fields::Edit;
use crate::transform::filter::{Filter, Nulls};
use crate::transform::{Condition, Link, Transform};

/// Reads `filter`, which has a condition or drops every record that it applies to.
pub(super) fn filter(at: &mut At<'_, '_>) -> Option<Transform> {
    let text = at.maybe("condition")?;
    let Some(text) = text else {
        if at.is_given("nulls") {
            at.fault("nulls", "belongs to `condition`");
            return None;
        }
        return Some(Transform::Filter);
    };
    let (condition, nulls) = (expression(at, "condition", &text), nulls(at));
    Some(Transform::FilterBy(Box::new(Filter { condition: condition?, nulls: nulls? })))
}

/// Reads `content-router`, whose expression names the topic of a row.
pub(super) fn content_router(at: &mut At<'_, '_>) -> Option<Transform> {
    let text = at.text("topic", "topic = \"op == 'd' ? 'deleted' : null\"");
    let topic = text.and_then(|text| expression(at, "topic", &text));
    let nulls = nulls(at);
    let key = at.key("topics_max");
    let topics_max = at.reader.or(&key, value::count(1, 10_000), "1000");
    let (topic, nulls, topics_max) = (topic?, nulls?, usize::try_from(topics_max?).ok()?);
    if nulls == Nulls::Evaluate {
        at.fault("nulls", "is \"keep\" or \"drop\": a tombstone goes to the topic of its row");
        return None;
    }
    Some(Transform::ContentRouter(Box::new(ContentRouter { topic, nulls, topics_max })))
}

/// True if a transform has to apply to all records of a row alike: it names their topic, decodes a
/// message for an outbox, or drops fields by a header.
pub(super) fn is_of_rows(transform: &Transform) -> bool {
    match transform {
        Transform::Outbox(_)
        | Transform::DecodeMessage(_)
        | Transform::Timed(_)
        | Transform::ContentRouter(_) => true,
        Transform::Unwrap(unwrap) => unwrap.route.is_some() || unwrap.dropped.is_some(),
        _ => false,
    }
}

/// Refuses a chain that leaves open which of its transforms names the topic of a record.
pub(super) fn one_names_topics(links: &[Link], reader: &mut Reader<'_>) -> Option<()> {
    let is_by_content = |link: &Link| matches!(link.transform, Transform::ContentRouter(_));
    let mut between = None;
    let last = links.iter().rposition(is_by_content).map_or(0, |last| last + 1);
    for (number, link) in (1..).zip(links) {
        let (is_by_value, names_topics) = match &link.transform {
            Transform::Outbox(_) => (true, true),
            Transform::Unwrap(unwrap) => {
                (unwrap.route.is_some() || unwrap.dropped.is_some(), unwrap.route.is_some())
            }
            Transform::Regex(_) | Transform::Logical(_) | Transform::Timed(_) => (false, true),
            _ => (false, false),
        };
        // Two different lists of patterns may match the same table. That is found when the table is
        // planned, and not here.
        let shares = |other: &Link| {
            let (one, other) = (&link.tables, &other.tables);
            one.is_empty() || other.is_empty() || one == other
        };
        if is_by_value && links.iter().any(|other| is_by_content(other) && shares(other)) {
            return fault(
                reader,
                number,
                "names topics by a value, as a content-router does; use \
                                          one of them for a table",
            );
        }
        if is_by_content(link) {
            if between == Some(true) {
                return fault(
                    reader,
                    number,
                    "a transform before it names topics after another \
                                              content-router; put both content-routers together",
                );
            }
            if between.is_some() && (link.when.is_some() || names_topic(link)) {
                return fault(
                    reader,
                    number,
                    "the topic is named by the content-router before it, \
                                              so neither `topic` nor when_topic is known",
                );
            }
            between = Some(false);
        } else if between.is_some() && number < last && sees_topic(link) {
            return fault(
                reader,
                number,
                "the topic is named by the content-router before it, so neither `topic` nor \
                 when_topic is known; put it behind the last content-router",
            );
        } else if names_topics && between.is_some() {
            between = Some(true);
        }
    }
    Some(())
}

fn names_topic(link: &Link) -> bool {
    match &link.transform {
        Transform::ContentRouter(router) => router.topic.names("topic"),
        Transform::FilterBy(filter) => filter.condition.names("topic"),
        Transform::Fields(fields) => matches!(fields.edit, Edit::Insert { topic: Some(_), .. }),
        _ => false,
    }
}

/// True if the effect of a transform depends on the topic of the record.
fn sees_topic(link: &Link) -> bool {
    matches!(link.when, Some((Condition::Topic(_), _))) || names_topic(link)
}

fn fault(reader: &mut Reader<'_>, number: usize, what: &str) -> Option<()> {
    reader.fault(&format!("{SECTION}.{number}.type"), what);
    None
}

fn expression(at: &mut At<'_, '_>, key: &str, text: &str) -> Option<Expression> {
    match Expression::read(text) {
        Ok(expression) => Some(expression),
        Err(fault) => {
            at.fault(key, fault.to_string());
            None
        }
    }
}

fn nulls(at: &mut At<'_, '_>) -> Option<Nulls> {
    let words = [("keep", Nulls::Keep), ("drop", Nulls::Drop), ("evaluate", Nulls::Evaluate)];
    let key = at.key("nulls");
    at.reader.or(&key, value::one_of(&words), "keep")
}
