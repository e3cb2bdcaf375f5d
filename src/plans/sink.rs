//! Where records go: to a Kafka producer, or as lines to standard output for a trial without Kafka.
//!
//! Both report deliveries in the same way, so that the loop does not distinguish them.

use crate::kafka::{self, Address, Delivery, Headers, Landed, Producer, SendError, Settled};
use crate::ledger::{Generation, Ticket};
use std::io::Write;
use std::os::fd::AsFd as _;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

/// The configured destination of records.
#[derive(Clone, Debug)]
pub enum Config {
    /// Records go to Kafka.
    Kafka(Box<kafka::Config>),
    /// Records go to standard output, one JSON document per line, and the state to a file.
    Stdout {
        /// Path of the file that holds the state.
        state_file: std::path::PathBuf,
    },
}

impl Config {
    /// Reads the login for Kafka again from its file or command. Returns true if it has changed.
    ///
    /// # Errors
    /// The login cannot be read.
    pub async fn renew(&mut self) -> Result<bool, kafka::KafkaError> {
        match self {
            Config::Kafka(kafka) => {
                kafka.login.renew().await.map_err(|source| kafka::KafkaError::Secret { source })
            }
            Config::Stdout { .. } => Ok(false),
        }
    }
}

/// The most lines that wait for standard output. If the reader pauses (`| less`), the stream then
/// stops, and memory does not grow.
const LINES_MAX: usize = 10_000;

/// The most records of one change: delete, tombstone, create.
const CHANGE_LINES_MAX: usize = 3;

/// Pause between attempts to hand over a record for which librdkafka's queue had no room.
const PARKED_RETRY: Duration = Duration::from_millis(50);

/// The offset in the delivery report of a line on standard output, because a line has no offset. A
/// counter of lines would begin again with each producer, and would mix the topics of several
/// tables. The core compares no offsets if a report has none.
const NO_OFFSET: i64 = -1;

/// A running destination of records.
pub enum Sink {
    /// A running Kafka producer.
    Kafka(Producer),
    /// Standard output, written by a thread, because a pipe that nobody reads must not stop the
    /// loop.
    Stdout(Lines),
}

/// Handle of the thread that writes standard output.
pub struct Lines {
    lines: mpsc::Sender<(Ticket, Vec<u8>)>,
    /// Receives the reason when the thread ends. `None` after that was reported.
    ended: Option<oneshot::Receiver<StdoutError>>,
    /// Tells when the reader of standard output has closed its pipe. `None` if standard output is a
    /// file or cannot be watched.
    pipe: Option<pipe::Sender>,
}

/// Why no more lines can be written to standard output.
#[derive(Debug, thiserror::Error)]
pub enum StdoutError {
    /// The reader of the pipe has closed it.
    #[error("the reader of standard output is gone")]
    ReaderGone,
    /// A write failed, for example because the disk is full.
    #[error("write to standard output")]
    Write(#[source] std::io::Error),
    /// The thread ended without an answer, which only a panic can cause.
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
    /// Creates a sink whose lines a test reads instead of standard output.
    pub fn into_channel(lines: mpsc::Sender<(Ticket, Vec<u8>)>) -> Self {
        Lines { lines, ended: None, pipe: None }
    }
}

impl Lines {
    fn start(
        generation: Generation,
        deliveries: mpsc::Sender<Delivery>,
    ) -> Result<Self, kafka::KafkaError> {
        let (lines, queue) = mpsc::channel(LINES_MAX);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || {
                if let Err(error) = write_lines(queue, std::io::stdout(), generation, &deliveries) {
                    let _ = end.send(error.into()); // the receiver is gone when the process ends
                }
            })
            .map_err(|source| kafka::KafkaError::Thread { name: "stdout", source })?;
        Ok(Lines { lines, ended: Some(ended), pipe: watched() })
    }

    async fn ended(&mut self) -> StdoutError {
        let Some(ended) = &mut self.ended else { return std::future::pending().await };
        let error = tokio::select! {
            biased; // a failed write says more than a closed pipe
            error = ended => error.unwrap_or(StdoutError::Interrupted),
            () = closed(self.pipe.as_ref()) => StdoutError::ReaderGone,
        };
        self.ended = None;
        error
    }
}

/// Opens standard output for the runtime, which then notices that the reader has gone. Returns
/// `None` for a file, because a file has no reader, and for an output that cannot be watched. The
/// next write then notices that the reader has gone.
pub fn watched() -> Option<pipe::Sender> {
    // Writes go on through `std::io::stdout`, which waits. So the pipe must not become
    // non-blocking, as `pipe::Sender::from_file` would make it.
    let own = std::io::stdout().as_fd().try_clone_to_owned().ok()?;
    pipe::Sender::from_file_unchecked(own.into()).ok()
}

/// Waits until the reader of the pipe has closed it. Without this wait, nothing would show that
/// while the database is idle, because no write fails then.
pub async fn closed(pipe: Option<&pipe::Sender>) {
    match pipe {
        Some(pipe) if pipe.ready(Interest::ERROR).await.is_ok() => {}
        // No pipe is watched, or the runtime is ending.
        _ => std::future::pending().await,
    }
}

/// Writes and reports each line, until the sink or the receiver of the reports is gone. After a
/// failed write nothing more is reported, so that nothing more is confirmed.
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
    /// librdkafka refuses the configuration, or no thread can be started.
    pub fn start(
        config: &Config,
        generation: Generation,
        deliveries: mpsc::Sender<Delivery>,
    ) -> Result<Self, kafka::KafkaError> {
        match config {
            Config::Kafka(config) => {
                Producer::start(config, generation, deliveries).map(Sink::Kafka)
            }
            Config::Stdout { .. } => Lines::start(generation, deliveries).map(Sink::Stdout),
        }
    }

    /// Waits until standard output can take no more lines, and returns the reason. For Kafka it
    /// never returns. Cancel-safe.
    pub async fn ended(&mut self) -> StdoutError {
        match self {
            Sink::Kafka(_) => std::future::pending().await,
            Sink::Stdout(lines) => lines.ended().await,
        }
    }

    /// True if the sink will accept the records of one change. The queue of Kafka is bounded by the
    /// byte budget alone. The queue of standard output has a bound of its own, and the next
    /// delivery report shows that there is room again.
    #[inline]
    #[must_use]
    pub fn has_room(&mut self) -> bool {
        match self {
            Sink::Kafka(producer) => producer.has_room(),
            Sink::Stdout(Lines { lines, .. }) => {
                lines.capacity() >= CHANGE_LINES_MAX && !lines.is_closed()
            }
        }
    }

    /// Returns the longest time after which [`Sink::has_room`] has to be called again, even if the
    /// sink has reported no delivery meanwhile.
    #[must_use]
    pub fn rest(&self) -> Duration {
        match self {
            Sink::Kafka(producer) if producer.has_parked() => PARKED_RETRY,
            Sink::Kafka(_) | Sink::Stdout(_) => Duration::MAX,
        }
    }

    /// Hands over one record.
    ///
    /// # Errors
    /// The record was not accepted, and will have no delivery report.
    #[inline]
    pub fn send<'h>(
        &mut self,
        to: Address<'_>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers<'h, impl Iterator<Item = (&'h str, Option<&'h [u8]>)> + Clone>,
        ticket: Ticket,
    ) -> Result<(), SendError> {
        match self {
            Sink::Kafka(producer) => producer.send(to, key, value, headers, ticket),
            Sink::Stdout(Lines { lines, .. }) => {
                let line = json_line(to.topic, key, value);
                lines.try_send((ticket, line)).map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => SendError::QueueFull,
                    mpsc::error::TrySendError::Closed(_) => SendError::Ended,
                })
            }
        }
    }

    /// True if the Kafka client has lost every known broker and cannot find another.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        match self {
            Sink::Kafka(producer) => producer.is_abandoned(),
            Sink::Stdout(_) => false,
        }
    }

    /// The statistics that librdkafka has reported since the last call, if any.
    #[must_use]
    pub fn take_statistics(&self) -> Option<kafka::Statistics> {
        match self {
            Sink::Kafka(producer) => producer.take_statistics(),
            Sink::Stdout(_) => None,
        }
    }

    /// True if brokers have refused our login for Kafka since the last call.
    #[must_use]
    pub fn take_refused(&self) -> bool {
        match self {
            Sink::Kafka(producer) => producer.take_refused(),
            Sink::Stdout(_) => false,
        }
    }

    /// Ends this producer: purges its queue, and waits at most `within` for the answers to its
    /// requests in flight. Standard output ends at once.
    pub async fn settle(self, within: Duration) -> Settled {
        match self {
            Sink::Kafka(producer) => producer.settle(within).await,
            Sink::Stdout(_) => Settled { unanswered: 0 },
        }
    }
}

/// `{"topic":…,"key":…,"value":…}` and a line break. Keys and values are JSON texts already.
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

    /// A writer that accepts this many lines and then fails.
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
            assert_eq!(
                (report.ticket, report.outcome.unwrap().offset),
                (Ticket(ticket), NO_OFFSET)
            );
        }
        assert!(reports.blocking_recv().is_none());
        assert!(lines.is_closed());
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(matches!(StdoutError::from(broken), StdoutError::ReaderGone));
    }
}
