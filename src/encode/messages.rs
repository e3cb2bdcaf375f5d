//! Logical messages as events: the content of a message is a JSON document, and the document is the
//! row of an outbox.
//!
//! Debezium's `DecodeLogicalDecodingMessageContent` makes the document a struct, so that Debezium's
//! outbox router finds the fields of the document. Here the outline of the document (its field
//! names and types) is part of the message's route. A message whose content is not such a document
//! halts the stream. In Debezium, such a message ends the task.

use super::document::Document;
use super::encoder::{EncodeError, Encoder};
use super::form::Form;
use super::plan::{Draft, Plan, PlanError, Planner, What};
use super::router::{Of, RoutedBy, Router};
use super::schema::{self, Field, Schema};
use super::shaped::{Compiler, Frame, Shaped};
use super::shaped_row::{Images, Written};
use super::shapes;
use crate::change::Context;
use crate::transform::outbox::{Payload, write_route};
use crate::transform::outline::Source;
use crate::transform::shape::{Base, Kind, Literal, Meta, Node, Part, Shape};
use std::sync::Arc;

/// The name of logical messages, which is used where rows have the name of their table.
pub(super) const MESSAGES: &str = "logical messages";

impl Planner {
    /// Makes the router of logical messages. `None` unless the messages are events of an outbox.
    pub(super) fn message_router(&self, topic: &str) -> Option<Arc<Router>> {
        let (rules, routing) = self.config().transforms.message_routing(topic)?;
        Some(Arc::new(Router::of_messages(rules, &routing)))
    }

    /// Makes the draft of the plan for the logical messages that have this route.
    pub(super) fn message_routed(&self, route: &str) -> Result<Draft, PlanError> {
        let fault = |transform| PlanError::Transform { table: MESSAGES.to_owned(), transform };
        let shape = self.decoded(route);
        let shape = self.config().transforms.apply_to_message(shape, route).map_err(fault)?;
        let topic = shape.as_ref().map_or_else(|| self.message_topic(), |it| it.topic.clone());
        let schema = |part: Option<&Part>| part.map(|part| part.schema.clone());
        let key = schema(shape.as_ref().and_then(|shape| shape.key.as_ref()));
        let value = schema(shape.as_ref().and_then(|shape| shape.value.as_ref()));
        self.checked(MESSAGES, &topic, key.iter().chain(&value))?;
        let shapes = Kind::ALL.map(|kind| shape.clone().filter(|_| kind == Kind::Create)).to_vec();
        let frame = Frame::default();
        let compiler = Compiler { config: self.config(), table: None };
        compiler.shaped::<super::form::Json>(&shapes, &frame, &frame)?;
        Ok(self.drafted(topic, key, value, What::Messages(Some(shapes))))
    }

    /// Makes the shape (schemas and sources of values) of a message's record after its content was
    /// decoded, and before other transforms: an envelope with the document in `after`, and no key.
    fn decoded(&self, route: &str) -> Shape {
        let config = self.config();
        let after = match crate::transform::outbox::payload_of(route) {
            Payload::Document(outline) => outline.part(None, Source::Content),
            Payload::Any | Payload::Empty => unreachable!("a message's route has its outline"),
        };
        let original = schema::of_message(config.modes.binary);
        let mut fields: Vec<Field> = original.fields().to_vec();
        fields.retain(|field| field.name != "message");
        fields.push(Field { name: "after".into(), schema: after.schema });
        let name = original.name.map(|name| format!("{name}.Envelope").into());
        let block = if config.rules.transactions { Node::Meta(Meta::Block) } else { Node::Null };
        let nodes = vec![
            Node::Literal(Literal::Text("c".to_owned())),
            Node::Meta(Meta::NowMillis),
            shapes::source(config, self.database(), "", ""),
            block,
            after.node,
        ];
        let schema = Schema { name, version: None, ..Schema::plain(Base::Struct(fields)) };
        let value = Some(Part { schema, node: Node::Struct(nodes) });
        let (key, headers) = (None, Vec::new());
        let (topic, time, partition, guards) = (self.message_topic(), None, None, Vec::new());
        Shape { topic, key, value, headers, time, partition, guards }
    }
}

impl Router {
    /// Replaces the content of `route` by the route of a message.
    ///
    /// # Errors
    /// The content is not a JSON object that can be expanded, or it lacks a field that an event
    /// needs.
    pub fn of_message(&self, content: &[u8], route: &mut String) -> Result<(), EncodeError> {
        let (Of::Messages(rules), RoutedBy::Outbox(outbox)) = (&self.of, &self.by) else {
            unreachable!("a table's router has no messages")
        };
        let rules = *rules;
        let document = Document::of_message(content).ok_or(EncodeError::Content)?;
        let outline = document.outline(rules).ok_or(EncodeError::Content)?;
        for field in [&outbox.id, &outbox.key, &outbox.payload] {
            if *document.named(field) == Document::Null {
                return Err(EncodeError::ContentField { field: field.clone() });
            }
        }
        let Document::Text(value) = document.named(&outbox.route) else {
            return Err(EncodeError::ContentField { field: outbox.route.clone() });
        };
        route.clear();
        write_route(value, &Payload::Document(outline), None, route);
        Ok(())
    }
}

impl Encoder {
    /// Writes the record of a message whose content is an event.
    pub(super) fn shaped_message<F: Form>(
        &mut self,
        plan: &Plan,
        shaped: &Shaped,
        context: &Context<'_>,
        content: &[u8],
        now: i64,
    ) -> Result<(), EncodeError> {
        let (mut write, slots, headers) = self.writer::<F>(plan, context, now);
        write.document = Document::of_message(content);
        let images = Images { old: None, new: None };
        write.shaped(shaped, Kind::Create, images, &mut Written { slots, headers })
    }
}
