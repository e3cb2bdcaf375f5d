//! Finds the sessions that stream changes of a publication, by the commands that the server's
//! walsenders run.

use crate::postgres::error::PgError;
use crate::postgres::sql::{Sql, SqlCall};
use std::iter::{Peekable, from_fn};
use std::str::Chars;
use tokio_postgres::types::Type;

/// The option of START_REPLICATION whose value is the list of publications.
const OPTION: &str = "publication_names";

/// Returns the pids of the walsenders of our database whose START_REPLICATION command names a
/// publication. A walsender whose command our role may not see is missing. A walsender whose list
/// of publications the server shows only in part is included.
///
/// # Errors
/// An error of the connection, or `Answer` if the result cannot be read.
pub async fn read(sql: &Sql, publication: &str) -> Result<Vec<i32>, PgError> {
    let asked = SqlCall { call: "read who streams with publication", object: publication };
    let text = "SELECT pid, query FROM pg_stat_activity
         WHERE backend_type = 'walsender' AND datname = $1 AND query IS NOT NULL ORDER BY pid";
    let rows = sql.ask(asked, text, &[(&sql.database(), Type::TEXT)]).await?;
    let mut pids = Vec::new();
    for row in &rows {
        if names(asked.get(row, "query")?, publication) {
            pids.push(asked.get(row, "pid")?);
        }
    }
    Ok(pids)
}

/// True if the command names the publication, or if the command is cut off before the end of its
/// list of publications. The server
/// keeps `track_activity_query_size` bytes of a command. The publication may be in the part that is
/// missing.
fn names(command: &str, publication: &str) -> bool {
    let Some((list, is_whole)) = value(command) else {
        let replicates = command.to_ascii_uppercase().starts_with("START_REPLICATION");
        return replicates && command.contains('(') && !command.trim_end().ends_with(')');
    };
    !is_whole || listed(&list).iter().any(|name| name == publication)
}

/// The value of the option [`OPTION`] in a replication command, and whether the value is whole.
/// `None` if the command has no such option. The word in another place, such as the name of a slot,
/// is not the option.
fn value(command: &str) -> Option<(String, bool)> {
    let mut chars = command.chars().peekable();
    let mut is_named = false;
    while let Some(first) = chars.next() {
        if first == '\'' {
            let (text, is_whole) = quoted(&mut chars, first);
            if is_named {
                return Some((text, is_whole));
            }
        }
        is_named = match first {
            '"' => quoted(&mut chars, first).0 == OPTION,
            _ if is_of_word(first) => word(&mut chars, first) == OPTION,
            _ => is_named && first.is_whitespace(),
        };
    }
    None
}

/// The names in a list of identifiers, without their double quotes. A name that has no double
/// quotes is folded to lower case, as by the server.
fn listed(list: &str) -> Vec<String> {
    let mut chars = list.chars().peekable();
    let mut names = Vec::new();
    while let Some(first) = chars.next() {
        match first {
            '"' => names.push(quoted(&mut chars, first).0),
            ',' => {}
            _ if first.is_whitespace() => {}
            _ => {
                let rest = from_fn(|| chars.next_if(|c| *c != ',' && !c.is_whitespace()));
                let name: String = std::iter::once(first).chain(rest).collect();
                names.push(name.to_ascii_lowercase());
            }
        }
    }
    names
}

/// Reads and returns the text up to the closing quote, in which a doubled quote means one quote.
/// The flag is true if the closing quote was found.
fn quoted(chars: &mut Peekable<Chars<'_>>, quote: char) -> (String, bool) {
    let mut text = String::new();
    while let Some(next) = chars.next() {
        if next != quote {
            text.push(next);
        } else if chars.next_if_eq(&quote).is_some() {
            text.push(quote);
        } else {
            return (text, true);
        }
    }
    (text, false)
}

/// Reads the rest of a word without quotes that begins with `first`. Returns the whole word in
/// lower case.
fn word(chars: &mut Peekable<Chars<'_>>, first: char) -> String {
    let rest = from_fn(|| chars.next_if(|c| is_of_word(*c)));
    std::iter::once(first).chain(rest).collect::<String>().to_ascii_lowercase()
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(options: &str) -> String {
        format!("START_REPLICATION SLOT \"w\" LOGICAL 0/0 (proto_version '1', {options})")
    }

    #[test]
    fn a_part_of_another_name_is_not_the_name() {
        let other = command(r#"publication_names '"wellspring","a,w"'"#);
        assert!(names(&other, "wellspring") && names(&other, "a,w"));
        assert!(!names(&other, "w") && !names(&other, "well") && !names(&other, "a"));
        assert!(!names("START_REPLICATION SLOT \"publication_names\" PHYSICAL 0/0", "w"));
        assert!(!names("IDENTIFY_SYSTEM", "w") && !names("", "w"));
    }

    #[test]
    fn each_client_has_its_way_to_write_the_list() {
        assert!(names(&command("\"publication_names\" 'w'"), "w"));
        assert!(names(&command("PUBLICATION_NAMES 'a , W'"), "w"));
        assert!(!names(&command("publication_names '\"W\"'"), "w"));
        assert!(!names(&command("publication_names 'W'"), "W"));
        let ours = command(r#"publication_names '"o''b""r\x, y"', messages 'true'"#);
        assert!(names(&ours, r#"o'b"r\x, y"#) && !names(&ours, "true"));
        assert!(!names(&command("note 'publication_names', other 'w'"), "w"));
    }

    #[test]
    fn a_list_that_is_cut_off_may_name_every_publication() {
        assert!(names("START_REPLICATION SLOT \"s\" (publication_names '\"aaa\",\"bb", "w"));
        assert!(names("START_REPLICATION SLOT \"s\" LOGICAL 0/0 (proto_version '4', publ", "w"));
        assert!(!names("COPY (SELECT 1) TO STDOUT", "w"));
    }
}
