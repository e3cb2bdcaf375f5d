//! Many topics at once: described, or created, with as few requests for all of them as for one.

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
    /// What each of many topics is, in the order asked, with two requests for all of them. A topic
    /// that we may not describe is not told apart from one that does not exist: both are `None`.
    ///
    /// # Errors
    /// `Unreachable`, or `Request` where the broker refuses to say.
    pub async fn describe_many(
        &self,
        topics: Vec<String>,
    ) -> Result<Vec<Option<TopicInfo>>, KafkaError> {
        self.off_the_runtime("describe topics", move |asker| asker.describe_many(&topics)).await
    }

    /// Creates topics with one request, and says what each of them is then, in the order asked.
    /// `None` for one that the broker did not create: [`Topics::ensure`] tells why.
    ///
    /// # Errors
    /// `NoCreation` with a token, `Request` where the brokers answer nothing, `Unreachable`.
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

    /// What metadata says of these topics, by one request about all topics of the cluster.
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
        // A refusal of one topic is told when that topic is asked for alone.
        let deadline = Instant::now() + if made.is_ok() { SPREAD_TIMEOUT } else { SPREAD_PAUSE };
        let mut infos = self.shapes(&consumer, names())?;
        while infos.iter().any(Option::is_none) && Instant::now() < deadline {
            std::thread::sleep(SPREAD_PAUSE); // on the blocking pool
            infos = self.shapes(&consumer, names())?;
        }
        self.add_settings(&consumer, &mut infos)?;
        Ok(infos)
    }
}
