//! The login to Kafka that `[kafka.client]` does not hold: a password or a token that is read from
//! a file or from the output of a command.
//!
//! A client keeps the password that it was made with for all its life. When brokers refuse the
//! producer's login and the source has another password, `agent` exchanges the producer. librdkafka
//! itself asks for a token, for each client and before the last token expires.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::client::OAuthToken;
use rdkafka::types::RDKafkaErrorCode;

use crate::secret::{Secret, Source, SourceError, Token, fetch};

/// The principal that librdkafka gets if the token names none. Brokers look at the token alone.
const PRINCIPAL: &str = "wellspring";

/// The longest lifetime of a token that is given to librdkafka, which counts milliseconds since
/// 1970 in 63 bits.
const LIFETIME_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How a client logs in, and where its password or token is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Login {
    /// The operator's properties hold the login, or no login is configured.
    #[default]
    Properties,
    /// The source of `sasl.password`, and the password that was last read from it.
    Password(Source, Option<Secret>),
    /// The source of a token for OAUTHBEARER.
    Token(Source),
}

impl Login {
    /// Makes a login by a password that is read from `source` when it is needed.
    #[must_use]
    pub fn password(source: Source) -> Self {
        Login::Password(source, None)
    }

    /// Reads the password anew, off the runtime. Returns true if the password differs from the last
    /// one, or if none was read before. Returns false without reading if the login has no source of
    /// a password. librdkafka itself asks for a token.
    ///
    /// # Errors
    /// As [`fetch`].
    pub async fn renew(&mut self) -> Result<bool, SourceError> {
        let Login::Password(source, last) = self else { return Ok(false) };
        let secret = fetch(source).await?;
        let secret = Token::of(&secret, Duration::ZERO).secret;
        Ok(last.replace(secret.clone()).is_none_or(|before| before != secret))
    }

    /// Returns the password for a client that is made now: the last one that was read, or otherwise
    /// the one that is read here, which blocks. `None` if the login has no source of a password.
    pub(super) fn password_now(&self) -> Result<Option<Secret>, SourceError> {
        match self {
            Login::Properties | Login::Token(_) => Ok(None),
            Login::Password(_, Some(secret)) => Ok(Some(secret.clone())),
            Login::Password(source, None) => Token::read(source).map(|token| Some(token.secret)),
        }
    }

    /// The source of tokens, if we log in by tokens.
    pub(super) fn token(&self) -> Option<Source> {
        match self {
            Login::Token(source) => Some(source.clone()),
            Login::Properties | Login::Password(..) => None,
        }
    }

    /// Returns the same login without the password that was read last. A client that is made for
    /// one question thus reads the password again.
    pub(super) fn forgotten(&self) -> Self {
        match self {
            Login::Password(source, _) => Login::Password(source.clone(), None),
            other => other.clone(),
        }
    }
}

/// Reads a token for librdkafka. This call runs on the thread that polls the client, and blocks
/// this thread for as long as the command that prints the token takes.
pub(super) fn oauth_token(source: &Source) -> Result<OAuthToken, SourceError> {
    let token = Token::read(source)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let until = now + token.lifetime.min(LIFETIME_MAX);
    Ok(OAuthToken {
        token: token.secret.reveal().to_owned(),
        principal_name: token.principal.unwrap_or_else(|| PRINCIPAL.to_owned()),
        lifetime_ms: i64::try_from(until.as_millis()).unwrap_or(i64::MAX),
    })
}

/// Makes the answer to librdkafka after a token could not be read. No part of the answer is secret,
/// because librdkafka repeats the answer in its log.
pub(super) fn no_token(error: &SourceError) -> String {
    let cause =
        std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    format!("{error}{cause}")
}

/// Whether this error code says that a broker refused our login.
pub(super) fn is_refusal(code: Option<RDKafkaErrorCode>) -> bool {
    matches!(
        code,
        Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_renewed_where_it_changed_and_a_client_gets_the_one_of_its_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\n").unwrap();
        let mut login = Login::password(Source::File(file.path().to_owned()));
        let now = |login: &Login| login.password_now().unwrap().unwrap().reveal().to_owned();
        assert_eq!(now(&login), "one");
        assert!(login.renew().await.unwrap());
        assert!(!login.renew().await.unwrap());
        std::fs::write(file.path(), "two\n").unwrap();
        assert_eq!((now(&login), now(&login.forgotten())), ("one".to_owned(), "two".to_owned()));
        assert!(login.renew().await.unwrap());
        assert_eq!(now(&login), "two");
        std::fs::remove_file(file.path()).unwrap();
        assert!(login.renew().await.is_err());
        assert_eq!(now(&login), "two", "what was good stays until there is another");
    }

    #[test]
    fn a_token_carries_the_end_of_its_life() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = Source::File(file.path().to_owned());
        std::fs::write(file.path(), r#"{"access_token":"t","expires_in":100,"principal":"me"}"#)
            .unwrap();
        let before =
            i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis())
                .unwrap();
        let token = oauth_token(&source).unwrap();
        assert_eq!((token.token.as_str(), token.principal_name.as_str()), ("t", "me"));
        assert!(
            (before + 100_000..before + 200_000).contains(&token.lifetime_ms),
            "{}",
            token.lifetime_ms
        );
        std::fs::write(file.path(), format!(r#"{{"access_token":"t","expires_in":{}}}"#, u64::MAX))
            .unwrap();
        assert!(oauth_token(&source).unwrap().lifetime_ms > before);
        let error = oauth_token(&Source::File("/nowhere".into())).err().unwrap();
        assert_eq!(
            no_token(&error),
            "read the file /nowhere: No such file or directory (os error 2)"
        );
    }
}
