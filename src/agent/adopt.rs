//! Takes over a pipeline of Debezium. Debezium's stored offset, its slot and the server's WAL
//! position are checked against each other. Our first checkpoint is made of them. The stream goes
//! on from the same slot, without a copy.
//!
//! Debezium confirms to the slot only positions that its stored offset covers. The checks follow
//! from that:
//!
//! - A slot that is confirmed beyond the offset was moved by somebody else. Changes may be missing,
//!   so it is refused.
//! - A slot that is confirmed up to the offset or less is accepted. The stream may repeat changes
//!   that Debezium has sent, as a restart of Debezium does.
//! - An offset beyond the end of the server's WAL is refused. It is of another server, or the
//!   server was set back.
//! - An offset of an unfinished copy shows that rows are missing, and is refused.

use super::Config;
use super::consent::{CommandContext, ConsentError, connect, consented, write};
use crate::continuity::checkpoint::Checkpoint;
use crate::lsn::Lsn;
use crate::plans::keeper::Keeper;
use crate::postgres::preflight::{self, SlotHolder};

/// The next step if a program with our application name reads from the slot. It is an agent of
/// ours.
const OURS_NEXT: &str = "stop that agent, or give this pipeline a slot of its own (postgres.slot)";

const RUNNING_NEXT: &str = "stop Debezium first: PUT /connectors/NAME/stop at Kafka Connect (a \
                            paused connector keeps the slot), or stop Debezium Server; then run \
                            this command again";

/// The parts of Debezium's stored offset that the checks of a takeover need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// Position of the last event that Debezium has sent.
    pub sent: Lsn,
    /// End of the last transaction whose events are all in Kafka. Debezium confirms this position
    /// to the slot.
    pub committed: Lsn,
    /// Whether Debezium has begun a snapshot or an incremental snapshot, and has not finished it.
    pub copying: bool,
}

/// Reads Debezium's stored offset from its JSON. `None` if the text is no JSON or has no `lsn`, as
/// with a connector for another database.
#[must_use]
pub fn offset(json: &[u8]) -> Option<Offset> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    let lsn = |name: &str| value.get(name)?.as_u64().map(Lsn::new);
    let is = |name: &str, wanted: bool| {
        value.get(name).and_then(serde_json::Value::as_bool) == Some(wanted)
    };
    let sent = lsn("lsn")?;
    let processed = lsn("lsn_proc").unwrap_or(sent);
    let snapshot =
        value.get("snapshot").is_some_and(|snapshot| !snapshot.is_null() && *snapshot != false);
    let unfinished = is("snapshot_completed", false) || is("last_snapshot_record", false);
    let in_chunks =
        value.get("incremental_snapshot_collections").and_then(serde_json::Value::as_str);
    Some(Offset {
        sent,
        committed: lsn("lsn_commit").unwrap_or(processed),
        copying: (snapshot && unfinished)
            || in_chunks.is_some_and(|list| !matches!(list, "" | "[]")),
    })
}

/// The outcome of a takeover: what was found, and what was written.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// Our first checkpoint, as it was written.
    pub record: Checkpoint,
    /// Confirmed position of the slot, from which the stream goes on.
    pub from: Lsn,
    /// The offset that Debezium stored.
    pub offset: Offset,
    /// How far the server's WAL is on its disk. On a standby, the larger of the received and the
    /// replayed position.
    pub server: Lsn,
}

/// A takeover that has passed all checks. Nothing is written yet.
pub struct Fitting {
    keeper: Keeper,
    adopted: Adopted,
}

/// Checks that Debezium's offset, the slot and the server's WAL position fit together. Nothing is
/// written.
///
/// # Errors
/// `NotAdopted` names what does not fit, or the program that still reads from the slot.
/// `NoPublication` and `Missing` name the publication or the slot that does not exist. Postgres and
/// Kafka may refuse as well.
pub async fn look(config: &Config, offset: Offset) -> Result<Fitting, ConsentError> {
    let CommandContext { sql, keeper, seen, .. } = connect(config).await?;
    if let Some(pid) = seen.slot().and_then(|slot| slot.active_pid) {
        let holder = preflight::slot_holder(&sql, &config.slot).await?;
        let program = holder.as_ref().and_then(|holder| holder.application.as_deref());
        let next = match program {
            Some(program) if program == config.postgres.application_name => OURS_NEXT,
            _ => RUNNING_NEXT,
        };
        return refused(&held(config, pid, holder.as_ref()), next);
    }
    if seen.state.record.is_some() {
        return refused(
            "there is a record of this slot already",
            "`wellspring slot status` shows it",
        );
    }
    if seen.publication().is_none() {
        return Err(ConsentError::NoPublication { publication: config.publication.clone() });
    }
    let Some(slot) = seen.slot() else {
        return Err(ConsentError::Missing { slot: config.slot.clone() });
    };
    if slot.plugin.as_deref() != Some("pgoutput") {
        let plugin = slot.plugin.as_deref().unwrap_or("none");
        return refused(
            &format!("slot `{}` has the plugin {plugin}", config.slot),
            "only pgoutput can be taken over",
        );
    }
    if let Some(lost) = &slot.invalidation {
        let next = "changes are missing: begin anew with a copy";
        return refused(&format!("slot `{}` is lost ({lost})", config.slot), next);
    }
    let from = slot.confirmed();
    fits(offset, from, seen.server())?;
    let record = Checkpoint {
        sent: offset.sent.max(from),
        sequence: Some(offset.committed),
        // The checkpoint is not of a clean stop, because records that Debezium's producer left in
        // the network may still land after ours.
        clean: false,
        ..consented(config, &seen, from, "adopted")
    };
    let adopted = Adopted { from, offset, server: seen.server(), record };
    Ok(Fitting { keeper, adopted })
}

impl Fitting {
    /// Writes our first checkpoint, unless Debezium's stored offset has changed since [`look`]
    /// checked it. `again` is the offset as it is stored now.
    ///
    /// # Errors
    /// `NotAdopted` if the offset has moved. Kafka may refuse as well.
    pub async fn adopt(self, again: Offset) -> Result<Adopted, ConsentError> {
        unmoved(self.adopted.offset, again)?;
        write(&self.keeper, &self.adopted.record).await?;
        Ok(self.adopted)
    }
}

fn unmoved(read: Offset, again: Offset) -> Result<(), ConsentError> {
    if again == read {
        return Ok(());
    }
    let why = "the stored offset has moved since it was read: Debezium still runs";
    refused(why, RUNNING_NEXT)
}

/// Makes the sentence that names the session that holds the slot. The sentence says `another
/// program` if the server hides the program's name from our role.
fn held(config: &Config, pid: i32, holder: Option<&SlotHolder>) -> String {
    let slot = &config.slot;
    let Some(holder) = holder else {
        return format!("slot `{slot}` was held by pid {pid} a moment ago");
    };
    match holder.application.as_deref() {
        Some(program) if program == config.postgres.application_name => {
            format!("slot `{slot}` is held by an agent of ours: {holder}")
        }
        Some(program) => format!("slot `{slot}` is held by {program}: {holder}"),
        None => format!("slot `{slot}` is held by another program: {holder}"),
    }
}

fn fits(offset: Offset, confirmed: Lsn, server: Lsn) -> Result<(), ConsentError> {
    if offset.copying {
        let next = "let Debezium finish it, or begin anew with a copy of ours";
        return refused("Debezium was stopped in a copy: rows are missing in Kafka", next);
    }
    if offset.committed > server || offset.sent > server {
        let what = format!(
            "the stored offset is at {}, the server's log ends at {server}",
            offset.sent.max(offset.committed)
        );
        return refused(
            &what,
            "this is another server, or one that was set back: begin anew with a copy",
        );
    }
    if confirmed > offset.committed {
        let what = format!(
            "the slot is confirmed up to {confirmed}, beyond the stored offset {}: changes between \
             may be missing",
            offset.committed
        );
        let next = "if they are not (lsn.flush.mode=connector_and_driver moves the slot over \
                    changes of other tables), `wellspring slot accept` consents";
        return refused(&what, next);
    }
    Ok(())
}

fn refused<T>(why: &str, next: &str) -> Result<T, ConsentError> {
    Err(ConsentError::NotAdopted { why: why.to_owned(), next: next.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sent: u64, committed: u64) -> Offset {
        Offset { sent: Lsn::new(sent), committed: Lsn::new(committed), copying: false }
    }

    fn judged(offset: Offset, confirmed: u64, server: u64) -> bool {
        fits(offset, Lsn::new(confirmed), Lsn::new(server)).is_ok()
    }

    #[test]
    fn reads_the_offset_that_debezium_stores() {
        let json = br#"{"transaction_id":null,"lsn_proc":34837776,"messageType":"INSERT","lsn_commit":34837700,
            "lsn":34837776,"txId":771,"ts_usec":1755850000123456}"#;
        assert_eq!(offset(json), Some(at(34_837_776, 34_837_700)));
        assert_eq!(offset(br#"{"lsn":5}"#), Some(at(5, 5)));
        assert_eq!(offset(br#"{"file":"binlog.1","pos":4}"#), None);
        let copying = br#"{"lsn":5,"snapshot":"INITIAL","snapshot_completed":false}"#;
        assert!(offset(copying).unwrap().copying);
        let copied = br#"{"lsn":5,"snapshot":"INITIAL","snapshot_completed":true}"#;
        assert!(!offset(copied).unwrap().copying);
        assert!(
            offset(br#"{"lsn":5,"snapshot":true,"last_snapshot_record":false}"#).unwrap().copying
        );
        assert!(
            offset(br#"{"lsn":5,"incremental_snapshot_collections":"[{\"x\":1}]"}"#)
                .unwrap()
                .copying
        );
    }

    #[test]
    fn a_slot_beyond_the_offset_is_refused_and_one_behind_it_is_not() {
        assert!(judged(at(120, 100), 100, 200));
        assert!(judged(at(120, 100), 80, 200));
        assert!(!judged(at(120, 100), 101, 200));
    }

    #[test]
    fn an_offset_that_moves_is_refused() {
        assert!(unmoved(at(120, 100), at(120, 100)).is_ok());
        assert!(unmoved(at(120, 100), at(121, 100)).is_err());
    }

    #[test]
    fn an_offset_of_another_server_or_of_an_unfinished_copy_is_refused() {
        assert!(!judged(at(120, 100), 80, 110));
        assert!(!judged(Offset { copying: true, ..at(120, 100) }, 80, 200));
    }
}
