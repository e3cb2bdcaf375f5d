//! What operators did, as `/status` shows it: consents and requests that the state holds, and
//! requests that this process has carried out.

use crate::continuity::LsnRange;
use crate::continuity::checkpoint::{Accepted, State, Window};
use crate::continuity::skipped::Skipped;
use serde::Serialize;
use std::collections::VecDeque;

/// The most actions that are shown. So many show what was done lately, and the log has the others.
pub const ACTIONS_MAX: usize = 20;

/// The most characters of a detail. A reload can name hundreds of tables.
const DETAIL_CHARS_MAX: usize = 500;

/// One action of an operator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperatorAction {
    /// Time of the action, in Unix milliseconds.
    pub at_ms: i64,
    /// `accept`, `slot create`, `adopt`, `skip`, `snapshot`, `snapshot cancel`, `pause`, `resume`
    /// or `reload`.
    pub action: String,
    /// Name that the operator gave; empty for an action that asks for no name.
    pub by: String,
    /// What was done, as a sentence that names the objects.
    pub detail: String,
    /// The range of WAL whose changes the operator gave up; `None` for other actions.
    pub range: Option<LsnRange>,
    /// True if the state holds the action. Otherwise only this process remembers it.
    pub recorded: bool,
}

impl OperatorAction {
    /// Makes the entry of a request that this process has carried out. `answer` is what the
    /// operator was told.
    #[must_use]
    pub fn carried_out(at_ms: i64, request: &str, answer: &str) -> Self {
        OperatorAction {
            at_ms,
            action: request.to_owned(),
            by: String::new(),
            detail: match answer.char_indices().nth(DETAIL_CHARS_MAX) {
                Some((at, _)) => format!("{} …", &answer[..at]),
                None => answer.to_owned(),
            },
            range: None,
            recorded: false,
        }
    }

    fn of_consent(accepted: &Accepted) -> Self {
        let range = LsnRange { from: accepted.from, to: accepted.to };
        let (action, detail, range) = match &*accepted.reason {
            "slot_created" => ("slot create", format!("stream from {}", accepted.to), None),
            "adopted" => ("adopt", format!("stream from {}, after Debezium", accepted.to), None),
            reason => ("accept", format!("went on past `{reason}`"), Some(range)),
        };
        OperatorAction {
            action: action.to_owned(),
            range,
            recorded: true,
            ..Self::carried_out(accepted.at_ms, action, &detail)
        }
    }

    fn of_skip(skipped: &Skipped) -> Self {
        let Skipped { table, commit, ordinal, reason, why, .. } = skipped;
        let detail =
            format!("{table}, commit {commit}, ordinal {ordinal}, left out (`{reason}`): {why}");
        OperatorAction {
            by: skipped.by.clone(),
            recorded: true,
            ..Self::carried_out(skipped.at_ms, "skip", &detail)
        }
    }

    fn of_copy(table: &str, window: &Window) -> Self {
        let filter =
            window.filter.as_ref().map_or_else(String::new, |filter| format!(" where {filter}"));
        let by = if window.is_signalled() { ", asked for by a signal" } else { "" };
        let detail = format!("copy of {table}{filter}{by}");
        OperatorAction { recorded: true, ..Self::carried_out(window.asked_ms, "snapshot", &detail) }
    }
}

/// The newest actions of operators.
#[derive(Debug, Default)]
pub struct OperatorActions {
    recorded: Vec<OperatorAction>,
    /// Requests that this process has carried out, oldest first.
    carried_out: VecDeque<OperatorAction>,
}

impl OperatorActions {
    /// Takes the consents, skipped changes and copies that the state holds. Of the copies it takes
    /// only those that a signal requested or that were requested before `started_ms`: this process
    /// itself remembers the others. It takes no copy that the agent itself requested.
    pub fn read(&mut self, state: &State, started_ms: i64) {
        let consents = state.record.iter().flat_map(|record| &record.accepted);
        let owed = state.copy.owed();
        let is_told = |table: &str, window: &Window| {
            // The agent itself requests a copy without which rows are missing.
            let is_ours = window.needed || owed.contains(&table);
            !is_ours && (window.is_signalled() || window.asked_ms < started_ms)
        };
        let copies = state.windows.iter().filter(|(table, window)| is_told(table, window));
        self.recorded = consents
            .map(OperatorAction::of_consent)
            .chain(state.skipped.values().map(OperatorAction::of_skip))
            .chain(copies.map(|(table, window)| OperatorAction::of_copy(table, window)))
            .collect();
        newest(&mut self.recorded);
    }

    /// Adds a request that this process has carried out.
    pub fn add(&mut self, action: OperatorAction) {
        self.carried_out.push_back(action);
        if self.carried_out.len() > ACTIONS_MAX {
            self.carried_out.pop_front();
        }
    }

    /// The newest actions, newest last.
    #[must_use]
    pub fn told(&self) -> Vec<OperatorAction> {
        let mut actions: Vec<_> = self.recorded.iter().chain(&self.carried_out).cloned().collect();
        newest(&mut actions);
        actions
    }
}

/// Sorts actions by their time, and keeps the newest.
fn newest(actions: &mut Vec<OperatorAction>) {
    actions.sort_by_key(|action| action.at_ms);
    let excess = actions.len().saturating_sub(ACTIONS_MAX);
    actions.drain(..excess);
    assert!(actions.len() <= ACTIONS_MAX, "the list is as long as it may be at most");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Position;
    use crate::continuity::checkpoint::{Checkpoint, sample};
    use crate::continuity::skipped::{Consent, Place};
    use crate::lsn::Lsn;
    use expect_test::{Expect, expect};
    use std::fmt::Write as _;

    fn accepted(reason: &str, at_ms: i64) -> Accepted {
        Accepted { from: Lsn::new(16), to: Lsn::new(32), reason: reason.to_owned(), at_ms }
    }

    fn skipped(at_ms: i64) -> Skipped {
        let at = Position { commit: Lsn::new(48), ordinal: 2 };
        let place = Place { table: "p.t".to_owned(), at, key_hash: None };
        let (by, why) = ("ada".to_owned(), "ticket 7".to_owned());
        let consent = Consent { table: "p.t".to_owned(), at, by, why };
        Skipped::new(&place, &consent, ("row_unencodable", "NaN"), 1, at_ms).unwrap()
    }

    fn check(actions: &OperatorActions, expected: Expect) {
        let mut text = String::new();
        for OperatorAction { at_ms, action, by, detail, range, recorded } in actions.told() {
            let range =
                range.map_or_else(String::new, |range| format!(" {}-{}", range.from, range.to));
            writeln!(text, "{at_ms} {action} [{by}] {detail}{range} {recorded}").unwrap();
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn consents_and_requests_are_told_in_their_order_with_who_and_what() {
        let mut state = State::default();
        let consents = vec![accepted("slot_created", 1), accepted("slot_missing", 40)];
        state.record = Some(Checkpoint { accepted: consents, ..sample() });
        state.skipped.insert("k".to_owned(), skipped(30));
        state
            .windows
            .insert("p.before".to_owned(), Window::requested(Some("id > 5".to_owned()), 5));
        state.windows.insert("p.here".to_owned(), Window::requested(None, 20));
        let signalled = Window { signal: Some(Lsn::new(9)), ..Window::requested(None, 21) };
        state.windows.insert("p.signalled".to_owned(), signalled);
        let ours = Window { needed: true, ..Window::requested(None, 6) };
        state.windows.insert("p.ours".to_owned(), ours);
        let mut actions = OperatorActions::default();
        actions.add(OperatorAction::carried_out(20, "snapshot", "p.here is copied"));
        actions.add(OperatorAction::carried_out(50, "pause", "paused"));
        for _ in 0..2 {
            actions.read(&state, 10); // Each connection reads the state again.
        }
        check(
            &actions,
            expect![[r#"
            1 slot create [] stream from 0/20 true
            5 snapshot [] copy of p.before where id > 5 true
            20 snapshot [] p.here is copied false
            21 snapshot [] copy of p.signalled, asked for by a signal true
            30 skip [ada] p.t, commit 0/30, ordinal 2, left out (`row_unencodable`): ticket 7 true
            40 accept [] went on past `slot_missing` 0/10-0/20 true
            50 pause [] paused false
        "#]],
        );
    }

    #[test]
    fn the_oldest_actions_go_when_there_are_too_many() {
        let mut actions = OperatorActions::default();
        for at in 0..100 {
            actions.add(OperatorAction::carried_out(at, "pause", ""));
        }
        let consents = (50..70).map(|at| accepted("slot_missing", at)).collect();
        let record = Some(Checkpoint { accepted: consents, ..sample() });
        actions.read(&State { record, ..State::default() }, 0);
        let told: Vec<i64> = actions.told().iter().map(|action| action.at_ms).collect();
        assert_eq!(told, (80..100).collect::<Vec<_>>());
        assert_eq!(actions.carried_out.len(), ACTIONS_MAX);
    }
}
