//! The wings are built here as a user's code is, from the same files: they use nothing of the crate
//! that a user could not, or this does not compile.
//!
//! Inside the crate an item is taken from its module, so there are modules here with what the crate
//! exports of each.

mod config {
    #[cfg(feature = "gateway")]
    pub(crate) use wsmux::Secret;
    pub(crate) use wsmux::{Config, ConfigError, Heartbeat, RetryPolicy};
}
mod error {
    #[cfg(feature = "gateway")]
    pub(crate) use wsmux::CloseReason;
    pub(crate) use wsmux::{BuildError, RequestError, SendError, SubscribeError};
    #[cfg(feature = "gateway")]
    pub(crate) use wsmux::{Gap, StreamError};
}
mod manager {
    #[cfg(feature = "prometheus")]
    pub(crate) use wsmux::prometheus;
    pub(crate) use wsmux::{Replies, Reply, WsManager, WsManagerBuilder};
}
mod message {
    pub(crate) use wsmux::{Message, Text};
}
mod name {
    pub(crate) use wsmux::{InvalidName, StreamName};
}
mod observe {
    pub(crate) use wsmux::Status;
    #[cfg(feature = "gateway")]
    pub(crate) use wsmux::{
        ConnectionId, Event, Finding, Health, HealthStatus, Latency, StreamInfo,
    };
}
mod protocol {
    pub(crate) use wsmux::protocol::*;
}
mod stream {
    #[cfg(feature = "gateway")]
    pub(crate) use wsmux::{Events, Subscription};
    pub(crate) use wsmux::{Lease, StatusStream};
}

#[cfg(feature = "gateway")]
mod test_util {
    pub(crate) use wsmux::test_util::{Certificate, MockServer, memory};
}

#[allow(dead_code, unreachable_pub, unused_imports, reason = "a crate's code in a test")]
#[path = "../src/requests/mod.rs"]
mod requests;

#[cfg(feature = "gateway")]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "a crate's code in a test")]
#[path = "../src/gateway/mod.rs"]
mod gateway;

#[allow(dead_code, reason = "what other tests want of it")]
#[path = "it/asker.rs"]
mod asker;

#[path = "wings/mod.rs"]
mod checks;

/// That each file of the wing is here is the compiler's affair; that it is the crate's own is this
/// test's.
#[test]
fn the_wings_are_built_from_what_the_crate_exports() {
    let exported = std::any::type_name::<wsmux::requests::RequestPool>();
    assert_eq!(exported, "wsmux::requests::pool::RequestPool");
    assert_eq!(
        std::any::type_name::<requests::RequestPool>(),
        "wings::requests::pool::RequestPool"
    );
}
