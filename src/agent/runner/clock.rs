//! The clocks and the randomness of the loop, and the settings of the core.

use crate::agent::Config;
use crate::core::{Moment, SECOND, Settings};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Monotonic time that also counts while the machine is suspended.
pub(in crate::agent) fn now() -> Moment {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec)) else {
        unreachable!("the time since the boot of the machine is not negative")
    };
    Moment(seconds * SECOND + nanos / 1000)
}

/// Wall-clock time in nanoseconds since 1970, for values that people and consumers read.
pub(in crate::agent) fn unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Makes a random UUID (version 4). One names this process in context headers and state records,
/// and others name notices.
pub(super) fn run_id() -> String {
    let mut bytes = [0u8; 16];
    // Without randomness from OpenSSL the id is the same constant each time. The constant is a
    // name, but not a unique one.
    let _ = openssl::rand::rand_bytes(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Makes the core's settings. `status_interval` and `freeze` follow from the server's
/// wal_sender_timeout once a connection is open.
pub(super) fn settings(config: &Config, status_interval: Duration, freeze: Duration) -> Settings {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Settings {
        status_interval: micros(status_interval),
        hold: micros(config.confirm_hold),
        freeze: micros(freeze),
        budget_bytes: config.budget_bytes,
        stop_patience: micros(config.stop_patience),
        seed: unix_nanos().unsigned_abs(),
    }
}
