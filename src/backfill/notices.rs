//! What is told of copies: Debezium's notifications, on their way into their topic and the log.
//!
//! Copies note their news ([`Teller`]); here each becomes a notice, waits until it can be sent, and is kept until it is
//! delivered: one whose producer was lost is sent again. Notices confirm nothing and nothing waits for them; a process that
//! ends loses those that were not delivered. Keys of rows are in the topic, never in the log.

use crate::encode::{self, Notice};
use crate::ledger::Ticket;
use std::collections::VecDeque;

/// Bytes of notices that may wait: hundreds of chunks of a copy that nobody takes rows from, beside a byte budget of tens
/// of MiB. The oldest give way.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a list of tables: each notice has one, and a database can have more tables than a record has room for.
const LIST_BYTES_MAX: usize = 32 * 1024;

/// Values of rows, which stay out of the log.
const KEYS_OF_ROWS: [&str; 2] = ["last_processed_key", "maximum_key"];

/// Which copies it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The first copy.
    First,
    /// Copies beside the stream.
    Beside,
}

impl About {
    /// Debezium's word.
    const fn aggregate(self) -> &'static str {
        match self {
            About::First => "Initial Snapshot",
            About::Beside => "Incremental Snapshot",
        }
    }
}

/// More of what happened, by Debezium's names.
pub type Data = Vec<(&'static str, String)>;

/// Names of tables, between commas; where they are too many the rest is `...`.
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

/// Something that happened to copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub about: About,
    /// `STARTED`, `IN_PROGRESS`, ...
    pub kind: &'static str,
    /// The signal that asked for the copy, if one did.
    pub signal: Option<String>,
    pub data: Data,
}

/// Where copies note what happens to them. Where nobody wants to know, nothing is made of it.
#[derive(Debug, Default)]
pub struct Teller {
    on: bool,
    news: Vec<News>,
}

impl Teller {
    /// For somebody who wants to know, or not.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Teller { on, news: Vec::new() }
    }

    /// Notes something.
    pub fn tell(&mut self, news: impl FnOnce() -> News) {
        if self.on {
            self.news.push(news());
        }
    }

    /// Takes what was noted.
    pub fn take(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}

/// Notices on their way.
#[derive(Debug)]
pub struct Notices {
    prefix: String,
    topic: bool,
    log: bool,
    waiting: VecDeque<Notice>,
    waiting_bytes: usize,
    /// Sent and not delivered yet, in order.
    sent: VecDeque<(Ticket, Notice)>,
}

impl Notices {
    /// For a topic, the log, both or neither.
    #[must_use]
    pub fn new(config: &encode::Config, log: bool) -> Self {
        let (prefix, topic) = (config.prefix.clone(), config.rules.notice_topic.is_some());
        Notices { prefix, topic, log, waiting: VecDeque::new(), waiting_bytes: 0, sent: VecDeque::new() }
    }

    /// Whether anybody wants to know.
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.topic || self.log
    }

    /// Takes news; `id` is used where no signal names one.
    pub fn note(&mut self, news: News, id: String, at_ms: i64) {
        let News { about, kind, signal, mut data } = news;
        data.push(("connector_name", self.prefix.clone()));
        data.sort_by_key(|(name, _)| *name);
        let notice = Notice { id: signal.unwrap_or(id), kind, aggregate: about.aggregate(), data, at_ms };
        if self.log {
            let shown = notice.data.iter().filter(|(name, _)| !KEYS_OF_ROWS.contains(name));
            let shown: Vec<String> = shown.map(|(name, value)| format!("{name}={value}")).collect();
            tracing::info!(id = notice.id, aggregate = notice.aggregate, kind, data = shown.join(" "), "notification");
        }
        if self.topic {
            self.waiting_bytes += size_bytes(&notice);
            self.waiting.push_back(notice);
            while self.waiting_bytes > WAITING_BYTES_MAX && self.give_up().is_some() {
                tracing::warn!("a notification is dropped: {WAITING_BYTES_MAX} bytes of them wait to be sent");
            }
        }
    }

    /// The next one to be sent.
    #[must_use]
    pub fn next(&self) -> Option<&Notice> {
        self.waiting.front()
    }

    /// It was sent under this ticket.
    pub fn sent(&mut self, ticket: Ticket) {
        let notice = self.give_up();
        self.sent.extend(notice.map(|notice| (ticket, notice)));
    }

    /// The next one will not be sent.
    pub fn give_up(&mut self) -> Option<Notice> {
        let notice = self.waiting.pop_front()?;
        self.waiting_bytes -= size_bytes(&notice);
        Some(notice)
    }

    /// Everything before this ticket is delivered.
    pub fn settle(&mut self, oldest: Ticket) {
        while self.sent.pop_front_if(|(ticket, _)| *ticket < oldest).is_some() {}
    }

    /// The producer is given up: what it has not delivered is sent again.
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
        assert!(held == notices.waiting_bytes && held <= WAITING_BYTES_MAX && held > WAITING_BYTES_MAX / 2);
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
        let news = News { about: About::Beside, kind: "STARTED", signal: Some("s1".into()), data };
        notices.note(news, "other".to_owned(), 7);
        let notice = notices.next().unwrap();
        assert_eq!((notice.id.as_str(), notice.aggregate), ("s1", "Incremental Snapshot"));
        let names: Vec<_> = notice.data.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["connector_name", "data_collections", "status"]);
    }

    #[test]
    fn nothing_is_made_for_nobody() {
        let mut teller = Teller::new(false);
        teller.tell(|| unreachable!("nobody wants to know"));
        assert_eq!(teller.take(), []);
    }
}
