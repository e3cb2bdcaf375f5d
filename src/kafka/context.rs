//! The callbacks of librdkafka: its log, its errors, its statistics, its delivery reports and its
//! requests for tokens.
//!
//! The callbacks run on the thread that polls the client. Nothing here decides: events are counted,
//! noted and passed on.

use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::brokerless::Brokerless;
use super::config::Config;
use super::error::KafkaError as CallError;
use super::login::{is_refusal, no_token, oauth_token};
use super::producer::{Delivery, Failed, Landed};
use super::statistics::Statistics;
use crate::ledger::{Generation, Ticket};
use crate::secret::{COMMAND_TIME_MAX, Source, SourceError};

/// librdkafka logs an identical connection failure once in 30 s. For this long, one line can stand
/// for any number of failures.
const FAILURE_SUPPRESSED_FOR: Duration = Duration::from_secs(31);

/// The offset in the report of a record for which no broker has answered with success
/// (`RD_KAFKA_OFFSET_INVALID`). The broker's own answer for a repeated batch is -1.
pub(super) const NO_ANSWER: i64 = -1001;

/// How long one poll waits for librdkafka to ask for a token.
const TOKEN_POLL: Duration = Duration::from_millis(100);

/// The answer to librdkafka if it asks for a token and none is configured. `config` refuses such a
/// configuration.
pub(super) const NO_TOKEN: &str = "no token is configured (kafka.token_command, kafka.token_file)";

/// True for the warning that the gapless guarantee is experimental, which librdkafka logs at every
/// start. `docs/internals/producers.md` says what the guarantee does.
fn is_known(facility: &str, detail: &str) -> bool {
    facility == "CONFWARN" && detail.contains("enable.gapless.guarantee")
}

/// Passes librdkafka's log to `tracing`. librdkafka itself removes secrets from its log. Its
/// `debug` output is never logged above level debug.
fn pass_on(level: RDKafkaLogLevel, facility: &str, detail: &str) {
    match level {
        _ if is_known(facility, detail) => {}
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, detail, "librdkafka");
        }
        // An unreachable broker is only a warning, because librdkafka goes on trying and the agent
        // reports the lag.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(facility, detail, "librdkafka")
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(facility, detail, "librdkafka");
        }
    }
}

/// Shortens librdkafka's message about a connection: the thread, the broker's name and the duration
/// are removed. The error that quotes the message names the address.
fn in_short(detail: &str) -> &str {
    let said = detail
        .strip_prefix("[thrd:")
        .and_then(|rest| Some(rest.split_once("]: ")?.1))
        .unwrap_or(detail);
    let said = match said.split_once(": ") {
        Some((name, rest)) if name.contains('/') && !name.contains(' ') => rest,
        _ => said,
    };
    said.rsplit_once(" (after ").map_or(said, |(words, _)| words)
}

/// The librdkafka context of clients that do not produce. It keeps librdkafka's last message about
/// a connection, for error texts.
#[derive(Default)]
pub(crate) struct Asking {
    last_words: Mutex<Option<String>>,
    token: Option<Source>,
    /// The result of the last reading of a token. `None` if librdkafka has not asked for a token
    /// since this result was taken.
    token_read: Mutex<Option<Result<(), SourceError>>>,
}

impl Asking {
    /// Makes a consumer that reports the end of each partition that it reads. An offset that no
    /// longer exists is replaced by the oldest one that does. This call blocks like
    /// [`Asking::consumer`].
    pub(crate) fn reader(config: &Config) -> Result<BaseConsumer<Asking>, CallError> {
        Asking::reader_of(config, &[])
    }

    /// Makes a consumer like that of [`Asking::reader`], with further properties.
    pub(crate) fn reader_of(
        config: &Config,
        further: &[(&str, &str)],
    ) -> Result<BaseConsumer<Asking>, CallError> {
        let mut properties = vec![
            // librdkafka needs a group to assign partitions; nothing is committed to the group
            ("group.id", "wellspring-reader"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("enable.partition.eof", "true"),
        ];
        properties.extend_from_slice(further);
        Asking::consumer(config, &properties)
    }

    /// Makes a consumer for questions and for reading, with further properties. If the login is by
    /// a token, this call waits for a limited time until librdkafka has the token. This call
    /// blocks.
    pub(crate) fn consumer(
        config: &Config,
        further: &[(&str, &str)],
    ) -> Result<BaseConsumer<Asking>, CallError> {
        let mut properties = config.for_asking()?;
        properties.set("allow.auto.create.topics", "false");
        for (name, value) in further {
            properties.set(*name, *value);
        }
        let asking = Asking { token: config.login.token(), ..Asking::default() };
        let consumer: BaseConsumer<Asking> =
            properties.create_with_context(asking).map_err(|source| config.no_client(source))?;
        // Metadata requests do not poll. librdkafka gets the token that it waits for only while the
        // client is polled.
        let deadline = Instant::now() + COMMAND_TIME_MAX + TOKEN_POLL;
        while consumer.context().token.is_some() && Instant::now() < deadline {
            match consumer.context().token_read.lock().ok().and_then(|mut read| read.take()) {
                None => drop(consumer.poll(TOKEN_POLL)),
                Some(Ok(())) => break,
                Some(Err(source)) => return Err(CallError::Secret { source }),
            }
        }
        Ok(consumer)
    }

    /// The last message of librdkafka about a failed connection, if any.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.last_words.lock().ok().and_then(|words| words.clone())
    }
}

impl ClientContext for Asking {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let source = self.token.as_ref().ok_or(NO_TOKEN)?;
        let (token, read) = match oauth_token(source) {
            Ok(token) => (Ok(token), Ok(())),
            Err(error) => (Err(no_token(&error).into()), Err(error)),
        };
        if let Ok(mut first) = self.token_read.lock() {
            *first = Some(read);
        }
        token
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, detail: &str) {
        // A log line at level debug is enough here, because the failed call reports the connection
        // failure.
        if facility == "FAIL" {
            if let Ok(mut words) = self.last_words.lock() {
                *words = Some(in_short(detail).to_owned());
            }
            tracing::debug!(facility, detail, "librdkafka");
        } else {
            pass_on(level, facility, detail);
        }
    }

    fn error(&self, _: KafkaError, detail: &str) {
        if let Ok(mut words) = self.last_words.lock() {
            words.get_or_insert_with(|| in_short(detail).to_owned());
        }
    }
}

impl rdkafka::consumer::ConsumerContext for Asking {}

/// The librdkafka context of the row path's producer. It counts the records in flight, and passes
/// each delivery report on.
pub(crate) struct Reporting {
    generation: Generation,
    deliveries: Sender<Delivery>,
    /// The number and the newest ticket of the sent records. The sending thread writes both for
    /// every record.
    sent: SentCounts,
    /// Number of sent records that librdkafka has reported as delivered or as failed. Only the poll
    /// thread writes this number.
    pub(crate) answered: AtomicU64,
    /// Records with tickets up to this one may have been on a connection that broke before the
    /// broker answered.
    doubtful_ticket: AtomicU64,
    last_failure: Mutex<Option<Instant>>,
    /// Number of records that were purged from the queue and of which a copy may nevertheless have
    /// left this machine.
    pub(crate) doubtful: AtomicU64,
    /// True if a delivery failed or the producer is being settled: it accepts nothing more.
    pub(crate) ended: AtomicBool,
    /// True while the producer is being settled: a full channel then drops reports instead of
    /// waiting.
    pub(crate) settling: AtomicBool,
    /// True while a task waits until `answered` reaches the number of sent records.
    pub(crate) waiting: AtomicBool,
    pub(crate) all_answered: Notify,
    /// True if brokers refused our login since the last [`Reporting::take_refused`].
    refused: AtomicBool,
    token: Option<Source>,
    /// The last statistics of librdkafka, until they are taken.
    statistics: Mutex<Option<Statistics>>,
    brokerless: Brokerless,
}

/// Counts of the sent records. They have cache lines of their own, because the sending thread
/// writes them for each record, while the poll thread writes its own counts.
#[repr(align(128))]
#[derive(Default)]
struct SentCounts {
    /// Number of records that were handed to librdkafka.
    records: AtomicU64,
    /// The newest ticket of the records that were handed to librdkafka.
    ticket: AtomicU64,
}

impl Reporting {
    pub(crate) fn new(
        generation: Generation,
        deliveries: Sender<Delivery>,
        token: Option<Source>,
    ) -> Self {
        Reporting {
            generation,
            deliveries,
            sent: SentCounts::default(),
            answered: AtomicU64::new(0),
            doubtful_ticket: AtomicU64::new(0),
            last_failure: Mutex::new(None),
            doubtful: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            settling: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            all_answered: Notify::new(),
            refused: AtomicBool::new(false),
            token,
            statistics: Mutex::new(None),
            brokerless: Brokerless::default(),
        }
    }

    /// Counts a record as sent. This comes before the sending, because the report could otherwise
    /// be counted first. Plain stores are enough, because only one thread sends.
    ///
    /// Returns the newest ticket before this one, for [`Reporting::take_back`].
    pub(crate) fn count_sent(&self, ticket: u64) -> u64 {
        self.sent.records.store(self.sent.records.load(Ordering::Relaxed) + 1, Ordering::Release);
        let before = self.sent.ticket.load(Ordering::Relaxed);
        self.sent.ticket.store(ticket, Ordering::Release);
        before
    }

    /// Undoes [`Reporting::count_sent`], which returned `ticket_before`, because librdkafka did not
    /// accept the record.
    pub(crate) fn take_back(&self, ticket_before: u64) {
        self.sent.records.store(self.sent.records.load(Ordering::Relaxed) - 1, Ordering::Release);
        self.sent.ticket.store(ticket_before, Ordering::Release);
    }

    /// Number of records that were sent and have no report yet.
    pub(crate) fn in_flight(&self) -> u64 {
        let answered = self.answered.load(Ordering::SeqCst);
        self.sent.records.load(Ordering::SeqCst).saturating_sub(answered)
    }

    /// Marks every record sent until now as doubtful, if a connection has failed in the last 31 s.
    /// In that time librdkafka may suppress messages about further failures.
    fn keep_doubting(&self) {
        let recent = self
            .last_failure
            .lock()
            .is_ok_and(|at| at.is_some_and(|at| at.elapsed() < FAILURE_SUPPRESSED_FOR));
        if recent {
            self.doubtful_ticket
                .fetch_max(self.sent.ticket.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }

    /// What the poll thread does between two polls: marks doubtful records, and gives a client that
    /// has lost its brokers the configured `brokers` again.
    pub(crate) fn polled(&self, client: &Client<Reporting>, brokers: &[String]) {
        self.keep_doubting();
        self.brokerless.restore(client, brokers);
    }

    /// Takes the newest statistics of librdkafka. `None` if none came since the last call.
    pub(crate) fn take_statistics(&self) -> Option<Statistics> {
        self.statistics.lock().ok()?.take()
    }

    /// Whether the client has lost every broker and will find none again.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.brokerless.is_final()
    }

    /// Whether brokers refused our login since the last call.
    pub(crate) fn take_refused(&self) -> bool {
        self.refused.swap(false, Ordering::Relaxed)
    }

    fn note_failure(&self) {
        if let Ok(mut at) = self.last_failure.lock() {
            *at = Some(Instant::now());
        }
        self.keep_doubting();
    }

    fn failed(&self, code: RDKafkaErrorCode, ticket: u64) -> Failed {
        let purged = matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight);
        // A record that was purged while it waited for its retry may have an earlier copy in a
        // buffer on the way.
        let doubtful = code == RDKafkaErrorCode::PurgeInflight
            || (purged && ticket <= self.doubtful_ticket.load(Ordering::SeqCst));
        if doubtful {
            self.doubtful.fetch_add(1, Ordering::SeqCst);
        }
        Failed { code, purged, doubtful }
    }

    /// Reports a parked record as failed, because librdkafka does not accept it. `send` has already
    /// accepted it from the row path.
    pub(crate) fn refuse(&self, ticket: Ticket, code: RDKafkaErrorCode) {
        self.ended.store(true, Ordering::SeqCst);
        let outcome = Err(Failed { code, purged: false, doubtful: false });
        self.report(Delivery { ticket, generation: self.generation, outcome });
    }

    /// Makes the failure of a record that librdkafka reports as delivered although no broker has
    /// acknowledged it.
    ///
    /// If a request is refused and the next one of its partition is accepted, librdkafka concludes
    /// that the broker has the records of both. The conclusion can be wrong, because a broker
    /// accepts any sequence number from a producer that it does not know in the partition.
    fn unanswered(&self, ticket: u64) -> Failed {
        if !self.ended.swap(true, Ordering::SeqCst) {
            tracing::warn!(
                "librdkafka reports a record as delivered that no broker has acknowledged; it is \
                 sent again"
            );
        }
        self.failed(RDKafkaErrorCode::OutOfOrderSequenceNumber, ticket)
    }

    fn report(&self, delivery: Delivery) {
        match self.deliveries.try_send(delivery) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(delivery)) => {
                // The channel is full only if its reader fell behind by a whole queue. A running
                // producer waits for the reader. A producer that is being settled must not wait,
                // because the task that settles it may be the reader. A record whose success is not
                // reported is only sent again.
                if !self.settling.load(Ordering::SeqCst) {
                    let _ = self.deliveries.blocking_send(delivery);
                }
            }
        }
    }
}

impl ClientContext for Reporting {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        oauth_token(self.token.as_ref().ok_or(NO_TOKEN)?).map_err(|error| no_token(&error).into())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, detail: &str) {
        // FAIL means that a connection broke, and REQTMOUT that a request got no answer in time.
        // Both leave requests unanswered that librdkafka repeats. If their records are purged
        // instead, a first copy may still arrive.
        if matches!(facility, "FAIL" | "REQTMOUT") {
            self.note_failure();
        }
        // librdkafka calls it fatal if a producer is closed with requests in flight. This is no
        // error, because a producer that is being settled sends nothing more.
        if facility == "FATAL" && self.settling.load(Ordering::SeqCst) {
            tracing::debug!(facility, detail, "librdkafka");
        } else {
            pass_on(level, facility, detail);
        }
    }

    fn error(&self, error: KafkaError, detail: &str) {
        if is_refusal(error.rdkafka_error_code()) {
            self.refused.store(true, Ordering::Relaxed);
        }
        // Connection errors are in the log already. A fatal error shows in the delivery reports and
        // in `fatal_error`.
        tracing::debug!(%error, detail, "librdkafka reported an error");
    }

    fn stats_raw(&self, json: &[u8]) {
        let Some(read) = Statistics::read(json) else { return };
        self.brokerless.note(read.brokers_known);
        if let Ok(mut statistics) = self.statistics.lock() {
            *statistics = Some(read);
        }
    }
}

impl ProducerContext for Reporting {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let ticket = ticket as u64;
        let outcome = match result {
            Ok(message) if message.offset() == NO_ANSWER => Err(self.unanswered(ticket)),
            Ok(message) => Ok(Landed { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => {
                self.ended.store(true, Ordering::SeqCst);
                Err(self.failed(
                    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown),
                    ticket,
                ))
            }
        };
        self.report(Delivery { ticket: Ticket(ticket), generation: self.generation, outcome });
        self.answered.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) && self.in_flight() == 0 {
            self.all_answered.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_librdkafka_says_is_quoted_without_its_threads_and_times() {
        for (detail, short) in [
            (
                "[thrd:h:1/bootstrap]: h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT, 1 identical error(s) suppressed)",
                "Connect to ipv4#127.0.0.1:1 failed: Connection refused",
            ),
            (
                "[thrd:sasl_ssl://h:1/2]: sasl_ssl://h:1/2: SASL authentication error: no",
                "SASL authentication error: no",
            ),
            ("1/1 brokers are down", "1/1 brokers are down"),
            ("", ""),
        ] {
            assert_eq!(in_short(detail), short);
        }
    }
}
