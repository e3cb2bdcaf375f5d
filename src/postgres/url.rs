//! libpq's connection URLs: `postgresql://user:password@host:port,host/database?name=value`.
//!
//! Only the text is judged here. `config` adds defaults and reports missing parts. The rules are
//! stricter than libpq's where leniency would hide a fault: an unknown, repeated or unsupported
//! parameter is an error. No error repeats any value of the URL, because an unescaped character in
//! a password can shift the password into any other part.

use crate::postgres::config::{
    ChannelBinding, Host, PORT_DEFAULT, SslMode, SslNegotiation, TargetSession,
};
use crate::secret::Secret;
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use std::time::Duration;

/// The parts of a URL. A part that the URL leaves out is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlParts {
    /// The hosts in the order of the URL. The list is empty if the URL names none.
    pub hosts: Vec<Host>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: Option<String>,
    /// The values of the parameters that are about TLS.
    pub tls: TlsParts,
    pub(crate) target: Option<TargetSession>,
    pub(crate) application_name: Option<String>,
    /// `connect_timeout`, 1 s to 600 s.
    pub connect_timeout: Option<Duration>,
    pub(crate) keepalives_idle: Option<Duration>,
    pub(crate) keepalives_interval: Option<Duration>,
    pub(crate) keepalives_count: Option<u32>,
    pub(crate) options: Option<String>,
}

/// The parameters of a URL about TLS. A parameter that the URL leaves out is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsParts {
    pub(crate) sslmode: Option<SslMode>,
    /// The path in `sslrootcert`. It is `None` for the word `system`, too.
    pub sslrootcert: Option<PathBuf>,
    pub(crate) sslcert: Option<PathBuf>,
    pub(crate) sslkey: Option<PathBuf>,
    pub(crate) sslpassword: Option<Secret>,
    pub(crate) negotiation: Option<SslNegotiation>,
    pub(crate) channel_binding: Option<ChannelBinding>,
}

/// Why a text is not a URL that we can use. No variant holds a value of the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields hold")]
pub enum UrlError {
    /// The URL has another scheme, or none.
    #[error("the URL begins with neither postgresql:// nor postgres://")]
    Scheme,
    /// The URL has an `@` that does not end the credentials: a second one, or one after a `/`. A
    /// character of the password is probably not escaped.
    #[error(
        "the URL has an `@` after the host part; in a password write `@` as %40, `/` as %2F, `:` \
         as %3A, `%` as %25"
    )]
    StrayAt,
    /// A part has a `%` without two hexadecimal digits after it, a zero byte, or bytes that are not
    /// UTF-8.
    #[error(
        "the {part} of the URL has a `%` without two hexadecimal digits, a zero byte, or bytes \
         that are not UTF-8"
    )]
    Encoding { part: String },
    /// A host is empty or begins with `@`, or an IPv6 address in brackets is malformed.
    #[error(
        "host {place} of the URL cannot be read (IPv6 goes in brackets, a socket's directory is \
         written %2Frun%2F...)"
    )]
    Host {
        /// Place of the host in the list, from 1.
        place: usize,
    },
    #[error("the port of host {place} of the URL is not a number from 1 to 65535")]
    Port {
        /// Place of the host in the list, from 1.
        place: usize,
    },
    /// `port=` has neither one entry nor as many as there are hosts.
    #[error("the URL has {ports} ports for {hosts} hosts: give one, or one for each")]
    PortCount { ports: usize, hosts: usize },
    /// The name is none of the parameters of libpq that are listed in this file.
    #[error(
        "`{name}` is not a parameter of a Postgres URL{}",
        nearest.map_or_else(String::new, |n| format!(" (did you mean `{n}`?)"))
    )]
    Unknown {
        name: String,
        /// The known parameter with the most similar name. `None` if no name is similar.
        nearest: Option<&'static str>,
    },
    /// A parameter of libpq that we do not support.
    #[error("`{name}` in the Postgres URL is not supported: {reason}")]
    Unsupported {
        name: &'static str,
        /// Why the parameter is not supported, and what to do.
        reason: &'static str,
    },
    #[error("the Postgres URL says `{name}` twice")]
    Repeated { name: &'static str },
    /// The value of the parameter is none of those that the parameter may have.
    #[error("`{name}` in the Postgres URL must be {expected}")]
    Value {
        name: &'static str,
        /// The values that the parameter may have.
        expected: &'static str,
    },
}

/// Names of the supported parameters, except for `options`. [`may_show_parameter`] never permits
/// the value of `options`.
const TAKEN: [&str; 18] = [
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslnegotiation",
    "channel_binding",
    "target_session_attrs",
    "application_name",
    "connect_timeout",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
];

/// Whether the value of a parameter with this name may be shown. The name is compared as it is
/// typed: if it is written with escapes, the value is not shown.
#[must_use]
pub fn may_show_parameter(name: &str) -> bool {
    TAKEN.contains(&name) && !name.ends_with("password")
}

/// Other parameters of libpq, each with the reason why it is refused or with its substitute.
const REFUSED: [(&str, &str); 33] = [
    ("hostaddr", "name the address as the host"),
    ("passfile", "use the key password_file, a file that holds only the password"),
    ("service", "write its settings into the URL"),
    ("servicefile", "write its settings into the URL"),
    ("replication", "the agent sets it where it is needed"),
    ("client_encoding", "sessions are always UTF8"),
    ("fallback_application_name", "use application_name"),
    ("keepalives", "they are always on; keepalives_idle, _interval and _count set their pace"),
    ("tcp_user_timeout", "keepalives_idle, _interval and _count recognise a dead server"),
    ("gssencmode", "GSSAPI is not spoken; use TLS"),
    ("krbsrvname", "GSSAPI is not spoken; use SCRAM"),
    ("gsslib", "GSSAPI is not spoken; use SCRAM"),
    ("gssdelegation", "GSSAPI is not spoken; use SCRAM"),
    ("oauth_issuer", "OAuth is not spoken; use SCRAM or a certificate"),
    ("oauth_client_id", "OAuth is not spoken; use SCRAM or a certificate"),
    ("oauth_client_secret", "OAuth is not spoken; use SCRAM or a certificate"),
    ("oauth_scope", "OAuth is not spoken; use SCRAM or a certificate"),
    ("scram_client_key", "SCRAM takes the password; use the key password_file"),
    ("scram_server_key", "SCRAM takes the password; use the key password_file"),
    ("require_auth", "channel_binding=require accepts a login by SCRAM alone"),
    ("min_protocol_version", "sessions always use protocol 3.0, which every server speaks"),
    ("max_protocol_version", "sessions always use protocol 3.0, which every server speaks"),
    ("ssl", "use sslmode"),
    ("sslcompression", "TLS compression is unsafe and always off"),
    ("sslcrl", "revocation lists are not read"),
    ("sslcrldir", "revocation lists are not read"),
    ("sslsni", "the server's name is always sent, unless it is an address"),
    ("sslcertmode", "the certificate of sslcert is sent if the server asks for one"),
    ("sslkeylogfile", "the keys of sessions are never written to a file"),
    ("ssl_min_protocol_version", "TLS 1.2 is always the oldest version"),
    ("ssl_max_protocol_version", "the newest version of TLS that both sides have is used"),
    ("requirepeer", "protect the socket's directory instead"),
    ("load_balance_hosts", "hosts are tried in their order"),
];

/// Reads a connection URL.
///
/// # Errors
/// One of [`UrlError`], for the first fault that is found.
pub fn parse_url(text: &str) -> Result<UrlParts, UrlError> {
    let rest = text
        .strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"))
        .ok_or(UrlError::Scheme)?;
    // As in libpq: credentials end at the first `@` before the first `/`, so that a password may
    // hold an unescaped `?` or `#`.
    let (credentials, rest) = match rest.split_once('@') {
        Some((credentials, after)) if !credentials.contains('/') => (Some(credentials), after),
        _ => (None, rest),
    };
    if rest.contains('@') {
        return Err(UrlError::StrayAt);
    }
    let (before_query, query) =
        rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
    let (authority, database) = before_query
        .split_once('/')
        .map_or((before_query, None), |(hosts, name)| (hosts, Some(name)));

    let mut parts = UrlParts { hosts: authority_hosts(authority)?, ..UrlParts::default() };
    if let Some(credentials) = credentials {
        let (user, password) = credentials
            .split_once(':')
            .map_or((credentials, None), |(user, password)| (user, Some(password)));
        parts.user = some_text(user, "user")?;
        parts.password =
            password.map(|p| some_text(p, "password")).transpose()?.flatten().map(Secret::new);
    }
    parts.database = database.map(|name| some_text(name, "database")).transpose()?.flatten();
    let mut lists = HostLists::default();
    for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name, "query")?;
        set(&mut parts, &mut lists, &name, &decoded(value, &name)?)?;
    }
    lists.merge_into(&mut parts)?;
    Ok(parts)
}

/// The values of the parameters `host=` and `port=`, which may be lists. They change the hosts of
/// the URL together, when the whole query has been read.
#[derive(Default)]
struct HostLists {
    host: Option<String>,
    port: Option<String>,
}

impl HostLists {
    fn merge_into(self, parts: &mut UrlParts) -> Result<(), UrlError> {
        if let Some(list) = self.host {
            if !parts.hosts.is_empty() {
                return Err(UrlError::Repeated { name: "host" });
            }
            parts.hosts = list
                .split(',')
                .enumerate()
                .map(|(i, name)| host_of(name.to_owned(), PORT_DEFAULT, i + 1))
                .collect::<Result<_, _>>()?;
        }
        let Some(list) = self.port else { return Ok(()) };
        let ports: Vec<u16> = list
            .split(',')
            .enumerate()
            .map(|(i, port)| port_of(port, i + 1))
            .collect::<Result<_, _>>()?;
        if ports.len() != 1 && ports.len() != parts.hosts.len() {
            return Err(UrlError::PortCount { ports: ports.len(), hosts: parts.hosts.len() });
        }
        for (host, given) in parts.hosts.iter_mut().zip(ports.iter().cycle()) {
            match host {
                Host::Tcp { port, .. } | Host::Unix { port, .. } => *port = *given,
            }
        }
        Ok(())
    }
}

/// The hosts in the part of a URL between credentials and database. An empty part names no host.
fn authority_hosts(authority: &str) -> Result<Vec<Host>, UrlError> {
    if authority.is_empty() {
        return Ok(Vec::new());
    }
    authority.split(',').enumerate().map(|(i, one)| authority_host(one, i + 1)).collect()
}

fn authority_host(text: &str, place: usize) -> Result<Host, UrlError> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, after) = rest.split_once(']').ok_or(UrlError::Host { place })?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err(UrlError::Host { place }),
            };
            (name, port)
        }
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let port = port
        .filter(|port| !port.is_empty())
        .map_or(Ok(PORT_DEFAULT), |port| port_of(port, place))?;
    host_of(decoded(name, "host")?, port, place)
}

fn host_of(name: String, port: u16, place: usize) -> Result<Host, UrlError> {
    match name.as_bytes().first() {
        // An `@` would name a socket in the abstract name space, which Postgres servers rarely use
        // and tokio cannot reach.
        None | Some(b'@') => Err(UrlError::Host { place }),
        Some(b'/') => Ok(Host::Unix { dir: PathBuf::from(name), port }),
        Some(_) => Ok(Host::Tcp { name, port }),
    }
}

fn port_of(text: &str, place: usize) -> Result<u16, UrlError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|&port| port != 0)
        .ok_or(UrlError::Port { place })
}

/// Decodes each `%XX` in `text`. `part` names the part of the URL in the error. Unlike in libpq, a
/// stray `%` is an error in every part.
fn decoded(text: &str, part: &str) -> Result<String, UrlError> {
    let fault = || UrlError::Encoding { part: part.to_owned() };
    let escapes_whole = text.split('%').skip(1).all(|after| {
        let mut digits = after.bytes();
        let mut hex = || digits.next().is_some_and(|b| b.is_ascii_hexdigit());
        hex() && hex()
    });
    if !escapes_whole {
        return Err(fault());
    }
    let plain = percent_decode_str(text).decode_utf8().map_err(|_| fault())?;
    if plain.contains('\0') { Err(fault()) } else { Ok(plain.into_owned()) }
}

/// The decoded text. `None` if it is empty, because libpq treats an empty part as missing.
fn some_text(text: &str, part: &str) -> Result<Option<String>, UrlError> {
    decoded(text, part).map(|plain| Some(plain).filter(|plain| !plain.is_empty()))
}

/// Checks one parameter of the URL's query, and stores its value in `parts` or `lists`. Fails if
/// the parameter is unknown or repeated, or if it cannot have this value.
fn set(
    parts: &mut UrlParts,
    lists: &mut HostLists,
    name: &str,
    value: &str,
) -> Result<(), UrlError> {
    match name {
        "host" => once(&mut lists.host, "host", value.to_owned()),
        "port" => once(&mut lists.port, "port", value.to_owned()),
        "user" => once(&mut parts.user, "user", value.to_owned()),
        "password" => once(&mut parts.password, "password", Secret::new(value)),
        "dbname" => once(&mut parts.database, "dbname", value.to_owned()),
        "sslmode" => once(&mut parts.tls.sslmode, "sslmode", sslmode(value)?),
        "sslrootcert" if value == "system" => Ok(()),
        "sslrootcert" => once(&mut parts.tls.sslrootcert, "sslrootcert", value.into()),
        "sslcert" => once(&mut parts.tls.sslcert, "sslcert", value.into()),
        "sslkey" => once(&mut parts.tls.sslkey, "sslkey", value.into()),
        "sslpassword" => once(&mut parts.tls.sslpassword, "sslpassword", Secret::new(value)),
        "sslnegotiation" => once(&mut parts.tls.negotiation, "sslnegotiation", negotiation(value)?),
        "channel_binding" => {
            once(&mut parts.tls.channel_binding, "channel_binding", channel_binding(value)?)
        }
        "target_session_attrs" => once(&mut parts.target, "target_session_attrs", target(value)?),
        "application_name" => {
            once(&mut parts.application_name, "application_name", value.to_owned())
        }
        "options" => once(&mut parts.options, "options", value.to_owned()),
        "connect_timeout" => {
            once(&mut parts.connect_timeout, "connect_timeout", seconds("connect_timeout", value)?)
        }
        "keepalives_idle" => {
            once(&mut parts.keepalives_idle, "keepalives_idle", seconds("keepalives_idle", value)?)
        }
        "keepalives_interval" => once(
            &mut parts.keepalives_interval,
            "keepalives_interval",
            seconds("keepalives_interval", value)?,
        ),
        "keepalives_count" => {
            let count = value.parse().ok().filter(|count| (1..=100).contains(count));
            let fault =
                UrlError::Value { name: "keepalives_count", expected: "a number from 1 to 100" };
            once(&mut parts.keepalives_count, "keepalives_count", count.ok_or(fault)?)
        }
        _ => Err(unknown(name)),
    }
}

fn once<T>(place: &mut Option<T>, name: &'static str, value: T) -> Result<(), UrlError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(UrlError::Repeated { name }),
    }
}

fn unknown(name: &str) -> UrlError {
    if let Some(&(name, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return UrlError::Unsupported { name, reason };
    }
    let nearest = TAKEN
        .iter()
        .chain(&["options"])
        .map(|known| (strsim::damerau_levenshtein(known, name), *known))
        .filter(|(distance, known)| *distance <= known.len() / 2)
        .min();
    UrlError::Unknown { name: name.to_owned(), nearest: nearest.map(|(_, known)| known) }
}

/// Reads a value of libpq's `sslmode`. The key `sslmode` of the configuration file takes the same
/// values.
///
/// # Errors
/// The words `prefer` and `allow`, with the reason, and any unknown word.
pub fn sslmode(word: &str) -> Result<SslMode, UrlError> {
    match word {
        "disable" => Ok(SslMode::Disable),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        "verify-full" => Ok(SslMode::VerifyFull),
        "prefer" | "allow" => Err(UrlError::Unsupported {
            name: "sslmode",
            reason: "prefer and allow fall back to clear text when anybody on the way asks for it; \
                     use require or verify-full (or disable, to say it)",
        }),
        _ => Err(UrlError::Value {
            name: "sslmode",
            expected: "disable, require, verify-ca or verify-full",
        }),
    }
}

fn negotiation(word: &str) -> Result<SslNegotiation, UrlError> {
    match word {
        "postgres" => Ok(SslNegotiation::Postgres),
        "direct" => Ok(SslNegotiation::Direct),
        _ => Err(UrlError::Value { name: "sslnegotiation", expected: "postgres or direct" }),
    }
}

fn channel_binding(word: &str) -> Result<ChannelBinding, UrlError> {
    match word {
        "disable" => Ok(ChannelBinding::Disable),
        "prefer" => Ok(ChannelBinding::Prefer),
        "require" => Ok(ChannelBinding::Require),
        _ => {
            Err(UrlError::Value { name: "channel_binding", expected: "disable, prefer or require" })
        }
    }
}

fn target(word: &str) -> Result<TargetSession, UrlError> {
    match word {
        "any" => Ok(TargetSession::Any),
        "read-write" => Ok(TargetSession::ReadWrite),
        "primary" => Ok(TargetSession::Primary),
        "standby" => Ok(TargetSession::Standby),
        _ => Err(UrlError::Value {
            name: "target_session_attrs",
            expected: "any, read-write, primary or standby",
        }),
    }
}

fn seconds(name: &'static str, value: &str) -> Result<Duration, UrlError> {
    let seconds = value.parse().ok().filter(|seconds| (1..=600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or(UrlError::Value { name, expected: "seconds, 1 to 600" })
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
