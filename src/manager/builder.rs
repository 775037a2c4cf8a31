//! What a manager is built from.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle as Runtime;

use super::WsManager;
use crate::config::{Config, Credentials, Label, StreamConfig};
use crate::engine::core::{Core, Parts};
use crate::engine::dedicated;
use crate::engine::limiter::Limiter;
use crate::error::BuildError;
use crate::name::StreamName;
use crate::observe::Metrics;
use crate::protocol::Protocol;
use crate::transport::{DynTransport, Transport, default_transport};

type Set = Box<dyn FnOnce(&mut StreamConfig) + Send>;

/// Builds a [`WsManager`]: takes its collaborators, while [`Config`] takes the values.
///
/// ```
/// use std::time::Duration;
/// use wsmux::protocol::Direct;
/// use wsmux::{Config, WsManager};
///
/// let manager = WsManager::builder(Direct::new("wss://stream.binance.com:9443/ws")?)
///     .config(Config::default().linger(Duration::from_secs(30)))
///     .stream("btcusdt@trade", |stream| stream.buffer = 65_536)
///     .build()?;
/// # Ok::<(), wsmux::BuildError>(())
/// ```
#[must_use]
pub struct WsManagerBuilder {
    config: Config,
    credentials: Option<Credentials>,
    dedicated: bool,
    label: Option<String>,
    limiter: Option<Limiter>,
    per_stream: Option<usize>,
    protocol: Arc<dyn Protocol>,
    runtime: Option<Runtime>,
    seed: Option<u64>,
    streams: Vec<(String, Set)>,
    transport: Option<Arc<dyn DynTransport>>,
    wall: fn() -> SystemTime,
}

impl WsManagerBuilder {
    pub(super) fn new(protocol: impl Protocol) -> Self {
        Self {
            config: Config::default(),
            credentials: None,
            dedicated: false,
            label: None,
            limiter: None,
            per_stream: None,
            protocol: Arc::new(protocol),
            runtime: None,
            seed: None,
            streams: Vec::new(),
            transport: None,
            wall: SystemTime::now,
        }
    }

    /// Sets the values.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets how servers are shown who we are: a [`TokenProvider`](crate::TokenProvider), whose tokens
    /// go into the header `Authorization`, or [`Credentials`] that say where else. Default: none but
    /// what the protocol itself sends.
    ///
    /// ```
    /// use wsmux::protocol::Direct;
    /// use wsmux::{Token, WsManager};
    ///
    /// let manager = WsManager::builder(Direct::new("wss://host/ws")?)
    ///     .credentials(|_| async { std::env::var("FEED_TOKEN").map(Token::new) })
    ///     .build()?;
    /// # Ok::<(), wsmux::BuildError>(())
    /// ```
    pub fn credentials(mut self, credentials: impl Into<Credentials>) -> Self {
        self.credentials = Some(credentials.into());
        self
    }

    /// Runs connections on a thread of the manager's own, named `wsmux`, with a current-thread runtime:
    /// neither a runtime around [`subscribe`](WsManager::subscribe) nor one that somebody else keeps
    /// busy is of any concern to them. Takes the place of [`runtime`](Self::runtime), and the other way
    /// round: what is said last holds.
    ///
    /// The thread starts with [`build`](Self::build). It ends by itself when the last manager,
    /// subscription and lease are dropped and their sockets are closed, at the latest after
    /// [`Config::close_timeout`](field@Config::close_timeout); nobody waits for it. Tokens are asked
    /// for, names looked up and [callbacks](WsManager::subscribe_with) started there too.
    ///
    /// It is for programs without a runtime, and for those whose own is kept busy for longer than a
    /// heartbeat may wait: it makes nothing faster. Each batch wakes a reader on another thread, which
    /// where both share a runtime is not needed: `docs/defaults.md` has figures.
    ///
    /// Not for tests that pause time: its clock is its own.
    ///
    /// ```
    /// use futures::executor::block_on;
    /// use wsmux::protocol::Direct;
    /// use wsmux::{Text, WsManager};
    ///
    /// let manager = WsManager::builder(Direct::new("ws://127.0.0.1:1/ws")?).dedicated_thread().build()?;
    /// let trades = manager.subscribe::<Text>("btcusdt@trade")?; // In no runtime.
    /// drop(trades);
    /// block_on(manager.shutdown());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dedicated_thread(mut self) -> Self {
        (self.dedicated, self.runtime) = (true, None);
        self
    }

    /// Sets what tells this manager's metrics from those of others in the process: the value of their
    /// label `manager`. 1 to 64 bytes without control characters. Default: `default`.
    ///
    /// Choose it in the program, not from what comes in: each label costs a set of series. Managers
    /// of one label are counted together.
    ///
    /// ```
    /// use wsmux::WsManager;
    /// use wsmux::protocol::Direct;
    ///
    /// let spot = WsManager::builder(Direct::new("wss://stream.binance.com:9443/ws")?)
    ///     .label("spot")
    ///     .build()?;
    /// assert_eq!(spot.label(), "spot");
    /// # Ok::<(), wsmux::BuildError>(())
    /// ```
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets what limits handshakes with a host. Default: [`Limiter::process_wide`].
    ///
    /// A connection whose runtime is alive but not driven keeps its place in the limiter: a program
    /// that leaves a runtime undriven while it connects should give its manager a limiter of its own.
    pub fn limiter(mut self, limiter: Limiter) -> Self {
        self.limiter = Some(limiter);
        self
    }

    /// Counts messages, bytes and gaps by stream name too, for at most `max` names: four series each
    /// in Prometheus, and four more for all other names, as `stream="other"`. Default: not at all.
    ///
    /// The first `max` names to be opened are those, for as long as the manager lives: a place is not
    /// given on when its stream closes, since whoever collects the metrics forgets no series. Names
    /// of more than 128 bytes always count as `other`.
    pub fn metrics_per_stream(mut self, max: usize) -> Self {
        self.per_stream = Some(max);
        self
    }

    /// Sets the runtime that connections run on. Default: that of whoever subscribes first. Takes the
    /// place of [`dedicated_thread`](Self::dedicated_thread).
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        (self.dedicated, self.runtime) = (false, Some(runtime));
        self
    }

    /// Makes what this crate draws at random repeatable: retry delays and what sessions ask for. The
    /// key of a WebSocket handshake is the transport's.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets values for one stream; those of the [`Config`] hold for what is left alone. All its
    /// readers share them.
    pub fn stream(
        mut self,
        name: impl Into<String>,
        set: impl FnOnce(&mut StreamConfig) + Send + 'static,
    ) -> Self {
        self.streams.push((name.into(), Box::new(set)));
        self
    }

    /// Sets what opens sockets. Default: [`Tungstenite`](crate::transport::Tungstenite), accepting
    /// messages of [`Limits::max_message`](crate::Limits) bytes; a transport given here has its own
    /// limit.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Sets the wall clock. It is asked for dates, and compared with the monotonic clock to notice that
    /// the machine slept. Default: [`SystemTime::now`].
    pub fn wall_clock(mut self, now: fn() -> SystemTime) -> Self {
        self.wall = now;
        self
    }

    /// Builds the manager. Opens nothing.
    ///
    /// # Errors
    ///
    /// When a value cannot work, values are set for a name that is not valid, the label is not, or no
    /// thread can be started.
    pub fn build(mut self) -> Result<WsManager, BuildError> {
        self.config = self.config.validated()?;
        let mut streams: HashMap<StreamName, StreamConfig> = HashMap::new();
        for (name, set) in std::mem::take(&mut self.streams) {
            let name = StreamName::try_from(&*name).map_err(BuildError::Name)?;
            let settings = streams.entry(name).or_insert_with(|| self.config.stream());
            set(settings);
            *settings = settings.clone().validated()?;
        }
        let label = self.label.as_deref().map(Label::try_from).transpose()?.unwrap_or_default();
        let metrics = Metrics::new(label, self.per_stream);
        let thread =
            self.dedicated.then(dedicated::start).transpose().map_err(BuildError::Thread)?;
        let mut parts = Parts { streams, ..self.parts(metrics) };
        if let Some((runtime, hold)) = thread {
            (parts.runtime, parts.hold) = (Some(runtime), Some(hold));
        }
        Ok(WsManager { core: Core::new(parts) })
    }

    pub(super) fn parts(self, metrics: Metrics) -> Parts {
        let max_message = self.config.limits.max_message;
        Parts {
            config: self.config,
            credentials: self.credentials,
            hold: None,
            limiter: self.limiter.unwrap_or_else(Limiter::process_wide),
            metrics,
            protocol: self.protocol,
            runtime: self.runtime,
            seed: self.seed.unwrap_or_else(rand::random),
            streams: HashMap::new(),
            transport: self.transport.unwrap_or_else(|| default_transport(max_message)),
            wall: self.wall,
        }
    }
}

impl fmt::Debug for WsManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsManagerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
