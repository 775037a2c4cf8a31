//! What is said on a socket: where a stream lives, how to ask for it, whose message this is.
//!
//! A [`Protocol`] is stateless: it says which names may share a socket and what to dial for them.
//! What is said on one open socket is a [`Session`]: it does no I/O, has no clock and no chance of
//! its own, and speaks through [`Cx`]. *When* to join, retry or close, and who is listening, is the
//! engine's business.
//!
//! [`Direct`] is the default, and the degenerate case: one socket per name, joined by its URL.

mod binance;
mod bybit;
mod calls;
mod coinbase;
mod courtesy;
mod direct;
mod failover;
mod failure;
#[cfg(fuzzing)]
mod fuzzing;
mod graphql;
mod held;
mod hyperliquid;
pub(crate) mod json;
mod json_rpc;
mod kraken;
mod limits;
mod okx;
mod phoenix;
mod pulse;
mod renamed;
mod reply;
mod request;
mod roster;
mod session;
mod spelling;
#[cfg(test)]
mod talk;
mod tradingview;
mod url;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::config::{CredentialsError, Secret};
use crate::name::{InvalidName, StreamName};

pub use binance::{BinanceApi, BinanceCombined};
pub use bybit::Bybit;
pub use coinbase::CoinbaseAdvanced;
pub use direct::Direct;
pub use failover::Failover;
pub use failure::{DisconnectReason, Failure, ProxyFault, Verdict};
pub(crate) use failure::{labels, printable, short};
#[cfg(fuzzing)]
pub use fuzzing::{Scanned, pick_json, scan_json};
pub use graphql::{GraphqlWs, Operation};
pub use hyperliquid::Hyperliquid;
pub use json::InvalidJson;
pub use json_rpc::{Deribit, JsonRpc};
pub use kraken::KrakenV2;
pub use limits::{Counted, Limits, MessageRate};
pub use okx::Okx;
pub use phoenix::{Changes, ChannelEvent, Phoenix, Supabase, SupabaseChannel};
pub use reply::{RequestId, Unsupported};
pub use request::{Request, Response};
pub(crate) use session::Outlet;
pub use session::{Cx, Mark, Rotation, Session, To, Transcript, Utterance};
pub use tradingview::TradingView;
pub use url::{Url, UrlError};

/// The language of a family of WebSocket endpoints.
///
/// Its methods are called on the engine's tasks and on the caller of `subscribe`, never under a
/// lock. A panic in one is contained: it ends what it was called for.
pub trait Protocol: Send + Sync + 'static {
    /// The lane that `name` travels in. Names of equal lanes may share a socket.
    ///
    /// # Errors
    ///
    /// When the protocol has no stream of that name; nothing is opened then.
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName>;

    /// What to dial. Asked before each attempt.
    ///
    /// # Errors
    ///
    /// When there is nothing to dial; it ends the streams of the lane.
    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError>;

    /// What will be said on a socket that has just opened.
    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session>;

    /// What one socket of `lane` may carry.
    fn limits(&self, lane: &Lane) -> Limits {
        let _ = lane;
        Limits::default()
    }

    /// Overrules how the engine answers `failure`; `None` leaves it to the engine, whose table is
    /// on [`Verdict`].
    fn classify(&self, failure: &Failure<'_>) -> Option<Verdict> {
        let _ = failure;
        None
    }

    /// How many bases there are, of which [`Dial::base`] says one. Asked once. Default: 1. See
    /// [`Failover`], which is what most want.
    fn bases(&self) -> usize {
        1
    }
}

/// A group of names that may share sockets: equal lanes, same kind of socket.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lane(Arc<str>);

impl Lane {
    /// The lane of this key. The key is the protocol's own; it may show up in logs.
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        Self(key.into())
    }

    /// The key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// An attempt to open a socket.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Dial<'a> {
    /// Number of the attempt since the last stable connection, from 1. Handy to go round several
    /// hosts.
    pub attempt: u32,
    /// Which of the protocol's [bases](Protocol::bases) is dialled; 0 is the first.
    pub base: usize,
    /// The lane that the socket serves.
    pub lane: &'a Lane,
    /// The names wanted of it now.
    pub names: &'a [StreamName],
    /// The server's answer to the handshake; `None` while it is being made.
    pub response: Option<&'a Response>,
    /// The token to be used, where the manager has [`Credentials`](crate::Credentials). The engine
    /// adds it to the request where they say.
    pub token: Option<&'a Secret>,
}

impl<'a> Dial<'a> {
    /// The first attempt at `names` of `lane`: for tests of a protocol.
    #[must_use]
    pub fn first(lane: &'a Lane, names: &'a [StreamName]) -> Self {
        Self { attempt: 1, base: 0, lane, names, response: None, token: None }
    }
}

/// Why a [`Protocol`] has nothing to dial.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// The credentials cannot be sent to where the protocol leads.
    Credentials(CredentialsError),
    /// The protocol's own reason.
    Protocol(Box<dyn StdError + Send + Sync>),
    /// The URL it built is not one.
    Url(UrlError),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(e) => fmt::Display::fmt(e, f),
            Self::Protocol(e) => write!(f, "the protocol could not make a request: {e}"),
            Self::Url(e) => write!(f, "the protocol made a request that has no valid URL: {e}"),
        }
    }
}

impl StdError for DialError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Credentials(e) => e.source(),
            Self::Protocol(e) => e.source(),
            Self::Url(e) => e.source(),
        }
    }
}

impl From<CredentialsError> for DialError {
    fn from(e: CredentialsError) -> Self {
        Self::Credentials(e)
    }
}

impl From<UrlError> for DialError {
    fn from(e: UrlError) -> Self {
        Self::Url(e)
    }
}
