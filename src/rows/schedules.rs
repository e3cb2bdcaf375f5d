//! Tests only: tables are detached and repaired under random schedules of refused rows, crashes and
//! losses. Row path, core and ledger are real. Server, state and Kafka are lists.

mod server;

use server::{Server, insert, truncate};

use super::{Burst, Head, Need, Rows, Tools};
use crate::backfill::Copies;
use crate::change::{Changes, Position, RelationShape, RelationSlot, ShapeColumn, Step};
use crate::continuity::Resume;
use crate::continuity::checkpoint::{Checkpoint, sample};
use crate::continuity::detached::{Cause, Detached, Detachments, OnRefusal};
use crate::core::{Core, Event, LastStop, Moment, Opened, Outcome, Report, SECOND, Settings};
use crate::encode::{Config, Ids, Planner, Quarantine};
use crate::ledger::{Generation, RouteId, Ticket};
use crate::lsn::{Lsn, Oid, PgMicros};
use crate::metrics::Metrics;
use crate::plans::sink::{Lines, Sink};
use crate::plans::{Active, Planned, QuarantineTopic};
use crate::table::TableFacts;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use tokio::sync::mpsc;

const QUARANTINE: &str = "p.wellspring-quarantine";
const TABLES: u32 = 3;
const NOW: Moment = Moment(SECOND);
const LINES: usize = 10_000;

/// One change: the insert of a new row. The row of a poisoned insert cannot be encoded.
#[derive(Clone, Copy, Debug)]
struct Insert {
    table: u32,
    poison: bool,
}

/// One event of a schedule.
#[derive(Clone, Debug)]
enum Happening {
    Transaction(Vec<Insert>),
    Truncate,
    /// The process crashes. This many of the records in flight are acknowledged in order, and some
    /// of the others. The rest is lost.
    Crash(usize),
    /// The repair of a detached table begins: its changes flow to its topic again. If the table is
    /// not detached, its record is removed, as at the end of the copy that repairs a table.
    Repair(u32),
}

fn shape(table: u32) -> RelationShape {
    let column = |name: &str, in_identity| ShapeColumn {
        name: name.to_owned(),
        type_oid: Oid(23),
        typmod: -1,
        in_identity,
    };
    RelationShape {
        oid: Oid(table + 100),
        namespace: "s".to_owned(),
        name: format!("t{table}"),
        identity: b'd',
        columns: vec![column("id", true), column("n", false)],
    }
}

/// A record that was produced.
#[derive(Clone, Debug)]
struct ProducedRecord {
    ticket: Ticket,
    topic: String,
    table: String,
    /// Id of the row, or position of the truncate.
    what: String,
}

/// The process. A crash ends it.
struct Agent {
    rows: Rows,
    core: Core,
    copies: Copies,
    sink: Sink,
    lines: mpsc::Receiver<(Ticket, Vec<u8>)>,
    /// Records that are produced and not acknowledged.
    in_flight: Vec<ProducedRecord>,
    next: usize,
}

struct World {
    /// How often each message is looked at in vain before it is handled.
    looks: usize,
    server: Server,
    agent: Agent,
    /// What a restart finds: the confirmed position, and the records of detached tables.
    confirmed: Lsn,
    state: Detachments,
    /// All records that Kafka has acknowledged.
    kafka: Vec<ProducedRecord>,
    metrics: Metrics,
    ids: usize,
    offset: i64,
}

impl Agent {
    fn start(confirmed: Lsn, server: &Server) -> Self {
        let settings = Settings {
            status_interval: 10 * SECOND,
            hold: 0,
            freeze: 60 * SECOND,
            budget_bytes: 1 << 30,
            stop_patience: SECOND,
            seed: 1,
        };
        let mut core = Core::new(settings, NOW);
        core.apply(NOW, Event::Tick);
        let record = Checkpoint { confirmed, sent: confirmed, ..sample() };
        let resume = Resume::at_slot(confirmed, None);
        let (slot_confirmed, last_stop) = (resume.from, LastStop::Clean);
        let opened =
            Opened { resume, slot_confirmed, record, last_stop, unix_ms: 0, ends: Vec::new() };
        core.apply(NOW, Event::Opened(Box::new(opened)));
        core.apply(NOW, Event::RecordWritten);
        let (sink, lines) = mpsc::channel(LINES);
        let mut rows = Rows::new(Changes::resume(None), OnRefusal::Detach);
        rows.transactions_planned(Planned::Excluded);
        let next = server.0.partition_point(|(end, _)| *end <= confirmed);
        Agent {
            rows,
            core,
            copies: Copies::new("s", false),
            sink: Sink::Stdout(Lines::into_channel(sink)),
            lines,
            in_flight: Vec::new(),
            next,
        }
    }
}

impl Rows {
    /// Looks at a message that is not taken yet.
    fn look_again(&mut self, head: Head, payload: &[u8], tools: &Tools<'_>) {
        let message = crate::pgoutput::decode(payload).unwrap();
        let buffer = (&mut self.output.records, &self.output.auxiliary);
        match &self.changes.look(head.start, head.sent_at, message).unwrap() {
            Step::Row(slot, context, row) => {
                drop(self.plans.look_at_row(*slot, (context, row), buffer, tools).unwrap());
            }
            Step::Truncate(slots, context) => {
                drop(self.plans.look_at_truncate(slots, context, tools));
            }
            _ => {}
        }
    }
}

impl World {
    fn new() -> Self {
        let (server, confirmed) = (Server(Vec::new()), Lsn::new(1));
        let agent = Agent::start(confirmed, &server);
        World {
            looks: 0,
            agent,
            server,
            confirmed,
            state: Detachments::resume(1, BTreeMap::new()),
            kafka: Vec::new(),
            metrics: Metrics::new("0"),
            ids: 0,
            offset: 0,
        }
    }

    fn planned(&self, table: u32) -> Planned {
        let (config, shape) =
            (Config { format: crate::encode::Format::Json, ..Config::new("p") }, shape(table));
        let name = format!("s.t{table}");
        if self.state.is_quarantined(&name) {
            return Planned::Detached(Rc::new(QuarantineTopic {
                quarantine: Quarantine::new(&config, &shape),
                floor: self.state.floor(&name),
                table: name.into(),
                topic: QUARANTINE.into(),
                route: RouteId(TABLES),
                partitions: 1,
                record_bytes_max: 1 << 20,
            }));
        }
        let facts = TableFacts { primary_key: vec!["id".to_owned()], ..TableFacts::default() };
        let described = crate::change::describe(&shape, &facts);
        let plan = Planner::new(config, "db", "run", 1)
            .draft(&described)
            .unwrap()
            .into_plan(Ids::default());
        Planned::Active(Active {
            plan: Rc::new(plan),
            metrics: self.metrics.table(&name),
            table: name.into(),
            route: RouteId(table),
            partitions: Some(1),
            record_bytes_max: 1 << 20,
            compacted: false,
            signals: None,
            uses: None,
            routes: None,
        })
    }

    /// Handles all that the server has, and does the runner's part for each need.
    fn stream(&mut self) {
        while let Some((end, messages)) = self.server.0.get(self.agent.next).cloned() {
            self.agent.next += 1;
            for message in messages {
                self.message(Some((end, message)));
            }
        }
    }

    fn message(&mut self, first: Option<(Lsn, Vec<u8>)>) {
        let mut handed = first;
        loop {
            let mut burst = Burst::default();
            let Agent { rows, core, copies, sink, .. } = &mut self.agent;
            let mut tools = Tools { core, sink, copies, now_unix_nanos: 0, metrics: &self.metrics };
            let (start, payload) = match handed.take() {
                Some(handed) => handed,
                None => match rows.parked.take() {
                    Some(parked) => (parked.head.start, parked.payload),
                    None => break,
                },
            };
            let head = Head { start, sent_at: PgMicros(0) };
            (0..self.looks).for_each(|_| rows.look_again(head, &payload, &tools));
            rows.message(head, &payload, &mut tools, &mut burst).unwrap();
            self.produced();
            match burst.need {
                Some(Need::Relation(slot, shape, _)) => {
                    let planned = self.planned(shape.oid.0 - 100);
                    self.agent.rows.planned(slot, planned);
                }
                Some(Need::Detach(slot, at, cause)) => {
                    // The first transaction describes the tables in this order
                    let table = u32::try_from(slot.0).unwrap();
                    let name = format!("s.t{table}");
                    let refusal = match cause {
                        Cause::Change(refusal) => refusal,
                        Cause::Plan => panic!("plans are not refused here"),
                        Cause::Recorded => crate::continuity::detached::Refusal {
                            reason: "",
                            detail: String::new(),
                        },
                    };
                    let record = self.state.record(&name, &refusal, at, 0);
                    // The state returns exactly the text that was written.
                    let record: Detached = serde_json::from_str(&record.to_json()).unwrap();
                    assert!(record.from() <= at);
                    self.state.recorded(&name, record);
                    let planned = self.planned(table);
                    self.agent.rows.planned(slot, planned);
                }
                None => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Takes the records that were just produced. Records of a detached table must be in the
    /// quarantine, and other records must not.
    fn produced(&mut self) {
        while let Ok((ticket, line)) = self.agent.lines.try_recv() {
            let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
            let (topic, value) = (line["topic"].as_str().unwrap().to_owned(), &line["value"]);
            let is_quarantine = topic == QUARANTINE;
            let table = match is_quarantine {
                true => value["table"].as_str().unwrap().to_owned(),
                false => topic.trim_start_matches("p.").to_owned(),
            };
            assert_eq!(is_quarantine, self.state.is_quarantined(&table), "{table} {value}");
            if is_quarantine {
                let commit = value["commit_lsn"].as_str().unwrap().parse().unwrap();
                let at = Position { commit, ordinal: value["ordinal"].as_u64().unwrap() };
                assert!(
                    at >= self.state.floor(&table),
                    "{at:?} is quarantined and lies before the recorded gap"
                );
            }
            let id = &value["after"]["id"];
            let what = match (value["op"].as_str(), is_quarantine) {
                (Some("t"), true) => format!("t {}", value["commit_lsn"].as_str().unwrap()),
                (Some("t"), false) => {
                    format!("t {}", Lsn::new(value["source"]["lsn"].as_u64().unwrap() - 8))
                }
                (_, true) => id.as_str().unwrap().to_owned(),
                (_, false) => id.to_string(),
            };
            self.agent.in_flight.push(ProducedRecord { ticket, topic, table, what });
        }
    }

    /// Lets Kafka acknowledge these records, in any order.
    fn acknowledge(&mut self, which: &[usize]) {
        for at in which {
            let Some(sent) = self.agent.in_flight.get(*at).cloned() else { continue };
            self.kafka.push(sent.clone());
            self.offset += 1;
            let outcome = Outcome::Landed { partition: 0, offset: self.offset };
            self.agent.core.reports(
                NOW,
                &[Report { ticket: sent.ticket, generation: Generation(1), outcome }],
            );
        }
        let confirmed = self.agent.core.ledger().confirmed();
        assert!(confirmed >= self.confirmed);
        self.confirmed = confirmed;
    }

    fn crash(&mut self, acknowledged: usize) {
        let count = self.agent.in_flight.len();
        // A prefix is acknowledged, and every third of the rest, because reports come for each
        // partition.
        let part = acknowledged.min(count);
        let which: Vec<usize> = (0..part).chain((part..count).step_by(3)).collect();
        self.acknowledge(&which);
        self.agent = Agent::start(self.confirmed, &self.server);
        self.stream();
    }

    fn happen(&mut self, event: &Happening) {
        match event {
            Happening::Transaction(inserts) => {
                let mut changes = Vec::new();
                for Insert { table, poison } in inserts {
                    self.ids += 1;
                    changes.push(insert(*table, self.ids, *poison));
                }
                self.server.commit(changes);
            }
            Happening::Truncate => self.server.commit(vec![truncate()]),
            Happening::Crash(acknowledged) => self.crash(*acknowledged),
            Happening::Repair(table) => {
                let name = format!("s.t{table}");
                if self.state.is_quarantined(&name) {
                    let record = self.state.repair(&name, 0).unwrap();
                    self.state.recorded(&name, record);
                    let planned = self.planned(*table);
                    self.agent.rows.planned(RelationSlot(*table as usize), planned);
                } else {
                    self.state.forget(&name);
                }
            }
        }
        self.stream();
    }

    /// Lets Kafka acknowledge everything. The end of the last commit must then be confirmed.
    fn settle(&mut self) {
        let all: Vec<usize> = (0..self.agent.in_flight.len()).collect();
        self.acknowledge(&all);
        let end = self.server.0.last().map_or(Lsn::new(1), |(end, _)| *end);
        assert_eq!(self.confirmed, end);
    }
}

fn event() -> impl Strategy<Value = Happening> {
    // The first table has most of the rows that cannot be encoded, the second has a few, and the
    // last has none.
    let one = (0..TABLES, 0..100u32)
        .prop_map(|(table, luck)| Insert { table, poison: luck < [25, 5, 0][table as usize] });
    prop_oneof![
        8 => prop::collection::vec(one, 1..6).prop_map(Happening::Transaction),
        1 => Just(Happening::Truncate),
        3 => (0usize..40).prop_map(Happening::Crash),
        2 => (0..2u32).prop_map(Happening::Repair),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Goal, under all refusals, losses and repairs: every inserted row is in its topic or in the
    /// quarantine. No change of a detached table is sent to its topic (`produced` asserts that for
    /// each record). Every insert that is confirmed is in Kafka. In a schedule without a crash, a
    /// table without refused rows has all its inserts in order. Method: real row path and ledger
    /// under random schedules.
    #[test]
    fn a_detached_table_loses_nothing_and_takes_nothing_from_others(events in prop::collection::vec(event(), 1..40)) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
            let held: BTreeSet<&str> = world.kafka.iter().map(|sent| &*sent.what).collect();
            for (_, messages) in world.server.0.iter().filter(|(end, _)| *end <= world.confirmed) {
                for message in messages.iter().filter(|message| message.first() == Some(&b'I')) {
                    let length = usize::from(message[12]);
                    let id = std::str::from_utf8(&message[13..13 + length]).unwrap();
                    prop_assert!(held.contains(id), "{id} is confirmed and not in Kafka");
                }
            }
        }
        world.settle();
        let held: BTreeSet<usize> = world.kafka.iter().filter_map(|sent| sent.what.parse().ok()).collect();
        prop_assert_eq!(held, (1..=world.ids).collect());
        // The last table has no refused row. It was never detached, and the first copies of its
        // changes are in order.
        let last = format!("s.t{}", TABLES - 1);
        prop_assert!(world.kafka.iter().all(|sent| sent.table != last || sent.topic != QUARANTINE));
        let mut seen = BTreeSet::new();
        let first: Vec<usize> = world
            .kafka
            .iter()
            .filter(|sent| sent.table == last)
            .filter_map(|sent| sent.what.parse().ok())
            .filter(|id| seen.insert(*id))
            .collect();
        prop_assert!(events.iter().any(|event| matches!(event, Happening::Crash(_))) || first.is_sorted(), "{first:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    /// Each message is looked at several times before it is taken. The records are the same as
    /// after one look.
    #[test]
    fn a_look_changes_nothing(events in prop::collection::vec(event(), 1..20), looks in 1usize..4) {
        let [once, often] = [0, looks].map(|looks| {
            let mut world = World { looks, ..World::new() };
            events.iter().for_each(|event| world.happen(event));
            world.settle();
            let record = |sent: &ProducedRecord| (sent.ticket, sent.topic.clone(), sent.what.clone());
            (world.confirmed, world.kafka.iter().map(record).collect::<Vec<_>>())
        });
        prop_assert_eq!(once, often);
    }
}

#[test]
fn the_schedules_detach_tables_and_repair_them() {
    let mut world = World::new();
    let row = |table, poison| Happening::Transaction(vec![Insert { table, poison }]);
    let events = [
        row(0, false),
        row(0, true),
        row(0, false),
        Happening::Crash(1),
        Happening::Truncate,
        row(1, false),
    ];
    events.iter().for_each(|event| world.happen(event));
    world.happen(&Happening::Repair(0));
    world.happen(&row(0, false));
    world.settle();
    let of = |topic: &str| -> Vec<String> {
        let sent = world.kafka.iter().filter(|sent| sent.topic == topic);
        sent.map(|sent| sent.what.clone()).collect()
    };
    assert_eq!(of("p.s.t0"), ["1", "5"]);
    let quarantine = of(QUARANTINE);
    assert!(
        quarantine.contains(&"2".to_owned()) && quarantine.contains(&"3".to_owned()),
        "{quarantine:?}"
    );
    assert!(quarantine.iter().any(|what| what.starts_with("t ")), "{quarantine:?}");
    assert_eq!(world.state.get("s.t0").unwrap().repair_ms, Some(0));
}
