//! Declares metrics in a registry of the Prometheus client.

use super::labels::LATENCY_BUCKETS;
use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// A registry of the Prometheus client, to which metrics are added. Names and labels are constants
/// of this room, so an invalid or repeated one is a fault of the program. The first test that
/// builds a [`Metrics`] fails then.
pub(super) struct Declare(pub(super) Registry);

impl Declare {
    pub(super) fn add<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let added = made
            .and_then(|collector| self.0.register(Box::new(collector.clone())).map(|()| collector));
        match added {
            Ok(collector) => collector,
            Err(error) => unreachable!("metric names are constants of this room: {error}"),
        }
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(full(name), help))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(full(name), help))
    }

    pub(super) fn float(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::new(full(name), help))
    }

    pub(super) fn histogram(&self, name: &str, help: &str) -> Histogram {
        self.add(Histogram::with_opts(
            HistogramOpts::new(full(name), help).buckets(LATENCY_BUCKETS.to_vec()),
        ))
    }

    pub(super) fn labelled(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(full(name), help), labels))
    }

    pub(super) fn labelled_gauge(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(full(name), help), &[label]))
    }
}

/// The full name of a metric, with its prefix `wellspring_`.
pub(super) fn full(name: &str) -> String {
    format!("wellspring_{name}")
}
