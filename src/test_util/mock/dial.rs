//! A socket of a mock, and how it was dialled.

use std::fmt;

use http::HeaderMap;

/// One socket of a [`Mock`](super::Mock): numbered from 1, in order of opening.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SocketId(pub(super) u64);

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a client dialled.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Handshake {
    /// The headers of the request. In memory without those of the handshake itself, but for the
    /// subprotocols asked for.
    pub headers: HeaderMap,
    /// The path, percent-decoded on a port and as it was dialled in memory.
    pub path: String,
    /// The query, as it was dialled.
    pub query: Option<String>,
}

impl Handshake {
    /// The value of a parameter of the query, percent-decoded.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.as_deref()?.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.into_iter().find(|(key, _)| *key == name)?.1;
        let value = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
        Some(value.into_owned())
    }

    /// Whether a subprotocol was asked for.
    #[must_use]
    pub fn asks_for(&self, subprotocol: &str) -> bool {
        let headers = self.headers.get_all(http::header::SEC_WEBSOCKET_PROTOCOL);
        let values = headers.iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|asked| asked.trim() == subprotocol)
    }
}
