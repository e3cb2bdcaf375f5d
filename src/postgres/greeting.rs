//! Checks the server of a new session before the first query of a caller: its version, whether it
//! is a primary or a standby, and the pinned settings.

use crate::postgres::config::TargetSession;
use crate::postgres::error::PgError;
use crate::postgres::session::Session;
use crate::postgres::startup;

impl Session {
    /// Checks the version of the server that let us in, and whether it is of the kind that `target`
    /// asks for.
    pub(super) fn check_greeting(&mut self, target: TargetSession) -> Result<(), PgError> {
        let host = || self.host.clone();
        let reported = |name: &str| self.parameters.get(name).map_or("", String::as_str);
        let version =
            startup::version_number(reported("server_version")).ok_or_else(|| PgError::Answer {
                call: "read the greeting of",
                object: self.host.to_string(),
                field: "server_version",
            })?;
        if version < 140_000 {
            return Err(PgError::TooOld { host: host(), version });
        }
        let standby = reported("in_hot_standby") == "on";
        let found = match (standby, reported("default_transaction_read_only")) {
            (true, _) => "a standby",
            (false, "on") => "read-only",
            (false, _) => "a primary",
        };
        let fits = match target {
            TargetSession::Any => true,
            TargetSession::ReadWrite => found == "a primary",
            TargetSession::Primary => !standby,
            TargetSession::Standby => standby,
        };
        if !fits {
            return Err(PgError::WrongRole { host: host(), found, wanted: target.name() });
        }
        self.version = version;
        Ok(())
    }

    /// Pins the settings on which values of rows and long reads depend, and checks that the server
    /// has taken each of them.
    pub(super) async fn pin(&mut self) -> Result<(), PgError> {
        const CALL: &str = "pin the settings of";
        let pinning = startup::pinning(self.version);
        let rows = self.query(CALL, "the session", &pinning).await?;
        let Some(answer) = rows.last() else {
            let object = "the session".to_owned();
            return Err(PgError::Answer { call: CALL, object, field: "row" });
        };
        match startup::unpinned(self.version, answer) {
            None => Ok(()),
            Some((setting, found)) => {
                Err(PgError::SettingIgnored { host: self.host.clone(), setting, found })
            }
        }
    }
}
