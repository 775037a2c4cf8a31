//! How an examination is done.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::transport::Tungstenite;

/// How [`doctor`](fn@super::doctor) goes about it.
#[derive(Clone)]
pub struct DoctorOptions {
    pub(super) headers: HeaderMap,
    pub(super) listen: Duration,
    pub(super) timeout: Duration,
    pub(super) transport: Tungstenite,
    pub(super) wall: fn() -> SystemTime,
}

impl DoctorOptions {
    /// Adds a header to the handshake. Its value is shown nowhere.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Longest wait for the first message. Default 10 s.
    #[must_use]
    pub fn listen(mut self, listen: Duration) -> Self {
        self.listen = listen;
        self
    }

    /// Longest time that each other step may take. Default 10 s; closing takes at most 2 s, as that
    /// is all that a manager gives it.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What opens the socket: its TLS, and the largest message. Default [`Tungstenite::new`].
    #[must_use]
    pub fn transport(mut self, transport: Tungstenite) -> Self {
        self.transport = transport;
        self
    }

    /// Sets our wall clock, which the server's is compared with. Default [`SystemTime::now`].
    #[must_use]
    pub fn wall_clock(mut self, now: fn() -> SystemTime) -> Self {
        self.wall = now;
        self
    }
}

impl Default for DoctorOptions {
    fn default() -> Self {
        Self {
            headers: HeaderMap::new(),
            listen: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            transport: Tungstenite::new(),
            wall: SystemTime::now,
        }
    }
}

impl fmt::Debug for DoctorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoctorOptions")
            .field("headers", &self.headers.len())
            .field("listen", &self.listen)
            .field("timeout", &self.timeout)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}
