//! Starts the agent: opens the state, then turns the loop until the process ends.

use super::clock::unix_nanos;
use super::{REPORTS_MAX, Runner, TROUBLES_MAX, session};
use crate::agent::Config;
use crate::agent::pace::Spent;
use crate::agent::report::Reporter;
use crate::agent::request::PendingRequest;
use crate::agent::supervise::{Disposition, Exit, PipelineError, disposition};
use crate::continuity::Trouble;
use crate::continuity::{Refused, TroubleReason};
use crate::core::Stopped;
use crate::kafka::{KafkaError, State};
use crate::metrics::Metrics;
use crate::plans::SinkConfig;
use crate::plans::keeper::Keeper;
use crate::status::Status;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Pause before the state is opened again, while Kafka is away at the start.
const STATE_RETRY: Duration = Duration::from_secs(1);

/// After this time without an answer of Kafka the status and the log say that the agent waits for
/// Kafka. librdkafka may need longer to give up. A refused connection is reported after 3 s, and
/// the limit is above that, so that the refusal is reported and not the wait.
const STATE_PATIENCE: Duration = Duration::from_secs(5);

/// Runs the agent until it ends. Returns how it ended.
pub async fn run(
    config: Config,
    metrics: Metrics,
    mut stop: watch::Receiver<bool>,
    mut asked: mpsc::Receiver<PendingRequest>,
    tell: watch::Sender<Status>,
) -> Exit {
    let mut reporter = Reporter::new(&config, metrics, tell);
    let state = match first_state(&config, &mut reporter, &mut stop, &mut asked).await {
        Ok(state) => state,
        Err(exit) => {
            if exit == Exit::Stopped {
                reporter.stopped(Stopped::NothingSent);
            }
            return exit;
        }
    };
    reporter.state(&state);
    let mut config = config;
    if let Err(error) = config.sink.renew().await {
        reporter.failed(&disposition(&PipelineError::Kafka(error)));
        return Exit::SinkRefuses;
    }
    let reports_max = match &config.sink {
        SinkConfig::Kafka(kafka) => kafka.delivery_capacity(),
        SinkConfig::Stdout { .. } => REPORTS_MAX,
    };
    let (deliveries, mut reports) = mpsc::channel(reports_max);
    let (troubles, mut troubled) = mpsc::channel(TROUBLES_MAX);
    let mut runner = Runner::new(config, Keeper::start(state), reporter, deliveries, troubles);
    if let Err(exit) = runner.start_sink() {
        return exit;
    }
    loop {
        runner.windows_on();
        runner.send_notices();
        runner.work();
        runner.reporter.lap(Spent::Working);
        let spends = runner.spends();
        let happened = runner.wait(&mut stop, &mut asked, &mut reports, &mut troubled).await;
        runner.reporter.lap(spends);
        runner.handle(happened);
        runner.report();
        runner.reporter.lap(Spent::Other);
        runner.exit_where_halted();
        if let Some(exit) = runner.process.exit {
            runner.close_down().await;
            return exit;
        }
    }
}

/// Opens the state. Meanwhile requests are refused, and a stop ends the process.
async fn first_state(
    config: &Config,
    reporter: &mut Reporter,
    stop: &mut watch::Receiver<bool>,
    asked: &mut mpsc::Receiver<PendingRequest>,
) -> Result<State, Exit> {
    let mut opening = std::pin::pin!(open_state(config, reporter));
    loop {
        tokio::select! {
            biased; // A stop and the refusal of requests do not wait for the state.
            _ = stop.wait_for(|stop| *stop) => return Err(Exit::Stopped),
            Some(asked) = asked.recv() => {
                asked.reply.send(Err(Refused::NotAvailable(
                    "the agent has not reached Kafka yet".to_owned()
                )));
            }
            state = &mut opening => return state,
        }
    }
}

/// Opens the state, however long Kafka is away. Returns an error only if Kafka refuses us.
async fn open_state(config: &Config, reporter: &mut Reporter) -> Result<State, Exit> {
    loop {
        let error = match open_state_once(config, reporter).await {
            Ok(state) => {
                reporter.trouble_over();
                return Ok(state);
            }
            Err(error) => error,
        };
        let disposition = disposition(&PipelineError::Kafka(error));
        if let Disposition::Refused(trouble, exit) = disposition {
            reporter.trouble(Some(trouble.of_an_end()));
            return Err(exit);
        }
        reporter.failed(&disposition);
        reporter.waiting(unix_nanos() / 1_000_000);
        tokio::time::sleep(STATE_RETRY).await;
    }
}

/// Opens the state. Meanwhile the row of the slot is read once, because the WAL that the server
/// keeps concerns the operator above all while Kafka is away.
async fn open_state_once(config: &Config, reporter: &mut Reporter) -> Result<State, KafkaError> {
    let mut opening = std::pin::pin!(config.open_state());
    let mut reading_slot = std::pin::pin!(session::read_slot(&config.postgres, &config.slot));
    let mut slow = std::pin::pin!(tokio::time::sleep(STATE_PATIENCE));
    // A trouble that is reported already says more than a wait for Kafka.
    let (mut has_read_slot, mut has_waited) = (false, reporter.is_troubled());
    loop {
        tokio::select! {
            biased; // The state comes first: with it the stream begins.
            opened = &mut opening => return opened,
            row = &mut reading_slot, if !has_read_slot => {
                has_read_slot = true;
                if let Some(row) = row {
                    reporter.slot(&row);
                    reporter.waiting(unix_nanos() / 1_000_000);
                }
            }
            () = &mut slow, if !has_waited => {
                has_waited = true;
                let seconds = STATE_PATIENCE.as_secs();
                let detail = format!("Kafka has not answered for {seconds} s");
                let reason = TroubleReason::KafkaUnavailable;
                reporter.trouble(Some(Trouble::plain(reason, detail, reason.next())));
                reporter.waiting(unix_nanos() / 1_000_000);
            }
        }
    }
}
