//! Logs in by SCRAM-SHA-256 with or without channel binding, by md5, or by a clear password if
//! nobody can read along.
//!
//! This file decides the answers, and `session` sends them. An error about a method that we do not
//! speak says what to do instead.

use crate::postgres::config::ChannelBinding;
use crate::secret::{self, Secret, Source, SourceError};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ScramSha256};
use postgres_protocol::message::backend::AuthenticationSaslBody;

/// Why we cannot log in the way the server asks. `session` adds role and host.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server asks for a password, and none is configured.
    NoPassword,
    /// The password cannot be read from its source.
    Source(SourceError),
    /// Any other reason, as a sentence.
    Because(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Refusal::Because(reason)
    }
}

/// The properties of the channel that matter to a password exchange.
pub(super) struct Channel {
    /// Whether the password exchange must, may or must not be bound to the TLS channel.
    pub(super) binding: ChannelBinding,
    /// The digest that identifies the channel (`tls-server-end-point`). `None` without TLS, or if
    /// the server's certificate permits no such digest.
    pub(super) end_point: Option<Vec<u8>>,
    /// True for TLS or a Unix socket, where nobody can read along.
    pub(super) private: bool,
}

/// Reads the password from its source now. A password command is not run here: `session` has run it
/// before the login, because it may take longer than a login may.
pub(super) fn password(source: Option<&Source>) -> Result<Secret, Refusal> {
    source.map_or(Err(Refusal::NoPassword), |source| secret::read(source).map_err(Refusal::Source))
}

/// Returns the password that answers a request for a clear password. Refused if the configuration
/// requires channel binding, or if somebody could read along.
pub(super) fn cleartext(channel: &Channel, source: Option<&Source>) -> Result<Secret, Refusal> {
    unbound(channel)?;
    if !channel.private {
        return Err(
            "the server asks for the password in clear text over an unencrypted connection; \
                    use TLS, or scram-sha-256 in pg_hba.conf"
                .to_owned()
                .into(),
        );
    }
    password(source)
}

/// Returns the hash that answers an md5 challenge. Refused if the configuration requires channel
/// binding.
pub(super) fn md5(
    channel: &Channel,
    source: Option<&Source>,
    user: &str,
    salt: [u8; 4],
) -> Result<Secret, Refusal> {
    unbound(channel)?;
    let password = password(source)?;
    Ok(Secret::new(md5_hash(user.as_bytes(), password.reveal().as_bytes(), salt)))
}

/// Succeeds if the configuration permits a login without channel binding. Refused if the
/// configuration requires the binding.
pub(super) fn unbound(channel: &Channel) -> Result<(), Refusal> {
    match channel.binding {
        ChannelBinding::Disable | ChannelBinding::Prefer => Ok(()),
        ChannelBinding::Require => {
            Err("channel_binding=require, but the server logs in without it; it needs TLS and a \
                SCRAM password"
                .to_owned()
                .into())
        }
    }
}

/// A SCRAM exchange whose mechanism is chosen.
pub(super) struct Scram {
    /// The name of the chosen mechanism, which the first message to the server contains.
    pub(super) mechanism: &'static str,
    exchange: ScramSha256,
}

impl Scram {
    /// Chooses one of the mechanisms that the server offers, reads the password, and prepares the
    /// first message. Refused if no offered mechanism can be used.
    pub(super) fn begin(
        channel: &Channel,
        source: Option<&Source>,
        offer: &AuthenticationSaslBody,
    ) -> Result<Self, Refusal> {
        let offered: Vec<&str> = offer
            .mechanisms()
            .collect()
            .map_err(|_| "the list of mechanisms is broken".to_owned())?;
        let plus = offered.contains(&sasl::SCRAM_SHA_256_PLUS);
        if !plus && !offered.contains(&sasl::SCRAM_SHA_256) {
            let names: Vec<&str> = offered
                .iter()
                .copied()
                .filter(|name| name.bytes().all(|b| b.is_ascii_graphic()))
                .collect();
            return Err(format!(
                "the server offers {}, of which none is spoken here; give the role a SCRAM \
                 password and scram-sha-256 in pg_hba.conf",
                names.join(", ")
            )
            .into());
        }
        let end_point =
            channel.end_point.clone().filter(|_| channel.binding != ChannelBinding::Disable);
        let (binding, mechanism) = match (plus, end_point) {
            (true, Some(end_point)) => {
                (sasl::ChannelBinding::tls_server_end_point(end_point), sasl::SCRAM_SHA_256_PLUS)
            }
            // The client says that it could bind the channel and that the server did not offer it.
            // So the server finds out if somebody has removed its offer on the way.
            (false, Some(_)) => (sasl::ChannelBinding::unrequested(), sasl::SCRAM_SHA_256),
            (_, None) => (sasl::ChannelBinding::unsupported(), sasl::SCRAM_SHA_256),
        };
        if mechanism == sasl::SCRAM_SHA_256 {
            if !offered.contains(&sasl::SCRAM_SHA_256) {
                return Err("the server offers SCRAM-SHA-256-PLUS only, which needs TLS and \
                    channel_binding"
                    .to_owned()
                    .into());
            }
            unbound(channel)?;
        }
        let password = password(source)?;
        Ok(Scram { mechanism, exchange: ScramSha256::new(password.reveal().as_bytes(), binding) })
    }

    /// The content of the next message of ours to the server.
    pub(super) fn message(&self) -> &[u8] {
        self.exchange.message()
    }

    /// Reads the server's challenge. After that [`Scram::message`] returns the answer to the
    /// challenge.
    pub(super) fn challenged(&mut self, data: &[u8]) -> Result<(), Refusal> {
        if let Some(iterations) = iterations(data)
            && iterations > ITERATIONS_MAX
        {
            return Err(format!(
                "the role's password was made with {iterations} SCRAM iterations, more than the \
                 {ITERATIONS_MAX} that a client may safely be asked for; lower scram_iterations \
                 and set the password again"
            )
            .into());
        }
        self.exchange
            .update(data)
            .map_err(|_| "the server's SCRAM challenge is malformed".to_owned().into())
    }

    /// Checks the server's last message, which proves that the server knows the password, too.
    pub(super) fn finished(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.exchange.finish(data).map_err(|_| {
            "the server did not prove that it knows the password: it may not be the server you mean"
                .to_owned()
                .into()
        })
    }
}

/// The most iterations of the SCRAM hash that we compute for a login. `postgres_protocol` has no
/// bound. Without this one, a server could keep the library computing for ever.
const ITERATIONS_MAX: u64 = 100_000;

/// The number of iterations (`i=`) in the server-first message of SCRAM. `None` if the message has
/// no such number.
fn iterations(data: &[u8]) -> Option<u64> {
    std::str::from_utf8(data)
        .ok()?
        .split(',')
        .find_map(|field| field.strip_prefix("i="))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clear() -> Channel {
        Channel { binding: ChannelBinding::Prefer, end_point: None, private: false }
    }

    #[test]
    fn does_not_send_a_clear_password_in_the_clear() {
        let source = Source::Inline(Secret::new("x"));
        assert!(matches!(cleartext(&clear(), Some(&source)), Err(Refusal::Because(_))));
        assert!(cleartext(&Channel { private: true, ..clear() }, Some(&source)).is_ok());
    }

    #[test]
    fn does_not_go_on_unbound_where_binding_is_demanded() {
        let source = Source::Inline(Secret::new("x"));
        let demanding =
            Channel { binding: ChannelBinding::Require, private: true, end_point: None };
        assert!(cleartext(&demanding, Some(&source)).is_err());
        assert!(md5(&demanding, Some(&source), "u", [0; 4]).is_err());
        assert!(unbound(&demanding).is_err());
    }

    #[test]
    fn refuses_to_be_kept_computing() {
        let mut scram = Scram {
            mechanism: sasl::SCRAM_SHA_256,
            exchange: ScramSha256::new(b"x", sasl::ChannelBinding::unsupported()),
        };
        let Err(Refusal::Because(reason)) = scram.challenged(b"r=abc,s=AAAA,i=600000") else {
            panic!("accepted")
        };
        assert!(reason.contains("600000") && reason.contains("scram_iterations"), "{reason}");
    }
}
