//! Proves schema ids: asks the registry which schema it serves under a recorded id.
//!
//! One task of the process sends the requests and keeps the answers. A claim is proven once,
//! however many plans and connections use its id. The task registers nothing and decides nothing.
//! Planning waits [`PATIENCE`] for an answer and then continues without one. An unanswered claim is
//! tried again until there is an answer, with a growing pause while the registry does not answer.
//!
//! Two answers refute a claim: there is no such schema, or there is another one. A registry that is
//! unreachable, denies access or sends nonsense says nothing about the claim.

use crate::continuity::Chain;
use crate::encode::registry::{Registry, RegistryError, SchemaDigest};
use crate::metrics::Metrics;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long planning waits for the registry's answer. A registry answers within tens of
/// milliseconds, and rows wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most requests at once. Four requests at once prove a thousand tables within seconds, and are
/// few enough for the smallest registry.
const ASKED_AT_ONCE_MAX: usize = 4;

/// Pause before the next request to a registry that did not answer. Each further pause is twice as
/// long as the one before, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The most requests of planning that wait for the task. A plan maker sends one request at a time.
const REQUESTS_MAX: usize = 16;

/// The claim that a registry serves this schema under this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The id that the state records for the schema, or that the registry has just given.
    pub id: u32,
    /// Digest of the schema to which the id belongs.
    pub schema: SchemaDigest,
}

/// What the registry has shown about a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The registry serves this schema under this id.
    Proven,
    /// The registry has no schema under the id, or another one.
    Refuted,
    /// The registry has not answered, for this reason.
    Open(String),
}

/// What the answers of the registry have shown so far.
#[derive(Debug, Default)]
pub struct Known {
    /// Answered claims, true if proven. There is at most one for each schema that this process has
    /// planned.
    answered: HashMap<Claim, bool>,
    /// Why the registry does not answer. `None` while the registry answers.
    away: Option<String>,
}

impl Known {
    /// Returns what the registry has shown about a claim so far.
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
    /// A plan will need the proof of this claim later, and does not wait for it.
    Ask(Claim),
    /// A plan waits for the proof of this claim, so this claim is asked about before the others.
    Prove(Claim),
    /// The registry has just given this id for this schema. The claim is proven by that.
    Given(Claim),
    /// Another client of the same registry, to be used from now on.
    AskAt(Arc<Registry>),
}

/// A handle of the task.
#[derive(Clone)]
pub struct Proofs {
    requests: mpsc::Sender<Request>,
    known: watch::Receiver<Known>,
}

impl Proofs {
    /// Starts the task that proves schema ids, on the current runtime. The task ends when the last
    /// handle is dropped.
    #[must_use]
    pub fn start(registry: Arc<Registry>, metrics: Metrics) -> Self {
        let (requests, asked) = mpsc::channel(REQUESTS_MAX);
        let (tell, known) = watch::channel(Known::default());
        let pause = Pause { until: None, length: PAUSE_MIN };
        let (waiting, open, asking) = (VecDeque::new(), HashSet::new(), JoinSet::new());
        tokio::spawn(
            Prover { registry, metrics, tell, waiting, open, asking, asked_at: None, pause }
                .run(asked),
        );
        Proofs { requests, known }
    }

    /// Asks for the proof of a claim. Waits until the registry answers, or is known to be
    /// unreachable or slow, and returns what is known of the claim then.
    pub async fn prove(&mut self, claim: Claim) -> Standing {
        if self.requests.send(Request::Prove(claim)).await.is_err() {
            return Standing::Open("the agent is stopping".to_owned());
        }
        let settled = |known: &Known| known.answered.contains_key(&claim) || known.away.is_some();
        // This fails only if the task has ended, at the end of the process. The claim is then open.
        let _ = self.known.wait_for(settled).await;
        self.standing(claim)
    }

    /// Asks for the proof of a claim without waiting for the registry's answer.
    pub async fn ask(&self, claim: Claim) {
        // A send fails only if the task has ended, because the agent is stopping.
        let _ = self.requests.send(Request::Ask(claim)).await;
    }

    /// Takes a claim as proven, because the registry has just given the id for the schema.
    pub async fn given(&self, claim: Claim) {
        // A send fails only if the task has ended, because the agent is stopping.
        let _ = self.requests.send(Request::Given(claim)).await;
    }

    /// Uses another client of the same registry from now on, whose certificates may be newer.
    pub async fn ask_at(&self, registry: Arc<Registry>) {
        // A send fails only if the task has ended, because the agent is stopping.
        let _ = self.requests.send(Request::AskAt(registry)).await;
    }

    /// Returns what is known of a claim now, without waiting.
    #[must_use]
    pub fn standing(&self, claim: Claim) -> Standing {
        self.known.borrow().standing(claim)
    }

    /// Waits until the task has noted something that is new since this handle's last wait.
    /// Cancel-safe.
    pub async fn changed(&mut self) {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await; // the task ends with the process
        }
    }
}

struct Pause {
    /// When the next request may be sent. `None` while the registry answers.
    until: Option<Instant>,
    /// Length of the next pause.
    length: Duration,
}

/// The reason why a claim is open, as `/status` shows it while the registry is slow.
const SLOW: &str = "it has not answered within a second";

struct Prover {
    registry: Arc<Registry>,
    metrics: Metrics,
    tell: watch::Sender<Known>,
    /// Claims that wait for a request. There is at most one for each schema that this process has
    /// planned.
    waiting: VecDeque<Claim>,
    /// All claims without an answer: those that wait, and those whose request is under way.
    open: HashSet<Claim>,
    asking: JoinSet<(Claim, Result<bool, RegistryError>)>,
    /// When the last request was sent.
    asked_at: Option<Instant>,
    pause: Pause,
}

impl Prover {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            self.ask();
            let pause =
                self.pause.until.filter(|_| self.asking.is_empty() && !self.waiting.is_empty());
            let slow = self
                .asked_at
                .filter(|_| !self.asking.is_empty() && self.tell.borrow().away.is_none());
            tokio::select! {
                // The order of the arms: 1. an answer, which frees room; 2. a request, which a plan
                // waits for; 3. the end of a plan's wait; 4. the end of a pause.
                biased;
                Some(answered) = self.asking.join_next(), if !self.asking.is_empty() => match answered {
                    Ok((claim, answer)) => self.answered(claim, answer),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => return, // the runtime is ending
                },
                request = requests.recv() => match request {
                    Some(Request::Ask(claim)) => self.claimed(claim),
                    Some(Request::Prove(claim)) => {
                        self.claimed(claim);
                        self.first(claim);
                    }
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

    /// Puts a waiting claim before the other waiting claims.
    fn first(&mut self, claim: Claim) {
        if let Some(at) = self.waiting.iter().position(|waiting| *waiting == claim)
            && let Some(claim) = self.waiting.remove(at)
        {
            self.waiting.push_front(claim);
        }
    }

    /// Begins requests for waiting claims, as many as are allowed now. If the registry did not
    /// answer the last request, one request at a time is allowed, and none before the pause is
    /// over.
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
                (
                    claim,
                    served.map(|text| {
                        text.is_some_and(|text| SchemaDigest::of(&text) == claim.schema)
                    }),
                )
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
                // The claim becomes the last one of those that wait, because the registry may fail
                // for this id alone.
                self.waiting.push_back(claim);
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
                    // A fifth request would have to come now, if there were one.
                    assert!(
                        tokio::time::timeout(Duration::from_millis(100), listener.accept())
                            .await
                            .is_err()
                    );
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
    async fn a_claim_that_a_plan_waits_for_goes_before_the_others() {
        let (listener, proofs) = listening().await;
        for id in 1..=8 {
            proofs.ask(claim(id)).await;
        }
        let mut plan = proofs.clone();
        let proven = tokio::spawn(async move { plan.prove(claim(8)).await });
        let mut held = Vec::new();
        for _ in 0..ASKED_AT_ONCE_MAX {
            held.push(listener.accept().await.unwrap().0);
        }
        while proofs.requests.capacity() < REQUESTS_MAX {
            tokio::task::yield_now().await;
        }
        answer(held.remove(0), INT).await;
        let (mut next, mut asked) = (listener.accept().await.unwrap().0, [0; 4096]);
        let length = next.read(&mut asked).await.unwrap();
        let asked = String::from_utf8_lossy(asked.get(..length).unwrap()).into_owned();
        assert!(asked.starts_with("GET /schemas/ids/8 "), "{asked}");
        next.write_all(INT.as_bytes()).await.unwrap();
        assert_eq!(proven.await.unwrap(), Standing::Proven);
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
