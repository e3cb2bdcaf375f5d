//! Tests only: what the core reads, confirms and records during a first copy.

use super::*;
use crate::change::{Committed, Position};
use crate::continuity::Resume;
use crate::continuity::checkpoint::sample;
use crate::ledger::RouteId;
use crate::lsn::{PgMicros, Xid};

const POINT: Lsn = Lsn::new(1000);

/// A core that streams and has begun a first copy at [`POINT`].
fn copying() -> Core {
    let settings = Settings {
        status_interval: 10 * SECOND,
        hold: 60 * SECOND,
        freeze: 60 * SECOND,
        budget_bytes: 4 * crate::ledger::RECORD_OVERHEAD_BYTES,
        stop_patience: 30 * SECOND,
        seed: 1,
    };
    let mut core = Core::new(settings, Moment(SECOND));
    assert_eq!(core.apply(Moment(SECOND), Event::Tick), [Action::Open]);
    core.begin_copy();
    let record = Checkpoint { confirmed: POINT, sent: POINT, clean: false, ..sample() };
    let resume = Resume::at_slot(POINT, None);
    let opened = Opened {
        resume,
        slot_confirmed: POINT,
        record,
        last_stop: LastStop::Clean,
        unix_ms: 0,
        ends: Vec::new(),
    };
    core.apply(Moment(SECOND), Event::Opened(Box::new(opened)));
    core.apply(Moment(SECOND), Event::RecordWritten);
    assert!(core.is_streaming());
    core
}

fn sent(core: &mut Core) -> Ticket {
    let ticket = core.next_ticket();
    core.sent(RouteId(0), Position { commit: Lsn::new(999), ordinal: ticket.0 }, 10);
    ticket
}

fn landed(core: &mut Core, now: Moment, ticket: Ticket) -> Vec<Action> {
    let outcome = Outcome::Landed { partition: 0, offset: i64::try_from(ticket.0).unwrap() };
    core.reports(now, &[Report { ticket, generation: core.generation(), outcome }])
}

/// Every nonzero flush position in the actions.
fn flushed(actions: &[Action]) -> Vec<Lsn> {
    let flush = |action: &Action| match action {
        Action::Update(update) if !update.flush.is_zero() => Some(update.flush),
        _ => None,
    };
    actions.iter().filter_map(flush).collect()
}

#[test]
fn reads_no_frame_and_confirms_nothing_while_it_copies() {
    let mut core = copying();
    assert!(!core.has_room() && core.has_room_to_copy(0));
    let mut heard = 0;
    for second in 2..60 {
        let now = Moment(second * SECOND);
        let ticket = sent(&mut core);
        let mut actions = core.apply(now, Event::Tick);
        actions.extend(landed(&mut core, now, ticket));
        assert_eq!(flushed(&actions), []);
        if actions.iter().any(|action| matches!(action, Action::Write(_))) {
            actions.extend(core.apply(now, Event::RecordWritten));
        }
        heard += actions.iter().filter(|action| matches!(action, Action::Update(_))).count();
    }
    assert!(heard >= 5, "the server hears of us every 10 s");
    assert_eq!(core.record().unwrap().confirmed, POINT);
}

#[test]
fn the_copys_last_record_holds_the_first_commit() {
    let mut core = copying();
    let last = sent(&mut core);
    core.end_copy();
    assert!(core.has_room() && !core.has_room_to_copy(0));
    let commit = Committed { end: Lsn::new(1100), xid: Xid(1), at: PgMicros(1) };
    core.committed(commit, false).unwrap();
    assert_eq!(core.ledger().confirmed(), POINT);
    landed(&mut core, Moment(2 * SECOND), last);
    assert_eq!(core.ledger().confirmed(), Lsn::new(1100));
}

#[test]
fn the_budget_counts_what_readers_hold() {
    let mut core = copying();
    let readers_bytes = 2 * crate::ledger::RECORD_OVERHEAD_BYTES;
    assert!(core.has_room_to_copy(readers_bytes));
    sent(&mut core);
    sent(&mut core);
    assert!(core.has_room_to_copy(0) && !core.has_room_to_copy(readers_bytes));
}

#[test]
fn a_stop_ends_a_copy_where_it_is() {
    let mut core = copying();
    let ticket = sent(&mut core);
    core.apply(Moment(2 * SECOND), Event::Stop);
    assert!(!core.has_room_to_copy(0));
    let mut actions = landed(&mut core, Moment(3 * SECOND), ticket);
    if actions.iter().any(|action| matches!(action, Action::Write(_))) {
        actions = core.apply(Moment(3 * SECOND), Event::RecordWritten);
    }
    assert!(actions.contains(&Action::Exit(Stopped::InCopy)), "{actions:?}");
    assert_eq!(flushed(&actions), []);
}
