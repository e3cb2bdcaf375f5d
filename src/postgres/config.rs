//! The checked configuration with which this room reaches a server.
//!
//! The room `config` builds it from the parts of a URL and from the keys of the file. The keys of
//! the file win. Slot and publication are arguments of the calls that need them.

use crate::postgres::url::UrlParts;
use crate::secret::Source;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The port of a Postgres server if the configuration gives none.
pub const PORT_DEFAULT: u16 = 5432;
/// The default of `connect_timeout`: the time for three SYN retries and a handshake.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The longest `connect_timeout` that is accepted. With a longer one, a dead first host would hide
/// a living second host.
pub const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// The default of `Config::frame_bytes_max`: the longest message, in bytes, that is accepted from a
/// server. Postgres's own limit for a value is 1 GiB. A quarter of that is enough for any row that
/// Kafka accepts, old and new row together.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 256 * 1024 * 1024;
/// The default name of our sessions in `pg_stat_activity`.
pub const APPLICATION_NAME_DEFAULT: &str = "wellspring";

/// How to reach one database and log in.
#[derive(Clone, Debug)]
pub struct Config {
    /// The hosts, tried in order until one accepts us. There is at least one.
    pub hosts: Vec<Host>,
    pub(crate) user: String,
    /// Name of the database to which we connect, whose changes are read.
    pub database: String,
    /// The source of the password, which is read again at each connect. Without a source, the
    /// server has to let us in without a password.
    pub password: Option<Source>,
    /// The TLS of a TCP connection. A Unix socket has no TLS, whatever `tls` says.
    pub tls: Tls,
    /// The kind of server that is accepted, such as a primary.
    pub target: TargetSession,
    /// The name of our sessions in `pg_stat_activity`. Some sessions add a suffix that tells their
    /// purpose.
    pub application_name: String,
    /// The longest time to open a session at one address of a host, from the socket to the checked
    /// settings. The resolution of each host's name may take as long again.
    pub connect_timeout: Duration,
    /// The times of the TCP keepalive, by which a dead server is recognised.
    pub keepalive: Keepalive,
    /// Further command-line options for the server, as in libpq (`-c wal_sender_timeout=10s`).
    /// Settings that our sessions depend on are pinned all the same.
    pub options: Option<String>,
    /// The longest message that is accepted from the server, in bytes.
    pub frame_bytes_max: usize,
}

/// How we use TLS: what it has to prove about the server, and the certificate that we show to the
/// server.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What TLS must prove.
    pub sslmode: SslMode,
    /// The authorities that may sign the server's certificate. `None` for the authorities of the
    /// system.
    pub sslrootcert: Option<PathBuf>,
    /// Our own certificate chain and its key, both PEM, for a server that asks for a certificate.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The source of the key's passphrase. It is read at each connect if the key is encrypted.
    pub sslpassword: Option<Source>,
    /// Whether the session asks for TLS in the clear or begins with the handshake.
    pub negotiation: SslNegotiation,
    /// Whether the password exchange is bound to the TLS channel.
    pub channel_binding: ChannelBinding,
}

impl Default for Tls {
    /// The default is `verify-full`: the server's certificate must be signed by an authority of the
    /// system and name the host.
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

    /// The configuration from the parts of a URL, with defaults for missing parts. The database
    /// defaults to the user's name, as in libpq.
    ///
    /// # Errors
    /// The URL names no host, or no user, or only one of a certificate and its key.
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

    /// Says why the connection is weaker than one that proves the server's identity, as a text for
    /// log and status. `None` if it is not weaker.
    ///
    /// A connection that does not leave this machine needs no proof.
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
    /// One of `sslcert` and `sslkey` is given without the other.
    #[error("one of sslcert and sslkey is given without the other; a certificate needs its key")]
    HalfCertificate,
}

/// TCP keepalive. The defaults recognise a dead peer within 60 s, which is also the default of
/// `wal_sender_timeout`.
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

/// One place where a server listens. A TCP host prints as `name:port`, and a Unix socket as its
/// path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or address, and a port.
    Tcp {
        /// Name, IPv4 or IPv6 address.
        name: String,
        /// From 1 to 65535. The default is 5432.
        port: u16,
    },
    /// A directory that holds the socket `.s.PGSQL.<port>`.
    Unix {
        /// An absolute path, such as `/run/postgresql`.
        dir: PathBuf,
        /// The number at the end of the socket's name.
        port: u16,
    },
}

impl Host {
    /// True for a Unix socket, the name `localhost` and a loopback address: such a server is on
    /// this machine.
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

/// What TLS must prove. libpq's `prefer` and `allow` do not exist here, because an attacker can
/// remove TLS under both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// TLS is not used. Rows and the SCRAM exchange travel in the clear.
    Disable,
    /// TLS is used with any server that answers. With an `sslrootcert`, the chain is checked as
    /// under `VerifyCa`.
    Require,
    /// TLS is used with a server whose certificate a trusted authority has signed.
    VerifyCa,
    /// As in `VerifyCa`, and the certificate names the host that we asked for.
    VerifyFull,
}

impl SslMode {
    /// The value of libpq's `sslmode` for this mode.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }

    /// Says what this mode does not prove, compared with verify-full, as a text for log and status.
    /// `None` for verify-full itself.
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
    /// An unencrypted message asks the server for TLS first. Every version understands this
    /// message.
    Postgres,
    /// TLS begins at once, with ALPN. This saves one round trip and sends nothing in the clear. It
    /// needs Postgres 17 or later.
    Direct,
}

impl SslNegotiation {
    /// The value of libpq's `sslnegotiation` for this way to begin TLS.
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
    /// SCRAM-SHA-256 is used without binding, even if the server offers SCRAM-SHA-256-PLUS.
    Disable,
    /// The exchange is bound to the TLS channel if the server offers SCRAM-SHA-256-PLUS and the
    /// server's certificate permits the binding. Otherwise it is not bound.
    Prefer,
    /// The login fails if the exchange cannot be bound.
    Require,
}

/// Which kind of server is accepted (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSession {
    /// Any server: the first one that accepts our login. This is the default for one host.
    Any,
    /// A server that accepts writes: it is no standby, and `default_transaction_read_only` is off.
    /// This is the default for several hosts, because the slot lives on the primary.
    ReadWrite,
    /// A server that is not in recovery.
    Primary,
    /// A server that is in recovery.
    Standby,
}

impl TargetSession {
    /// The value of libpq's `target_session_attrs` for this kind of server.
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
