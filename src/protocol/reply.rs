//! What a program asks a server, and by which number its answer is known.

use std::error::Error as StdError;
use std::fmt;

/// Number of a [request](crate::WsManager::request), unique in its manager: they rise from 1, and so
/// may serve as the ids of a protocol that wants numbers of its client.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A session has no form for a request: its protocol has none at all, or not for this one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unsupported;

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the protocol has no form for this request")
    }
}

impl StdError for Unsupported {}
