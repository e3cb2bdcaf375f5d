//! The demo's output: change events at a pace that a person can read, and a line of numbers each
//! second.

use super::tables::{Change, Op, UNCHANGED};
use crate::status::{Phase, Status};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shortest time between two events that are shown; the others are only counted. A person cannot
/// read more than ten a second. If the first ten of a second were shown, all could be from one
/// topic.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

/// Longest line of an event, in characters. A longer line is cut off to fit a terminal.
const LINE_MAX: usize = 118;

/// Time between two lines of numbers.
const SECOND: Duration = Duration::from_secs(1);

/// Prints to standard output, and counts the events.
pub(super) struct Screen {
    is_colourful: bool,
    /// Number of changes and messages so far, without tombstones.
    events: u64,
    tombstones: u64,
    /// Number of changes and messages since the last line of numbers. `shown` of them were printed.
    recent: u64,
    shown: u64,
    last_shown: Instant,
    second_began: Instant,
}

impl Screen {
    /// Makes a screen without any event. It prints in colours only on a terminal, and only if
    /// `NO_COLOR` is not set.
    pub(super) fn new() -> Self {
        let is_colourful =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let now = Instant::now();
        Screen {
            is_colourful,
            events: 0,
            tombstones: 0,
            recent: 0,
            shown: 0,
            last_shown: now,
            second_began: now,
        }
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn change(&mut self, change: &Change) {
        let (colour, word) = match change.op {
            Op::Create => ("32", "insert"),
            Op::Update => ("33", "update"),
            Op::Delete => ("31", "delete"),
            Op::Truncate => ("35", "truncate"),
        };
        self.event(colour, || {
            let key = change.key.clone().unwrap_or_default();
            // For a deleted row with a key, only the columns of the key in `before` have values of
            // the row. The other columns have the zero values of their types, so none is shown.
            let before = change.before.as_ref().filter(|_| change.key.is_none());
            let row = change.after.as_ref().or(before).into_iter().flatten();
            let rest = row.filter(|(name, _)| !key.contains_key(*name)).map(shown);
            let columns: Vec<String> = key.iter().map(shown).chain(rest).collect();
            format!("{word:<8} {:<12} {}", change.table, columns.join(" "))
        });
    }

    pub(super) fn message(&mut self, prefix: &str, content: &str) {
        self.event("36", || format!("{:<8} {prefix:<12} {content}", "message"));
    }

    pub(super) fn tombstone(&mut self) {
        self.tombstones += 1;
    }

    fn event(&mut self, colour: &str, line: impl FnOnce() -> String) {
        self.events += 1;
        self.recent += 1;
        if self.last_shown.elapsed() >= SHOWN_EVERY {
            self.last_shown = Instant::now();
            self.shown += 1;
            let line: String = line().chars().take(LINE_MAX).collect();
            self.say_in(colour, line.trim_end());
        }
    }

    fn say_in(&self, colour: &str, line: &str) {
        say(&if self.is_colourful {
            format!("\x1b[{colour}m{line}\x1b[0m")
        } else {
            line.to_owned()
        });
    }

    /// True if the next line of numbers is due.
    pub(super) fn is_due(&self) -> bool {
        self.second_began.elapsed() >= SECOND
    }

    /// Prints the line of numbers. `rows` is the number of rows in all rebuilt tables.
    pub(super) fn tick(&mut self, status: &Status, rows: usize) {
        let rate = self.recent as f64 / self.second_began.elapsed().as_secs_f64();
        let phase = if status.phase == Phase::Streaming {
            String::new()
        } else {
            format!(", {}", status.phase.name())
        };
        let lag = status.lag_seconds.map_or("unknown".to_owned(), |lag| format!("{lag:.3} s"));
        let line = format!(
            "-- {rate:.0} events/s, {} of {} shown; {} in all, {} tombstones; {rows} rows; lag \
             {lag}, {} bytes{phase}",
            self.shown,
            self.recent,
            self.events,
            self.tombstones,
            status.lag_bytes.unwrap_or(0),
        );
        self.say_in("2", &line);
        self.shown = 0;
        self.recent = 0;
        self.second_began = Instant::now();
    }
}

/// A column as `name=value`. Of a long value only the length is shown, because the value would
/// leave no space for the other columns in the line.
fn shown((name, value): (&String, &Option<String>)) -> String {
    match value {
        Some(value) if value == UNCHANGED => format!("{name}=(unchanged)"),
        Some(value) if value.len() > 40 => format!("{name}=({} characters)", value.chars().count()),
        Some(value) => format!("{name}={value}"),
        None => format!("{name}=NULL"),
    }
}

/// Prints a line. A closed pipe (`| head`) is no error: its reader wants no more.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
