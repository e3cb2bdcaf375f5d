//! Reads a secret from a file, or from the output of a command.
//!
//! This file does IO. Reading is bounded in bytes and, for a command, in time. A command runs in
//! its own process group, without a shell and without input. Its stderr is discarded, because a
//! tool may repeat its secret arguments there. An error names the file or the program and the
//! failure, never a byte of the content.

use super::{COMMAND_TIME_MAX, Command, SECRET_BYTES_MAX, Secret, Source, Token};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read.
    #[error("read the file {}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The content of a file cannot be used as a secret.
    #[error("the file {} {what}", path.display())]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// The fault, such as "is larger than ...".
        what: String,
    },
    /// A command could not be started.
    #[error("run the command `{program}`")]
    Start {
        /// Name of the program.
        program: String,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// A command ended with a failure. Its output is discarded.
    #[error("the command `{program}` ended with {status}; run it by hand to see what it says")]
    Status {
        /// Name of the program.
        program: String,
        /// Exit status of the command, or the signal that ended the command.
        status: ExitStatus,
    },
    /// A command did not end in time and was killed.
    #[error("the command `{program}` did not end within {} s and was killed", limit.as_secs_f32())]
    Time {
        /// Name of the program.
        program: String,
        /// The time limit, at which the command was killed.
        limit: Duration,
    },
    /// The output of a command cannot be used as a secret.
    #[error("the command `{program}` {what}")]
    Output {
        /// Name of the program.
        program: String,
        /// The fault, such as "printed nothing".
        what: String,
    },
    /// The task that read the secret ended without a result, as at a shutdown of the runtime.
    #[error("reading the secret was interrupted")]
    Interrupted,
}

/// Reads a secret now. It blocks as long as the file system or the command takes. A command takes
/// at most [`COMMAND_TIME_MAX`].
///
/// # Errors
/// See [`SourceError`]. An empty file is an empty secret, while a command that prints nothing is an
/// error.
pub fn read(source: &Source) -> Result<Secret, SourceError> {
    match source {
        Source::Inline(secret) => Ok(secret.clone()),
        Source::File(path) => read_file(path),
        Source::Command(command) => run(command, COMMAND_TIME_MAX),
    }
}

/// Reads a secret as [`read`] does, on a thread that may block.
///
/// # Errors
/// Same as for [`read`].
pub async fn fetch(source: &Source) -> Result<Secret, SourceError> {
    if let Source::Inline(secret) = source {
        return Ok(secret.clone());
    }
    let source = source.clone();
    tokio::task::spawn_blocking(move || read(&source))
        .await
        .unwrap_or(Err(SourceError::Interrupted))
}

fn read_file(path: &Path) -> Result<Secret, SourceError> {
    let content = |what: String| SourceError::Content { path: path.to_owned(), what };
    let bytes = File::open(path)
        .and_then(bounded)
        .map_err(|source| SourceError::File { path: path.to_owned(), source })?
        .ok_or_else(|| content(format!("is larger than {SECRET_BYTES_MAX} bytes")))?;
    line_of(bytes).ok_or_else(|| content("is not UTF-8".to_owned()))
}

/// Reads `from` to its end. `None` if the content is larger than a secret may be.
fn bounded(from: impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() <= SECRET_BYTES_MAX))
}

/// A secret from these bytes, without the line break at their end. `None` if they are not UTF-8.
fn line_of(bytes: Vec<u8>) -> Option<Secret> {
    // The text with its line break is a `Secret` too, so that its bytes are overwritten.
    let whole = Secret::new(String::from_utf8(bytes).ok()?);
    let text = whole.reveal();
    let text = text.strip_suffix('\n').unwrap_or(text);
    Some(Secret::new(text.strip_suffix('\r').unwrap_or(text)))
}

/// Runs a command to its end and returns its output as a secret. Kills the command after `limit`.
fn run(command: &Command, limit: Duration) -> Result<Secret, SourceError> {
    let program = || command.program.clone();
    let failed = |source| SourceError::Start { program: program(), source };
    let output = |what: &str| SourceError::Output { program: program(), what: what.to_owned() };
    let mut child = std::process::Command::new(&command.program)
        .args(&command.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A process group of its own lets us end the command with all its children.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (send, receive) = mpsc::sync_channel(1);
    let watching = std::thread::Builder::new().name("secret".to_owned()).spawn(move || {
        // Nobody receives the result after the time limit.
        let _ = send.send(watch(&mut child, group));
    });
    if let Err(source) = watching {
        end(group);
        return Err(failed(source));
    }
    let (bytes, status) = match receive.recv_timeout(limit) {
        Ok(watched) => watched.map_err(failed)?,
        Err(_) => {
            end(group);
            return Err(SourceError::Time { program: program(), limit });
        }
    };
    let Some(bytes) = bytes else {
        return Err(output(&format!("printed more than {SECRET_BYTES_MAX} bytes")));
    };
    let secret = line_of(bytes);
    if !status.success() {
        return Err(SourceError::Status { program: program(), status });
    }
    match secret {
        None => Err(output("printed what is not UTF-8")),
        Some(secret) if secret.reveal().is_empty() => Err(output("printed nothing")),
        Some(secret) => Ok(secret),
    }
}

/// Reads the output of a command, waits for its end, and returns both. The output is `None` if it
/// is larger than a secret may be. Such a command is killed at once.
fn watch(child: &mut Child, group: Option<Pid>) -> io::Result<(Option<Vec<u8>>, ExitStatus)> {
    let bytes = child.stdout.take().map_or(Ok(Some(Vec::new())), bounded)?;
    if bytes.is_none() {
        end(group);
    }
    Ok((bytes, child.wait()?))
}

fn end(group: Option<Pid>) {
    if let Some(group) = group {
        // The group may have ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A secret that is needed often. The output of a command is kept until it should be fetched again.
/// Any other source is read each time.
#[derive(Debug)]
pub struct Kept {
    source: Source,
    /// Longest time that a printed secret is kept, whatever lifetime it states.
    time_max: Duration,
    token: tokio::sync::Mutex<Option<(Secret, Instant)>>,
}

impl Kept {
    /// Makes a secret that [`Kept::get`] reads from `source`. The output of a command is kept
    /// for at most `time_max`.
    #[must_use]
    pub fn new(source: Source, time_max: Duration) -> Self {
        Kept { source, time_max, token: tokio::sync::Mutex::new(None) }
    }

    /// True if the secret is the output of a command. Only then does [`Kept::forget`] make the next
    /// [`Kept::get`] fetch it again.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        matches!(self.source, Source::Command(_))
    }

    /// The secret that is valid now. Concurrent callers wait for one run of the command.
    ///
    /// # Errors
    /// Same as for [`read`]. A failure is not kept.
    pub async fn get(&self) -> Result<Secret, SourceError> {
        if !self.is_kept() {
            return fetch(&self.source).await;
        }
        let mut kept = self.token.lock().await;
        if let Some((secret, until)) = kept.as_ref()
            && Instant::now() < *until
        {
            return Ok(secret.clone());
        }
        *kept = None;
        let token = Token::of(&fetch(&self.source).await?, since_1970());
        *kept = Some((token.secret.clone(), Instant::now() + token.fresh_for().min(self.time_max)));
        Ok(token.secret)
    }

    /// Drops the kept secret after a server refused it, so that the next [`Kept::get`] runs the
    /// command again.
    pub async fn forget(&self) {
        *self.token.lock().await = None;
    }
}

/// Time since 1970, the form in which tokens state times.
pub(super) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

impl Token {
    /// Reads a token now. It blocks as [`read`] does.
    ///
    /// # Errors
    /// Same as for [`read`].
    pub fn read(source: &Source) -> Result<Self, SourceError> {
        read(source).map(|text| Token::of(&text, since_1970()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        Command::new(["sh", "-c", script].map(str::to_owned).to_vec()).unwrap()
    }

    fn ran(script: &str) -> Result<String, String> {
        run(&shell(script), COMMAND_TIME_MAX)
            .map(|s| s.reveal().to_owned())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_command_gives_what_it_prints_without_its_line_break() {
        assert_eq!(ran("echo 's3 cret'"), Ok("s3 cret".to_owned()));
        assert_eq!(ran("printf 'a\\r\\n'"), Ok("a".to_owned()));
        assert_eq!(ran("cat; printf b"), Ok("b".to_owned()), "nothing is to be read");
    }

    #[test]
    fn a_command_that_fails_is_named_and_nothing_it_said_is_repeated() {
        let status = ran("echo hunter2; echo hunter2 >&2; exit 3").unwrap_err();
        assert_eq!(
            status,
            "the command `sh` ended with exit status: 3; run it by hand to see what it says"
        );
        assert!(ran("kill -9 $$").unwrap_err().contains("signal: 9"));
        assert!(ran("true").unwrap_err().contains("printed nothing"));
        assert!(ran("printf '\\377'").unwrap_err().contains("not UTF-8"));
        let missing = Command::new(vec!["/nowhere/tool".to_owned(), "hunter2".to_owned()]).unwrap();
        assert_eq!(
            run(&missing, COMMAND_TIME_MAX).unwrap_err().to_string(),
            "run the command `/nowhere/tool`"
        );
    }

    #[test]
    fn a_command_is_bounded_in_bytes_and_in_time() {
        assert!(ran("yes").unwrap_err().contains("more than 65536 bytes"));
        // The limit also counts for child processes: a pipe that a child keeps open does not block
        // us.
        let began = Instant::now();
        let error = run(&shell("sleep 60 & sleep 60"), Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("did not end within 0.1 s"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_file_is_read_anew_each_time_without_its_line_break() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = Source::File(file.path().to_owned());
        for (content, secret) in
            [(" first \n", " first "), ("second\r\n", "second"), ("a\n\n", "a\n"), ("", "")]
        {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(read(&source).unwrap().reveal(), secret);
        }
        std::fs::write(file.path(), vec![b'x'; SECRET_BYTES_MAX + 1]).unwrap();
        assert!(read(&source).unwrap_err().to_string().contains("is larger than"));
    }

    #[tokio::test]
    async fn a_printed_token_is_kept_until_its_time_or_a_refusal() {
        let directory = tempfile::tempdir().unwrap();
        let runs = directory.path().join("runs");
        let counting = |lifetime: u64| {
            let print = format!(
                r#"echo x >> {0}; printf '{{"token":"%s","expires_in":{lifetime}}}' $(wc -l < {0})"#,
                runs.display()
            );
            Kept::new(Source::Command(shell(&print)), Duration::from_secs(3600))
        };
        let kept = counting(1000);
        assert_eq!(
            (kept.get().await.unwrap().reveal(), kept.get().await.unwrap().reveal()),
            ("1", "1")
        );
        kept.forget().await;
        assert_eq!(kept.get().await.unwrap().reveal(), "2");
        let short = counting(0);
        assert_eq!(
            (short.get().await.unwrap().reveal(), short.get().await.unwrap().reveal()),
            ("3", "4")
        );
    }
}
