//! Why a request was not answered.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::{CloseReason, SendError, SubscribeError};
use crate::message::Message;
use crate::protocol::printable;

/// How much of a server's words a line shows, in characters.
const SHOWN: usize = 200;

/// Why [`request`](crate::WsManager::request) has no reply.
///
/// Only after [`NotSent`](Self::NotSent), [`NotConnected`](Self::NotConnected) and
/// [`NotOpened`](Self::NotOpened) is it certain that the server has not acted upon it: see
/// [`is_unsent`](Self::is_unsent).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// The server answered that it failed, in these words, with the token masked.
    Failed(Message),
    /// The connection that was to carry it ended for good, for this reason, before it was written: only
    /// where a connection is opened for requests, as by a `RequestPool`.
    NotConnected(Arc<CloseReason>),
    /// No connection was opened for it: only where one is, as by a `RequestPool`.
    NotOpened(SubscribeError),
    /// Nothing of it was written. Never [`SendError::Unknown`].
    NotSent(SendError),
    /// The reply is longer than [`Config::buffer`](crate::Config) parts or `buffer_bytes` bytes that
    /// were not read. The rest of it is not waited for.
    Overrun,
    /// The reply, or its next part, did not come within [`Config::reply_timeout`](crate::Config). One
    /// that comes later is ignored.
    TimedOut,
    /// The socket was lost, or its stream ended, after the request was handed to it: the server may
    /// have acted upon it, or not. It is not sent again.
    Unknown,
}

impl RequestError {
    /// One word out of a closed set, for the labels of metrics. Why a message was not sent is in
    /// [`SendError::label`].
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::NotConnected(_) => "not_connected",
            Self::NotOpened(_) => "not_opened",
            Self::NotSent(_) => "not_sent",
            Self::Overrun => "overrun",
            Self::TimedOut => "timed_out",
            Self::Unknown => "unknown",
        }
    }

    /// Whether nothing of the request was written: it may be made again, whatever it does.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::NotConnected(_) | Self::NotOpened(_) | Self::NotSent(_))
    }
}

/// Reasons for which a connection ended are equal if their labels are.
impl PartialEq for RequestError {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Failed(a), Self::Failed(b)) => a == b,
            (Self::NotConnected(a), Self::NotConnected(b)) => a.label() == b.label(),
            (Self::NotOpened(a), Self::NotOpened(b)) => a == b,
            (Self::NotSent(a), Self::NotSent(b)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

impl Eq for RequestError {}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(Message::Text(words)) => {
                let words: String = printable(words.as_str()).chars().take(SHOWN).collect();
                write!(f, "the server refused the request: {words}")
            }
            Self::Failed(Message::Binary(bytes)) => {
                write!(f, "the server refused the request, in {} bytes", bytes.len())
            }
            Self::NotConnected(reason) => write!(f, "not sent, no connection: {reason}"),
            Self::NotOpened(e) => write!(f, "not sent, no connection: {e}"),
            Self::NotSent(e) => fmt::Display::fmt(e, f),
            Self::Overrun => f.write_str(
                "the reply is too long: read its parts one by one, or raise `buffer` and `buffer_bytes`",
            ),
            Self::TimedOut => {
                f.write_str("no reply came in time (`Config::reply_timeout`): the server may still act")
            }
            Self::Unknown => f.write_str(
                "the socket was lost before the reply came: the server may have acted upon the request",
            ),
        }
    }
}

impl StdError for RequestError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::NotConnected(reason) => reason.source(),
            Self::NotOpened(e) => e.source(),
            Self::NotSent(e) => e.source(),
            Self::Failed(_) | Self::Overrun | Self::TimedOut | Self::Unknown => None,
        }
    }
}

impl From<SendError> for RequestError {
    fn from(e: SendError) -> Self {
        match e {
            SendError::Unknown => Self::Unknown,
            e => Self::NotSent(e),
        }
    }
}
