//! Logical messages: one message becomes one record. A message that cannot be sent halts the
//! stream, and goes to the quarantine if an operator skips it.

use super::auxiliary::AuxiliaryRecords;
use super::look::{Readiness, RowPlans};
use super::records::Records;
use super::refusals::unencodable;
use super::take::Output;
use super::{Need, RowsError, Tools};
use crate::change::Context;
use crate::continuity::Reason;
use crate::plans::{Active, Planned, QuarantineTopic, Routed};
use std::rc::Rc;

/// One logical message with its place in the stream.
pub(super) struct Logical<'a> {
    pub context: &'a Context<'a>,
    pub prefix: &'a str,
    pub content: &'a [u8],
}

/// What is done with a logical message that waits for nothing.
pub(super) enum ReadyMessage<'a> {
    /// The configuration leaves the message out.
    LeftOut,
    /// The record of the message is encoded and checked.
    Planned(MessagePlan<'a>),
    /// An operator has consented to skip the message. `detail` says what is wrong with the message.
    Skipped { topic: &'a QuarantineTopic, detail: String },
}

/// The plan of a logical message.
pub(super) enum MessagePlan<'a> {
    /// The plan of all messages.
    Shared(&'a Active),
    /// The plan that a value of the message's content chooses.
    Routed(Rc<Active>),
}

impl MessagePlan<'_> {
    pub fn active(&self) -> &Active {
        match self {
            MessagePlan::Shared(active) => active,
            MessagePlan::Routed(active) => active,
        }
    }
}

impl RowPlans {
    /// Finds out whether a logical message can be taken now, and how. A message may have to wait
    /// for a plan. Otherwise its record is encoded and checked.
    ///
    /// # Errors
    /// The message cannot be sent, and no consent lets the stream go on without it.
    pub fn look_at_message(
        &self,
        message: &Logical<'_>,
        (records, auxiliary): (&mut Records, &AuxiliaryRecords),
        tools: &Tools<'_>,
    ) -> Result<Readiness<ReadyMessage<'_>>, RowsError> {
        let Logical { context, prefix, content } = *message;
        let shared = match &self.messages {
            Planned::Active(active) => active,
            Planned::Unplanned => return Ok(Need::Messages.into()),
            Planned::Excluded | Planned::Refused | Planned::Detached(_) => {
                return Ok(Readiness::Ready(ReadyMessage::LeftOut));
            }
        };
        let position = context.position;
        let plan = match shared.routed_message(prefix, content) {
            Ok(Routed::New(router, route)) => return Ok(Need::MessageRoute(router, route).into()),
            Ok(Routed::To(found)) => MessagePlan::Routed(found),
            Ok(Routed::Own | Routed::Nowhere | Routed::Unexpected) => MessagePlan::Shared(shared),
            Err(error) => {
                return self.message_refused(unencodable(shared, position, &error), message);
            }
        };
        let active = plan.active();
        auxiliary.count(records, &auxiliary.messages);
        let encoded =
            records.encode_message(active, context, (prefix, content), tools.now_unix_nanos);
        if let Err(error) = encoded {
            return self.message_refused(unencodable(active, position, &error), message);
        }
        if records.is_empty() {
            return Ok(Readiness::Ready(ReadyMessage::LeftOut));
        }
        match records.check(active, position, tools.core) {
            Ok(()) => Ok(Readiness::Ready(ReadyMessage::Planned(plan))),
            Err(error) => self.message_refused(error, message),
        }
    }

    /// Decides what happens to a message that is refused: the message goes to the quarantine if an
    /// operator skips it, and otherwise the error is returned.
    #[cold]
    fn message_refused(
        &self,
        error: RowsError,
        message: &Logical<'_>,
    ) -> Result<Readiness<ReadyMessage<'_>>, RowsError> {
        let RowsError::Halt(halt) = error else { return Err(error) };
        let is_refused = matches!(halt.reason, Reason::RowUnencodable | Reason::RecordTooLarge);
        if !is_refused || !self.skips.at.contains(&message.context.position) {
            return Err(RowsError::Halt(halt));
        }
        match self.skips.messages.as_deref() {
            None => Ok(Need::SkipMessage.into()),
            Some(topic) => {
                Ok(Readiness::Ready(ReadyMessage::Skipped { topic, detail: halt.detail }))
            }
        }
    }
}

impl Output {
    /// Takes a logical message: sends its record, sends it to the quarantine, or leaves it out.
    pub fn logical(
        &mut self,
        ready: &ReadyMessage<'_>,
        message: &Logical<'_>,
        tools: &mut Tools<'_>,
    ) -> Result<(), RowsError> {
        let Logical { context, prefix, .. } = *message;
        match ready {
            ReadyMessage::LeftOut => {}
            ReadyMessage::Planned(plan) => {
                if context.xid.is_some() {
                    let counted_as = Rc::clone(&self.auxiliary.messages);
                    self.auxiliary.counted(&self.records, &counted_as, context.position, tools)?;
                }
                self.records.send(plan.active(), context.position, tools)?;
                tools.metrics.messages.inc();
                self.sent = true;
            }
            ReadyMessage::Skipped { topic, detail } => {
                let (commit, ordinal) = (context.position.commit, context.position.ordinal);
                tracing::warn!(
                    prefix, %commit, ordinal,
                    "a logical message is skipped, as an operator consented to: {detail}"
                );
                topic.message_out(&mut self.raw, message, tools)?;
                self.sent = true;
            }
        }
        if context.xid.is_none() {
            tools.core.message(context.lsn);
        }
        Ok(())
    }
}
