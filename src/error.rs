//! One error type per audience.
//!
//! | who sees it | type | when |
//! |---|---|---|
//! | who builds a manager | [`BuildError`] | at once |
//! | who calls `subscribe` | [`SubscribeError`] | at once, nothing was opened |
//! | who sends a message | [`SendError`] | it was not sent, or nobody knows |
//! | who asks a server something | [`RequestError`] | no reply came |
//! | who reads a subscription | [`StreamError`] | in its place between messages |
//! | who waits for a subscription to be ready | [`CloseReason`] | at the end of its stream |
//! | who asks a resync what is wrong | [`SnapshotError`] | a snapshot could not be had |
//! | who writes a transport | [`TransportError`] | a socket failed |
//!
//! An error says in one line what happened, why, and what to do about it, so that it may be printed
//! as it is. Its [`source`](StdError::source) begins where that line ends: what the line says is not
//! repeated by who prints the whole chain. For a look at the parts, match on the variants, or see
//! [`TransportError::get_ref`] and [`DecodeError::get_ref`].
//!
//! The errors of one type live with that type: [`InvalidName`], [`DecodeError`], [`ConfigError`],
//! [`InvalidLabel`], [`UrlError`].

mod request;
mod send;
mod snapshot;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{ConfigError, InvalidLabel};
use crate::decode::DecodeError;
use crate::message::Text;
use crate::name::InvalidName;
use crate::protocol::{DialError, DisconnectReason, UrlError, labels};
use crate::transport::TransportError;

pub use request::RequestError;
pub use send::SendError;
pub use snapshot::SnapshotError;

/// Why a [`WsManager`](crate::WsManager) could not be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting cannot work.
    Config(ConfigError),
    /// The label cannot be one.
    Label(InvalidLabel),
    /// Settings are for a stream whose name is not one.
    Name(InvalidName),
    /// No thread could be started for [`dedicated_thread`](crate::WsManagerBuilder::dedicated_thread).
    Thread(io::Error),
    /// The base is not a WebSocket URL.
    Url(UrlError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(e) => write!(f, "invalid configuration: {e}"),
            Self::Label(e) => write!(f, "invalid label: {e}"),
            Self::Name(e) => write!(f, "invalid stream name: {e}"),
            Self::Thread(e) => write!(f, "cannot start a thread: {e}"),
            Self::Url(e) => write!(f, "invalid URL: {e}"),
        }
    }
}

impl StdError for BuildError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Config(e) => e.source(),
            Self::Label(e) => e.source(),
            Self::Name(e) => e.source(),
            Self::Thread(e) => e.source(),
            Self::Url(e) => e.source(),
        }
    }
}

impl From<ConfigError> for BuildError {
    fn from(e: ConfigError) -> Self {
        Self::Config(e)
    }
}

impl From<InvalidLabel> for BuildError {
    fn from(e: InvalidLabel) -> Self {
        Self::Label(e)
    }
}

impl From<UrlError> for BuildError {
    fn from(e: UrlError) -> Self {
        Self::Url(e)
    }
}

/// Why [`subscribe`](crate::WsManager::subscribe) was refused. Nothing was opened.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// All connections that [`Limits::max_connections`](crate::Limits) allows are in use.
    ConnectionLimit {
        /// The limit.
        max: usize,
    },
    /// The name is not valid, or not one of the protocol's.
    InvalidName(InvalidName),
    /// No Tokio runtime is running on this thread, and the builder was given none.
    NoRuntime,
    /// The manager has been shut down.
    Shutdown,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionLimit { max } => write!(
                f,
                "all {max} connections are in use: drop a subscription or raise \
                 `limits.max_connections`"
            ),
            Self::InvalidName(e) => write!(f, "invalid stream name: {e}"),
            Self::NoRuntime => {
                f.write_str("no tokio runtime: call inside one, or `builder.runtime(handle)`")
            }
            Self::Shutdown => f.write_str("the manager has been shut down: build a new one"),
        }
    }
}

impl StdError for SubscribeError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::InvalidName(e) => e.source(),
            Self::ConnectionLimit { .. } | Self::NoRuntime | Self::Shutdown => None,
        }
    }
}

impl From<InvalidName> for SubscribeError {
    fn from(e: InvalidName) -> Self {
        Self::InvalidName(e)
    }
}

/// What a [`Subscription`](crate::Subscription) yields instead of a message.
///
/// An error is a notice in its place, not the end: the stream goes on after everything but
/// [`Closed`](Self::Closed).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The stream is over. `None` follows.
    Closed(CloseReason),
    /// A message could not be read as the type subscribed to.
    Decode(DecodeError),
    /// Messages may be missing here.
    Gap(Gap),
}

impl StreamError {
    /// Whether the stream ends here.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => write!(f, "stream closed: {reason}"),
            Self::Decode(e) => fmt::Display::fmt(e, f),
            Self::Gap(gap) => fmt::Display::fmt(gap, f),
        }
    }
}

impl StdError for StreamError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Closed(reason) => reason.source(),
            Self::Decode(e) => e.source(),
            Self::Gap(_) => None,
        }
    }
}

/// A break in continuity: messages are, or may be, missing where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Gap {
    /// This reader fell behind, and `missed` messages were overwritten before it came.
    Lagged {
        /// How many messages were lost, exactly. Gaps are not counted.
        missed: u64,
    },
    /// The socket was lost and replaced, or the server ended the stream and it was joined again.
    Reconnected {
        /// Time from the last frame heard on the old socket to the join on the new one. Where this
        /// reader lagged over several breaks, their sum.
        down_for: Duration,
        /// Why the old socket was lost. Where this reader lagged over several breaks, the last.
        reason: DisconnectReason,
    },
    /// The feed's own numbers show that messages are missing.
    Sequence {
        /// How many, if the numbers tell.
        missed: Option<u64>,
    },
}

impl Gap {
    labels! {
        self {
            Self::Lagged { .. } => "lagged",
            Self::Reconnected { .. } => "reconnected",
            Self::Sequence { .. } => "sequence",
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lagged { missed } => write!(
                f,
                "gap: the reader lagged and missed {missed}: read faster, or raise `buffer`"
            ),
            Self::Reconnected { down_for, reason } => {
                write!(f, "gap: reconnected after {down_for:.1?} ({reason})")
            }
            Self::Sequence { missed: Some(missed) } => write!(f, "gap: the feed skipped {missed}"),
            Self::Sequence { missed: None } => f.write_str("gap: the feed skipped messages"),
        }
    }
}

/// Why a stream ended for good.
///
/// The stream may be [subscribed to](crate::WsManager::subscribe) again; the first dial then waits
/// out what the last failure earned: at least the [`RetryPolicy`](crate::RetryPolicy)'s `min_delay`,
/// doubled for each end that follows, up to its `max_delay`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The connection's task was cut off: its runtime was shut down, or it panicked.
    Aborted,
    /// The connection failed in a way that retrying cannot mend.
    Fatal(Arc<TransportError>),
    /// The protocol could not say what to dial.
    NoRequest(Arc<DialError>),
    /// A [`Resync`](crate::Resync) gave up, by the policy for its fetches. The stream itself may be
    /// well.
    NoSnapshot {
        /// Attempts that failed since the last snapshot, the first one included.
        attempts: u32,
        /// How the last attempt failed.
        last: SnapshotError,
    },
    /// Subscribing was refused, and nothing was opened. Seen only where a stream stands for what
    /// [`subscribe`](crate::WsManager::subscribe) returns: through a
    /// [`Source`](crate::compat::Source).
    NotSubscribed(SubscribeError),
    /// The server refused this stream.
    Rejected {
        /// The server's words.
        reason: Text,
    },
    /// The [`RetryPolicy`](crate::RetryPolicy) gave up.
    RetriesExhausted {
        /// Attempts that failed since the connection was last stable, the first one included.
        attempts: u32,
        /// How the last attempt failed.
        last: Arc<TransportError>,
    },
    /// The manager was shut down.
    Shutdown,
    /// The server refused the credentials.
    Unauthorized(Arc<TransportError>),
    /// Nobody was reading any more. Never seen by a reader.
    Unused,
}

impl CloseReason {
    labels! {
        self {
            Self::Aborted => "aborted",
            Self::Fatal(_) => "fatal",
            Self::NoRequest(_) => "no_request",
            Self::NoSnapshot { .. } => "no_snapshot",
            Self::NotSubscribed(_) => "not_subscribed",
            Self::Rejected { .. } => "rejected",
            Self::RetriesExhausted { .. } => "retries_exhausted",
            Self::Shutdown => "shutdown",
            Self::Unauthorized(_) => "unauthorized",
            Self::Unused => "unused",
        }
    }
}

impl StdError for CloseReason {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Fatal(e) | Self::Unauthorized(e) | Self::RetriesExhausted { last: e, .. } => {
                e.source()
            }
            Self::NoRequest(e) => e.source(),
            Self::NoSnapshot { last, .. } => last.source(),
            Self::NotSubscribed(e) => e.source(),
            Self::Aborted | Self::Rejected { .. } | Self::Shutdown | Self::Unused => None,
        }
    }
}

/// So many failed attempts.
fn failed(attempts: u32) -> String {
    format!("{attempts} failed attempt{}", if attempts == 1 { "" } else { "s" })
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => {
                f.write_str("its task was cut off: the runtime was shut down, or a panic")
            }
            Self::Fatal(e) => write!(f, "retrying cannot mend this: {e}"),
            Self::NoRequest(e) => fmt::Display::fmt(e, f),
            Self::NoSnapshot { attempts, last } => {
                write!(f, "no snapshot after {}, the last: {last}", failed(*attempts))
            }
            Self::NotSubscribed(e) => write!(f, "not subscribed: {e}"),
            Self::Rejected { reason } => write!(f, "rejected by the server: {reason}"),
            Self::RetriesExhausted { attempts, last } => {
                let attempts = failed(*attempts);
                write!(
                    f,
                    "gave up after {attempts} (`Config::retry` sets how many), the last: {last}"
                )
            }
            Self::Shutdown => f.write_str("the manager was shut down"),
            Self::Unauthorized(e) => write!(f, "the server refused the credentials: {e}"),
            Self::Unused => f.write_str("nobody was reading"),
        }
    }
}

#[cfg(test)]
mod tests;
