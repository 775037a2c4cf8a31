//! What users get: tiers, who is of which, and a board of those who are connected.
//!
//! - A [`Tier`] is a set of limits with a name. There is always a lowest one, for whoever is unknown.
//! - A [`TierSource`] tells which users are of which tier. It is asked for many at once, when a user comes
//!   and then once per period for all who are there; never on the way of a message.
//! - Rights are looked up in the memory of the connection, when it is sent to. So a broadcast asks the
//!   source nothing, however many it goes to, and a downgrade takes effect within
//!   [`ttl`](TiersBuilder::ttl) on connections that stay as they are.

mod board;
#[cfg(feature = "gateway-http")]
mod http;
mod pattern;
mod source;
mod tier;

pub(super) use self::board::Member;
pub use self::board::{Tiers, TiersBuilder};
#[cfg(feature = "gateway-http")]
#[cfg_attr(docsrs, doc(cfg(feature = "gateway-http")))]
pub use self::http::HttpTiers;
pub use self::pattern::Pattern;
pub use self::source::{MemoryTiers, TierError, TierSource, TiersByUser};
pub use self::tier::Tier;
