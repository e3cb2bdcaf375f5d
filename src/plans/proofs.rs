//! Proves schema ids: does this registry serve this schema under this id?
//!
//! One task for the process asks, and keeps the answers: a claim is asked once, however many plans and connections rest on
//! it. It registers nothing and decides nothing. Planning waits for an answer for [`PATIENCE`] and then goes on without one;
//! what is not answered is asked again until it is, with a growing pause while the registry does not answer.
//!
//! Only the answer "there is no such schema" and another schema are a refutation. A registry that is away, denies access or
//! talks nonsense has said nothing about the claim.

use crate::continuity::Chain;
use crate::encode::registry::{Registry, RegistryError, SchemaDigest};
use crate::metrics::Metrics;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long planning waits for an answer: a registry answers within some ten milliseconds, and rows wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// Requests at once: enough to prove a thousand tables within seconds, few enough for the smallest registry.
const ASKED_AT_ONCE_MAX: usize = 4;

/// The pause before the next request to a registry that did not answer: from here, doubling up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Requests on their way to the task. Planning makes one after the other and waits for each.
const REQUESTS_MAX: usize = 16;

/// That a registry serves this schema under this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The recorded id.
    pub id: u32,
    /// The schema that it was recorded for.
    pub schema: SchemaDigest,
}

/// What is known of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The registry serves the schema.
    Proven,
    /// The registry has no schema under the id, or another one.
    Refuted,
    /// The registry has not answered; why.
    Open(String),
}

/// Everything known so far.
#[derive(Debug, Default)]
pub struct Known {
    /// Claims that the registry has answered: true for a proven one. One entry for each schema planned by this process.
    answered: HashMap<Claim, bool>,
    /// Why the registry does not answer, while it does not.
    away: Option<String>,
}

impl Known {
    /// What is known of a claim.
    #[must_use]
    pub fn standing(&self, claim: Claim) -> Standing {
        match self.answered.get(&claim) {
            Some(true) => Standing::Proven,
            Some(false) => Standing::Refuted,
            None => Standing::Open(self.away.clone().unwrap_or_else(|| SLOW.to_owned())),
        }
    }
}

enum Request {
    Ask(Claim),
    /// The registry itself gave the id for the schema.
    Given(Claim),
    /// The same registry by another client.
    AskAt(Arc<Registry>),
}

/// The task's handle.
#[derive(Clone)]
pub struct Proofs {
    requests: mpsc::Sender<Request>,
    known: watch::Receiver<Known>,
}

impl Proofs {
    /// Starts the task on the current runtime; it ends with the last handle.
    #[must_use]
    pub fn start(registry: Arc<Registry>, metrics: Metrics) -> Self {
        let (requests, asked) = mpsc::channel(REQUESTS_MAX);
        let (tell, known) = watch::channel(Known::default());
        let pause = Pause { until: None, length: PAUSE_MIN };
        let (waiting, open, asking) = (VecDeque::new(), HashSet::new(), JoinSet::new());
        tokio::spawn(Prover { registry, metrics, tell, waiting, open, asking, asked_at: None, pause }.run(asked));
        Proofs { requests, known }
    }

    /// Asks about a claim. Waits for the answer while the registry is not known to be away or slow.
    pub async fn prove(&mut self, claim: Claim) -> Standing {
        if self.requests.send(Request::Ask(claim)).await.is_err() {
            return Standing::Open("the agent is stopping".to_owned());
        }
        let settled = |known: &Known| known.answered.contains_key(&claim) || known.away.is_some();
        // Fails only when the task has ended, at the end of the process; the claim is then open.
        let _ = self.known.wait_for(settled).await;
        self.standing(claim)
    }

    /// Takes a claim for proven: the registry has just given the id for the schema.
    pub async fn given(&self, claim: Claim) {
        let _ = self.requests.send(Request::Given(claim)).await; // nobody to tell: the agent is stopping
    }

    /// Asks by another client of the same registry from now on: its certificates may be newer.
    pub async fn ask_at(&self, registry: Arc<Registry>) {
        let _ = self.requests.send(Request::AskAt(registry)).await; // nobody to tell: the agent is stopping
    }

    /// What is known of a claim by now.
    #[must_use]
    pub fn standing(&self, claim: Claim) -> Standing {
        self.known.borrow().standing(claim)
    }

    /// Waits until more is known than this handle has seen. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await; // the task ends with the process
        }
    }
}

struct Pause {
    /// When the registry is asked again; none while it answers.
    until: Option<Instant>,
    /// How long the next pause is.
    length: Duration,
}

/// What `/status` says of a registry that takes its time.
const SLOW: &str = "it has not answered within a second";

struct Prover {
    registry: Arc<Registry>,
    metrics: Metrics,
    tell: watch::Sender<Known>,
    /// Claims to be asked about; at most one for each schema planned by this process.
    waiting: VecDeque<Claim>,
    /// Those, and those that are being asked about.
    open: HashSet<Claim>,
    asking: JoinSet<(Claim, Result<bool, RegistryError>)>,
    /// When a question was asked last.
    asked_at: Option<Instant>,
    pause: Pause,
}

impl Prover {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            self.ask();
            let pause = self.pause.until.filter(|_| self.asking.is_empty() && !self.waiting.is_empty());
            let slow = self.asked_at.filter(|_| !self.asking.is_empty() && self.tell.borrow().away.is_none());
            tokio::select! {
                biased; // 1. what frees room, 2. what a plan waits for, 3. what ends its wait, 4. a registry that may be back
                Some(answered) = self.asking.join_next(), if !self.asking.is_empty() => match answered {
                    Ok((claim, answer)) => self.answered(claim, answer),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => return, // the runtime is ending
                },
                request = requests.recv() => match request {
                    Some(Request::Ask(claim)) => self.claimed(claim),
                    Some(Request::Given(claim)) => {
                        self.tell.send_modify(|known| known.answered.extend([(claim, true)]));
                    }
                    Some(Request::AskAt(registry)) => self.registry = registry,
                    None => return,
                },
                () = sleep_until(slow.map(|at| at + PATIENCE)) => {
                    self.tell.send_modify(|known| known.away = Some(SLOW.to_owned()));
                }
                () = sleep_until(pause) => {}
            }
        }
    }

    fn claimed(&mut self, claim: Claim) {
        if !self.tell.borrow().answered.contains_key(&claim) && self.open.insert(claim) {
            self.waiting.push_back(claim);
        }
    }

    /// Asks as much as may be asked now: one question to a registry that did not answer the one before.
    fn ask(&mut self) {
        let room = match self.pause.until {
            Some(until) if until > Instant::now() => 0,
            Some(_) => 1,
            None => ASKED_AT_ONCE_MAX,
        };
        while self.asking.len() < room
            && let Some(claim) = self.waiting.pop_front()
        {
            self.metrics.registry_requests.inc();
            self.asked_at = Some(Instant::now());
            let registry = Arc::clone(&self.registry);
            self.asking.spawn(async move {
                let served = registry.schema(claim.id).await;
                (claim, served.map(|text| text.is_some_and(|text| SchemaDigest::of(&text) == claim.schema)))
            });
        }
    }

    fn answered(&mut self, claim: Claim, answer: Result<bool, RegistryError>) {
        match answer {
            Ok(is_served) => {
                self.open.remove(&claim);
                self.pause = Pause { until: None, length: PAUSE_MIN };
                self.tell.send_modify(|known| {
                    known.away = None;
                    known.answered.insert(claim, is_served);
                });
            }
            Err(error) => {
                self.metrics.registry_failures.inc();
                self.pause.until = Some(Instant::now() + self.pause.length);
                self.pause.length = (self.pause.length * 2).min(PAUSE_MAX);
                self.waiting.push_back(claim); // behind the others: an answer that is nonsense may be this id's alone
                self.tell.send_modify(|known| known.away = Some(Chain(&error).to_string()));
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::registry::Config;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    const INT: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 20\r\n\r\n{\"schema\":\"\\\"int\\\"\"}";

    fn claim(id: u32) -> Claim {
        Claim { id, schema: SchemaDigest::of("\"int\"") }
    }

    async fn answer(mut visitor: TcpStream, text: &str) {
        let _ = visitor.read(&mut [0; 4096]).await;
        let _ = visitor.write_all(text.as_bytes()).await;
    }

    async fn listening() -> (TcpListener, Proofs) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config::new(format!("http://{}", listener.local_addr().unwrap()));
        let registry = Registry::new(&config).unwrap();
        (listener, Proofs::start(Arc::new(registry), Metrics::new("0")))
    }

    #[tokio::test]
    async fn claims_are_asked_once_and_four_at_a_time() {
        let (listener, proofs) = listening().await;
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((visitor, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                held.push(visitor);
                if held.len() == ASKED_AT_ONCE_MAX {
                    // A fifth would have to come now, if there were one.
                    assert!(tokio::time::timeout(Duration::from_millis(100), listener.accept()).await.is_err());
                    for visitor in held.drain(..) {
                        answer(visitor, INT).await;
                    }
                }
            }
        });
        let mut plans = JoinSet::new();
        for id in (1..=8).chain(1..=8) {
            let mut proofs = proofs.clone();
            plans.spawn(async move { proofs.prove(claim(id)).await });
        }
        let standings = plans.join_all().await;
        assert_eq!(standings, vec![Standing::Proven; 16]);
        assert_eq!(asked.load(Ordering::SeqCst), 8);
    }

    #[tokio::test]
    async fn one_plan_waits_for_a_registry_that_hangs() {
        let (listener, mut proofs) = listening().await;
        let since = Instant::now();
        let slow = Standing::Open(SLOW.to_owned());
        assert_eq!(proofs.prove(claim(1)).await, slow);
        for id in 2..=20 {
            assert_eq!(proofs.prove(claim(id)).await, slow);
        }
        assert!(since.elapsed() < PATIENCE * 2, "one plan waits, the others do not");
        tokio::spawn(async move {
            while let Ok((visitor, _)) = listener.accept().await {
                answer(visitor, INT).await;
            }
        });
        let mut seen = proofs.clone();
        let proven = async {
            while !(1..=20).all(|id| seen.standing(claim(id)) == Standing::Proven) {
                seen.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), proven).await.expect("every claim is proven");
    }
}
