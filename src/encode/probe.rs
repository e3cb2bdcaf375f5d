//! The expressions that are evaluated for a row before its topic is known: conditions that can drop
//! the row, and expressions that name its topic.
//!
//! A probe writes no record. A probe has a plan of its own, because the plan of the row follows
//! from the result of the probe.

use super::condition::Question;
use super::encoder::{EncodeError, Encoder};
use super::form::Json;
use super::plan::Plan;
use super::row::{Image, Writer};
use super::shaped_row::Images;
use crate::change::{Context, Row};
use crate::transform::expression::compare::Value;
use crate::transform::shape::Kind;

/// The expressions that are evaluated for a table's rows before their topics are known.
#[derive(Debug)]
pub(super) struct Probe {
    /// The plan of the table without transforms, by which a row is read and its old and new key are
    /// compared.
    pub plan: Plan,
    /// The expressions for each kind of record, in the order of [`Kind::ALL`]. `None` for a kind
    /// whose records are dropped.
    pub kinds: Vec<Option<Asks>>,
}

/// The expressions for one kind of record.
#[derive(Debug)]
pub(super) struct Asks {
    pub conditions: Vec<Question>,
    /// Expressions that name the topic. The last result that is not null is the name.
    pub topics: Vec<Question>,
}

/// The result of a probe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The conditions drop every record of the row.
    Dropped,
    /// At least one record of the row is kept.
    Kept,
}

impl Encoder {
    /// Evaluates the expressions for a row. The row's topic is appended to `route`, unless it is
    /// the table's own.
    pub(super) fn probe(
        &mut self,
        probe: &Probe,
        row: &Row<'_>,
        context: &Context<'_>,
        route: &mut String,
    ) -> Result<Answer, EncodeError> {
        let plan = &probe.plan;
        assert_eq!(probe.kinds.len(), Kind::ALL.len(), "each kind is asked or left alone");
        self.begin(plan, context.position);
        let Encoder { out, new_spans, old_spans, tools, counted, .. } = self;
        let mut write = Writer::<Json>::new(plan, context, 0, out, (tools, counted));
        let mut asking = Asking { probe, found: None, is_kept: false };
        match *row {
            Row::Insert { new } | Row::Read { new } => {
                let kind = if matches!(row, Row::Read { .. }) { Kind::Read } else { Kind::Create };
                let new = Image::whole(plan, new, new_spans, None)?;
                asking.ask(&mut write, &[kind], Images { old: None, new: Some(&new) })?;
            }
            Row::Update { old, new } => {
                let old = old.map(|old| Image::old(plan, old, old_spans)).transpose()?;
                let new = Image::whole(plan, new, new_spans, old.as_ref())?;
                let images = Images { old: old.as_ref(), new: Some(&new) };
                let kinds: &[Kind] = match &old {
                    None => &[Kind::UpdateAlone],
                    Some(old) if write.moves(old, &new)? => {
                        &[Kind::MovedDelete, Kind::MovedTombstone, Kind::MovedCreate]
                    }
                    Some(_) => &[Kind::Update],
                };
                asking.ask(&mut write, kinds, images)?;
            }
            Row::Delete { old } => {
                let old = Image::old(plan, old, old_spans)?;
                let images = Images { old: Some(&old), new: None };
                asking.ask(&mut write, &[Kind::Delete, Kind::Tombstone], images)?;
            }
            Row::Truncate => {}
        }
        if !asking.is_kept {
            return Ok(Answer::Dropped);
        }
        if let Some(topic) = &asking.found {
            route.push_str(topic);
        }
        Ok(Answer::Kept)
    }
}

/// The results of the expressions so far, for the records of one row.
struct Asking<'p> {
    probe: &'p Probe,
    /// The topic of the row's kept records so far. An empty text means the table's own topic.
    /// `None` before the first kept record.
    found: Option<String>,
    is_kept: bool,
}

impl Asking<'_> {
    fn table(&self) -> String {
        self.probe.plan.table.to_string()
    }

    fn ask(
        &mut self,
        write: &mut Writer<'_, Json>,
        kinds: &[Kind],
        images: Images<'_, '_>,
    ) -> Result<(), EncodeError> {
        for kind in kinds {
            let Some(Some(asks)) = self.probe.kinds.get(*kind as usize) else { continue };
            if !write.is_kept(&asks.conditions, images)? {
                continue;
            }
            self.is_kept = true;
            // A tombstone goes to the topic of its delete.
            if kind.operation().is_none() {
                continue;
            }
            let mut topic = String::new();
            for asked in &asks.topics {
                let answer = write.asked(asked, images, |value| match value {
                    Value::Text(text) => Some(text.into_owned()),
                    _ => None,
                })?;
                if let Some(named) = answer {
                    // In a route, an empty name stands for the table's own topic, and a control
                    // character separates the name from other parts.
                    if named.is_empty() || named.contains(char::is_control) {
                        let (table, column) = (self.table(), BY_EXPRESSION.to_owned());
                        return Err(EncodeError::RouteNoTopic { table, column });
                    }
                    topic = named;
                }
            }
            match &self.found {
                // The update changes the key. The update is refused, because the delete of the old
                // key and the create of the new key would need two topics.
                Some(found) if *found != topic => {
                    return Err(EncodeError::RouteDivided { table: self.table() });
                }
                _ => self.found = Some(topic),
            }
        }
        Ok(())
    }
}

/// What errors name in place of a column if an expression names the topic.
pub(super) const BY_EXPRESSION: &str = "topic of content-router";
