//! Notices of copies: Debezium's notifications, which go to a topic, to the log, or to both.
//!
//! Copies note news in a [`NewsBuffer`]. [`Notices`] makes a notice of each, keeps it until it is
//! delivered, and sends it again if its producer was lost. A notice confirms no position, and no
//! copy waits for it. Notices that are not delivered when the process ends are lost. Keys of rows
//! go to the topic and never to the log.

use crate::encode::{self, Notice};
use crate::ledger::Ticket;
use std::collections::VecDeque;

/// Most bytes of notices that wait to be sent. This is enough for hundreds of chunks, and little
/// beside a byte budget of tens of MiB. If there are more, the oldest are dropped.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of a list of tables. Each notice has such a list, and a database can have more tables
/// than fit a record.
const LIST_BYTES_MAX: usize = 32 * 1024;

/// Entries that hold values of rows. They are left out of the log.
const KEYS_OF_ROWS: [&str; 2] = ["last_processed_key", "maximum_key"];

/// The kind of copy that a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The first copy of the pipeline.
    First,
    /// A backfill or a standstill.
    Incremental,
}

impl About {
    /// Debezium's name for this kind of copy.
    const fn aggregate(self) -> &'static str {
        match self {
            About::First => "Initial Snapshot",
            About::Incremental => "Incremental Snapshot",
        }
    }
}

/// Further entries of a notice, by Debezium's names.
pub type Data = Vec<(&'static str, String)>;

/// Joins names of tables by commas. A list that is too long ends in `...`.
#[must_use]
pub fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut list = String::new();
    for name in names {
        if list.len() + name.len() > LIST_BYTES_MAX {
            list.push_str(",...");
            break;
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(name);
    }
    list
}

fn size_bytes(notice: &Notice) -> usize {
    let data: usize = notice.data.iter().map(|(name, value)| name.len() + value.len()).sum();
    size_of::<Notice>() + notice.id.len() + data
}

/// An event of one or more copies, such as their start or a read chunk. A notice is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub about: About,
    /// Debezium's type of the notification, such as `STARTED` or `IN_PROGRESS`.
    pub kind: &'static str,
    /// Id of the signal that requested the copy, if there was one.
    pub signal: Option<String>,
    pub data: Data,
}

/// Collects news of copies. If notices are off, it does not even build the news.
#[derive(Debug, Default)]
pub struct NewsBuffer {
    on: bool,
    news: Vec<News>,
}

impl NewsBuffer {
    /// An empty collection. `on` is true if notices are wanted.
    #[must_use]
    pub fn new(on: bool) -> Self {
        NewsBuffer { on, news: Vec::new() }
    }

    /// Adds one piece of news, if notices are wanted.
    pub fn note(&mut self, news: impl FnOnce() -> News) {
        if self.on {
            self.news.push(news());
        }
    }

    /// Removes and returns all news.
    pub fn take(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}

/// Notices that wait to be sent or to be delivered.
#[derive(Debug)]
pub struct Notices {
    prefix: String,
    topic: bool,
    log: bool,
    waiting: VecDeque<Notice>,
    waiting_bytes: usize,
    /// Notices that were sent and are not delivered yet, in the order of their tickets.
    sent: VecDeque<(Ticket, Notice)>,
}

impl Notices {
    /// Creates the queue. Notices go to the topic if `config` names one, and to the log if `log` is
    /// true.
    #[must_use]
    pub fn new(config: &encode::Config, log: bool) -> Self {
        let (prefix, topic) = (config.prefix.clone(), config.rules.notice_topic.is_some());
        Notices {
            prefix,
            topic,
            log,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent: VecDeque::new(),
        }
    }

    /// True if notices go to the topic or to the log.
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.topic || self.log
    }

    /// Makes a notice of the news, logs it if the log is on, and queues it if there is a topic. The
    /// id of the notice is that of the signal that requested the copy, or `id` if there was no
    /// signal.
    pub fn note(&mut self, news: News, id: String, at_ms: i64) {
        let News { about, kind, signal, mut data } = news;
        data.push(("connector_name", self.prefix.clone()));
        data.sort_by_key(|(name, _)| *name);
        let notice =
            Notice { id: signal.unwrap_or(id), kind, aggregate: about.aggregate(), data, at_ms };
        if self.log {
            let shown = notice.data.iter().filter(|(name, _)| !KEYS_OF_ROWS.contains(name));
            let shown: Vec<String> = shown.map(|(name, value)| format!("{name}={value}")).collect();
            tracing::info!(
                id = notice.id,
                aggregate = notice.aggregate,
                kind,
                data = shown.join(" "),
                "notification"
            );
        }
        if self.topic {
            self.waiting_bytes += size_bytes(&notice);
            self.waiting.push_back(notice);
            while self.waiting_bytes > WAITING_BYTES_MAX && self.give_up().is_some() {
                tracing::warn!(
                    "a notification is dropped: {WAITING_BYTES_MAX} bytes of them wait to be sent"
                );
            }
        }
    }

    /// Returns the oldest notice that waits to be sent. `None` if no notice waits.
    #[must_use]
    pub fn next(&self) -> Option<&Notice> {
        self.waiting.front()
    }

    /// Notes that the notice of [`Notices::next`] was handed to the producer under this ticket.
    pub fn sent(&mut self, ticket: Ticket) {
        let notice = self.give_up();
        self.sent.extend(notice.map(|notice| (ticket, notice)));
    }

    /// Removes the oldest notice that waits to be sent, and returns it.
    pub fn give_up(&mut self) -> Option<Notice> {
        let notice = self.waiting.pop_front()?;
        self.waiting_bytes -= size_bytes(&notice);
        Some(notice)
    }

    /// Forgets sent notices whose tickets lie below `oldest`: they are delivered.
    pub fn settle(&mut self, oldest: Ticket) {
        while self.sent.pop_front_if(|(ticket, _)| *ticket < oldest).is_some() {}
    }

    /// Queues the sent notices without a delivery report once more, because their producer was
    /// lost.
    pub fn lost(&mut self) {
        while let Some((_, notice)) = self.sent.pop_back() {
            self.waiting_bytes += size_bytes(&notice);
            self.waiting.push_front(notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notices() -> Notices {
        Notices {
            prefix: "shop".into(),
            topic: true,
            log: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent: VecDeque::new(),
        }
    }

    fn note(notices: &mut Notices, kind: &'static str) {
        let data = vec![("status", "SUCCEEDED".to_owned())];
        notices.note(News { about: About::First, kind, signal: None, data }, "id".to_owned(), 7);
    }

    fn kinds(notices: &Notices) -> Vec<&'static str> {
        notices.waiting.iter().map(|notice| notice.kind).collect()
    }

    #[test]
    fn what_was_not_delivered_is_sent_again_in_its_order() {
        let mut notices = notices();
        ["A", "B", "C", "D"].iter().for_each(|kind| note(&mut notices, kind));
        [4, 5, 9].into_iter().for_each(|ticket| notices.sent(Ticket(ticket)));
        notices.settle(Ticket(5));
        assert_eq!(kinds(&notices), ["D"]);
        notices.lost();
        assert_eq!(kinds(&notices), ["B", "C", "D"]);
    }

    #[test]
    fn more_than_can_wait_drops_the_oldest() {
        let mut notices = notices();
        note(&mut notices, "OLD");
        (0..WAITING_BYTES_MAX / 100).for_each(|_| note(&mut notices, "NEW"));
        assert!(!kinds(&notices).contains(&"OLD"));
        let held: usize = notices.waiting.iter().map(size_bytes).sum();
        assert!(
            held == notices.waiting_bytes
                && held <= WAITING_BYTES_MAX
                && held > WAITING_BYTES_MAX / 2
        );
    }

    #[test]
    fn a_list_of_tables_is_bounded() {
        assert_eq!(list(["a.b", "c.d"].into_iter()), "a.b,c.d");
        let long = list(std::iter::repeat_n("public.orders", 100_000));
        assert!(long.len() <= LIST_BYTES_MAX + 16 && long.ends_with("public.orders,..."));
    }

    #[test]
    fn a_notice_has_the_signals_id_and_its_data_by_name() {
        let mut notices = notices();
        let data = vec![("status", "EMPTY".to_owned()), ("data_collections", "a.b".to_owned())];
        let news =
            News { about: About::Incremental, kind: "STARTED", signal: Some("s1".into()), data };
        notices.note(news, "other".to_owned(), 7);
        let notice = notices.next().unwrap();
        assert_eq!((notice.id.as_str(), notice.aggregate), ("s1", "Incremental Snapshot"));
        let names: Vec<_> = notice.data.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["connector_name", "data_collections", "status"]);
    }

    #[test]
    fn nothing_is_made_for_nobody() {
        let mut news = NewsBuffer::new(false);
        news.note(|| unreachable!("nobody wants to know"));
        assert_eq!(news.take(), []);
    }
}
