//! Exit codes of the program, and the form in which it prints an error.

use crate::agent::Exit;
use crate::agent::consent::ConsentError;
use crate::agent::supervise::{Disposition, PipelineError, disposition};
use crate::config::ConfigError;
use crate::continuity::Chain;
use crate::kafka::{KafkaError, StateError};
use crate::plans::keeper::KeeperError;
use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// Exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 0: the command is done, or was stopped cleanly on request.
    Done,
    /// 1: a failure that has no code of its own.
    Failed,
    /// 2: the command line or the configuration is faulty.
    Config,
    /// 3: continuity is not proven, or a record can never be delivered.
    Continuity,
    /// 4: Postgres is unreachable, or refuses us.
    Source,
    /// 5: Kafka or the registry is unreachable, or refuses us.
    Sink,
    /// 6: stopped on request before everything was delivered and confirmed.
    Repeats,
    /// 7: the reader of standard output is gone.
    ReaderGone,
}

impl Code {
    /// The table of exit codes that `--help` prints.
    pub const TABLE: &'static str = "Exit status:
  0  done, or stopped on request with everything delivered and confirmed
  1  failed in a way that has no code of its own
  2  the command line or the configuration is faulty; nothing was started
  3  continuity is not proven or a record can never be delivered (run --exit-on-halt; slot)
  4  Postgres cannot be reached or refuses us (run: only if refused at the first connection; check: a finding)
  5  Kafka or the registry cannot be reached or refuses us (as 4)
  6  stopped on request before everything was delivered and confirmed; the next start sends a part of the stream again
  7  the reader of standard output is gone (run with sink = \"stdout\")";

    /// Every code, in the order of the table.
    pub const ALL: [Code; 8] = [
        Code::Done,
        Code::Failed,
        Code::Config,
        Code::Continuity,
        Code::Source,
        Code::Sink,
        Code::Repeats,
        Code::ReaderGone,
    ];

    /// The code as the number that the shell sees.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Code::Done => 0,
            Code::Failed => 1,
            Code::Config => 2,
            Code::Continuity => 3,
            Code::Source => 4,
            Code::Sink => 5,
            Code::Repeats => 6,
            Code::ReaderGone => 7,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code.number())
    }
}

impl From<Exit> for Code {
    fn from(exit: Exit) -> Code {
        match exit {
            Exit::Stopped => Code::Done,
            Exit::Halted => Code::Continuity,
            Exit::TablesRefused => Code::Config,
            Exit::SourceRefuses => Code::Source,
            Exit::SinkRefuses => Code::Sink,
            Exit::Repeats => Code::Repeats,
            Exit::ReaderGone => Code::ReaderGone,
            Exit::StdoutFailed => Code::Failed,
        }
    }
}

/// An error for a person. It prints as primary line, details and hint. Details and hint may be
/// empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit code of the program.
    pub code: Code,
    /// The call that failed, in one line.
    pub primary: String,
    /// The causes or faults, each in one line.
    pub details: Vec<String>,
    /// The next step for the person.
    pub hint: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.primary)?;
        for detail in &self.details {
            write!(f, "\n  {detail}")?;
        }
        if !self.hint.is_empty() {
            write!(f, "\nhint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl Failure {
    /// Makes a failure of an error: its text is the primary line, and its causes are the details.
    pub fn of(code: Code, error: &dyn Error, hint: &str) -> Self {
        let mut details = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            details.push(error.to_string());
            cause = error.source();
        }
        Failure { code, primary: error.to_string(), details, hint: hint.to_owned() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        match &error {
            ConfigError::Unreadable { .. } => Failure::of(
                Code::Config,
                &error,
                "name the file with --config or WELLSPRING_CONFIG; wellspring.example.toml is one \
                 to begin with",
            ),
            ConfigError::Faulty(faults) => {
                let count = faults.faults.len();
                let s = if count == 1 { "" } else { "s" };
                Failure {
                    code: Code::Config,
                    primary: format!("the configuration has {count} fault{s}"),
                    details: faults.to_string().lines().map(str::to_owned).collect(),
                    hint: "correct the file, or set WELLSPRING_SECTION__KEY; `wellspring config \
                         show` prints what holds"
                        .to_owned(),
                }
            }
        }
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Failure {
        PipelineError::Kafka(error).into()
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Failure {
        PipelineError::State(KeeperError::State(error)).into()
    }
}

/// A failure at which a running agent would halt, end or try again. A command ends with it at once.
impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Failure {
        let (code, hint) = match disposition(&error) {
            Disposition::Halt(halt) => (Code::Continuity, halt.next()),
            Disposition::Refused(trouble, exit) => (exit.into(), trouble.of_an_end().next),
            Disposition::Retry(trouble) => (code_of(&error), trouble.of_an_end().next),
        };
        Failure { hint, ..Failure::of(code, &error, "") }
    }
}

/// The exit code for a failure at which a running agent would try again. It says which side failed:
/// Postgres, Kafka, the configuration or the stream.
fn code_of(error: &PipelineError) -> Code {
    match error {
        PipelineError::Postgres(_)
        | PipelineError::Rows(_)
        | PipelineError::Silent { .. }
        | PipelineError::Goodbye
        | PipelineError::Trouble(_)
        | PipelineError::Refused(_) => Code::Source,
        PipelineError::Unsuitable(_) => Code::Config,
        PipelineError::State(_) | PipelineError::Kafka(_) => Code::Sink,
        PipelineError::Record(_) | PipelineError::Halt(_) => Code::Continuity,
    }
}

impl From<ConsentError> for Failure {
    fn from(error: ConsentError) -> Failure {
        let (code, hint) = match error {
            ConsentError::Pipeline(error) => return (*error).into(),
            ConsentError::State(error) => return error.into(),
            ConsentError::InUse { .. } => (Code::Source, "stop the agent that holds the slot"),
            ConsentError::Exists { .. } => (Code::Source, ""),
            ConsentError::Recorded { .. } => {
                (Code::Continuity, "`wellspring slot accept` records the loss and creates the slot")
            }
            ConsentError::Missing { .. } => {
                (Code::Source, "`wellspring run` creates it at a first start")
            }
            ConsentError::NoPublication { .. } => {
                (Code::Source, "`wellspring check` prints the SQL that creates it")
            }
            ConsentError::NotAdopted { ref next, .. } => {
                let (primary, hint) = (error.to_string(), next.clone());
                return Failure { code: Code::Continuity, primary, details: Vec::new(), hint };
            }
            ConsentError::NotAccepted { ref next, .. }
            | ConsentError::NotRetried { ref next, .. } => (Code::Continuity, next.as_str()),
            ConsentError::OtherRange { .. } => (Code::Continuity, ""),
        };
        Failure {
            code,
            primary: Chain(&error).to_string(),
            details: Vec::new(),
            hint: hint.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuity::{Halt, Reason};

    #[test]
    fn help_lists_every_code() {
        for (number, code) in (0..).zip(Code::ALL) {
            assert_eq!(code.number(), number);
            assert!(Code::TABLE.contains(&format!("\n  {}  ", code.number())), "{code:?}");
        }
    }

    #[test]
    fn a_halt_prints_what_why_and_what_to_do() {
        let failure = Failure::from(PipelineError::Halt(Halt::new(
            Reason::SlotMissing,
            "slot `s` does not exist",
        )));
        assert_eq!(failure.code, Code::Continuity);
        let text = failure.to_string();
        assert!(text.starts_with("error: slot_missing: slot `s` does not exist\nhint: "), "{text}");
        assert!(text.contains("wellspring slot accept"), "{text}");
    }
}
