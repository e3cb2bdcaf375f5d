//! What the room needs to know to reach a server, checked.
//!
//! Built by `config` from a URL's parts and the file's keys, which win. Slot and publication are
//! not here: they are arguments of the calls that name them.

use crate::postgres::url::UrlParts;
use crate::secret::Source;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The port where none is given.
pub const PORT_DEFAULT: u16 = 5432;
/// How long one host may take to let us in, where `connect_timeout` does not say: three SYN retries
/// and a handshake.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The longest `connect_timeout` taken; above it a dead first host hides a living second one.
pub const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// The longest message taken from a server where the file does not say. Postgres's own limit for a
/// value is 1 GiB; a quarter of it holds any row that Kafka takes, old and new image together.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 256 * 1024 * 1024;
/// The name our sessions carry in `pg_stat_activity` where none is given.
pub const APPLICATION_NAME_DEFAULT: &str = "wellspring";

/// How to reach and enter one database.
#[derive(Clone, Debug)]
pub struct Config {
    /// Tried in order until one takes us. Never empty.
    pub hosts: Vec<Host>,
    pub(crate) user: String,
    /// The database, whose changes are read.
    pub database: String,
    /// Read again at each connect. None: the server must trust us.
    pub password: Option<Source>,
    /// TLS over TCP. A Unix socket has no TLS, whatever this says.
    pub tls: Tls,
    /// Which kind of server is accepted, of the hosts in the list.
    pub target: TargetSession,
    /// Seen in `pg_stat_activity`; our other sessions add a suffix.
    pub application_name: String,
    /// For one address of one host, from the socket to the end of the greeting.
    pub connect_timeout: Duration,
    /// How a dead TCP peer is recognised.
    pub keepalive: Keepalive,
    /// Further command-line options for the server, as in libpq (`-c wal_sender_timeout=10s`).
    /// Settings that our sessions depend on are pinned all the same.
    pub options: Option<String>,
    /// The longest message taken from the server, in bytes.
    pub frame_bytes_max: usize,
}

/// What TLS has to prove, and what we show for it.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What TLS must prove.
    pub sslmode: SslMode,
    /// The certificates that may sign the server's; none: the system's.
    pub sslrootcert: Option<PathBuf>,
    /// Our own certificate chain and its key, both PEM, where the server asks for one.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The passphrase of the key, read at each connect where the key is encrypted.
    pub sslpassword: Option<Source>,
    /// Whether the session asks for TLS in the clear or begins with the handshake.
    pub negotiation: SslNegotiation,
    /// Whether the password exchange is bound to the TLS channel.
    pub channel_binding: ChannelBinding,
}

impl Default for Tls {
    /// The server's identity is proven by the certificates of the system.
    fn default() -> Self {
        Tls {
            sslmode: SslMode::VerifyFull,
            sslrootcert: None,
            client_certificate: None,
            sslpassword: None,
            negotiation: SslNegotiation::Postgres,
            channel_binding: ChannelBinding::Prefer,
        }
    }
}

impl Config {
    /// A configuration with every default for `user` at `database` on `hosts`.
    ///
    /// # Errors
    /// `hosts` is empty.
    pub fn new(hosts: Vec<Host>, user: String, database: String) -> Result<Self, ConfigError> {
        if hosts.is_empty() {
            return Err(ConfigError::Host);
        }
        let target = if hosts.len() > 1 { TargetSession::ReadWrite } else { TargetSession::Any };
        Ok(Config {
            hosts,
            user,
            database,
            password: None,
            tls: Tls::default(),
            target,
            application_name: APPLICATION_NAME_DEFAULT.to_owned(),
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            keepalive: Keepalive::default(),
            options: None,
            frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
        })
    }

    /// What a URL says, with defaults for what it leaves out. The database defaults to the user's
    /// name, as in libpq.
    ///
    /// # Errors
    /// The URL names no host, or no user, or a certificate without its key.
    pub fn from_url(parts: UrlParts) -> Result<Self, ConfigError> {
        if parts.tls.sslcert.is_some() != parts.tls.sslkey.is_some() {
            return Err(ConfigError::HalfCertificate);
        }
        let user = parts.user.ok_or(ConfigError::User)?;
        let database = parts.database.unwrap_or_else(|| user.clone());
        let mut config = Config::new(parts.hosts, user, database)?;
        config.password = parts.password.map(Source::Inline);
        config.tls.client_certificate = parts.tls.sslcert.zip(parts.tls.sslkey);
        config.tls.sslpassword = parts.tls.sslpassword.map(Source::Inline);
        config.tls.negotiation = parts.tls.negotiation.unwrap_or(config.tls.negotiation);
        config.tls.sslrootcert = parts.tls.sslrootcert;
        config.options = parts.options;
        if let Some(sslmode) = parts.tls.sslmode {
            config.tls.sslmode = sslmode;
        }
        if let Some(binding) = parts.tls.channel_binding {
            config.tls.channel_binding = binding;
        }
        if let Some(target) = parts.target {
            config.target = target;
        }
        if let Some(name) = parts.application_name {
            config.application_name = name;
        }
        if let Some(limit) = parts.connect_timeout {
            config.connect_timeout = limit;
        }
        let keepalive = &mut config.keepalive;
        keepalive.idle = parts.keepalives_idle.unwrap_or(keepalive.idle);
        keepalive.interval = parts.keepalives_interval.unwrap_or(keepalive.interval);
        keepalive.count = parts.keepalives_count.unwrap_or(keepalive.count);
        Ok(config)
    }

    /// Why the connection is weaker than one that proves the server's identity, for log and status;
    /// none if it is not.
    ///
    /// What does not leave this machine needs no proof.
    #[must_use]
    pub fn weakness(&self) -> Option<&'static str> {
        if self.hosts.iter().all(Host::is_local) { None } else { self.tls.sslmode.weakness() }
    }
}

/// A configuration that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum ConfigError {
    #[error(
        "the Postgres URL names no host (a Unix socket's directory is a host: \
         postgresql://user@%2Frun%2Fpostgresql/db)"
    )]
    Host,
    #[error("the Postgres URL names no user (postgresql://user@host/database)")]
    User,
    /// One of `sslcert` and `sslkey` without the other.
    #[error("one of sslcert and sslkey is given without the other; a certificate needs its key")]
    HalfCertificate,
}

/// TCP keepalive. The defaults recognise a dead peer within 60 s, as fast as a `wal_sender_timeout`
/// of its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time from one unanswered probe to the next.
    pub interval: Duration,
    /// Unanswered probes until the peer counts as dead.
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive { idle: Duration::from_secs(30), interval: Duration::from_secs(10), count: 3 }
    }
}

/// One place where a server listens. Prints as `name:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or address, and a port.
    Tcp {
        /// Name, IPv4 or IPv6 address.
        name: String,
        /// From 1 to 65535; 5432 where the URL names none.
        port: u16,
    },
    /// A directory that holds the socket `.s.PGSQL.<port>`.
    Unix {
        /// An absolute path, such as `/run/postgresql`.
        dir: PathBuf,
        /// The number in the socket's name.
        port: u16,
    },
}

impl Host {
    /// Whether the server is on this machine, by a socket or a loopback address.
    fn is_local(&self) -> bool {
        match self {
            Host::Unix { .. } => true,
            Host::Tcp { name, .. } => {
                let address = name.parse::<std::net::IpAddr>();
                name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Tcp { name, port } => write!(f, "{name}:{port}"),
            Host::Unix { dir, port } => write!(f, "{}/.s.PGSQL.{port}", dir.display()),
        }
    }
}

/// What TLS must prove. libpq's `prefer` and `allow` do not exist here: both take whatever an
/// attacker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Rows and the SCRAM exchange travel in the clear.
    Disable,
    /// TLS with whoever answers.
    Require,
    /// TLS with a server whose certificate a trusted authority signed.
    VerifyCa,
    /// The same, and the certificate names the host we asked for.
    VerifyFull,
}

impl SslMode {
    /// libpq's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }

    /// What is missing against verify-full; none for verify-full itself.
    #[must_use]
    pub fn weakness(self) -> Option<&'static str> {
        match self {
            SslMode::Disable => Some("sslmode=disable: rows travel in the clear"),
            SslMode::Require => {
                Some("sslmode=require: encrypted, but the server's identity is not checked")
            }
            SslMode::VerifyCa => {
                Some("sslmode=verify-ca: the certificate's chain is checked, the host name is not")
            }
            SslMode::VerifyFull => None,
        }
    }
}

/// How TLS begins (`sslnegotiation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslNegotiation {
    /// The server is asked first, in the clear: every version understands that.
    Postgres,
    /// At once, with ALPN: one round trip less, and nothing in the clear. Postgres 17 and later.
    Direct,
}

impl SslNegotiation {
    /// libpq's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SslNegotiation::Postgres => "postgres",
            SslNegotiation::Direct => "direct",
        }
    }
}

/// Whether SCRAM is bound to the TLS channel, which shows a man in the middle even without a
/// checked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// SCRAM-SHA-256 without binding, even where the server offers SCRAM-SHA-256-PLUS.
    Disable,
    /// Where server and channel offer it.
    Prefer,
    /// The login fails where the exchange cannot be bound.
    Require,
}

/// Which kind of server is accepted (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSession {
    /// The first that takes us. The default for one host.
    Any,
    /// One that takes writes. The default for several: the slot lives on the primary.
    ReadWrite,
    /// One that is not in recovery.
    Primary,
    /// One that is in recovery.
    Standby,
}

impl TargetSession {
    /// libpq's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TargetSession::Any => "any",
            TargetSession::ReadWrite => "read-write",
            TargetSession::Primary => "primary",
            TargetSession::Standby => "standby",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_on_this_machine_is_not_weak_without_tls() {
        let unix = Host::Unix { dir: "/run/postgresql".into(), port: 5432 };
        let tcp = Host::Tcp { name: "db".into(), port: 5432 };
        let mut config = Config::new(vec![unix.clone()], "u".into(), "d".into()).unwrap();
        config.tls.sslmode = SslMode::Disable;
        assert_eq!(config.weakness(), None);
        for name in ["localhost", "127.0.0.1", "::1"] {
            config.hosts = vec![Host::Tcp { name: name.into(), port: 5432 }];
            assert_eq!(config.weakness(), None, "{name}");
        }
        config.hosts = vec![unix, tcp];
        assert!(config.weakness().unwrap().contains("in the clear"));
    }

    #[test]
    fn several_hosts_ask_for_the_one_that_takes_writes() {
        let tcp = |name: &str| Host::Tcp { name: name.into(), port: 5432 };
        let one = Config::new(vec![tcp("a")], "u".into(), "d".into()).unwrap();
        let two = Config::new(vec![tcp("a"), tcp("b")], "u".into(), "d".into()).unwrap();
        assert_eq!((one.target, two.target), (TargetSession::Any, TargetSession::ReadWrite));
    }
}
