//! Where records go: a Kafka producer, or lines on standard output for a look without Kafka.
//!
//! Both answer with the same delivery reports, so that the loop knows no difference.

use crate::kafka::{self, Delivery, Landed, Producer, SendError, Settled};
use crate::ledger::{Generation, Ticket};
use std::io::Write;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Where the agent writes.
#[derive(Clone, Debug)]
pub enum Config {
    /// Kafka.
    Kafka(Box<kafka::Config>),
    /// One JSON document a line on standard output; the state in a file.
    Stdout {
        /// Where the state goes.
        state_file: std::path::PathBuf,
    },
}

impl Config {
    /// Reads anew what the login is read from; true if it is another one than before.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub async fn renew(&mut self) -> Result<bool, kafka::KafkaError> {
        match self {
            Config::Kafka(kafka) => kafka.login.renew().await.map_err(|source| kafka::KafkaError::Secret { source }),
            Config::Stdout { .. } => Ok(false),
        }
    }
}

/// Lines waiting for standard output: a reader that pauses (`| less`) stops the stream here, not in memory.
const LINES_MAX: usize = 10_000;

/// A change has at most three records: delete, tombstone, create.
const CHANGE_LINES_MAX: usize = 3;

/// Lines have no offsets. A number counted here would begin anew with each producer, and would say of several tables'
/// topics what is true of all of them together; the core compares nothing where a report has no offset.
const NO_OFFSET: i64 = -1;

/// The running end.
pub enum Sink {
    /// Kafka.
    Kafka(Producer),
    /// Standard output, behind a thread: a pipe nobody reads must not stop the loop.
    Stdout(Lines),
}

/// Standard output while a thread writes to it.
pub struct Lines {
    lines: mpsc::Sender<(Ticket, Vec<u8>)>,
    /// Why the thread ended; none once that is told.
    ended: Option<oneshot::Receiver<StdoutError>>,
}

/// Why standard output takes nothing more.
#[derive(Debug, thiserror::Error)]
pub enum StdoutError {
    /// Whoever read the pipe has closed it.
    #[error("the reader of standard output is gone")]
    ReaderGone,
    /// A write failed, as one to a file on a full disk does.
    #[error("write to standard output")]
    Write(#[source] std::io::Error),
    /// The thread ended without an answer; only a panic does that.
    #[error("write to standard output: the thread ended without an answer")]
    Interrupted,
}

impl From<std::io::Error> for StdoutError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => StdoutError::ReaderGone,
            _ => StdoutError::Write(error),
        }
    }
}

#[cfg(test)]
impl Lines {
    /// Lines that a test reads in the place of standard output.
    pub fn into_channel(lines: mpsc::Sender<(Ticket, Vec<u8>)>) -> Self {
        Lines { lines, ended: None }
    }
}

impl Lines {
    fn start(generation: Generation, deliveries: mpsc::Sender<Delivery>) -> Result<Self, kafka::KafkaError> {
        let (lines, queue) = mpsc::channel(LINES_MAX);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || {
                if let Err(error) = write_lines(queue, std::io::stdout(), generation, &deliveries) {
                    let _ = end.send(error.into()); // nobody waits for it while the process ends
                }
            })
            .map_err(|source| kafka::KafkaError::Thread { name: "stdout", source })?;
        Ok(Lines { lines, ended: Some(ended) })
    }

    async fn ended(&mut self) -> StdoutError {
        let Some(ended) = &mut self.ended else { return std::future::pending().await };
        let error = ended.await.unwrap_or(StdoutError::Interrupted);
        self.ended = None;
        error
    }
}

/// Writes each line and reports it, until nobody sends or hears any more. A failed write ends it: nothing more is
/// reported then, so nothing more is confirmed.
fn write_lines(
    mut queue: mpsc::Receiver<(Ticket, Vec<u8>)>,
    mut out: impl Write,
    generation: Generation,
    deliveries: &mpsc::Sender<Delivery>,
) -> std::io::Result<()> {
    while let Some((ticket, line)) = queue.blocking_recv() {
        out.write_all(&line)?;
        out.flush()?;
        let outcome = Ok(Landed { partition: 0, offset: NO_OFFSET });
        if deliveries.blocking_send(Delivery { ticket, generation, outcome }).is_err() {
            break;
        }
    }
    Ok(())
}

impl Sink {
    /// Starts a producer of this generation.
    ///
    /// # Errors
    /// What librdkafka refuses, or no thread to be had.
    pub fn start(
        config: &Config,
        generation: Generation,
        deliveries: mpsc::Sender<Delivery>,
    ) -> Result<Self, kafka::KafkaError> {
        match config {
            Config::Kafka(config) => Producer::start(config, generation, deliveries).map(Sink::Kafka),
            Config::Stdout { .. } => Lines::start(generation, deliveries).map(Sink::Stdout),
        }
    }

    /// Standard output ended: nothing more can be written. Never returns for Kafka. Cancel-safe.
    pub async fn ended(&mut self) -> StdoutError {
        match self {
            Sink::Kafka(_) => std::future::pending().await,
            Sink::Stdout(lines) => lines.ended().await,
        }
    }

    /// Whether a change's records will be taken. Kafka's queue is bounded by the byte budget alone; standard output's is
    /// not, and its next delivery report says that there is room again.
    #[inline]
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        match self {
            Sink::Kafka(producer) => producer.has_room(),
            Sink::Stdout(Lines { lines, .. }) => lines.capacity() >= CHANGE_LINES_MAX && !lines.is_closed(),
        }
    }

    /// Hands over one record.
    ///
    /// # Errors
    /// When it was not taken; it has no report then.
    #[inline]
    pub fn send<'h>(
        &mut self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h str, &'h [u8])> + Clone,
        ticket: Ticket,
    ) -> Result<(), SendError> {
        match self {
            Sink::Kafka(producer) => producer.send(topic, partition, key, value, headers, ticket),
            Sink::Stdout(Lines { lines, .. }) => {
                let line = json_line(topic, key, value);
                lines.try_send((ticket, line)).map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => SendError::QueueFull,
                    mpsc::error::TrySendError::Closed(_) => SendError::Ended,
                })
            }
        }
    }

    /// Whether Kafka's client has lost every broker that it knew and will find none again.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        match self {
            Sink::Kafka(producer) => producer.is_abandoned(),
            Sink::Stdout(_) => false,
        }
    }

    /// What librdkafka told of itself since the last call, if it did.
    #[must_use]
    pub fn take_statistics(&self) -> Option<kafka::Statistics> {
        match self {
            Sink::Kafka(producer) => producer.take_statistics(),
            Sink::Stdout(_) => None,
        }
    }

    /// Whether brokers refused our login since the last call.
    #[must_use]
    pub fn take_refused(&self) -> bool {
        match self {
            Sink::Kafka(producer) => producer.take_refused(),
            Sink::Stdout(_) => false,
        }
    }

    /// Ends this generation: purges what is queued and waits for what is under way.
    pub async fn settle(self, within: Duration) -> Settled {
        match self {
            Sink::Kafka(producer) => producer.settle(within).await,
            Sink::Stdout(_) => Settled { unanswered: 0 },
        }
    }
}

/// `{"topic":…,"key":…,"value":…}` and a line break; keys and values are JSON texts already.
fn json_line(topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
    let mut line = b"{\"topic\":".to_vec();
    line.extend_from_slice(serde_json::Value::from(topic).to_string().as_bytes());
    for (name, part) in [(&b",\"key\":"[..], key), (b",\"value\":", value)] {
        line.extend_from_slice(name);
        line.extend_from_slice(part.unwrap_or(b"null"));
    }
    line.extend_from_slice(b"}\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many lines, and fails then.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_lines_that_were_written_are_reported_and_without_an_offset() {
        let (lines, queue) = mpsc::channel(9);
        let (deliveries, mut reports) = mpsc::channel(9);
        for ticket in 1..=3 {
            lines.try_send((Ticket(ticket), b"line\n".to_vec())).unwrap();
        }
        let error = write_lines(queue, Full(2), Generation(1), &deliveries).unwrap_err();
        assert!(matches!(StdoutError::from(error), StdoutError::Write(_)));
        drop(deliveries);
        for ticket in 1..=2 {
            let report = reports.blocking_recv().unwrap();
            assert_eq!((report.ticket, report.outcome.unwrap().offset), (Ticket(ticket), NO_OFFSET));
        }
        assert!(reports.blocking_recv().is_none());
        assert!(lines.is_closed());
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(matches!(StdoutError::from(broken), StdoutError::ReaderGone));
    }
}
