//! Tests with damaged recordings. The decoder never panics: it returns a message that can be read
//! whole, or a typed error.
//!
//! The damage comes from fixed seeds, so a failure can be repeated. It prints its seed and the
//! bytes. Put such bytes as hexadecimal into a file of `tests/data/pgoutput/kept`, with a `#` line
//! that says what they are.

use super::model::Said;
use super::recorded::{Sent, streams};
use super::{folder, swallow};
use std::fs;
use wellspring::change::Changes;
use wellspring::lsn::Lsn;
use wellspring::pgoutput::decode;

/// Damaged messages for each seed. All seeds together take a few seconds in the dev profile.
const MUTANTS_PER_SEED: usize = 50_000;

/// False lengths and counts of a kind that decoders have misread.
const LIES: [u32; 8] = [0, 1, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/// A generator of pseudorandom numbers, SplitMix64. It is small, and gives the same numbers
/// everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(end).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[0]
    }
}

/// Damages a message at one place, in one of seven ways. `other` is another message of the
/// recordings.
fn damage(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    match dice.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
        1 if at < bytes.len() => bytes[at] = dice.byte(),
        2 => bytes.truncate(at),
        3 => {
            bytes.truncate(at);
            bytes.extend(&other[dice.below(other.len() + 1)..]);
        }
        4 => bytes.insert(at, dice.byte()),
        5 => drop(bytes.drain(at..bytes.len().min(at + 1 + dice.below(8)))),
        _ => {
            let lie = LIES[dice.below(LIES.len())].to_be_bytes();
            let lie = if dice.below(2) == 0 { &lie[..] } else { &lie[2..] };
            let end = bytes.len().min(at + lie.len());
            bytes.splice(at..end, lie.iter().copied());
        }
    }
}

/// Prints seed and bytes of the message that was being read if reading it panics.
struct Evidence<'a> {
    seed: u64,
    bytes: &'a [u8],
}

impl Drop for Evidence<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("seed {}: keep this as a file of tests/data/pgoutput/kept\n{hex}", self.seed);
        }
    }
}

fn try_bytes(changes: &mut Changes, seed: u64, start: Lsn, bytes: &[u8]) -> bool {
    let _evidence = Evidence { seed, bytes };
    if let Ok(message) = decode(bytes) {
        // The decoder ignores undefined flags and nothing else, so the message encodes to the same
        // length.
        let said = Said::of(&message);
        let again = said.encode();
        assert_eq!(again.len(), bytes.len());
        assert_eq!(Said::of(&decode(&again).unwrap()), said);
    }
    swallow(changes, start, bytes)
}

/// Reads the recordings with about every second message damaged. `change` keeps what it has taken
/// from damaged messages.
#[track_caller]
fn survives(seed: u64) {
    let streams = streams();
    let all: Vec<&Sent> = streams.iter().flat_map(|(_, frames)| frames).collect();
    let mut dice = Dice(seed);
    let (mut mutants, mut understood) = (0, 0);
    while mutants < MUTANTS_PER_SEED {
        let mut changes = Changes::resume(None);
        for frame in &streams[dice.below(streams.len())].1 {
            let mut bytes = frame.message.clone();
            if dice.below(2) == 0 {
                mutants += 1;
                for _ in 0..=dice.below(3) {
                    damage(&mut bytes, &all[dice.below(all.len())].message, &mut dice);
                }
                understood += usize::from(try_bytes(&mut changes, seed, frame.start, &bytes));
            } else {
                try_bytes(&mut changes, seed, frame.start, &bytes);
            }
        }
    }
    // If none or nearly all of the damaged messages were understood, the damage would prove
    // nothing.
    assert!(
        understood > mutants / 50 && understood < mutants * 9 / 10,
        "{understood} of {mutants} were understood"
    );
}

#[test]
fn survives_the_damage_of_seed_1() {
    survives(1);
}

#[test]
fn survives_the_damage_of_seed_2() {
    survives(2);
}

#[test]
fn survives_the_damage_of_seed_3() {
    survives(3);
}

#[test]
fn survives_the_damage_of_seed_4() {
    survives(4);
}

#[test]
fn refuses_every_recorded_message_cut_short() {
    for (name, frames) in streams() {
        for (number, frame) in frames.iter().enumerate() {
            // A long message is cut only within its first and its last 400 bytes, because cuts
            // within a long value show nothing new.
            let length = frame.message.len();
            for end in (0..length).filter(|end| *end < 400 || length - *end < 400) {
                assert!(
                    decode(&frame.message[..end]).is_err(),
                    "{name}, frame {number} cut at {end}"
                );
            }
        }
    }
}

#[test]
fn what_was_kept_is_refused() {
    let mut kept = 0;
    for entry in fs::read_dir(folder().join("kept")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let digits: String = line.split_whitespace().collect();
            let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
            assert!(
                !swallow(&mut Changes::resume(None), Lsn::ZERO, &bytes),
                "{}: {line}",
                path.display()
            );
            kept += 1;
        }
    }
    assert!(kept > 0);
}
