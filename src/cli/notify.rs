//! Notifications to systemd, if it started us: ready, the phase, the watchdog's ping, stopping
//! (sd_notify(3)).
//!
//! The ping is sent only while the main loop turns, with the same time limit as `/livez`. It does
//! not depend on Postgres or Kafka, because an unreachable peer is no reason for a restart. Without
//! `NOTIFY_SOCKET` nothing is sent.

use crate::metrics::Heartbeat;
use crate::status::Status;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest time since the last turn of the loop at which a ping is still sent. `/livez` has the
/// same limit.
const HEARTBEAT_AGE_MAX: Duration = Duration::from_secs(30);

/// Interval at which systemd is told of a changed phase, unless its watchdog needs a shorter one.
const SPACING: Duration = Duration::from_secs(5);

/// The service manager that started us, if there is one, and the status text that was sent last.
pub(super) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    heartbeat: Heartbeat,
    said: String,
}

impl Manager {
    /// Finds the service manager by the environment variables that systemd sets for a service.
    /// Without `NOTIFY_SOCKET` the result sends nothing.
    pub(super) fn find(heartbeat: Heartbeat) -> Self {
        let name = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
        let micros = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        let is_ours =
            std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let watchdog = micros.filter(|_| is_ours).map(Duration::from_micros);
        Manager { socket: open(&name), watchdog, heartbeat, said: String::new() }
    }

    /// Interval at which [`Manager::tell`] is to be called: [`SPACING`], or half of the watchdog's
    /// time if that is shorter.
    pub(super) fn spacing(&self) -> Duration {
        self.watchdog.map_or(SPACING, |time| (time / 2).clamp(Duration::from_millis(100), SPACING))
    }

    /// Notifies systemd that the agent has started.
    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// Notifies systemd that the agent is stopping.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Notifies systemd of a changed phase or reason, and pings its watchdog if the loop turns.
    pub(super) fn tell(&mut self, status: &Status) {
        let reason =
            if status.reason.is_empty() { String::new() } else { format!(" ({})", status.reason) };
        let text = format!("STATUS={}{reason}", status.phase.name());
        if text != self.said {
            self.send(&text);
            self.said = text;
        }
        if self.watchdog.is_some() && self.turns() {
            self.send("WATCHDOG=1");
        }
    }

    /// True if the main loop's last turn is recent enough, or if there was no turn yet: the first
    /// answer of Kafka, for which the loop waits, may take long.
    fn turns(&self) -> bool {
        let last = self.heartbeat.last_unix_ms();
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
        last == 0
            || i128::try_from(now)
                .is_ok_and(|now| now - i128::from(last) <= HEARTBEAT_AGE_MAX.as_millis() as i128)
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            // If the manager does not listen, there is nothing to do.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

fn open(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(hidden) => SocketAddr::from_abstract_name(hidden.as_bytes()).ok()?,
        None if name.starts_with('/') => SocketAddr::from_pathname(name).ok()?,
        None => return None,
    };
    Some((UnixDatagram::unbound().ok()?, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Phase;

    fn manager(watchdog: bool, beat_ago_ms: i64) -> (UnixDatagram, Manager, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listening = UnixDatagram::bind(&path).unwrap();
        listening.set_nonblocking(true).unwrap();
        let heartbeat = Heartbeat::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        heartbeat.beat(i64::try_from(now).unwrap() - beat_ago_ms);
        let watchdog = watchdog.then_some(Duration::from_secs(60));
        let manager = Manager {
            socket: open(path.to_str().unwrap()),
            watchdog,
            heartbeat,
            said: String::new(),
        };
        (listening, manager, folder)
    }

    fn heard(listening: &UnixDatagram) -> Vec<String> {
        let mut all = Vec::new();
        let mut buffer = [0; 200];
        while let Ok(length) = listening.recv(&mut buffer) {
            all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        all
    }

    #[test]
    fn tells_the_phase_once_and_pings_while_the_loop_turns() {
        let (listening, mut manager, _folder) = manager(true, 0);
        manager.ready();
        let status =
            Status { phase: Phase::Halted, reason: "slot_missing".to_owned(), ..Status::default() };
        manager.tell(&status);
        manager.tell(&status);
        manager.stopping();
        let expected =
            ["READY=1", "STATUS=halted (slot_missing)", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"];
        assert_eq!(heard(&listening), expected);
        assert_eq!(manager.spacing(), SPACING);
    }

    #[test]
    fn does_not_ping_for_a_loop_that_stands() {
        let (listening, mut manager, _folder) = manager(true, 60_000);
        manager.tell(&Status::default());
        assert_eq!(heard(&listening), ["STATUS=connecting"]);
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        assert!(open("").is_none() && open("relative").is_none());
        assert!(open("@abstract").is_some());
        let (listening, mut manager, _folder) = manager(false, 0);
        manager.tell(&Status::default());
        assert_eq!(heard(&listening), ["STATUS=connecting"]);
    }
}
