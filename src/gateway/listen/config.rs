//! How connections are accepted.

use std::time::Duration;

/// How [`listen`](super::listen) accepts. Fields may be set as such, or by the setters of their names.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ListenConfig {
    /// How long to wait where the system refuses to accept. 100 ms: short beside a handshake, and ten
    /// lines in the log per second.
    pub accept_pause: Duration,
    /// How many connections there may be that are not upgraded: requests, and streams of events.
    /// 10,000.
    pub connections: usize,
    /// How long requests may take that are under way when it is to stop. 10 s.
    pub drain_timeout: Duration,
    /// Most bytes of a request's head. 16 KiB, twice what common servers take, 8 KiB at least.
    pub header_bytes: usize,
    /// How long a client may take for the head of a request, and may leave a connection idle between
    /// two. 10 s.
    pub header_timeout: Duration,
    /// How long the system waits before it asks a silent peer whether it is there (`SO_KEEPALIVE`).
    /// 60 s. The gateway pings WebSocket clients by itself; this is for what comes before.
    pub keep_alive: Duration,
    /// How long what was sent may wait for an acknowledgement (`TCP_USER_TIMEOUT`, Linux). 30 s.
    pub user_timeout: Duration,
    /// How long a client may take nothing of an answer: a stream of events that nobody reads ends after
    /// that. 30 s. WebSocket clients have the gateway's own
    /// [`write_timeout`](field@crate::gateway::GatewayConfig::write_timeout).
    pub write_timeout: Duration,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            accept_pause: Duration::from_millis(100),
            connections: 10_000,
            drain_timeout: Duration::from_secs(10),
            header_bytes: 16 << 10,
            header_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            user_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
        }
    }
}

macro_rules! setters {
    ($($field:ident: $type:ty),* $(,)?) => {
        impl ListenConfig {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](field@Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

setters! {
    write_timeout: Duration,
    accept_pause: Duration,
    connections: usize,
    drain_timeout: Duration,
    header_bytes: usize,
    header_timeout: Duration,
    keep_alive: Duration,
    user_timeout: Duration,
}
