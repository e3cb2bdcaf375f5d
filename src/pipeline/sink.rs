//! Where records go: a Kafka producer, or lines on standard output for a look without Kafka.
//!
//! Both answer with the same delivery reports, so that the loop knows no difference.

use crate::kafka::{self, Delivery, Landed, Producer, SendError, Settled};
use crate::ledger::{Generation, Ticket};
use std::io::Write;
use std::time::Duration;
use tokio::sync::mpsc;

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

/// The running end.
pub enum Sink {
    /// Kafka.
    Kafka(Producer),
    /// Standard output, behind a thread: a pipe nobody reads must not stop the loop.
    Stdout(mpsc::Sender<(Ticket, Vec<u8>)>),
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
            Config::Stdout { .. } => {
                let (lines, mut queue) = mpsc::channel::<(Ticket, Vec<u8>)>(LINES_MAX);
                std::thread::Builder::new()
                    .name("stdout".to_owned())
                    .spawn(move || {
                        let mut offset = 0;
                        while let Some((ticket, line)) = queue.blocking_recv() {
                            let mut out = std::io::stdout().lock();
                            // A closed pipe ends the thread: nothing more is delivered, so nothing more is confirmed.
                            if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                                return;
                            }
                            let outcome = Ok(Landed { partition: 0, offset });
                            offset += 1;
                            if deliveries.blocking_send(Delivery { ticket, generation, outcome }).is_err() {
                                return;
                            }
                        }
                    })
                    .map_err(|source| kafka::KafkaError::Thread { name: "stdout", source })?;
                Ok(Sink::Stdout(lines))
            }
        }
    }

    /// Whether a change's records will be taken. Kafka's queue is part of the byte budget; standard output's is not, and
    /// its next delivery report says that there is room again.
    #[inline]
    #[must_use]
    pub fn has_room(&self) -> bool {
        match self {
            Sink::Kafka(_) => true,
            Sink::Stdout(lines) => lines.capacity() >= CHANGE_LINES_MAX,
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
            Sink::Stdout(lines) => {
                let line = json_line(topic, key, value);
                lines.try_send((ticket, line)).map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => SendError::QueueFull,
                    mpsc::error::TrySendError::Closed(_) => SendError::Ended,
                })
            }
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
