//! The ledger: what has been sent to Kafka and not yet delivered.

/// A record in flight. Rises by one for every record a process sends, across producers; never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Which producer of this process a delivery report belongs to; rises with each rebuild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);
