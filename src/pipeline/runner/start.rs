//! From nothing to a loop that turns, and its end.

use super::*;
use crate::kafka::State;

/// The state is asked for again after this while Kafka is away at the start.
const STATE_RETRY: Duration = Duration::from_secs(1);

/// Runs the agent until it stops.
pub async fn run(
    config: Config,
    metrics: Metrics,
    mut stop: watch::Receiver<bool>,
    tell: watch::Sender<Status>,
) -> Exit {
    let mut reporter = Reporter::new(&config, metrics, tell);
    let state = tokio::select! {
        biased; // a stop needs no state
        _ = stop.wait_for(|stop| *stop) => return Exit::Stopped,
        state = open_state(&config, &mut reporter) => match state {
            Ok(state) => state,
            Err(exit) => return exit,
        },
    };
    reporter.state(&state);
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
        runner.work();
        let happened = runner.wait(&mut stop, &mut reports, &mut troubled).await;
        runner.handle(happened);
        runner.report();
        if let Some(exit) = runner.exit {
            runner.close_down().await;
            return exit;
        }
    }
}

/// Opens the state, however long Kafka is away; ends only where Kafka refuses us.
async fn open_state(config: &Config, reporter: &mut Reporter) -> Result<State, Exit> {
    loop {
        let error = match config.open_state().await {
            Ok(state) => return Ok(state),
            Err(error) => error,
        };
        let disposition = disposition(&PipelineError::Kafka(error));
        reporter.failed(&disposition);
        if let Disposition::Refused(_, exit) = disposition {
            return Err(exit);
        }
        reporter.waiting(unix_nanos() / 1_000_000);
        tokio::time::sleep(STATE_RETRY).await;
    }
}
