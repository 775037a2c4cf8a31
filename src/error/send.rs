//! Why a message of the program's own was not sent.

use std::error::Error as StdError;
use std::fmt;

use crate::protocol::labels;

/// Why [`send`](crate::WsManager::send) failed.
///
/// Only after [`Unknown`](Self::Unknown) may the server have the message; after every other error,
/// nothing of it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SendError {
    /// The stream ended before the message was written: its last reader or lease was dropped, it
    /// failed for good, or the manager was shut down.
    Closed,
    /// The message could not be written within [`Config::send_ttl`](crate::Config): the stream was
    /// not joined, or its socket took nothing.
    Expired,
    /// [`Config::send_queue`](crate::Config) messages are waiting already.
    Full,
    /// No stream of this name is open. Sending opens none.
    NotOpen,
    /// The stream's protocol has no way to send this message.
    Refused,
    /// The message is larger than the transport takes.
    TooLarge {
        /// The most it takes, in bytes. What the protocol adds to a message counts.
        max: usize,
    },
    /// The socket was lost while the message was written: the server may have it, or not. It is not
    /// sent again.
    Unknown,
}

impl SendError {
    labels! {
        self {
            Self::Closed => "closed",
            Self::Expired => "expired",
            Self::Full => "full",
            Self::NotOpen => "not_open",
            Self::Refused => "refused",
            Self::TooLarge { .. } => "too_large",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("not sent: the stream ended, subscribe again to go on"),
            Self::Expired => {
                f.write_str("not sent: it could not be written in time (`Config::send_ttl`)")
            }
            Self::Full => f.write_str(
                "not sent: too many messages are waiting, send slower or raise `send_queue`",
            ),
            Self::NotOpen => f.write_str("not sent: the stream is not open, subscribe first"),
            Self::Refused => f.write_str("not sent: the stream's protocol has no way to send it"),
            Self::TooLarge { max } => {
                write!(f, "not sent: the message is larger than the transport's {max} bytes")
            }
            Self::Unknown => f.write_str(
                "the socket was lost while the message was written: the server may have it",
            ),
        }
    }
}

impl StdError for SendError {}
