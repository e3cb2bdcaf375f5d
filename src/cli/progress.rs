//! Progress of the first copy on a terminal: one line that is redrawn, with log lines above it.

use crate::status::{CopyStatus, CopyTableStatus, Phase, Status};
use std::io::Write;
use std::time::Duration;
use tokio::sync::watch;

/// Interval of redrawing, short enough that a person sees the line move.
const REDRAW: Duration = Duration::from_millis(500);

/// Sequence with which a log line begins on a terminal, so that it replaces the progress line.
pub(super) const CLEAR_LINE: &str = "\r\x1b[2K";

/// Width of the line, in characters, if `COLUMNS` is not set.
const COLUMNS_DEFAULT: usize = 100;

/// Width of a bar, in characters.
const BAR: usize = 20;

/// Draws the progress line on standard error, again and again during the first copy. Ends when the
/// agent ends.
pub(super) async fn draw(status: watch::Receiver<Status>) {
    let columns =
        std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).unwrap_or(COLUMNS_DEFAULT);
    let mut drawn = false;
    while status.has_changed().is_ok() {
        let line = {
            let status = status.borrow();
            (status.phase == Phase::Snapshot)
                .then(|| status.copy.as_ref().map(|copy| line(copy, columns)))
                .flatten()
        };
        if drawn || line.is_some() {
            // An error is ignored, because the agent must go on if the terminal is gone.
            let _ = write!(std::io::stderr(), "{CLEAR_LINE}{}", line.as_deref().unwrap_or(""));
        }
        drawn = line.is_some();
        tokio::time::sleep(REDRAW).await;
    }
}

/// The progress line: the whole copy, its rate, the time left, then each table that is being
/// copied. It is cut off at the width of the terminal.
fn line(copy: &CopyStatus, columns: usize) -> String {
    let done = copy
        .tables
        .values()
        .filter(|table| matches!(table.state.as_str(), "copied" | "left" | "owed"))
        .count();
    let mut text = format!(
        "{} {} rows{} at {}/s{}, {done}/{} tables",
        bar(copy.rows, copy.rows_expected),
        count(copy.rows as f64),
        if copy.rows_expected > 0 {
            format!(" of {}", count(copy.rows_expected as f64))
        } else {
            String::new()
        },
        count(copy.rows_per_second),
        copy.remaining_seconds
            .map_or_else(String::new, |seconds| format!(", {} left", time(seconds))),
        copy.tables.len(),
    );
    for (name, table) in copy.tables.iter().filter(|(_, table)| table.state == "copying") {
        text.push_str(&format!(" | {name} {}", share(table)));
    }
    if text.chars().count() >= columns {
        text = text.chars().take(columns.saturating_sub(2)).collect();
        text.push('…');
    }
    text
}

/// The copied share of a table in percent, such as `45%`. If the expected number of rows is unknown
/// or too low, the number of copied rows.
fn share(table: &CopyTableStatus) -> String {
    match table.rows_expected {
        Some(expected) if expected >= table.rows.max(1) => {
            format!("{}%", table.rows * 100 / expected)
        }
        _ => format!("{} rows", count(table.rows as f64)),
    }
}

fn bar(of: u64, all: u64) -> String {
    let full = (of.min(all) * BAR as u64)
        .checked_div(all)
        .map_or(0, |full| usize::try_from(full).unwrap_or(BAR));
    format!("[{}{}]", "#".repeat(full), "-".repeat(BAR - full))
}

/// A number in short form: 999, 12.3k, 4.5M.
fn count(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{:.1}G", n / 1e9),
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n if n >= 1e4 => format!("{:.1}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// A duration in short form: 45 s, 3 min, 2 h 05 min.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn copy() -> CopyStatus {
        let table = |state: &str, rows, rows_expected| CopyTableStatus {
            state: state.to_owned(),
            rows,
            rows_expected,
            ..CopyTableStatus::default()
        };
        CopyStatus {
            rows: 1_250_000,
            rows_expected: 2_500_000,
            rows_per_second: 310_400.0,
            remaining_seconds: Some(4.03),
            tables: [
                ("public.done".to_owned(), table("copied", 500_000, Some(1))),
                ("public.half".to_owned(), table("copying", 750_000, Some(1_500_000))),
                ("public.new".to_owned(), table("copying", 12, None)),
                ("public.later".to_owned(), table("waiting", 0, None)),
            ]
            .into(),
            ..CopyStatus::default()
        }
    }

    #[track_caller]
    fn check(copy: &CopyStatus, columns: usize, expect: Expect) {
        expect.assert_eq(&line(copy, columns));
    }

    #[test]
    fn says_how_much_how_fast_how_long_and_of_which_tables() {
        check(
            &copy(),
            200,
            expect![
                "[##########----------] 1.2M rows of 2.5M at 310.4k/s, 4 s left, 1/4 tables | public.half 50% | public.new 12 rows"
            ],
        );
        check(&copy(), 60, expect!["[##########----------] 1.2M rows of 2.5M at 310.4k/s, 4 s …"]);
        check(
            &CopyStatus::default(),
            80,
            expect!["[--------------------] 0 rows at 0/s, 0/0 tables"],
        );
    }

    #[test]
    fn times_are_as_coarse_as_they_are_long() {
        let shown: Vec<String> = [3.2, 89.0, 200.0, 7500.0].map(time).into();
        assert_eq!(shown, ["3 s", "89 s", "3 min", "2 h 05 min"]);
    }
}
