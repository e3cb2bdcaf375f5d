//! `wellspring config import`: reads Debezium's files and writes a configuration, or reports what
//! prevents that.

use super::exit::{Code, Failure};
use super::input::{self, Unread};
use crate::config::import::{self, Hidden, ImportError, Imported, Loss};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The most bytes of a file that are read. A connector's configuration has some kilobytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A connector's and a worker's files (JSON, properties, or Strimzi's YAML), or Debezium
    /// Server's; `-` for standard input
    #[arg(required_unless_present = "properties")]
    files: Vec<PathBuf>,

    /// Leave out what has no counterpart; it is named in the file and on stderr
    #[arg(long)]
    lossy: bool,

    /// Where to write the configuration, instead of stdout; a file that exists is kept
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Where to write the secrets as NAME=value, readable by you alone; a file that exists is kept
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,

    /// Print every property of Debezium that is known, and what becomes of it
    #[arg(long, conflicts_with_all = ["files", "lossy", "output", "secrets"])]
    properties: bool,
}

pub fn run(arguments: &Arguments) -> Result<Code, Failure> {
    if arguments.properties {
        for (name, fate, why) in import::properties() {
            super::print(&format!("{name:52} {fate:12} {why}"));
        }
        return Ok(Code::Done);
    }
    let files = arguments.files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let loss = if arguments.lossy { Loss::Accepted } else { Loss::Refused };
    let Imported { toml, hidden, lost } = import::import(&files, loss).map_err(failure)?;
    match &arguments.output {
        Some(path) => create(path, &toml, 0o644)?,
        None => super::print(toml.trim_end()),
    }
    if let Some(path) = &arguments.secrets {
        create(path, &variables(&hidden)?, 0o600)?;
    }
    for (name, why) in lost {
        eprintln!("left out: {name}: {why}");
    }
    Ok(Code::Done)
}

fn read(path: &Path) -> Result<(String, String), Failure> {
    let name = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let read = match path == Path::new("-") {
        true => input::stdin(FILE_BYTES_MAX),
        false => input::file(path, FILE_BYTES_MAX),
    };
    let primary = format!("read {name}");
    match read.map(String::from_utf8) {
        Ok(Ok(text)) => Ok((name, text)),
        Ok(Err(_)) => {
            let what = "it is not UTF-8".to_owned();
            Err(told(primary, vec![what], "write the file in UTF-8"))
        }
        Err(error) => {
            let hint = match error {
                Unread::Failed(_) => "name a file that can be read",
                Unread::TooLong { .. } => {
                    "name the configuration of a connector or a worker, which has some kilobytes"
                }
            };
            Err(told(primary, vec![error.to_string()], hint))
        }
    }
}

/// Writes a new file. An existing file is never overwritten.
fn create(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        told(
            format!("write {}", path.display()),
            vec![error.to_string()],
            "name a file that does not exist yet",
        )
    })
}

/// The text of an environment file with the secrets, one line `NAME=value` each. Fails if a secret
/// has a line break or a NUL, because such a file cannot contain it.
fn variables(hidden: &[Hidden]) -> Result<String, Failure> {
    let mut text = String::new();
    for secret in hidden {
        if secret.value.reveal().contains(['\n', '\r', '\0']) {
            let what = format!(
                "the secret in {} has a line break, which an environment file cannot hold",
                secret.from
            );
            return Err(told(
                "write the secrets".to_owned(),
                vec![what],
                "put it into a file of its own, and ${file:/path} into the configuration",
            ));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}={}", secret.variable, secret.value.reveal());
    }
    Ok(text)
}

fn failure(error: ImportError) -> Failure {
    let primary = error.to_string();
    match error {
        ImportError::Source(_) => {
            told("read the configuration to import".to_owned(), vec![primary], "correct the file")
        }
        ImportError::Refused { refused } => {
            let details = refused.iter().map(|(name, why)| format!("{name}: {why}")).collect();
            let next = "correct these properties and import again; --lossy leaves out what has no \
                        counterpart, but a missing property has to be added";
            told(primary, details, next)
        }
        ImportError::Faulty(faults) => {
            let details = faults.to_string().lines().map(str::to_owned).collect();
            told(primary, details, "correct or add these values in the imported files")
        }
    }
}

fn told(primary: String, details: Vec<String>, hint: &str) -> Failure {
    Failure { code: Code::Config, primary, details, hint: hint.to_owned() }
}
