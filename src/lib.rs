//! Shared WebSocket streams by name.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod config;
mod decode;
mod error;
mod message;
mod name;

pub mod protocol;
pub mod transport;

pub use config::{Config, ConfigError, FirstRetry, Heartbeat, Limits, RetryPolicy, StreamConfig};
pub use decode::{DecodeError, FromMessage, Shared, Stamped};
pub use error::{BuildError, CloseReason, Gap, StreamError, SubscribeError};
pub use message::{Message, Text};
pub use name::{InvalidName, StreamName};
pub use protocol::DisconnectReason;
