//! Metrics of the process: memory, CPU and file descriptors, under the names that every Prometheus
//! client uses.
//!
//! They are read from `/proc` at each scrape. Where `/proc` is missing they stay at 0.

use super::declare::Declare;
use prometheus::{Counter, Gauge, IntGauge};
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Clock ticks per second in `/proc/self/stat`: 100 on every architecture on which Linux runs today
/// (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// The metrics whose names begin with `process_`.
#[derive(Clone, Debug)]
pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    resident_bytes: IntGauge,
    open_files: IntGauge,
    start_seconds: Gauge,
}

impl ProcessMetrics {
    pub(super) fn declare(to: &Declare) -> Self {
        let metrics = ProcessMetrics {
            cpu_seconds: to.add(Counter::new(
                "process_cpu_seconds_total",
                "CPU time of the process, user and system, in seconds.",
            )),
            resident_bytes: to.add(IntGauge::new(
                "process_resident_memory_bytes",
                "Resident memory of the process in bytes.",
            )),
            open_files: to
                .add(IntGauge::new("process_open_fds", "Open file descriptors of the process.")),
            start_seconds: to.add(Gauge::new(
                "process_start_time_seconds",
                "When the process started, in seconds since 1970.",
            )),
        };
        // A clock that stands before 1970 counts as 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        metrics.start_seconds.set(since.as_secs_f64());
        metrics
    }

    /// Updates the metrics from `/proc`.
    pub(super) fn read(&self) {
        if let Some(bytes) = resident_bytes() {
            self.resident_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        if let Some(seconds) = cpu_seconds() {
            self.cpu_seconds.inc_by((seconds - self.cpu_seconds.get()).max(0.0));
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            self.open_files.set(i64::try_from(files.count()).unwrap_or(i64::MAX));
        }
    }
}

/// Resident memory in bytes; `None` without `/proc`.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the program's name in parentheses, may contain spaces. utime and stime are
    // fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_memory_and_files() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        let before = cpu_seconds().unwrap();
        let text = crate::metrics::Metrics::new("0").render();
        assert!(cpu_seconds().unwrap() >= before);
        assert!(
            !text.contains("process_resident_memory_bytes 0\n")
                && !text.contains("process_open_fds 0\n"),
            "{text}"
        );
    }
}
