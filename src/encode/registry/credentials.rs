//! The credentials for the registry: user and password, a token, or a client's certificate.

use super::{Auth, PRINTED_TIME_MAX, RegistryError};
use crate::secret::{self, Kept, Secret, Source};
use reqwest::{RequestBuilder, Url};
use std::path::Path;

/// The credentials for every call to the registry. The output of a command is kept between calls.
#[derive(Debug)]
pub(super) enum Credentials {
    None,
    Basic(String, Kept),
    Bearer(Kept),
}

impl Credentials {
    pub(super) fn of(auth: &Auth) -> Self {
        let kept = |source: &Source| Kept::new(source.clone(), PRINTED_TIME_MAX);
        match auth {
            Auth::None => Credentials::None,
            Auth::Basic { user, password } => Credentials::Basic(user.clone(), kept(password)),
            Auth::Bearer { token } => Credentials::Bearer(kept(token)),
        }
    }

    pub(super) async fn read(&self) -> Result<Login, RegistryError> {
        let failed = |source| RegistryError::Secret { source };
        Ok(match self {
            Credentials::None => Login::None,
            Credentials::Basic(user, password) => {
                Login::Basic(user.clone(), password.get().await.map_err(failed)?)
            }
            Credentials::Bearer(token) => Login::Bearer(token.get().await.map_err(failed)?),
        })
    }

    /// Forgets the kept output of a command. Returns true if the secret comes from a command. The
    /// next reading then runs the command.
    pub(super) async fn forget(&self) -> bool {
        match self {
            Credentials::Basic(_, kept) | Credentials::Bearer(kept) if kept.is_kept() => {
                kept.forget().await;
                true
            }
            Credentials::None | Credentials::Basic(..) | Credentials::Bearer(_) => false,
        }
    }
}

/// Credentials as read for one call.
pub(super) enum Login {
    None,
    Basic(String, Secret),
    Bearer(Secret),
}

impl Login {
    pub(super) fn put_on(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Login::None => request,
            Login::Basic(user, password) => request.basic_auth(user, Some(password.reveal())),
            Login::Bearer(token) => request.bearer_auth(token.reveal()),
        }
    }
}

/// Reads our certificate chain and its key from their files, in the form that `reqwest` needs.
pub(super) fn identity(
    certificate: &Path,
    key: &Path,
    passphrase: Option<&Source>,
) -> Result<reqwest::Identity, RegistryError> {
    let setup = |detail: String| RegistryError::Setup { detail };
    let chain = std::fs::read(certificate);
    let chain = chain
        .map_err(|error| setup(format!("certificate `{}`: {error}", certificate.display())))?;
    let key = secret::read_key(key, passphrase).map_err(|error| {
        let cause = std::error::Error::source(&error)
            .map_or_else(String::new, |cause| format!(": {cause}"));
        setup(format!("{error}{cause}"))
    })?;
    let pem = key
        .private_key_to_pem_pkcs8()
        .map_err(|_| setup("the key cannot be written as PKCS#8".to_owned()))?;
    reqwest::Identity::from_pkcs8_pem(&chain, &pem).map_err(|_| {
        setup(format!(
            "certificate `{}` is not PEM, or its key is another's",
            certificate.display()
        ))
    })
}

/// Reads a URL. Returns it without user, password, query and fragment, and returns user and
/// password as credentials. No error contains `text`, because it may hold the password.
pub(super) fn parse_url(text: &str) -> Result<(Url, Option<Auth>), RegistryError> {
    let fault = |detail: &str| RegistryError::Setup { detail: format!("a registry URL {detail}") };
    let mut url = Url::parse(text).map_err(|error| fault(&format!("cannot be read: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(fault("must begin with http:// or https:// and a host"));
    }
    let decode =
        |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    let auth = (!url.username().is_empty()).then(|| Auth::Basic {
        user: decode(url.username()),
        password: Source::Inline(Secret::new(decode(url.password().unwrap_or("")))),
    });
    // Neither call fails on a URL that has a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    Ok((url, auth))
}
