//! A token that a file holds or a command prints, and its lifetime.
//!
//! This file is pure: the time is an argument. A JSON object may have `token`, `access_token` or
//! `accessToken`, and `expires_in` (seconds) or `expires_at` or `expires_on` (seconds since 1970),
//! as OAuth and Azure write them. Any other text is the token itself. A JSON Web Token states its
//! expiry in `exp`.

use super::Secret;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use std::time::Duration;

/// Lifetime of a token that states none. AWS and Google issue tokens for a quarter of an hour and
/// more.
const LIFETIME_UNKNOWN: Duration = Duration::from_secs(300);

/// Share of its lifetime, in tenths, after which a token is fetched again. librdkafka uses the same
/// share.
const FRESH_TENTHS: u32 = 8;

/// Base64 as tokens use it, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A token and its remaining lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The token that is sent to the server.
    pub secret: Secret,
    /// Remaining lifetime from the moment of reading; five minutes if the token states none.
    pub lifetime: Duration,
    /// Name of the owner: `principal` of the JSON object, or `sub` of a JSON Web Token.
    pub principal: Option<String>,
}

#[derive(Deserialize)]
struct Printed {
    #[serde(alias = "access_token", alias = "accessToken")]
    token: String,
    expires_in: Option<u64>,
    #[serde(alias = "expires_on")]
    expires_at: Option<u64>,
    principal: Option<String>,
}

#[derive(Default, Deserialize)]
struct Claims {
    #[serde(default)]
    exp: Option<serde_json::Number>,
    #[serde(default)]
    sub: Option<String>,
}

impl Token {
    /// Reads a token from the text that a file holds or a command printed. `now` is the time since
    /// 1970.
    #[must_use]
    pub fn of(text: &Secret, now: Duration) -> Self {
        let printed = serde_json::from_str::<Printed>(text.reveal()).ok();
        let (secret, told, principal) = match printed {
            Some(printed) => {
                let at = printed.expires_at.map(|at| Duration::from_secs(at).saturating_sub(now));
                (
                    Secret::new(printed.token),
                    printed.expires_in.map(Duration::from_secs).or(at),
                    printed.principal,
                )
            }
            None => (text.clone(), None, None),
        };
        let claims = claims(secret.reveal()).unwrap_or_default();
        // `exp` may have a fraction of a second.
        let exp = claims
            .exp
            .and_then(|exp| exp.as_u64().or_else(|| exp.as_f64().map(|seconds| seconds as u64)));
        let of_claims = || exp.map(|at| Duration::from_secs(at).saturating_sub(now));
        let lifetime = told.or_else(of_claims).unwrap_or(LIFETIME_UNKNOWN);
        Token { secret, lifetime, principal: principal.or(claims.sub) }
    }

    /// Time from its reading for which the token is used, before another one is fetched.
    #[must_use]
    pub fn fresh_for(&self) -> Duration {
        self.lifetime / 10 * FRESH_TENTHS
    }
}

/// The claims of a JSON Web Token, its middle part; `None` for any other text.
fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (_, middle, _) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&BASE64.decode(middle).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn of(text: &str) -> (String, u64, Option<String>) {
        let token = Token::of(&Secret::new(text), NOW);
        (token.secret.reveal().to_owned(), token.lifetime.as_secs(), token.principal)
    }

    #[test]
    fn a_token_tells_its_end_in_json_or_as_a_web_token_or_not_at_all() {
        assert_eq!(of("abc"), ("abc".to_owned(), 300, None));
        assert_eq!(
            of(r#"{"token":"abc","expires_in":900,"more":1}"#),
            ("abc".to_owned(), 900, None)
        );
        let dated = r#"{"access_token":"abc","expires_at":1700000060,"principal":"me"}"#;
        assert_eq!(of(dated), ("abc".to_owned(), 60, Some("me".to_owned())));
        let past = r#"{"token":"abc","expires_at":1}"#;
        assert_eq!(of(past).1, 0);
        let claims = BASE64.encode(r#"{"sub":"agent","exp":1700000600.5,"iat":1}"#);
        for token in
            [format!("e30.{claims}."), format!("e30.{}.c2ln", claims.trim_end_matches('='))]
        {
            assert_eq!(of(&token), (token.clone(), 600, Some("agent".to_owned())));
            assert_eq!(
                of(&format!(r#"{{"token":"{token}","expires_in":5}}"#)),
                (token, 5, Some("agent".to_owned()))
            );
        }
        assert_eq!(of("a.b.c").1, 300, "three parts make no web token");
        assert_eq!(of("{}"), ("{}".to_owned(), 300, None));
    }

    #[test]
    fn is_fetched_anew_before_its_end() {
        assert_eq!(
            Token::of(&Secret::new(r#"{"token":"a","expires_in":100}"#), NOW).fresh_for().as_secs(),
            80
        );
        let endless =
            Token::of(&Secret::new(format!(r#"{{"token":"a","expires_in":{}}}"#, u64::MAX)), NOW);
        assert!(endless.fresh_for() < endless.lifetime);
    }
}
