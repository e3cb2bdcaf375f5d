//! Gives brokers to a running client of librdkafka.
//!
//! librdkafka 2.10 to 2.13 can come into a state in which a client knows no broker and looks for
//! none ([issue 5301](https://github.com/confluentinc/librdkafka/issues/5301)). The client then
//! never connects again, although the cluster works. `rd_kafka_brokers_add` is the only call that
//! ends this state, and the `rdkafka` crate has no safe function for the call.
//!
//! This crate holds the only unsafe code of Wellspring: one call.

use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::client::{Client, ClientContext};
use std::ffi::CString;

/// Adds `brokers`, each as `host:port`, to the brokers that `client` knows. If the client knew none
/// before, it connects to one of them at once. A broker that the client has already is not added a
/// second time.
///
/// Returns the number of brokers in the list that librdkafka accepts. The number is 0 if a name
/// contains a null byte.
///
/// The source of the rule is `rdkafka.h` of librdkafka 2.12.1. The call may come from any thread,
/// and librdkafka copies the list.
pub fn add_brokers<C: ClientContext>(client: &Client<C>, brokers: &[String]) -> usize {
    let Ok(list) = CString::new(brokers.join(",")) else { return 0 };
    // SAFETY: `client` owns the handle and outlives this call, so the pointer is valid. `list` is
    // a string with a null byte at its end, and librdkafka does not keep the pointer to it.
    let added = unsafe { rd_kafka_brokers_add(client.native_ptr(), list.as_ptr()) };
    usize::try_from(added).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, Producer};
    use std::time::Duration;

    #[test]
    fn a_client_without_brokers_reaches_those_that_it_is_given() {
        let cluster = MockCluster::new(1).expect("mock cluster");
        let producer: BaseProducer = ClientConfig::new().create().expect("producer");
        let metadata =
            |within: u64| producer.client().fetch_metadata(None, Duration::from_millis(within));
        assert!(metadata(100).is_err(), "a client without brokers has nobody to ask");
        assert_eq!(add_brokers(producer.client(), &[cluster.bootstrap_servers()]), 1);
        assert_eq!(metadata(30_000).expect("metadata").brokers().len(), 1);
    }

    #[test]
    fn a_broker_is_added_once_and_no_null_byte_is_passed_on() {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", "127.0.0.1:1").create().expect("producer");
        assert_eq!(add_brokers(producer.client(), &["127.0.0.1:1".to_owned()]), 1);
        assert_eq!(add_brokers(producer.client(), &["a\0b:1".to_owned()]), 0);
        assert_eq!(add_brokers(producer.client(), &[]), 0);
    }
}
