//! Requests over connections that are kept open between them.
//!
//! A [`RequestPool`] spreads requests over up to [`connections`](field@PoolConfig::connections)
//! sockets of one URL, and up to [`in_flight`](field@PoolConfig::in_flight) of them on each. It is built
//! on what every user of this crate has: [`Pooled`] makes several lanes out of one, a lease keeps the
//! connection of a request open, and [`WsManager::request_parts`](crate::WsManager::request_parts) asks.
//! So connections are opened on demand, closed when they were idle for
//! [`linger`](field@crate::Config::linger) (5 min), watched by heartbeats, reconnected, and replaced before
//! their token expires, as everywhere; requests that are in flight then finish on the old socket.
//!
//! ```
//! # async fn run(protocol: impl wsmux::protocol::Protocol) -> Result<(), Box<dyn std::error::Error>> {
//! use wsmux::requests::{Call, RequestPool};
//!
//! let pool = RequestPool::new(protocol, "charts")?; // The name that the protocol is to join.
//! let reply = pool.request(r#"{"symbol":"BTCUSDT"}"#).await?;
//! let again = pool.request(Call::new(r#"{"symbol":"ETHUSDT"}"#).idempotent()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What a caller can rely on
//!
//! - A request is written at most once, unless it is [idempotent](Call::idempotent). Where nobody knows
//!   whether the server has acted upon it, that is [`RequestError::Unknown`](crate::RequestError::Unknown) or
//!   [`TimedOut`](crate::RequestError::TimedOut); every error for which
//!   [`is_unsent`](crate::RequestError::is_unsent) holds is certain.
//! - Each ends within its deadline, whatever the server, the network and the other requests do.
//! - It does not wait for a connection that fails while another one that is open has room for it.
//! - Dropping it cancels it, and gives its place to who waits longest.
//!
//! No second engine: nothing in here dials, beats or retries a socket.

mod asked;
mod batch;
mod builder;
#[cfg(feature = "cache")]
mod cache;
mod call;
mod config;
mod counts;
pub(crate) mod defect;
mod lanes;
mod pace;
mod parts;
mod pool;
mod pooled;
#[cfg(feature = "prometheus")]
mod prometheus;
mod shared;
mod stray;

pub use batch::{Batch, BatchItem, Progress};
pub use builder::RequestPoolBuilder;
#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub use cache::{CacheConfig, CacheStats};
pub use call::Call;
pub use config::PoolConfig;
pub use counts::PoolStats;
pub use parts::Parts;
pub use pool::{RequestPool, Warm};
pub use pooled::Pooled;
#[cfg(feature = "prometheus")]
#[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
pub use prometheus::prometheus;
