//! The comparison under random statements and random looks at a small catalog.
//!
//! Laws: everything that the stream lost between two looks has a finding whose range contains the
//! loss; a halt needs a statement that can lose something; harmless statements give no finding at
//! all. With any rule switched off, one of the laws is broken.
//!
//! The model does not do between two looks what the looks cannot tell apart: rights of a schema
//! that change together with a renaming of the schema that is taken back (both write the same row),
//! a swap of two names that is taken back after rows were written into the relation that is not
//! captured, a change of type together with VACUUM FULL, and SET UNLOGGED that is taken back (it looks like
//! VACUUM FULL).

mod catalog;

use self::catalog::{Catalog, Harm};
use super::compare::compare_under;
use super::finding::{Finding, Weight};
use super::rules::{Rule, Rules};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The seeds of the runs. They are enough for each rule to be needed at least once.
const SEEDS: std::ops::Range<u64> = 1..400;

/// Number of pairs of looks in one run.
const LOOKS: usize = 30;

/// A generator of random numbers from a seed (`xorshift64*`).
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// Whether a finding reports this harm.
fn tells(finding: &Finding, harm: &Harm) -> bool {
    let holds = finding.from < harm.at && harm.at <= finding.to;
    let about = finding.table.as_ref().is_none_or(|table| *table == harm.table);
    let heavy = finding.code.weight() == Weight::Halts;
    holds && about && (heavy || harm.codes.contains(&finding.code))
}

fn run(seed: u64, off: Option<Rule>) {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut catalog = Catalog::new();
    for _ in 0..LOOKS {
        let statements = rng.below(5);
        catalog.begin();
        let recorded = catalog.look();
        let done: Vec<&str> =
            (0..statements).filter_map(|_| catalog.execute(rng.below(1000))).collect();
        let seen = catalog.look();
        let findings = compare_under(&recorded, &seen, Rules::without(off));
        for harm in catalog.harms() {
            let is_told = findings.iter().any(|finding| tells(finding, harm));
            assert!(is_told, "seed {seed}: {harm:?} has no finding after {done:?}: {findings:#?}");
        }
        let halts = findings.iter().any(|finding| finding.code.weight() == Weight::Halts);
        assert!(
            !halts || catalog.may_lose(),
            "seed {seed}: a halt without a gap after {done:?}: {findings:#?}"
        );
        let is_quiet = catalog.was_harmless();
        assert!(
            !is_quiet || findings.is_empty(),
            "seed {seed}: {done:?} did no harm: {findings:#?}"
        );
    }
}

#[test]
fn no_gap_is_without_a_finding_and_no_halt_without_a_gap() {
    SEEDS.for_each(|seed| run(seed, None));
}

#[test]
fn each_rule_switched_off_leaves_a_gap_untold() {
    let is_needed = |rule: &Rule| {
        let breaks = |seed| catch_unwind(AssertUnwindSafe(|| run(seed, Some(*rule)))).is_err();
        SEEDS.into_iter().any(breaks)
    };
    let unneeded: Vec<Rule> = Rule::ALL.into_iter().filter(|rule| !is_needed(rule)).collect();
    assert_eq!(unneeded, [], "no run shows what these rules are for");
}
