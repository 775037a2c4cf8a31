//! What a manager, and each of its streams, is doing right now.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Latency;
use crate::config::StreamConfig;
use crate::error::CloseReason;
use crate::name::StreamName;
use crate::protocol::Lane;
use crate::transport::TransportError;

/// What a stream is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Status {
    /// Waiting before attempt `attempt`.
    BackingOff {
        /// Number of the attempt that follows the wait, from 1.
        attempt: u32,
        /// Length of the wait.
        delay: Duration,
        /// What failed before; shown also by [`StreamInfo::last_error`].
        error: Arc<TransportError>,
    },
    /// Closed for good.
    Closed(CloseReason),
    /// The handshake is under way, or is about to be.
    Connecting {
        /// Number of this attempt, from 1.
        attempt: u32,
    },
    /// The socket is open, and the server has yet to confirm the stream.
    Joining,
    /// The socket is open and the stream is joined: messages come in.
    Open,
    /// Waiting to be allowed to dial; it is no attempt. For a turn at the host, while the host is
    /// paused or the process is out of file descriptors or ports (see
    /// [`Limiter`](crate::Limiter)); until an older socket of the same lane is closed, or one of
    /// [`Limits::max_connections`](crate::Limits) is; or for as long as the failures that ended the
    /// stream before have earned.
    Waiting {
        /// The place in the host's queue, from 1, where there is one. It is looked up each second,
        /// or less often where it will take long: each sixteenth of the time that is left.
        position: Option<usize>,
        /// It will not be before this, where a time is known.
        until: Option<Instant>,
    },
}

impl Status {
    /// Whether messages can come in.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Whether the stream is closed for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl Status {
    /// One word for what it is doing, without numbers and reasons.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::BackingOff { .. } => "backing_off",
            Self::Closed(_) => "closed",
            Self::Connecting { .. } => "connecting",
            Self::Joining => "joining",
            Self::Open => "open",
            Self::Waiting { .. } => "waiting",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BackingOff { attempt, delay, error } => {
                write!(f, "waiting {delay:.1?} before attempt {attempt}: {error}")
            }
            Self::Closed(reason) => write!(f, "closed: {reason}"),
            Self::Connecting { attempt } => write!(f, "connecting, attempt {attempt}"),
            Self::Joining => f.write_str("joining"),
            Self::Open => f.write_str("open"),
            Self::Waiting { position, until } => {
                f.write_str("waiting to dial")?;
                if let Some(position) = position {
                    write!(f, ", as number {position} at the host")?;
                }
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                match left.filter(|left| !left.is_zero()) {
                    Some(left) => write!(f, ", not within {left:.1?}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What a manager is doing as a whole.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Overall {
    /// At least one socket is open.
    Connected,
    /// Streams are wanted, and no socket is open.
    Connecting,
    /// No stream is wanted.
    #[default]
    Disconnected,
}

impl fmt::Display for Overall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Connecting => "connecting",
            Self::Disconnected => "disconnected",
        })
    }
}

/// Tells the connections of one manager apart, over its whole life. A connection outlives its
/// sockets: reconnecting does not change it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(pub(crate) NonZeroU64);

#[cfg(test)]
impl ConnectionId {
    pub(crate) const fn nth(number: u64) -> Self {
        Self(NonZeroU64::new(number).unwrap())
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A snapshot of one stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Number of the dial under way, or of the one that opened the socket; 1 without failures.
    pub attempt: u32,
    /// Which of its protocol's [bases](crate::protocol::Protocol::bases) the stream's socket leads to, or
    /// led to last; 0 is the primary, and what there is before the first socket.
    pub base: usize,
    /// Bytes of messages received since the stream was opened.
    pub bytes: u64,
    /// The settings that hold for the stream.
    pub config: StreamConfig,
    /// The connection that carries the stream.
    pub connection: ConnectionId,
    /// Time since the stream was last heard, or since it was opened if it never was joined; `None`
    /// while it is joined.
    pub down_for: Option<Duration>,
    /// Breaks since the stream was opened: losses of its socket, and numbers skipped by its feed.
    pub gaps: u64,
    /// Messages between the newest one and the next one of the slowest reader.
    pub lag: u64,
    /// Messages that readers missed because they lagged, summed over all of them.
    pub lagged: u64,
    /// Why the stream last lost its socket or could not open one.
    pub last_error: Option<Arc<TransportError>>,
    /// When the last message was read.
    pub last_message: Option<Instant>,
    /// The lane that the stream travels in.
    pub lane: Lane,
    /// How old messages are when they arrive, where a reader
    /// [measures](crate::Subscription::latency_by) it; where several do, the highest.
    pub latency: Option<Latency>,
    /// Leases taken by [`keep_warm`](crate::WsManager::keep_warm).
    pub leases: usize,
    /// How often the stream was lost in the last five minutes; at most 16 are counted.
    pub lost_lately: usize,
    /// Messages received since the stream was opened.
    pub messages: u64,
    /// The stream's name.
    pub name: StreamName,
    /// Whether the stream is joined, and had no message for
    /// [`Config::quiet_after`](crate::Config).
    pub quiet: bool,
    /// Subscriptions.
    pub readers: usize,
    /// Time since the last message, or since the join if none came after it, while the stream is
    /// joined.
    pub silent_for: Option<Duration>,
    /// What the stream is doing.
    pub status: Status,
    /// How long the stream has been leased without a reader, while it is.
    pub unattended_for: Option<Duration>,
    /// How long the oldest message kept that a reader has not come to has been there, if there is
    /// one.
    pub unread_for: Option<Duration>,
    /// Time since the stream was last joined, while it is.
    pub uptime: Option<Duration>,
}
