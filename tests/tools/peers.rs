//! Kafka and a schema registry in one process, for benchmarks and the corpus: a mock cluster and
//! the built-in registry, on free loopback ports. This program is no part of Wellspring.
//!
//! `peers [--partitions 6] [--brokers 1] [--compatibility NONE] [--topic NAME]..` prints one line
//! of JSON, `{"brokers":"127.0.0.1:..","registry":"http://127.0.0.1:.."}`. It runs until its input
//! closes or SIGTERM comes. Each line of its input is `topic NAME [PARTITIONS]`, and is answered by
//! `ok` or `error REASON`. A topic that the mock makes at its first use has four partitions, so
//! whoever wants another number asks for the topic before.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::channel;
use wellspring::peers::{broker::Broker, registry::Registry};

/// The most lines that wait for an answer. A caller that reads each answer has one line at most.
const LINES_MAX: usize = 64;

#[derive(Parser)]
struct Arguments {
    /// Partitions of topics made here.
    #[arg(long, default_value_t = 6)]
    partitions: i32,
    /// Brokers of the cluster.
    #[arg(long, default_value_t = 1)]
    brokers: i32,
    /// Compatibility level of the registry.
    #[arg(long, default_value = "NONE")]
    compatibility: String,
    /// Topics to make at once.
    #[arg(long = "topic")]
    topics: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::start(arguments.brokers, arguments.partitions)?;
    for topic in &arguments.topics {
        broker.create(topic, None)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(arguments, &broker))?;
    // The thread that reads the input cannot be interrupted; it ends with the process.
    runtime.shutdown_background();
    Ok(())
}

async fn serve(arguments: &Arguments, broker: &Broker) -> std::io::Result<()> {
    let registry = Registry::start(([127, 0, 0, 1], 0).into(), &arguments.compatibility)?;
    say(&serde_json::json!({ "brokers": broker.bootstrap(), "registry": registry.url() })
        .to_string())?;
    let (lines, mut input) = channel::<String>(LINES_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.map_or(true, |line| lines.blocking_send(line).is_err()) {
                break;
            }
        }
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            biased; // a signal to end comes before a line of input
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            line = input.recv() => match line {
                Some(line) => say(&obey(broker, &line))?,
                None => return Ok(()),
            },
        }
    }
}

fn say(line: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

fn obey(broker: &Broker, line: &str) -> String {
    let mut words = line.split_whitespace();
    let (Some("topic"), Some(name)) = (words.next(), words.next()) else {
        return format!("error not understood: {line}");
    };
    let partitions =
        words.next().map(str::parse::<i32>).transpose().map_err(|error| error.to_string());
    match partitions.and_then(|n| broker.create(name, n).map_err(|error| error.to_string())) {
        Ok(()) => "ok".to_owned(),
        Err(reason) => format!("error {reason}"),
    }
}
