//! Values of a pool.

use std::time::Duration;

use crate::config::{Config, ConfigError, Heartbeat, RetryPolicy};

/// Settings of a [`RequestPool`](super::RequestPool); those of its connections are a [`Config`], whose
/// preset is [`PoolConfig::connection`].
///
/// Write only what differs: fields are added in minor releases, so a literal ends with
/// `..PoolConfig::default()`. Each number is at least 1.
///
/// ```
/// use std::time::Duration;
/// use wsmux::requests::PoolConfig;
///
/// let literal = PoolConfig { connections: 4, ..PoolConfig::default() };
/// assert_eq!(literal, PoolConfig::default().connections(4));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolConfig {
    /// Between how many and how many requests of a batch may be in flight at once. Default 1 to 36.
    ///
    /// Between these, the group follows what is measured: as long as more requests at once bring more,
    /// it grows by a quarter; where more bring less, since replies take longer or fail, it shrinks to
    /// three fifths. Connections follow it: as many are used as it takes to have no more than
    /// [`fill`](Self::fill) requests on each. See [`PoolStats::batch_size`](super::PoolStats).
    pub batch_bounds: (usize, usize),
    /// How many requests of a batch are in flight at once to begin with. Default 18.
    pub batch_size: usize,
    /// Most connections. Default 10.
    pub connections: usize,
    /// How long a request may take as a whole: waiting for its place, for a connection, for the reply,
    /// and being made again. Default 30 s; [`Call::deadline`](super::Call::deadline) sets it for one.
    pub deadline: Duration,
    /// Requests in flight per connection above which another connection is opened, as long as there
    /// may be more. Default 1: each request has a connection of its own while it can, since many
    /// servers answer one after the other. A server that answers all at once wants
    /// [`in_flight`](Self::in_flight): a connection is filled before the next one is opened.
    pub fill: usize,
    /// Most requests in flight per connection. Default 10. Further ones wait, first come, first served.
    pub in_flight: usize,
    /// How often an [idempotent](super::Call::idempotent) request is made again after its connection
    /// broke, or its reply did not come. Default 2.
    pub resends: u32,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            batch_bounds: (1, 36),
            batch_size: 18,
            connections: 10,
            deadline: Duration::from_secs(30),
            fill: 1,
            in_flight: 10,
            resends: 2,
        }
    }
}

/// What the setters of this module are made by: they are named as the fields are.
macro_rules! setters {
    ($($field:ident: $type:ty,)*) => {
        $(
            #[doc = concat!("Sets [`", stringify!($field), "`](field@Self::", stringify!($field), ").")]
            #[must_use]
            pub fn $field(mut self, $field: $type) -> Self {
                self.$field = $field;
                self
            }
        )*
    };
}
#[cfg(feature = "cache")]
pub(super) use setters;

impl PoolConfig {
    setters! {
        batch_bounds: (usize, usize),
        batch_size: usize,
        connections: usize,
        deadline: Duration,
        fill: usize,
        in_flight: usize,
        resends: u32,
    }

    /// Groups of this size, whatever is measured.
    #[must_use]
    pub fn fixed_batch(self, size: usize) -> Self {
        self.batch_size(size).batch_bounds((size, size))
    }

    /// The settings of a pool's connections, unless the program sets others.
    ///
    /// | | | |
    /// |---|---|---|
    /// | [`linger`](field@Config::linger) | 5 min | an idle connection is closed after that |
    /// | [`heartbeat`](field@Config::heartbeat) | 30 s + 90 s | a ping each 30 s of silence, stale after 2 min of it |
    /// | [`retry`](field@Config::retry) | 3 times | after up to 1 s, 2 s, 4 s, drawn as everywhere: then its requests end |
    /// | [`send_ttl`](field@Config::send_ttl) | 30 s | long enough for a handshake and its retries; the request's own deadline ends it earlier |
    #[must_use]
    pub fn connection() -> Config {
        let second = Duration::from_secs(1);
        Config::persistent()
            .heartbeat(Heartbeat { interval: 30 * second, timeout: 90 * second })
            .retry(RetryPolicy {
                base_delay: second,
                max_attempts: Some(3),
                max_delay: 4 * second,
                ..RetryPolicy::default()
            })
            .send_ttl(30 * second)
    }

    pub(super) fn validated(mut self) -> Result<Self, ConfigError> {
        at_least_one("batch_bounds.0", self.batch_bounds.0)?;
        at_least_one("batch_size", self.batch_size)?;
        at_least_one("connections", self.connections)?;
        at_least_one("fill", self.fill)?;
        at_least_one("in_flight", self.in_flight)?;
        positive("deadline", self.deadline)?;
        if self.batch_bounds.0 > self.batch_bounds.1 {
            return Err(ConfigError::OutOfOrder { low: "batch_bounds.0", high: "batch_bounds.1" });
        }
        self.connections = self.connections.min(MOST_CONNECTIONS);
        self.in_flight = self.in_flight.min(MOST_IN_FLIGHT);
        self.deadline = self.deadline.min(NEVER);
        Ok(self)
    }
}

/// The engine's own bound of requests per socket is no smaller than the second.
const MOST_CONNECTIONS: usize = 1024;
const MOST_IN_FLIGHT: usize = 1024;

/// What stands for "never", so that no deadline overflows.
pub(super) const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

pub(super) fn at_least_one(setting: &'static str, value: usize) -> Result<(), ConfigError> {
    if value == 0 { Err(ConfigError::Zero { setting }) } else { Ok(()) }
}

pub(super) fn positive(setting: &'static str, value: Duration) -> Result<(), ConfigError> {
    if value.is_zero() { Err(ConfigError::Zero { setting }) } else { Ok(()) }
}
