//! Relations that the stream announces: each is compared with the recorded tables before it is
//! planned.

use super::{Origin, Outcome, PlanMaker};
use crate::change::{Position, RelationShape};
use crate::continuity::detached::Detached;
use crate::continuity::named::Named;
use crate::lsn::Lsn;
use crate::postgres::{PgError, Sql};
use crate::table::TableName;
use std::sync::Arc;

impl PlanMaker {
    /// Replaces the names of the captured tables, and the recorded names and oids with which
    /// announced relations are compared.
    pub fn recapture(&mut self, captured: &[TableName], named: &Arc<Named>) {
        self.captured = captured.to_vec();
        self.named = Arc::clone(named);
    }

    /// Plans a relation that the stream announces before the change at `at`. Changes of a
    /// `detached` table go to the quarantine topic. The outcome is [`Outcome::Halts`] if the
    /// relation has another name or oid than recorded. The relations `ahead`, which the stream
    /// announces next, are prepared together with this one.
    ///
    /// # Errors
    /// See [`PlanMaker::relation`].
    pub async fn announced(
        mut self,
        shape: RelationShape,
        at: Position,
        detached: Option<Detached>,
        ahead: Vec<RelationShape>,
    ) -> (Self, Result<Outcome, PgError>) {
        if let Some(halt) = self.named.compare(&shape, at) {
            let outcome = position(&self.sql).await.map(|server| {
                Outcome::Halts(Box::new(halt.over(at.commit, server.max(at.commit))))
            });
            return (self, outcome);
        }
        match detached {
            Some(detached) => self.quarantine(shape, Some(detached), None).await,
            None => {
                let mut batch = vec![shape.clone()];
                batch.extend(ahead.into_iter().filter(|s| self.named.compare(s, at).is_none()));
                self.prepare(&batch, Origin::Stream).await;
                self.relation_at(shape, Some(at)).await
            }
        }
    }
}

/// The server's present position in the WAL. On a standby, it is the position up to which WAL was
/// replayed.
pub(super) async fn position(sql: &Sql) -> Result<Lsn, PgError> {
    const ASK: &str =
        "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
        ELSE pg_catalog.pg_current_wal_insert_lsn() END";
    let rows = sql.query(ASK).await?;
    let text = rows.first().and_then(|row| row.first()).and_then(Option::as_deref);
    let unreadable =
        || PgError::Protocol { call: "read the server's position", what: "no position".to_owned() };
    text.and_then(|text| text.parse().ok()).ok_or_else(unreadable)
}
