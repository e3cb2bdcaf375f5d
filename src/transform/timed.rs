//! `timestamp-router`: the time of a record in the name of its topic, as with Connect's
//! `TimestampRouter`.
//!
//! The time is that of the commit, so a replay sends a record to the same topic. The topic is known
//! only when a row is known, so a shape is made for each text of the time that occurs.

use super::TransformFault;
use super::pattern::Pattern;
use super::shape::Shape;

/// The character that ends a time in a route. No pattern contains this character.
pub(crate) const TIME_ENDS: char = '\0';

/// The settings of `timestamp-router`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed {
    /// The new topic, with `{topic}` and `{timestamp}` in it. Connect's `${topic}` is the same.
    pub topic: String,
    /// How the time is written.
    pub pattern: Pattern,
}

impl Timed {
    /// The topic of records whose time is written as `time`.
    pub(super) fn topic(&self, topic: &str, time: &str) -> String {
        let format = self.topic.replace("${", "{");
        format.replace("{timestamp}", time).replace("{topic}", topic)
    }

    pub(super) fn apply(&self, shape: Shape, time: &str) -> Result<Shape, TransformFault> {
        if shape.time.is_some() {
            return Err(TransformFault::OtherTime);
        }
        let topic = self.topic(&shape.topic, time);
        Ok(Shape { topic, ..shape })
    }
}

/// Splits a route into its first time and the rest.
pub(crate) fn split_time(route: &str) -> (&str, &str) {
    match route.split_once(TIME_ENDS) {
        Some(parts) => parts,
        None => unreachable!("a route has a time for each transform that names topics by it"),
    }
}
