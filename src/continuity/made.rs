//! The record `made/<slot>` of the state topic: what this pipeline has made in Postgres.

use crate::lsn::Oid;
use serde::{Deserialize, Serialize};

/// What this pipeline has made in Postgres. `wellspring remove` leaves alone what somebody else has
/// made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Format version of the record, see `checkpoint::FORMAT`.
    pub format: u32,
    /// `pg_publication.oid` of the publication that a first start has created.
    pub publication: Oid,
}

impl Made {
    /// Key of this record in the state topic.
    #[must_use]
    pub fn key(slot: &str) -> String {
        format!("made/{slot}")
    }

    /// Value of this record in the state topic, as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({ "format": self.format, "publication": self.publication }).to_string()
    }
}
