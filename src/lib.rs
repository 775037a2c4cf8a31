// The first definition of a link holds: in the documentation these, elsewhere the README's own.
//! [`Credentials`]: Credentials
//! [`Protocol`]: protocol::Protocol
//! [`Subscription`]: Subscription
//! [`ext`]: ext
//! [`tokio::time::Instant`]: tokio::time::Instant
//! [architecture]: docs::architecture
//! [defaults]: docs::defaults
//! [guide-clients]: https://docs.rs/wsmux/latest/wsmux/docs/guide/clients/index.html
//! [guide-first-bot]: docs::guide::first_bot
//! [guide-gateway]: https://docs.rs/wsmux/latest/wsmux/docs/guide/gateway/index.html
//! [guide-metrics]: docs::guide::metrics
//! [guide-order-books]: docs::guide::order_books
//! [guide-replay]: https://docs.rs/wsmux/latest/wsmux/docs/guide/replay/index.html
//! [guide-slow-consumers]: docs::guide::slow_consumers
//! [guide-requests]: https://docs.rs/wsmux/latest/wsmux/docs/guide/requests/index.html
//! [guide-testing]: https://docs.rs/wsmux/latest/wsmux/docs/guide/testing/index.html
//! [migration]: docs::migration
//! [protocols]: docs::protocols
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
pub mod compat;
mod config;
mod decode;
mod engine;
mod error;
mod manager;
mod message;
mod name;
mod observe;
#[cfg(all(test, not(wsmux_shuttle)))]
mod simulation;
mod stream;

/// The pages that come with the crate.
#[cfg(doc)]
pub mod docs {
    #[doc = include_str!("../docs/architecture.md")]
    pub mod architecture {}
    #[doc = include_str!("../docs/defaults.md")]
    pub mod defaults {}
    #[doc = include_str!("../docs/failures.md")]
    pub mod failures {}
    /// Answers to what a user asks, in the order in which the questions come.
    pub mod guide {
        #[doc = include_str!("../docs/guide/first_bot.md")]
        pub mod first_bot {}
        #[doc = include_str!("../docs/guide/order_books.md")]
        pub mod order_books {}
        #[doc = include_str!("../docs/guide/slow_consumers.md")]
        pub mod slow_consumers {}
        #[cfg(feature = "cache")]
        #[doc = include_str!("../docs/guide/requests.md")]
        pub mod requests {}
        #[cfg(feature = "gateway")]
        #[doc = include_str!("../docs/guide/gateway.md")]
        pub mod gateway {}
        #[cfg(feature = "gateway")]
        #[doc = include_str!("../docs/guide/clients.md")]
        pub mod clients {}
        #[cfg(feature = "test-util")]
        #[doc = include_str!("../docs/guide/testing.md")]
        pub mod testing {}
        #[cfg(all(feature = "record", feature = "test-util"))]
        #[doc = include_str!("../docs/guide/replay.md")]
        pub mod replay {}
        #[doc = include_str!("../docs/guide/metrics.md")]
        pub mod metrics {}
    }
    #[doc = include_str!("../docs/migration.md")]
    pub mod migration {}
    #[doc = include_str!("../docs/protocols.md")]
    pub mod protocols {}
    #[cfg(feature = "prometheus")]
    #[doc = include_str!("../monitoring/README.md")]
    pub mod monitoring {}
}
pub mod doctor;
pub mod ext;
#[cfg(feature = "gateway")]
#[cfg_attr(docsrs, doc(cfg(feature = "gateway")))]
pub mod gateway;
pub mod protocol;
#[cfg(feature = "record")]
#[cfg_attr(docsrs, doc(cfg(feature = "record")))]
pub mod record;
#[cfg(feature = "requests")]
#[cfg_attr(docsrs, doc(cfg(feature = "requests")))]
pub mod requests;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod test_util;
pub mod transport;

#[doc(hidden)]
pub use batch::Entry;
pub use config::{
    Config, ConfigError, Credentials, CredentialsError, DialRate, FirstRetry, Heartbeat,
    InvalidLabel, Limits, NoToken, RetryPolicy, Secret, StreamConfig, Token, TokenProvider,
    TokenReason,
};
pub use decode::{DecodeError, FromMessage, Shared, Stamped};
pub use doctor::doctor;
pub use engine::limiter::Limiter;
pub use error::{
    BuildError, CloseReason, Gap, RequestError, SendError, SnapshotError, StreamError,
    SubscribeError,
};
pub use ext::{DedupWindow, WsStreamExt, WsTryStreamExt};
#[cfg(feature = "prometheus")]
#[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
pub use manager::prometheus;
pub use manager::{HealthChanges, MetricsEvery, Replies, Reply, WsManager, WsManagerBuilder};
pub use message::{Message, MessageRef, Text};
pub use name::{InvalidName, StreamName};
pub use observe::{
    Activity, Cause, ConnectionId, Diagnosis, DurationHistogram, Event, Figure, Finding,
    FindingKind, HandoverReason, Health, HealthChange, HealthStatus, Lately, Latency,
    ManagerMetrics, Overall, Severity, Status, StreamCounts, StreamInfo, StreamStates, Thresholds,
};
pub use protocol::{DisconnectReason, ProxyFault};
pub use stream::{
    Batches, Continuity, Events, FallbackPolicy, Items, LatencyBy, Lease, OnClose, Resync,
    ResyncPolicy, Resynced, Sourced, StatusStream, Streams, Subscription, Values, WithFallback,
};
