//! Why a request was not answered.

use std::error::Error as StdError;
use std::fmt;

use super::SendError;
use crate::message::Message;
use crate::protocol::printable;

/// How much of a server's words a line shows, in characters.
const SHOWN: usize = 200;

/// Why [`request`](crate::WsManager::request) has no reply.
///
/// Only after [`NotSent`](Self::NotSent) is it certain that the server has not acted upon it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RequestError {
    /// The server answered that it failed, in these words, with the token masked.
    Failed(Message),
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
