//! The state records of the agent: small JSON texts by key, in a compacted topic or in a file.
//!
//! The meaning of the texts is not known here. A write returns when it is acknowledged. After a
//! restart the newest value of each key is read back. The file serves sinks that have no topics.
//! Each write makes a new file beside the old one and renames the new file. A crash thus leaves the
//! old file or the new one.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::KafkaError;
use super::state_topic::StateTopic;

/// A state record could not be read or written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum StateError {
    /// The state topic could not be read or written.
    #[error(transparent)]
    Topic(#[from] KafkaError),
    /// The state file could not be read or written.
    #[error("{call} state file `{}`", path.display())]
    File {
        call: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file is not a state file of ours, or it is damaged. The program does not change it.
    #[error("state file `{}` is not a JSON object of texts", path.display())]
    Format {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// The place of the agent's state records.
#[derive(Debug)]
pub enum State {
    /// The compacted topic `<prefix>.wellspring-state`.
    Topic(StateTopic),
    /// A file, for sinks without topics.
    File(FileState),
}

impl State {
    /// Reads the newest value of every key that has one.
    ///
    /// # Errors
    /// The topic or file cannot be read. A single record that cannot be read is an error, too.
    pub async fn read_all(&mut self) -> Result<BTreeMap<String, String>, StateError> {
        match self {
            State::Topic(topic) => Ok(topic.read_all().await?),
            State::File(file) => file.read_all().await,
        }
    }

    /// Sets a key, or removes it with `None`. Returns when the change will survive a crash.
    ///
    /// # Errors
    /// After an error the write may or may not have happened; a repeat is harmless.
    pub async fn write(&mut self, key: &str, json: Option<&str>) -> Result<(), StateError> {
        self.write_all(&[(key, json)]).await
    }

    /// Writes several keys in this order. Returns when all of the changes will survive a crash.
    ///
    /// # Errors
    /// As [`State::write`]: each of the writes may or may not have happened.
    pub async fn write_all(&mut self, records: &[(&str, Option<&str>)]) -> Result<(), StateError> {
        match self {
            State::Topic(topic) => Ok(topic.write_all(records).await?),
            State::File(file) => file.write_all(records).await,
        }
    }
}

/// The state records in a file. The file is a JSON object with the keys of the records and their
/// texts.
#[derive(Debug)]
pub struct FileState {
    path: PathBuf,
    /// The content of the file as it was last read or written. `None` before that.
    known: Option<BTreeMap<String, String>>,
}

impl FileState {
    /// Names the state file, and does not read it. The file need not exist, but its directory must
    /// exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        FileState { path: path.into(), known: None }
    }

    /// Reads every key and its value from the file, as [`State::read_all`] does. A missing file
    /// counts as empty.
    ///
    /// # Errors
    /// `File` or `Format`.
    pub async fn read_all(&mut self) -> Result<BTreeMap<String, String>, StateError> {
        let path = self.path.clone();
        let read = off_the_runtime("read", &self.path, move || std::fs::read(path)).await;
        let known = match read {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| StateError::Format { path: self.path.clone(), source })?,
            Err(StateError::File { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                BTreeMap::new()
            }
            Err(error) => return Err(error),
        };
        Ok(self.known.insert(known).clone())
    }

    /// Sets a key in the file, or removes the key with `None`, as [`State::write`] does.
    ///
    /// # Errors
    /// `File` or `Format`.
    pub async fn write(&mut self, key: &str, json: Option<&str>) -> Result<(), StateError> {
        self.write_all(&[(key, json)]).await
    }

    /// Sets or removes several keys in the file, as [`State::write_all`] does. The file has all of
    /// these changes or none of them.
    ///
    /// # Errors
    /// `File` or `Format`.
    pub async fn write_all(&mut self, records: &[(&str, Option<&str>)]) -> Result<(), StateError> {
        let mut next = match &self.known {
            Some(known) => known.clone(),
            None => self.read_all().await?,
        };
        for (key, json) in records {
            match json {
                Some(json) => next.insert((*key).to_owned(), (*json).to_owned()),
                None => next.remove(*key),
            };
        }
        let bytes = serde_json::to_vec_pretty(&next)
            .map_err(|source| StateError::Format { path: self.path.clone(), source })?;
        let path = self.path.clone();
        off_the_runtime("write", &self.path, move || replace(&path, &bytes)).await?;
        self.known = Some(next);
        Ok(())
    }
}

/// Writes the bytes to a new file, forces that file to disk, renames it over the old one, and
/// forces the directory to disk.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::File::open(directory)?.sync_all()
}

async fn off_the_runtime<T: Send + 'static>(
    call: &'static str,
    path: &Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StateError> {
    let done = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    done.map_err(|source| StateError::File { call, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_keeps_the_newest_value_of_each_key_across_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let mut state = State::File(FileState::new(&path));
        assert_eq!(state.read_all().await.unwrap(), BTreeMap::new());
        state.write("a", Some("{\"n\":1}")).await.unwrap();
        state.write("a", Some("{\"n\":2}")).await.unwrap();
        state.write("b", Some("\"ü\"")).await.unwrap();
        state.write("c", Some("1")).await.unwrap();
        state.write_all(&[("d", Some("1")), ("c", None), ("d", Some("2"))]).await.unwrap();
        let mut again = State::File(FileState::new(&path));
        let expected = BTreeMap::from([
            ("a".to_owned(), "{\"n\":2}".to_owned()),
            ("b".to_owned(), "\"ü\"".to_owned()),
            ("d".to_owned(), "2".to_owned()),
        ]);
        assert_eq!(again.read_all().await.unwrap(), expected);
        assert!(!directory.path().join("state.json.new").exists());
    }

    #[tokio::test]
    async fn a_damaged_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        std::fs::write(&path, "not ours").unwrap();
        let mut state = FileState::new(&path);
        assert!(matches!(state.read_all().await, Err(StateError::Format { .. })));
        assert!(matches!(state.write("a", Some("1")).await, Err(StateError::Format { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not ours");
    }
}
