//! Removes by command what a pipeline has left: its slot, its publication and its records in the
//! state.
//!
//! The topics with events stay, because they belong to the consumers. The slot goes first, because
//! it costs the server disk. A part that cannot be removed is reported, and the other parts are
//! removed all the same.

use super::Config;
use super::consent::ConsentError;
use crate::continuity::Chain;
use crate::continuity::made::Made;
use crate::plans::keeper::Keeper;
use crate::postgres::publication::{self, PublicationRow};
use crate::postgres::slot::{self, SlotRow};
use crate::postgres::{Replication, Sql, readers};

/// The parts of a pipeline that still exist at the server and in the state.
pub struct Leftovers {
    /// The slot. `None` if it does not exist, or if its plugin or its database is not ours.
    pub slot: Option<SlotRow>,
    /// The publication. `None` if it does not exist.
    pub publication: Option<PublicationRow>,
    /// Why the publication is left alone. `None` if there is none, or if this pipeline has made it
    /// and no session streams with it.
    pub kept: Option<String>,
    /// Keys of our records in the state, or the reason why the state cannot be read.
    pub state: Result<Vec<String>, String>,
    keeper: Option<Keeper>,
}

/// The outcome for one part of the pipeline.
#[derive(Debug)]
pub struct Removed {
    /// The part in words: the slot, the publication or the records.
    pub what: String,
    /// Why the part is still there. `None` if it is removed.
    pub failed: Option<String>,
}

/// Reads which parts of the pipeline still exist, and changes nothing.
///
/// # Errors
/// Postgres cannot be asked. A state that cannot be read is part of the answer.
pub async fn look(config: &Config) -> Result<Leftovers, ConsentError> {
    let sql = Sql::connect(&config.postgres).await?;
    let slot = slot::read(&sql, &config.slot).await?;
    let is_ours = |row: &SlotRow| {
        row.plugin.as_deref() == Some("pgoutput") && row.database.as_deref() == Some(sql.database())
    };
    let publication = publication::read(&sql, &config.publication).await?;
    let readers = readers::read(&sql, &config.publication).await?;
    let mut made = None;
    let (keeper, state) = match config.open_state().await {
        Ok(state) => {
            let keeper = Keeper::start(state);
            let read = keeper.read().await.map_err(|error| Chain(&error).to_string());
            if let Ok(entries) = &read {
                let text = entries.get(&Made::key(&config.slot));
                made = text.and_then(|text| serde_json::from_str::<Made>(text).ok());
            }
            (Some(keeper), read.map(|entries| ours(&config.slot, entries.into_keys().collect())))
        }
        Err(error) => (None, Err(Chain(&error).to_string())),
    };
    let made = made.map(|made| made.publication);
    let is_made = |row: &PublicationRow| made == Some(row.oid);
    let kept = match &publication {
        Some(row) if !is_made(row) => Some("this pipeline has not made it".to_owned()),
        Some(_) if !readers.is_empty() => {
            let pids: Vec<String> = readers.iter().map(i32::to_string).collect();
            Some(format!("pid {} streams with it", pids.join(", ")))
        }
        _ => None,
    };
    Ok(Leftovers { slot: slot.filter(is_ours), publication, kept, state, keeper })
}

/// Selects the keys of state records that are ours. All keys are ours, unless the state topic has
/// records of another slot. Then only the keys of this slot are ours.
fn ours(slot: &str, keys: Vec<String>) -> Vec<String> {
    const OF_A_SLOT: [&str; 11] = [
        "made/",
        "confirm/",
        "intent/",
        "copy/",
        "copied/",
        "window/",
        "signals/",
        "detached/",
        "skipped/",
        "halt/",
        "watched/",
    ];
    let slot_of = |key: &String| {
        let rest = OF_A_SLOT.iter().find_map(|kind| key.strip_prefix(kind))?;
        rest.split('/').next().map(str::to_owned) // The name of a slot has no slash.
    };
    let is_own = |key: &String| slot_of(key).is_some_and(|of| of == slot);
    let is_shared = keys.iter().any(|key| slot_of(key).is_some_and(|of| of != slot));
    keys.into_iter().filter(|key| !is_shared || is_own(key)).collect()
}

/// Removes the slot, the records of the state, and the publication if `postgres.create_publication`
/// is on, this pipeline has made it, and nobody else streams with it. Returns the outcome for each
/// part.
///
/// # Errors
/// `InUse`, before anything is removed.
pub async fn remove(config: &Config, left: Leftovers) -> Result<Vec<Removed>, ConsentError> {
    let mut removed = Vec::new();
    let mut note = |what: String, failed: Option<String>| removed.push(Removed { what, failed });
    if let Some(row) = &left.slot {
        if let Some(pid) = row.active_pid {
            return Err(ConsentError::InUse { slot: config.slot.clone(), pid });
        }
        let dropped = match Replication::connect(&config.postgres).await {
            Ok(mut replication) => replication.drop_slot(&config.slot).await,
            Err(error) => Err(error),
        };
        note(
            format!("slot `{}`", config.slot),
            dropped.err().map(|error| Chain(&error).to_string()),
        );
    }
    if left.publication.is_some() && left.kept.is_none() && config.create_publication {
        let dropped = match Sql::connect(&config.postgres).await {
            Ok(sql) => publication::drop(&sql, &config.publication).await,
            Err(error) => Err(error),
        };
        note(
            format!("publication `{}`", config.publication),
            dropped.err().map(|error| Chain(&error).to_string()),
        );
    }
    if let (Ok(keys), Some(keeper)) = (&left.state, &left.keeper)
        && !keys.is_empty()
    {
        let mut failed = None;
        for key in keys {
            if let Err(error) = keeper.write(key, None).await {
                failed = Some(Chain(&error).to_string());
                break;
            }
        }
        note(format!("{} records of the state", keys.len()), failed);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn of_a_state_that_is_shared_only_the_slots_own_records_are_removed() {
        let own = [
            "confirm/s/1",
            "copied/s/1/p.a",
            "copy/s",
            "halt/s",
            "intent/s",
            "signals/s",
            "window/s/p.a",
        ];
        let alone = [&own[..], &["schema/x/1", "topic/p.a"]].concat();
        assert_eq!(ours("s", keys(&alone)), keys(&alone));
        for other in [
            "confirm/s2/1",
            "copied/s2/1/p.a",
            "copy/s2",
            "halt/s2",
            "intent/s2",
            "signals/s2",
            "window/s2/p.a",
        ] {
            assert_eq!(ours("s", keys(&[&alone[..], &[other]].concat())), keys(&own), "{other}");
        }
    }
}
