//! `wellspring remove`: shows what a pipeline has left behind, and with `--yes` removes it.

use super::{Code, Failure, block_on, logging, print};
use crate::agent::removal::{self, Leftovers};
use crate::config::Checked;

pub(super) fn run(checked: &Checked, yes: bool) -> Result<Code, Failure> {
    logging::start(checked.log);
    let config = checked.pipeline(false);
    block_on(async {
        let left = removal::look(&config).await?;
        let lines = shown(checked, &left);
        print(&lines.join("\n"));
        if is_nothing(&left) {
            print("there is nothing to remove. Topics with events stay");
            return Ok(Code::Done);
        }
        if !yes {
            print("nothing is removed yet: run it again with --yes. The topics with events stay");
            return Ok(Code::Done);
        }
        let mut code = Code::Done;
        for part in removal::remove(&config, left).await? {
            match part.failed {
                None => print(&format!("removed {}", part.what)),
                Some(why) => {
                    code = Code::Failed;
                    print(&format!("NOT removed: {}: {why}", part.what));
                }
            }
        }
        Ok(code)
    })?
}

/// True if there is neither a slot nor a publication nor a record of the state. A state that cannot
/// be read counts as one with records.
fn is_nothing(left: &Leftovers) -> bool {
    let has_state = left.state.as_ref().map_or(true, |keys| !keys.is_empty());
    left.slot.is_none() && left.publication.is_none() && !has_state
}

fn shown(checked: &Checked, left: &Leftovers) -> Vec<String> {
    let slot = match &left.slot {
        None => format!(
            "slot         `{}` does not exist, or belongs to another plugin or database",
            checked.slot
        ),
        Some(row) => {
            let held = row.active_pid.map_or_else(String::new, |pid| {
                format!(", held by pid {pid}: stop that agent first")
            });
            format!(
                "slot         `{}` keeps {} bytes of WAL{held}",
                checked.slot,
                row.retained_bytes().unwrap_or(0)
            )
        }
    };
    let kept = |why: &String| {
        let name = &checked.publication;
        format!("publication  `{name}` stays: {why}; DROP PUBLICATION removes it")
    };
    let publication = match &left.publication {
        None => format!("publication  `{}` does not exist", checked.publication),
        Some(row) if checked.create_publication => {
            format!("publication  `{}` with {} tables", checked.publication, row.tables.len())
        }
        Some(_) => format!(
            "publication  `{}` stays: postgres.create_publication is off",
            checked.publication
        ),
    };
    let publication = left.kept.as_ref().map_or(publication, kept);
    let state = match &left.state {
        Ok(keys) => format!("state        {} records", keys.len()),
        Err(why) => format!("state        stays, it cannot be read: {why}"),
    };
    vec![slot, publication, state]
}
