//! Describes or creates many topics with as few requests as one topic needs.

use super::context::Asking;
use super::error::KafkaError;
use super::topics::{
    Asker, REQUEST_TIMEOUT, SPREAD_PAUSE, SPREAD_TIMEOUT, TopicInfo, TopicSpec, Topics, shape_of,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataTopic;
use std::collections::HashMap;
use std::time::Instant;

impl Topics {
    /// Describes many topics, in the order asked, with two requests for all of them. The answer is
    /// `None` for a topic that does not exist, and also for a topic that we may not describe.
    ///
    /// # Errors
    /// `Unreachable`, or `Request` if the broker refuses to answer.
    pub async fn describe_many(
        &self,
        topics: Vec<String>,
    ) -> Result<Vec<Option<TopicInfo>>, KafkaError> {
        self.off_the_runtime("describe topics", move |asker| asker.describe_many(&topics)).await
    }

    /// Creates topics with one request, and describes each of them afterwards, in the order asked.
    /// The answer is `None` for a topic that the broker did not create; [`Topics::ensure`] tells
    /// why.
    ///
    /// # Errors
    /// `NoCreation` if we log in by a token, `Request` if the brokers do not answer, `Unreachable`.
    pub async fn create_many(
        &self,
        specs: Vec<TopicSpec>,
    ) -> Result<Vec<Option<TopicInfo>>, KafkaError> {
        self.off_the_runtime("create topics", move |asker| asker.create_many(&specs)).await
    }
}

impl Asker {
    fn describe_many(&self, topics: &[String]) -> Result<Vec<Option<TopicInfo>>, KafkaError> {
        let consumer = self.consumer()?;
        let mut infos = self.shapes(&consumer, topics.iter().map(String::as_str))?;
        self.add_settings(&consumer, &mut infos)?;
        Ok(infos)
    }

    /// Describes these topics from metadata, by one request about all topics of the cluster.
    fn shapes<'t>(
        &self,
        consumer: &BaseConsumer<Asking>,
        topics: impl Iterator<Item = &'t str>,
    ) -> Result<Vec<Option<TopicInfo>>, KafkaError> {
        let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT).map_err(|source| {
            self.explain(consumer, "describe topics", "of the cluster", source)
        })?;
        let all: HashMap<&str, &MetadataTopic> =
            metadata.topics().iter().map(|topic| (topic.name(), topic)).collect();
        let known = |name| all.get(name).filter(|topic| topic.error().is_none());
        Ok(topics.map(|name| known(name).and_then(|found| shape_of(found))).collect())
    }

    fn create_many(&self, specs: &[TopicSpec]) -> Result<Vec<Option<TopicInfo>>, KafkaError> {
        let names = || specs.iter().map(|spec| spec.name.as_str());
        if self.config.login.token().is_some() {
            let topic = names().next().map_or_else(String::new, str::to_owned);
            return Err(KafkaError::NoCreation { topic });
        }
        let consumer = self.consumer()?;
        let made = self.create(&consumer, &specs.iter().collect::<Vec<_>>());
        if let Err(error @ KafkaError::Request { .. }) = made {
            return Err(error);
        }
        // After a refusal the wait is short. The reason is reported when the caller asks for the
        // refused topic alone.
        let deadline = Instant::now() + if made.is_ok() { SPREAD_TIMEOUT } else { SPREAD_PAUSE };
        let mut infos = self.shapes(&consumer, names())?;
        while infos.iter().any(Option::is_none) && Instant::now() < deadline {
            std::thread::sleep(SPREAD_PAUSE); // on the blocking pool
            infos = self.shapes(&consumer, names())?;
        }
        Self::await_leaders(&consumer, infos.iter().flatten());
        self.add_settings(&consumer, &mut infos)?;
        Ok(infos)
    }
}
