//! Shows what each rule of the core prevents: with the rule switched off, some run of the simulated
//! world breaks a law.

use super::laws::{killed_often, one_halt, opened_in_vain, refused_for_ever, run};
use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds tried for each rule. All of them pass while every rule holds.
const SEEDS: std::ops::Range<u64> = 1..120;

fn breaks(law: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(law)).is_err()
}

fn is_needed(rule: Rule) -> bool {
    let off = Some(rule);
    match rule {
        Rule::RecordsEverySecond => {
            let (repeats, kills, rows) = killed_often(1, off);
            repeats > kills * (rows / 120 * 3 / 2 + 40)
        }
        Rule::SecondRefusalHalts => refused_for_ever(off) > 2,
        Rule::HaltIsRecordedFirst => {
            (1..30).any(|seed| breaks(|| assert_eq!(one_halt(seed, off).0, 1)))
        }
        Rule::BackoffByProgress => opened_in_vain(off) > 12,
        _ => SEEDS
            .into_iter()
            .any(|seed| breaks(|| run(seed, 1, off)) || breaks(|| run(seed, 2, off))),
    }
}

#[test]
fn each_rule_switched_off_breaks_a_law() {
    let unneeded: Vec<Rule> = Rule::ALL.into_iter().filter(|rule| !is_needed(*rule)).collect();
    assert_eq!(unneeded, [], "no run shows what these rules are for");
}
