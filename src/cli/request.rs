//! `wellspring snapshot`, `pause`, `resume`, `reload`, `skip`: requests to the running agent, over
//! its admin address.

use super::{Code, Failure, block_on, print};
use crate::config::Checked;
use crate::continuity::skipped::Consent;
use crate::secret::Source;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Longest wait for the agent's answer. It is longer than the 60 s after which the agent reports
/// that it has no answer.
const PATIENCE: Duration = Duration::from_secs(70);

/// Largest answer that is read, in bytes. An answer is one sentence in JSON.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A request to the running agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Snapshot { tables: Vec<String>, filter: Option<String> },
    CancelSnapshot,
    Pause,
    Resume,
    Reload,
    Skip(Consent),
}

impl Request {
    fn path(&self) -> &'static str {
        match self {
            Request::Snapshot { .. } => "/snapshot",
            Request::CancelSnapshot => "/snapshot/cancel",
            Request::Pause => "/pause",
            Request::Resume => "/resume",
            Request::Reload => "/reload",
            Request::Skip(_) => "/skip",
        }
    }
}

/// Sends a request to the agent at `admin.listen` of this configuration, and prints its answer.
pub(super) fn run(checked: &Checked, request: &Request) -> Result<Code, Failure> {
    let refused = |primary: &str, hint: &str| Failure {
        code: Code::Config,
        primary: primary.to_owned(),
        details: Vec::new(),
        hint: hint.to_owned(),
    };
    let Some(address) = checked.admin else {
        return Err(refused(
            "admin.listen is \"off\": the agent cannot be asked",
            "give it an address and restart it",
        ));
    };
    let Some(token) = &checked.admin_token else {
        let hint = "set admin.token_file to a file with a random token (openssl rand -hex 32) and \
            restart the agent";
        return Err(refused(
            "admin.token_file is not set, nor admin.token_command: the agent refuses actions",
            hint,
        ));
    };
    let answer = block_on(send(reachable(address), token, request))??;
    print(&answer);
    Ok(Code::Done)
}

/// The address at which an agent that listens on `address` is reached from the same machine.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn send(address: SocketAddr, token: &Source, request: &Request) -> Result<String, Failure> {
    let failed = |error: &dyn std::error::Error, hint: &str| Failure::of(Code::Failed, error, hint);
    // A proxy that the environment names must not see the token.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(|e| failed(&e, ""))?;
    let token = crate::secret::fetch(token).await.map_err(|error| failed(&error, ""))?;
    let token = crate::secret::Token::of(&token, Duration::ZERO).secret;
    let mut post =
        client.post(format!("http://{address}{}", request.path())).bearer_auth(token.reveal());
    if let Request::Snapshot { tables, filter } = request {
        post = post.json(&serde_json::json!({ "tables": tables, "where": filter }));
    }
    if let Request::Skip(Consent { table, at, by, why }) = request {
        let (commit, ordinal) = (at.commit.to_string(), at.ordinal);
        let body = serde_json::json!({ "table": table, "commit": commit, "ordinal": ordinal, "by": by, "why": why });
        post = post.json(&body);
    }
    let away = "is the agent running, and under this configuration?";
    let mut response = post.send().await.map_err(|error| Failure {
        primary: format!("the agent at {address} cannot be reached"),
        ..failed(&error, away)
    })?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error, away))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            break; // an answer of this size is not from an agent
        }
        body.extend_from_slice(&chunk);
    }
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
    match (told["done"].as_str(), told["error"].as_str()) {
        (Some(done), _) if status.is_success() => Ok(done.to_owned()),
        (_, Some(error)) => Err(Failure {
            code: Code::Failed,
            primary: format!("the agent refuses: {error}"),
            details: Vec::new(),
            hint: String::new(),
        }),
        _ => Err(Failure {
            code: Code::Failed,
            primary: format!("what listens on {address} answers {status} and is no agent of ours"),
            details: Vec::new(),
            hint: away.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_listens_everywhere_is_asked_on_loopback() {
        let check = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(check("0.0.0.0:9630"), "127.0.0.1:9630");
        assert_eq!(check("[::]:9630"), "[::1]:9630");
        assert_eq!(check("10.1.2.3:9630"), "10.1.2.3:9630");
    }
}
