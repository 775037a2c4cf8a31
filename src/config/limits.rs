//! Bounds on what a manager opens and keeps.

use super::{ConfigError, at_least_one};

/// What a [`WsManager`](crate::WsManager) may open and keep. Each is at least 1.
///
/// ```
/// use wsmux::{Config, Limits};
///
/// let limits = Limits { max_connections: 100, ..Limits::default() };
/// let config = Config::default().limits(limits);
/// # let _ = config;
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Handshakes in flight to one host at a time, over all managers that share a
    /// [`Limiter`](crate::Limiter): by default, all of the process. Default 16.
    pub handshakes_per_host: usize,
    /// Connections of this manager, whether open, connecting or waiting to reconnect. Default 512.
    /// At the limit the socket whose streams have lingered longest is given up for a new one, and
    /// without one [`subscribe`](crate::WsManager::subscribe) is refused. A closing socket counts
    /// too, but is waited for.
    pub max_connections: usize,
    /// Largest message accepted, in bytes. Default 16 MiB. A larger one costs the connection. It
    /// holds for the default transport: one given to
    /// [`WsManagerBuilder::transport`](crate::WsManagerBuilder::transport) has a limit of its own.
    pub max_message: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { handshakes_per_host: 16, max_connections: 512, max_message: 16 * 1024 * 1024 }
    }
}

impl Limits {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("limits.handshakes_per_host", self.handshakes_per_host)?;
        at_least_one("limits.max_connections", self.max_connections)?;
        at_least_one("limits.max_message", self.max_message)
    }
}
