//! Positions, times and ids of Postgres as types of their own, so that none of them is a bare
//! integer.
//!
//! Nothing here reads a clock: times are arguments.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A WAL position in bytes. It prints without leading zeros, as in Postgres before 19:
/// `16/B374D848`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Lsn(u64);

impl Lsn {
    /// No position. As the flush position of a status update it leaves the slot's confirmed
    /// position as it is. As a start position it stands for the slot's confirmed position.
    pub const ZERO: Lsn = Lsn(0);
    /// A position above every position that a server can send. It serves as a bound, and is never
    /// sent in a status update.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// The position that lies `bytes` after the start of the WAL.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Lsn(bytes)
    }

    /// Distance from the start of the WAL, in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// How many bytes of WAL lie between `earlier` and this position; 0 if `earlier` is not below
    /// this position.
    #[must_use]
    pub const fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// True if this is [`Lsn::ZERO`].
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error for a text that is not two hexadecimal numbers of at most 32 bits with a slash between
/// them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an LSN (try 16/B374D848)")]
pub struct BadLsn(String);

impl FromStr for Lsn {
    type Err = BadLsn;

    fn from_str(text: &str) -> Result<Self, BadLsn> {
        let half = |digits: &str| {
            let plain =
                (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Lsn((half(high)? << 32) | half(low)?)))
            .ok_or_else(|| BadLsn(text.to_owned()))
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

impl TryFrom<String> for Lsn {
    type Error = BadLsn;

    fn try_from(text: String) -> Result<Self, BadLsn> {
        text.parse()
    }
}

/// A time of the server in microseconds since 2000-01-01 00:00:00 UTC, as the replication protocol
/// carries it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct PgMicros(pub i64);

impl PgMicros {
    /// Microseconds from 1970-01-01 to 2000-01-01.
    const UNIX_OFFSET: i64 = 946_684_800_000_000;

    /// The same instant in microseconds since 1970. An instant beyond the range of `i64` becomes
    /// the end of the range.
    #[must_use]
    pub const fn unix_micros(self) -> i64 {
        self.0.saturating_add(Self::UNIX_OFFSET)
    }

    /// The server's form of an instant that is given in microseconds since 1970. An instant beyond
    /// the range of `i64` becomes the end of the range.
    #[must_use]
    pub const fn from_unix_micros(micros: i64) -> Self {
        PgMicros(micros.saturating_sub(Self::UNIX_OFFSET))
    }
}

/// An object's id in a Postgres catalog. Zero means none.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Oid(pub u32);

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The 32-bit id of a top-level transaction, as Begin carries it. The ids begin again after 2^32
/// transactions, so an `Xid` has no order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Xid(pub u32);

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_printed_lsn_reads_back_as_itself(bytes: u64) {
            prop_assert_eq!(Lsn::new(bytes).to_string().parse(), Ok(Lsn::new(bytes)));
        }

        #[test]
        fn order_is_the_order_of_bytes(a: u64, b: u64) {
            prop_assert_eq!(Lsn::new(a).cmp(&Lsn::new(b)), a.cmp(&b));
        }
    }

    #[test]
    fn refuses_what_postgres_would_refuse() {
        for text in ["", "/", "1", "1/", "/1", "g/1", "+1/0", "123456789/0", "0/123456789", "0/0/0"]
        {
            assert!(text.parse::<Lsn>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_server_time_is_thirty_years_after_unix_time() {
        assert_eq!(PgMicros(0).unix_micros(), 946_684_800_000_000);
        assert_eq!(PgMicros::from_unix_micros(946_684_800_000_001), PgMicros(1));
    }
}
