//! What a pool is built from.

use std::fmt;

#[cfg(feature = "cache")]
use super::cache::{Cache, CacheConfig};
use super::config::PoolConfig;
use super::lanes::Lanes;
use super::pool::RequestPool;
use super::pooled::Pooled;
use super::shared::Shared;
use crate::config::Config;
use crate::error::BuildError;
use crate::manager::{WsManager, WsManagerBuilder};
use crate::name::{InvalidName, StreamName};
use crate::protocol::Protocol;

/// Builds a [`RequestPool`].
///
/// ```
/// use wsmux::Token;
/// use wsmux::protocol::Direct;
/// use wsmux::requests::{PoolConfig, RequestPool};
///
/// let pool = RequestPool::builder(Direct::new("wss://host")?, "ws")
///     .config(PoolConfig::default().connections(4))
///     .manager(|manager| {
///         manager.credentials(|_| async { std::env::var("CHART_TOKEN").map(Token::new) })
///     })
///     .build()?;
/// # Ok::<(), wsmux::BuildError>(())
/// ```
#[must_use]
pub struct RequestPoolBuilder {
    #[cfg(feature = "cache")]
    cache: Option<CacheConfig>,
    config: PoolConfig,
    manager: WsManagerBuilder,
    name: String,
    /// The name of a slot.
    slot: fn(usize, &str) -> Result<StreamName, InvalidName>,
}

impl RequestPool {
    /// A pool of connections on which `protocol` has joined `name`, with defaults. Opens nothing.
    ///
    /// # Errors
    ///
    /// When the name is not valid.
    pub fn new(protocol: impl Protocol, name: impl Into<String>) -> Result<Self, BuildError> {
        Self::builder(protocol, name).build()
    }

    /// Starts to build a pool.
    pub fn builder(protocol: impl Protocol, name: impl Into<String>) -> RequestPoolBuilder {
        RequestPoolBuilder::of(Pooled::new(protocol), name)
    }
}

impl RequestPoolBuilder {
    /// Starts to build a pool of a protocol that is wrapped already: to be
    /// [asked alone](Pooled::unjoined).
    pub fn of<P: Protocol>(pooled: Pooled<P>, name: impl Into<String>) -> Self {
        Self {
            #[cfg(feature = "cache")]
            cache: None,
            config: PoolConfig::default(),
            manager: WsManager::builder(pooled).config(PoolConfig::connection()),
            name: name.into(),
            slot: Pooled::<P>::name,
        }
    }

    /// Keeps replies to calls that are [cached](super::Call::cached).
    #[cfg(feature = "cache")]
    #[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
    pub fn cache(mut self, config: CacheConfig) -> Self {
        self.cache = Some(config);
        self
    }

    /// Sets the pool's own values.
    pub fn config(mut self, config: PoolConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the values of its connections, in place of [`PoolConfig::connection`].
    pub fn connection(mut self, config: Config) -> Self {
        self.manager = self.manager.config(config);
        self
    }

    /// Sets what its connections are made with: credentials, transport, limiter, label and whatever
    /// else a manager takes.
    pub fn manager(mut self, set: impl FnOnce(WsManagerBuilder) -> WsManagerBuilder) -> Self {
        self.manager = set(self.manager);
        self
    }

    /// Builds the pool. Opens nothing.
    ///
    /// # Errors
    ///
    /// When a value cannot work or the name is not valid; and those of
    /// [`WsManagerBuilder::build`](crate::WsManagerBuilder::build).
    pub fn build(self) -> Result<RequestPool, BuildError> {
        let config = self.config.validated()?;
        let slots = 0..config.connections;
        let names = slots.map(|slot| (self.slot)(slot, &self.name)).collect::<Result<_, _>>();
        let lanes = Lanes::new(self.manager.build()?, names.map_err(BuildError::Name)?, &config);
        #[cfg(feature = "cache")]
        let cache = self.cache.map(|config| Cache::new(config, lanes.manager.label()));
        let shared = Shared::new(config, lanes);
        #[cfg(feature = "cache")]
        let shared = shared.with_cache(cache);
        Ok(RequestPool::of(shared))
    }
}

impl fmt::Debug for RequestPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestPoolBuilder")
            .field("config", &self.config)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
