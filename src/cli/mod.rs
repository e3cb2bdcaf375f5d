//! The commands of the program: their arguments, the part that executes each one, and the exit
//! code.
//!
//! Every command that needs a configuration loads the same one, and all print errors in the same
//! form. Each file here has one command or a few that are alike. The rooms do the work.

mod adopt;
mod check;
mod demo;
mod exit;
mod import;
mod input;
mod logging;
mod notify;
mod preview;
mod progress;
mod remove;
mod request;
mod run;
mod running;
mod slot;
mod tail;

pub use exit::{Code, Failure};

use crate::config::{self, Loaded};
use crate::continuity::skipped::Consent;
use crate::kafka;
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;

/// Configuration file that is read if none is named.
const CONFIG_DEFAULT: &str = "wellspring.toml";

/// Environment variable that names the configuration file, for containers whose command line is
/// fixed.
const CONFIG_VARIABLE: &str = "WELLSPRING_CONFIG";

/// Postgres changes into Kafka: one small binary, wire-compatible with Debezium, and never quietly
/// wrong.
#[derive(Debug, Parser)]
#[command(
    name = "wellspring",
    disable_version_flag = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = Code::TABLE
)]
struct Arguments {
    /// The configuration file [default: wellspring.toml] [env: WELLSPRING_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the versions of the program, librdkafka and OpenSSL
    #[arg(long, short = 'V')]
    version: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stream changes until stopped (SIGTERM or Ctrl-C; a second one ends at once, with status 6)
    #[command(after_help = Code::TABLE)]
    Run {
        /// End with status 3 on a halt, instead of staying up to say why
        #[arg(long)]
        exit_on_halt: bool,
    },
    /// Check Postgres, Kafka and the registry, and print for each fault the SQL or setting that
    /// fixes it
    ///
    /// The command changes nothing. It ends with 0 if it finds no fault; warnings do not count.
    /// Otherwise it ends with the exit status of the first fault.
    #[command(after_help = Code::TABLE)]
    Check {
        /// Print findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what rows of a table become, before and after the transforms, and send nothing
    ///
    /// Only Postgres is asked. Kafka and the registry may be away, and the slot is left alone.
    #[command(after_help = Code::TABLE)]
    Preview(preview::Arguments),
    /// Show, explain or import the configuration
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Show, create or drop the replication slot, or accept the loss that a halt named
    #[command(subcommand, arg_required_else_help = true, after_help = Code::TABLE)]
    Slot(slot::Command),
    /// Print the events of topics as lines of JSON, and go on as they come (Ctrl-C ends it)
    ///
    /// The command reads Kafka with the settings of the agent, and decodes events with the registry
    /// of [registry]. It joins no group and commits nothing. A record that cannot be decoded is
    /// shown with its size and the reason.
    #[command(after_help = Code::TABLE)]
    Tail(tail::Arguments),
    /// Ask the running agent to copy tables again while it streams
    ///
    /// Like every request to a running agent it goes to admin.listen with the token of
    /// admin.token_file.
    #[command(after_help = Code::TABLE)]
    Snapshot {
        /// Captured tables, as schema.table
        #[arg(value_name = "TABLE", required_unless_present = "cancel", conflicts_with = "cancel")]
        tables: Vec<String>,
        /// Copy only the rows for which this SQL condition holds
        #[arg(long = "where", value_name = "CONDITION", requires = "tables")]
        filter: Option<String>,
        /// End the copy that is under way
        #[arg(long)]
        cancel: bool,
    },
    /// Ask the running agent to read no more changes; Postgres keeps the WAL meanwhile
    Pause,
    /// Ask the running agent to go on
    Resume,
    /// Ask the running agent to read its configuration again ([tables], [snapshot] and [registry]
    /// may differ); SIGHUP does the same
    Reload,
    /// Ask the halted agent to leave out the one change that cannot be sent, by consent that is
    /// recorded
    ///
    /// The topic then lacks this change, and the quarantine topic has it. Table, commit and ordinal
    /// are those that the status names: no other change is ever skipped.
    #[command(after_help = Code::TABLE)]
    Skip {
        /// The change's table, as schema.table
        #[arg(value_name = "TABLE")]
        table: String,
        /// The LSN of the commit that made the change
        #[arg(long, value_name = "LSN")]
        commit: crate::lsn::Lsn,
        /// The place of the change in its transaction
        #[arg(long, value_name = "N")]
        ordinal: u64,
        /// Why the change may be left out
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// Who gives the consent [env: USER]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Try a recorded halt once more, after its cause is removed; agents of the slot notice it
    /// within seconds
    ///
    /// The command changes the recorded state, so no agent has to run. `record_too_large`,
    /// `row_unencodable`, `undeliverable` and `history_differs` can be tried again; the other halts
    /// need another step, which is printed.
    #[command(after_help = Code::TABLE)]
    Retry,
    /// Show what the pipeline has left in Postgres and in its state topic, and with --yes remove it
    ///
    /// It removes the slot, the publication and the state records. A publication stays if
    /// postgres.create_publication is off, if this pipeline has not made it, or if another program
    /// streams with it. Topics with events stay, too.
    #[command(after_help = Code::TABLE)]
    Remove {
        /// Remove what is shown
        #[arg(long)]
        yes: bool,
    },
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, for `wellspring man | man -l -`
    Man,
    /// Take over from a Debezium that is stopped: prove that its offset, its slot and the server
    /// fit, and go on from there
    #[command(after_help = Code::TABLE)]
    Adopt(adopt::Arguments),
    /// Start a temporary Postgres, Kafka and registry, stream changes, and compare tables with
    /// topics
    ///
    /// The demo ends by Ctrl-C, or after the number of seconds in the variable DEMO_SECONDS. Its
    /// exit status is 0 only if every table equals its topic.
    Demo,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the effective configuration: secrets masked, each value with its origin
    Show,
    /// Print what every key takes, its default and what it is for, as Markdown
    Reference,
    /// Print a JSON schema of the file, for editors
    Schema,
    /// Turn a Debezium pipeline's configuration into ours: a connector's JSON or properties with
    /// its worker's properties, or Debezium Server's application.properties
    ///
    /// What has no counterpart stops the import, all of it named with its reason. Secrets are not
    /// printed: they become references to variables of the environment.
    #[command(after_help = Code::TABLE)]
    Import(import::Arguments),
}

/// Runs the command line and returns the exit code.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Code {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout and an error of the command line to stderr. If neither is open,
            // nobody can read it.
            let _ = error.print();
            return if error.use_stderr() { Code::Config } else { Code::Done };
        }
    };
    match answer(arguments) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            failure.code
        }
    }
}

fn answer(arguments: Arguments) -> Result<Code, Failure> {
    let file = arguments.config;
    if arguments.version {
        print(&version());
        return Ok(Code::Done);
    }
    match arguments.command {
        None => Err(Failure {
            code: Code::Config,
            primary: "no command is given".to_owned(),
            details: Vec::new(),
            hint: "`wellspring --help` lists them".to_owned(),
        }),
        Some(Command::Run { exit_on_halt }) => run::run(file, exit_on_halt),
        Some(Command::Check { json }) => check::run(&load(file)?.checked, json),
        Some(Command::Preview(arguments)) => preview::run(&load(file)?.checked, &arguments),
        Some(Command::Config(ConfigCommand::Show)) => {
            print(load(file)?.shown.to_string().trim_end());
            Ok(Code::Done)
        }
        Some(Command::Snapshot { tables, filter, cancel }) => {
            let request = if cancel {
                request::Request::CancelSnapshot
            } else {
                request::Request::Snapshot { tables, filter }
            };
            request::run(&load(file)?.checked, &request)
        }
        Some(Command::Pause) => request::run(&load(file)?.checked, &request::Request::Pause),
        Some(Command::Resume) => request::run(&load(file)?.checked, &request::Request::Resume),
        Some(Command::Skip { table, commit, ordinal, why, by }) => {
            let at = crate::change::Position { commit, ordinal };
            let by = by.or_else(|| std::env::var("USER").ok()).unwrap_or_default();
            request::run(
                &load(file)?.checked,
                &request::Request::Skip(Consent { table, at, by, why }),
            )
        }
        Some(Command::Reload) => request::run(&load(file)?.checked, &request::Request::Reload),
        Some(Command::Config(ConfigCommand::Reference)) => Ok(printed(&config::reference_page())),
        Some(Command::Config(ConfigCommand::Schema)) => Ok(printed(&config::json_schema())),
        Some(Command::Retry) => slot::retry(&load(file)?.checked),
        Some(Command::Remove { yes }) => remove::run(&load(file)?.checked, yes),
        Some(Command::Completion { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "wellspring", &mut script);
            Ok(printed(&String::from_utf8_lossy(&script)))
        }
        Some(Command::Man) => {
            Ok(printed(&manual().map_err(|error| Failure::of(Code::Failed, &error, ""))?))
        }
        Some(Command::Config(ConfigCommand::Import(arguments))) => import::run(&arguments),
        Some(Command::Slot(command)) => slot::run(&load(file)?.checked, &command),
        Some(Command::Adopt(arguments)) => adopt::run(&load(file)?.checked, &arguments),
        Some(Command::Tail(arguments)) => tail::run(&load(file)?.checked, &arguments),
        Some(Command::Demo) => demo::run(),
    }
}

fn load(file: Option<PathBuf>) -> Result<Loaded, Failure> {
    let named = file.or_else(|| {
        std::env::var_os(CONFIG_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from)
    });
    let is_optional = named.is_none();
    let path = named.unwrap_or_else(|| PathBuf::from(CONFIG_DEFAULT));
    Ok(config::load(&path, is_optional, &config::environment()?)?)
}

fn version() -> String {
    let openssl = openssl::version::version();
    format!(
        "wellspring {} (librdkafka {}, {openssl})",
        env!("CARGO_PKG_VERSION"),
        kafka::librdkafka_version()
    )
}

/// Prints a line. A closed pipe (`| head`) is no error: its reader wants no more.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn printed(text: &str) -> Code {
    print(text.trim_end());
    Code::Done
}

/// The manual page: the program, then each command as a section of its own.
fn manual() -> std::io::Result<String> {
    let mut page = Vec::new();
    let mut all = Arguments::command();
    all.build();
    clap_mangen::Man::new(all.clone()).render(&mut page)?;
    for command in all.get_subcommands().filter(|command| !command.is_hide_set()) {
        let man = clap_mangen::Man::new(command.clone().disable_help_flag(true));
        writeln!(page, ".SH \"WELLSPRING {}\"", command.get_name().to_uppercase())?;
        man.render_description_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut page)?;
        }
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Runs a future to its end on a runtime for one command.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::of(Code::Failed, &error, ""))?;
    Ok(runtime.block_on(work))
}
