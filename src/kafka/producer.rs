//! The producer of the row path: one idempotent producer, its poll thread, and the end of both.
//!
//! `send` hands bytes to librdkafka and returns. The result of each record comes back through a
//! channel as a [`Delivery`] with its ticket. A producer lives for one generation: after any failed
//! delivery it accepts nothing more, because no record may be written after a gap. librdkafka
//! repeats requests, and nothing else in this file sends a record twice.
//!
//! Laws, tested in `tests/integration/kafka_room.rs`:
//! - Reports of one partition come in the order of their offsets, because only one thread polls.
//! - Each record that librdkafka takes is reported once, unless the channel's reader is gone, the
//!   channel is full during `settle`, or the producer ends first.
//! - `settle` purges only queued records, waits for the records under way, and counts those that
//!   stay in doubt.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, timeout_at};

use super::config::Config;
use super::context::Reporting;
use super::error::KafkaError;
use super::statistics::Statistics;
use crate::ledger::{Generation, Ticket};

/// How long one poll waits. This bounds how late the thread notices that it should stop.
///
/// rdkafka spins through the last millisecond of each poll. So short polls cost CPU: idle polls of
/// 50 ms took 1.6 % of a core.
const POLL: Duration = Duration::from_millis(500);

// A ticket travels through librdkafka as a pointer-sized number.
const _: () = assert!(size_of::<usize>() == size_of::<u64>(), "64-bit targets only");

/// The delivery report of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The ticket that the caller of `send` gave to the record.
    pub ticket: Ticket,
    /// Generation of the producer that reports. A report of an ended generation has no effect,
    /// unless the producer of that generation is still being settled.
    pub generation: Generation,
    /// Where the record landed, or why it did not land.
    pub outcome: Result<Landed, Failed>,
}

/// A record that every in-sync replica holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Partition of the record's topic, counted from 0.
    pub partition: i32,
    /// Offset of the record. If the broker recognised a repeated batch, the offsets count on from
    /// -1 (`docs/internals/producers.md`, rule 3).
    pub offset: i64,
}

/// A record that was not delivered, or that may or may not have been delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The code of librdkafka or of the broker. `classify` says what the code means.
    pub code: RDKafkaErrorCode,
    /// True if the record was purged from the queue, after another record's failure or by `settle`.
    pub purged: bool,
    /// True if the record was purged, but a copy of it may still be on its way to the broker.
    pub doubtful: bool,
}

/// Why the producer did not accept a record. Such a record has no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The queue of the sink is full. [`Producer::send`] parks such a record instead, so only the
    /// sink for standard output returns this error.
    #[error("the queue is full")]
    QueueFull,
    /// The record is larger than `message.max.bytes`. The caller has already measured the record,
    /// so this is only a second check.
    #[error("the record is larger than message.max.bytes")]
    TooLarge,
    /// A delivery of this producer failed. The producer has to be settled and replaced.
    #[error("the producer has ended after a failed delivery")]
    Ended,
    /// librdkafka refuses the record or is in its fatal state.
    #[error("librdkafka refuses the record: {0}")]
    Fatal(RDKafkaErrorCode),
}

impl SendError {
    /// librdkafka's code for the error.
    fn code(self) -> RDKafkaErrorCode {
        match self {
            SendError::QueueFull => RDKafkaErrorCode::QueueFull,
            SendError::TooLarge => RDKafkaErrorCode::MessageSizeTooLarge,
            SendError::Ended => RDKafkaErrorCode::PurgeQueue,
            SendError::Fatal(code) => code,
        }
    }
}

/// How a producer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Number of records of which a copy may still arrive at a broker: records without an answer,
    /// and records that were purged after their connection broke. More than 0 opens the confirm
    /// hold of `docs/internals/producers.md`, rule 2.
    pub unanswered: usize,
}

/// The size of a record that librdkafka compares with `message.max.bytes`: the bytes of key, value
/// and headers, and the largest framing of record format 2.
#[must_use]
pub fn wire_bytes(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (impl AsRef<[u8]>, usize)>,
) -> usize {
    /// Bytes of the framing, with each number in its longest form: record length, attributes,
    /// timestamp delta, offset delta, key length, value length, header count.
    const FRAMING_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
    let headers: usize = headers
        .map(|(name, value_bytes)| {
            let name_bytes = name.as_ref().len();
            name_bytes + value_bytes + varint_bytes(name_bytes) + varint_bytes(value_bytes)
        })
        .sum();
    FRAMING_MAX + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers
}

/// Number of bytes that `number` takes as a zig-zag varint.
fn varint_bytes(number: usize) -> usize {
    let zigzag = (number as u64) << 1;
    (64 - zigzag.leading_zeros() as usize).max(1).div_ceil(7)
}

/// The headers of one record.
pub struct Headers<'h, I> {
    /// Names and values, in order. A value can be null.
    pub all: I,
    /// Records with the same token have equal headers, so `send` does not compare their headers.
    /// `None` if no other record is known to have these headers.
    pub token: Option<&'h Arc<()>>,
}

impl<'h, I: Iterator<Item = (&'h str, Option<&'h [u8]>)> + Clone> Headers<'h, I> {
    /// Makes headers without a token: `send` compares them with those of the record before.
    #[must_use]
    pub fn of(all: I) -> Self {
        Headers { all, token: None }
    }
}

/// The producer of one generation. [`Producer::settle`] is the way to end it: a drop discards the
/// queue without waiting.
pub struct Producer {
    inner: Arc<BaseProducer<Reporting>>,
    stop: Arc<AtomicBool>,
    poll: Option<JoinHandle<()>>,
    headers: LastHeaders,
    /// Records that found no place in librdkafka's queue, in the order of `send`. The byte budget
    /// counts these records, too.
    parked: VecDeque<Parked>,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    /// Name of the topic that the record is sent to.
    pub topic: &'a str,
    /// Number of the partition that the record is sent to, counted from 0.
    pub partition: i32,
    /// The time of the record in milliseconds since 1970. `None` for the time of the sending.
    pub time: Option<i64>,
}

/// A record that waits for a place in librdkafka's queue.
struct Parked {
    topic: String,
    partition: i32,
    time: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Option<OwnedHeaders>,
    ticket: Ticket,
}

impl Producer {
    /// Starts a producer and its poll thread, without waiting for a connection.
    ///
    /// `deliveries` should hold [`Config::delivery_capacity`] reports.
    ///
    /// # Errors
    /// `Secret` if the password cannot be read, `File` if a file of the properties cannot be read,
    /// `Client` if librdkafka refuses the properties, `Thread` if no thread can be started.
    pub fn start(
        config: &Config,
        generation: Generation,
        deliveries: Sender<Delivery>,
    ) -> Result<Self, KafkaError> {
        let inner: BaseProducer<Reporting> = config
            .for_producer()?
            .create_with_context(Reporting::new(generation, deliveries, config.login.token()))
            .map_err(|source| config.no_client(source))?;
        let inner = Arc::new(inner);
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, stopped) = (Arc::clone(&inner), Arc::clone(&stop));
        let brokers = config.brokers.clone();
        let poll = std::thread::Builder::new()
            .name("kafka-poll".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::SeqCst) {
                    polled.poll(POLL);
                    polled.context().polled(polled.client(), &brokers);
                }
            })
            .map_err(|source| KafkaError::Thread { name: "kafka-poll", source })?;
        Ok(Producer {
            inner,
            stop,
            poll: Some(poll),
            headers: LastHeaders::default(),
            parked: VecDeque::new(),
        })
    }

    fn context(&self) -> &Reporting {
        self.inner.client().context()
    }

    /// Hands one record to librdkafka, which copies the record. This call never blocks. If
    /// librdkafka's queue is full, or records are parked already, the record is parked in this
    /// producer. [`Producer::has_room`] hands parked records to librdkafka, the oldest first.
    ///
    /// # Errors
    /// See [`SendError`]. The record then gets no report.
    pub fn send<'h>(
        &mut self,
        to: Address<'_>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers<'h, impl Iterator<Item = (&'h str, Option<&'h [u8]>)> + Clone>,
        ticket: Ticket,
    ) -> Result<(), SendError> {
        if self.context().ended.load(Ordering::Relaxed) {
            return Err(SendError::Ended);
        }
        let mut headers = self.headers.own(headers);
        if self.parked.is_empty() {
            match self.hand_over(to, key, value, headers, ticket) {
                Ok(()) => return Ok(()),
                Err((SendError::QueueFull, given_back)) => headers = given_back,
                Err((error, _)) => return Err(error),
            }
        }
        let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
        self.parked.push_back(Parked {
            topic: to.topic.to_owned(),
            partition: to.partition,
            time: to.time,
            key,
            value,
            headers,
            ticket,
        });
        Ok(())
    }

    /// Hands parked records over while librdkafka's queue has room. Returns true if no record is
    /// parked any more. librdkafka frees the places of a batch after the last report of the batch.
    #[inline]
    pub fn has_room(&mut self) -> bool {
        self.parked.is_empty() || self.hand_over_parked()
    }

    /// Whether a record is parked. The caller then has to call [`Producer::has_room`] repeatedly.
    #[must_use]
    pub fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    #[cold]
    fn hand_over_parked(&mut self) -> bool {
        while let Some(Parked { topic, partition, time, key, value, headers, ticket }) =
            self.parked.pop_front()
        {
            match self.hand_over(
                Address { topic: &topic, partition, time },
                key.as_deref(),
                value.as_deref(),
                headers,
                ticket,
            ) {
                Ok(()) => {}
                Err((SendError::QueueFull, headers)) => {
                    self.parked.push_front(Parked {
                        topic,
                        partition,
                        time,
                        key,
                        value,
                        headers,
                        ticket,
                    });
                    return false;
                }
                // The error is reported as a failed delivery, because `send` has already accepted
                // this record. The producer then accepts nothing more.
                Err((error, _)) => {
                    self.context().refuse(ticket, error.code());
                    return false;
                }
            }
        }
        true
    }

    /// Hands a record to librdkafka. An error contains the record's headers, for another try.
    fn hand_over(
        &self,
        to: Address<'_>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
        ticket: Ticket,
    ) -> Result<(), (SendError, Option<OwnedHeaders>)> {
        let context = self.context();
        let record = BaseRecord {
            topic: to.topic,
            partition: Some(to.partition),
            payload: value,
            key,
            timestamp: to.time,
            headers,
            delivery_opaque: ticket.0 as usize,
        };
        let ticket_before = context.count_sent(ticket.0);
        self.inner.send(record).map_err(|(error, record)| {
            context.take_back(ticket_before);
            let error = match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => SendError::QueueFull,
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => SendError::TooLarge,
                Some(code) => SendError::Fatal(code),
                None => SendError::Fatal(RDKafkaErrorCode::InvalidArgument),
            };
            (error, record.headers)
        })
    }

    /// Number of records that librdkafka has taken and not reported yet, without parked records.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.context().in_flight()).unwrap_or(usize::MAX)
    }

    /// The fatal error that librdkafka reports for this producer, if there is one: its code and its
    /// text.
    #[must_use]
    pub fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.inner.client().fatal_error()
    }

    /// The statistics that librdkafka has reported since the last call, if any.
    #[must_use]
    pub fn take_statistics(&self) -> Option<Statistics> {
        self.context().take_statistics()
    }

    /// Whether librdkafka knows no broker and takes none. Only another producer helps then.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.context().is_abandoned()
    }

    /// Whether brokers refused our login since the last call. librdkafka goes on trying with the
    /// same login.
    #[must_use]
    pub fn take_refused(&self) -> bool {
        self.context().take_refused()
    }

    /// Whether a delivery has failed, so that `send` accepts no more records.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.context().ended.load(Ordering::SeqCst)
    }

    /// Waits until every record that librdkafka has taken has a report, at most `within`. Returns
    /// true if each record has one. Nothing is purged.
    ///
    /// Meanwhile the channel of reports has to be read, or must have room for all reports.
    pub async fn flush(&self, within: Duration) -> bool {
        self.wait_answered(Instant::now() + within).await
    }

    /// Ends this producer, so that another one may send its records again: purges the queue, waits
    /// at most `within` for the records under way, and closes the connections.
    ///
    /// Reports keep coming meanwhile and should be read. A record that still lands is delivered.
    pub async fn settle(mut self, within: Duration) -> Settled {
        let deadline = Instant::now() + within;
        self.context().settling.store(true, Ordering::SeqCst);
        self.context().ended.store(true, Ordering::SeqCst);
        // Purging waits for librdkafka's broker threads. The wait is short, but it must not block
        // the runtime.
        let purged = Arc::clone(&self.inner);
        let _ =
            tokio::task::spawn_blocking(move || purged.purge(PurgeConfig::default().queue())).await;
        self.wait_answered(deadline).await;
        let context = self.context();
        let under_way = context.in_flight();
        let unanswered = under_way.saturating_add(context.doubtful.load(Ordering::SeqCst));
        self.stop.store(true, Ordering::SeqCst);
        if let Some(poll) = self.poll.take() {
            let inner = Arc::clone(&self.inner);
            drop(self);
            // The last owner closes the connections. This takes a moment, and therefore happens off
            // the runtime.
            let _ = tokio::task::spawn_blocking(move || (poll.join(), drop(inner))).await;
        }
        Settled { unanswered: usize::try_from(unanswered).unwrap_or(usize::MAX) }
    }

    async fn wait_answered(&self, deadline: Instant) -> bool {
        let context = self.context();
        context.waiting.store(true, Ordering::SeqCst);
        let answered = loop {
            // `notify_one` keeps a permit, so a report between the check and the wait is not
            // missed.
            if context.in_flight() == 0 {
                break true;
            }
            if timeout_at(deadline, context.all_answered.notified()).await.is_err() {
                break context.in_flight() == 0;
            }
        };
        context.waiting.store(false, Ordering::SeqCst);
        answered
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // The poll thread is told to end. As the last owner it closes the connections.
        self.context().settling.store(true, Ordering::SeqCst);
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Copies headers into librdkafka's form, and keeps the headers of the last record. Most records
/// carry the same headers. librdkafka copies a finished list with half the allocations that
/// building the list takes. Without headers nothing is allocated.
#[derive(Default)]
struct LastHeaders {
    parts: Vec<(String, Option<Vec<u8>>)>,
    owned: Option<OwnedHeaders>,
    /// The token of the headers in `parts`. While it is kept, no other token can have its address.
    token: Option<Arc<()>>,
}

impl LastHeaders {
    fn own<'h>(
        &mut self,
        Headers { all: headers, token }: Headers<
            'h,
            impl Iterator<Item = (&'h str, Option<&'h [u8]>)> + Clone,
        >,
    ) -> Option<OwnedHeaders> {
        if let (Some(known), Some(token)) = (&self.token, token)
            && Arc::ptr_eq(known, token)
        {
            return self.owned.clone();
        }
        self.token = token.cloned();
        let mut known = self.parts.iter();
        let mut is_known = |(name, value): (&str, Option<&[u8]>)| {
            known.next().is_some_and(|(n, v)| n == name && v.as_deref() == value)
        };
        if !(headers.clone().all(&mut is_known) && known.next().is_none()) {
            self.parts = headers
                .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_owned)))
                .collect();
            self.owned = own_headers(&self.parts);
        }
        self.owned.clone()
    }
}

fn own_headers(headers: &[(String, Option<Vec<u8>>)]) -> Option<OwnedHeaders> {
    let new = OwnedHeaders::new_with_capacity(headers.len());
    let add = |owned: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
        owned.insert(Header { key, value: value.as_deref() })
    };
    (!headers.is_empty()).then(|| headers.iter().fold(new, add))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::message::Headers as _;

    /// Gives `last` one header with this value and this token. Returns the header's value in the
    /// list that librdkafka would get.
    fn value(last: &mut LastHeaders, value: &[u8], token: Option<&Arc<()>>) -> Vec<u8> {
        let all = [("name", Some(value))].into_iter();
        let owned = last.own(Headers { all, token }).unwrap();
        owned.get(0).value.unwrap().to_vec()
    }

    #[test]
    fn headers_of_another_token_or_of_none_are_never_reused() {
        let (one, other) = (Arc::default(), Arc::default());
        let mut last = LastHeaders::default();
        assert_eq!(value(&mut last, b"1", Some(&one)), b"1");
        assert_eq!(value(&mut last, b"not looked at", Some(&one)), b"1");
        assert_eq!(value(&mut last, b"2", None), b"2");
        assert_eq!(value(&mut last, b"1", Some(&one)), b"1");
        assert_eq!(value(&mut last, b"3", Some(&other)), b"3");
        assert_eq!(value(&mut last, b"1", Some(&one)), b"1");
    }

    #[test]
    fn varints_are_as_long_as_librdkafka_writes_them() {
        for (number, length) in [(0, 1), (63, 1), (64, 2), (8191, 2), (8192, 3), (1 << 20, 4)] {
            assert_eq!(varint_bytes(number), length, "{number}");
        }
    }
}
