//! Public keys that another server publishes, fetched now and then.
//!
//! - One task fetches, and nobody else does: every [`refresh`](JwksServerBuilder::refresh), and when somebody
//!   shows a token with a `kid` that is not known. Between two fetches there are ten seconds at least, so
//!   who makes ids up has nothing asked but six times a minute, whatever the number of tokens.
//! - Who shows such a token waits for a fetch that is under way, or may begin. So a key that is new is good at
//!   once, and nobody has to connect again.
//! - A fetch that fails changes nothing: what was known stays good for
//!   [`stale_for`](JwksServerBuilder::stale_for). One that succeeds replaces all: what is not published any more
//!   is not good any more.
//! - The task begins with the first token, and ends with the last clone. One whose runtime has gone is replaced.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::jwks::{Jwks, JwksError, Written, are_public};
use super::key::{JwtAlgorithm, Key};
use crate::gateway::defect::{Defect, seeded};
use crate::gateway::fetch::{Fetch, FetchError};

/// Shortest time between two fetches.
const PAUSE: Duration = Duration::from_secs(10);

/// How soon it is tried again after a failure.
const AGAIN: Duration = Duration::from_secs(30);

type Ask = dyn Fn() -> BoxFuture<'static, Result<Written, FetchError>> + Send + Sync;

/// A server that publishes keys, as `https://id.example.com/.well-known/jwks.json`. Cloning is cheap: all clones
/// are the same.
///
/// ```
/// use wsmux::gateway::auth::{Jwt, JwtAlgorithm, JwksServer};
/// use wsmux::gateway::fetch::Fetch;
///
/// let keys = Fetch::builder("https://id.example.com/.well-known/jwks.json")?.build()?;
/// let keys = JwksServer::builder(keys, [JwtAlgorithm::Rs256])?.build();
/// let jwt = Jwt::new("https://streams.example.com").jwks_server(keys);
/// # let _ = jwt;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct JwksServer(Arc<Inner>);

/// Builds a [`JwksServer`]; made by [`JwksServer::builder`].
#[must_use]
pub struct JwksServerBuilder {
    algorithms: Vec<JwtAlgorithm>,
    ask: Box<Ask>,
    patience: Duration,
    refresh: Duration,
    stale_for: Duration,
    uri: Uri,
}

struct Inner {
    failures: AtomicU64,
    fetches: AtomicU64,
    known: RwLock<Known>,
    rounds: watch::Sender<Round>,
    settings: JwksServerBuilder,
    task: Mutex<Option<JoinHandle<()>>>,
    /// That somebody has shown an id that is not known.
    wanted: Arc<Notify>,
}

/// What was published, and when.
#[derive(Clone, Default)]
struct Known {
    at: Option<Instant>,
    keys: Arc<Jwks>,
}

/// A fetch, by its number: which one has begun, and which has ended.
#[derive(Clone, Copy, Default)]
struct Round {
    begun: u64,
    ended: u64,
    ended_at: Option<Instant>,
}

impl JwksServer {
    /// Starts to build one that takes keys of these algorithms from `server`, and of no others, whatever the
    /// keys say of themselves.
    ///
    /// # Errors
    ///
    /// [`JwksError::Algorithm`] where there is none, or one whose keys are secrets.
    pub fn builder(
        server: Fetch,
        algorithms: impl IntoIterator<Item = JwtAlgorithm>,
    ) -> Result<JwksServerBuilder, JwksError> {
        let (patience, uri) = (server.timeout(), server.uri().clone());
        let ask = move || -> BoxFuture<'static, _> {
            let server = server.clone();
            Box::pin(async move { server.get().await })
        };
        JwksServerBuilder::new(Box::new(ask), uri, patience, algorithms)
    }

    /// Fetches the keys, unless they were a moment ago, and waits for them. Nobody has to: the first token that
    /// is shown does. A server that fails is told of in the log.
    ///
    /// Has to be called in a Tokio runtime. Cancel safe: the fetch goes on.
    pub async fn fetch(&self) {
        let inner = &self.0;
        let mut rounds = inner.rounds.subscribe();
        let seen = *rounds.borrow_and_update();
        let is_running = inner.keep_running();
        if let (true, true, Some(at)) = (is_running, seen.begun == seen.ended, seen.ended_at) {
            if at.elapsed() < PAUSE {
                return;
            }
            inner.wanted.notify_one();
        }
        // The runtime of the task may end before the fetch does.
        let patience = inner.settings.patience + Duration::from_secs(1);
        let hangs = seeded(Defect::HangingIsWaitedFor);
        let patience = if hangs { inner.settings.stale_for } else { patience };
        let _ = timeout(patience, rounds.wait_for(|round| round.ended > seen.ended)).await;
    }

    /// How often the server was asked.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.0.fetches.load(Ordering::Relaxed)
    }

    /// How often it did not tell.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// What is known, unless that is too long ago.
    pub(super) fn keys(&self) -> Arc<Jwks> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_good = known.at.is_some_and(|at| at.elapsed() < self.0.settings.stale_for);
        let is_good = is_good || (seeded(Defect::KeysStayForEver) && known.at.is_some());
        if is_good { Arc::clone(&known.keys) } else { Arc::default() }
    }

    /// Waits for the key of a token with this id, if that may be had by fetching.
    pub(super) async fn prepare(&self, id: Option<&str>, algorithm: JwtAlgorithm) {
        if !self.0.settings.algorithms.contains(&algorithm) {
            return;
        }
        let keys = self.keys();
        // Which of many it is, is not to be had.
        let has_all = !keys.is_empty() && id.is_none();
        if has_all || keys.find(id).iter().any(|key: &Key| key.algorithm() == algorithm) {
            self.0.keep_running();
        } else if keys.is_empty() || !seeded(Defect::NewKeyWaits) {
            self.fetch().await;
        }
    }

    /// Takes over what another one knows of the same server.
    pub(super) fn inherit(&self, other: &Self) {
        let (new, old) = (&self.0.settings, &other.0.settings);
        if new.uri == old.uri && new.algorithms == old.algorithms && !Arc::ptr_eq(&self.0, &other.0)
        {
            let known = other.0.known.read().unwrap_or_else(PoisonError::into_inner).clone();
            *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        }
    }
}

impl JwksServerBuilder {
    fn new(
        ask: Box<Ask>,
        uri: Uri,
        patience: Duration,
        algorithms: impl IntoIterator<Item = JwtAlgorithm>,
    ) -> Result<Self, JwksError> {
        let algorithms: Vec<_> = algorithms.into_iter().collect();
        are_public(&algorithms)?;
        Ok(Self {
            algorithms,
            ask,
            patience,
            refresh: Duration::from_secs(600),
            stale_for: Duration::from_secs(24 * 3600),
            uri,
        })
    }

    /// Sets how often the keys are fetched, ten seconds at least. Default 10 min: so long is a key good after it
    /// was withdrawn.
    pub fn refresh(mut self, every: Duration) -> Self {
        self.refresh = every.max(PAUSE);
        self
    }

    /// Sets for how long keys stay good while the server fails. Default 24 h: longer than an outage, and not
    /// for ever, as one who keeps the gateway from fetching keeps a key from being withdrawn.
    pub fn stale_for(mut self, stale_for: Duration) -> Self {
        self.stale_for = stale_for;
        self
    }

    /// Builds it. Asks nobody yet.
    #[must_use]
    pub fn build(self) -> JwksServer {
        JwksServer(Arc::new(Inner {
            failures: AtomicU64::new(0),
            fetches: AtomicU64::new(0),
            known: RwLock::default(),
            rounds: watch::Sender::new(Round::default()),
            settings: self,
            task: Mutex::default(),
            wanted: Arc::default(),
        }))
    }
}

impl Inner {
    /// Starts the task that fetches, unless it runs; whether it did.
    fn keep_running(self: &Arc<Self>) -> bool {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let is_running = task.as_ref().is_some_and(|task| !task.is_finished());
        if !is_running {
            *task = Some(tokio::spawn(keep(Arc::downgrade(self))));
        }
        is_running
    }

    /// Fetches once; how long it may be until the next time.
    async fn fetch(&self) -> Duration {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        self.rounds.send_modify(|round| round.begun += 1);
        let settings = &self.settings;
        let error: Box<dyn std::error::Error> = match (settings.ask)().await {
            Ok(written) => match Jwks::of(&written, &settings.algorithms) {
                Ok(keys) => {
                    let known = Known { at: Some(Instant::now()), keys: Arc::new(keys) };
                    *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
                    return settings.refresh;
                }
                Err(e) => e.into(),
            },
            Err(e) => e.into(),
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        if seeded(Defect::FailureForgetsKeys) {
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known::default();
        }
        tracing::warn!(error = &*error, "keys of tokens cannot be fetched");
        settings.refresh.min(AGAIN)
    }

    fn ended(&self) {
        self.rounds.send_modify(|round| {
            *round =
                Round { begun: round.begun, ended: round.begun, ended_at: Some(Instant::now()) };
        });
    }
}

/// Fetches the keys, for as long as anybody has the server.
async fn keep(inner: Weak<Inner>) {
    loop {
        let (next, wanted) = {
            let Some(inner) = inner.upgrade() else { return };
            let next = inner.fetch().await;
            inner.ended();
            (next, Arc::clone(&inner.wanted))
        };
        sleep(PAUSE).await;
        tokio::select! {
            () = sleep(next.saturating_sub(PAUSE)) => {}
            () = wanted.notified() => {}
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl fmt::Debug for JwksServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksServer")
            .field("keys", &self.keys().len())
            .field("algorithms", &self.0.settings.algorithms)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JwksServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksServerBuilder")
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
