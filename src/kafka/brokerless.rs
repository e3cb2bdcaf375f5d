//! A client that has lost every broker, and how the client gets its brokers back.
//!
//! A cluster whose brokers are all fenced for a moment answers a metadata request with an empty
//! list of brokers. librdkafka then removes the brokers that it knows, and now and then looks for
//! none again (its issue 5301, `docs/internals/producers.md`, rule 5). The client would never
//! connect again, although the cluster works.

use rdkafka::client::{Client, ClientContext};
use rdkafka_brokers::add_brokers;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A client counts as abandoned after this many statistics in a row without any broker, which takes
/// 15 s. Each statistics without a broker gives the client its brokers again, so a client that is
/// abandoned has not taken them.
const BROKERLESS_MAX: u32 = 3;

/// What the statistics of one client say about its brokers.
#[derive(Debug, Default)]
pub(crate) struct Brokerless {
    /// Number of statistics in a row that name no broker.
    in_a_row: AtomicU32,
    /// True from statistics without a broker until [`Brokerless::restore`].
    is_due: AtomicBool,
}

impl Brokerless {
    /// Notes the number of brokers that the client knows by its next statistics.
    pub fn note(&self, brokers_known: u64) {
        if brokers_known > 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        } else {
            self.in_a_row.fetch_add(1, Ordering::Relaxed);
            self.is_due.store(true, Ordering::Relaxed);
        }
    }

    /// Gives the client its configured brokers again if the last statistics named none. Records in
    /// the queue of the client stay there, so nothing is sent twice. Whoever polls the client calls
    /// this after each poll.
    pub fn restore<C: ClientContext>(&self, client: &Client<C>, brokers: &[String]) {
        if self.is_due.swap(false, Ordering::Relaxed) {
            let added = add_brokers(client, brokers);
            tracing::info!(
                added,
                "Kafka's client had lost every broker that it knew; it asks the configured ones"
            );
        }
    }

    /// Whether the client has been without brokers for so long that it is to be replaced.
    pub fn is_final(&self) -> bool {
        self.in_a_row.load(Ordering::Relaxed) >= BROKERLESS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::statistics::Statistics;
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use std::time::{Duration, Instant};

    #[test]
    fn a_client_is_replaced_once_it_stays_without_brokers() {
        let internal =
            br#"{"msg_cnt":1,"msg_size":1,"tx_bytes":0,"brokers":{":0/internal":{"state":"UP","source":"internal"}}}"#;
        let known = Statistics::read(internal).map(|statistics| statistics.brokers_known);
        assert_eq!(known, Some(0));
        let brokerless = Brokerless::default();
        let finals = [0, 0, 1, 0, 0, 0].map(|known| {
            brokerless.note(known);
            brokerless.is_final()
        });
        assert_eq!(finals, [false, false, false, false, false, true]);
    }

    #[test]
    fn a_client_without_brokers_sends_its_queue_once_it_has_them() {
        let cluster = MockCluster::new(1).expect("mock cluster");
        cluster.create_topic("rows", 1, 1).expect("topic");
        let producer: BaseProducer = ClientConfig::new().create().expect("producer");
        producer.send(BaseRecord::<str, str>::to("rows").payload("row")).expect("queued");
        let brokers = [cluster.bootstrap_servers()];
        let brokerless = Brokerless::default();
        let is_sent_within = |within: Duration| {
            let began = Instant::now();
            while producer.in_flight_count() > 0 && began.elapsed() < within {
                producer.poll(Duration::from_millis(20));
                brokerless.restore(producer.client(), &brokers);
            }
            producer.in_flight_count() == 0
        };
        brokerless.note(1);
        assert!(!is_sent_within(Duration::from_millis(200)), "a client with brokers keeps them");
        brokerless.note(0);
        assert!(is_sent_within(Duration::from_secs(30)), "the record is not sent");
    }
}
