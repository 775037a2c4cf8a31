//! Binance's market streams, many names on a socket.
//!
//! Rules are from the venue's documentation: "WebSocket Streams" of the spot API ("General WSS
//! information", "Live Subscribing/Unsubscribing to streams", "WebSocket Limits"), and "WebSocket
//! Market Streams" of USDⓈ-M futures. Two bounds are found in none of it: what a URL may have
//! (8,004 characters), and what a message may (4,088 bytes, above which nothing is answered); users
//! have measured them (unicorn-binance-websocket-api #17, binance-connector-rust #27).

mod api;
mod going;
mod market;
mod name;
mod sequence;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use self::market::Market;
use self::session::Combined;
use super::{
    Counted, Dial, DialError, Lane, Limits, MessageRate, Protocol, Request, Session, Url, UrlError,
};
use crate::name::{InvalidName, StreamName};

pub use api::BinanceApi;

/// What names need not be encoded for in a query.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@').remove(b'!');

/// Characters of a URL's path and query. The server takes 8,004 with scheme and host.
const URL: usize = 7000;

/// Bytes of names in one message, which has at most 4,088. What is around the names has 60.
const BATCH_BYTES: usize = 4000;

/// A socket ends after 24 hours. Another one is to have taken over by then.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600 - 600);

const SECOND: Duration = Duration::from_secs(1);

/// Binance's combined market streams: up to 1,024 names on one socket.
///
/// A name is the venue's own, such as `btcusdt@trade` or `!miniTicker@arr`, and its readers get what
/// a raw stream has: the object `data` alone, as a slice of the frame.
///
/// | | [spot](Self::spot) | [USDⓈ-M futures](Self::usd_m) |
/// |---|---|---|
/// | where | `/stream` | `/public/stream` and `/market/stream`, by the name |
/// | names per socket | 1,024 | 1,024 |
/// | frames from us, pings and pongs included | 5 a second | 10 a second |
/// | a socket lives | 24 h | 24 h |
/// | a hole is seen | in `@depth` (`U`, `u`), `@trade` (`t`), `@aggTrade` (`a`) | in `@depth` (`pu`, `u`) |
///
/// Names are put into the URL as far as that goes, and are joined with the handshake; the others
/// are asked for in batches of 4,000 bytes. A batch that is refused is halved until the name is found
/// that it is refused for: that one alone is [rejected](crate::CloseReason::Rejected). A hole is a
/// [`Gap::Sequence`](crate::Gap::Sequence), with the number of trades that are missing; of a book's
/// updates their number does not tell. A notice that the server is about to go
/// (`serverShutdown`), and the end of the 24 hours, have another socket take over before.
///
/// The server takes names that do not exist, confirms them, and sends nothing. Symbols in capitals
/// are among these, so such names are refused here; others are shown as
/// [quiet](crate::StreamInfo::quiet). Streams of user data are on other hosts.
///
/// A socket is given 300 dials in five minutes by default: see [`DialRate`](crate::DialRate).
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::BinanceCombined;
///
/// let manager = WsManager::new(BinanceCombined::spot().microseconds());
/// # let _ = manager;
/// ```
#[derive(Clone, Debug)]
pub struct BinanceCombined {
    base: Url,
    capacity: usize,
    in_url: bool,
    market: Market,
    microseconds: bool,
}

impl BinanceCombined {
    /// Spot, at `wss://stream.binance.com:9443`.
    #[must_use]
    pub fn spot() -> Self {
        Self::of(Market::Spot, "wss://stream.binance.com:9443")
    }

    /// USDⓈ-M futures, at `wss://fstream.binance.com`.
    ///
    /// Its streams are on two paths, and a name that is asked for on the wrong one is confirmed and
    /// silent. On `/public` are `trade`, `bookTicker`, `depth` and `rpiDepth`; all others are on
    /// `/market`.
    #[must_use]
    pub fn usd_m() -> Self {
        Self::of(Market::UsdM, "wss://fstream.binance.com")
    }

    #[expect(clippy::expect_used, reason = "a constant, which tests read")]
    fn of(market: Market, base: &str) -> Self {
        let base = Url::parse(base).expect("a URL");
        Self { base, capacity: 1024, in_url: true, market, microseconds: false }
    }

    /// The same at another host, as `wss://data-stream.binance.vision`, or one of a test.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn at(mut self, base: &str) -> Result<Self, UrlError> {
        self.base = Url::parse(base)?;
        Ok(self)
    }

    /// Names per socket: 1,024 by default, which is the venue's bound. Zero counts as one.
    #[must_use]
    pub fn capacity(mut self, names: usize) -> Self {
        self.capacity = names.clamp(1, 1024);
        self
    }

    /// Has the server tell times in microseconds. It is the whole socket's affair, and so a
    /// manager's.
    #[must_use]
    pub fn microseconds(mut self) -> Self {
        self.microseconds = true;
        self
    }

    /// Puts no names into the URL, and asks for all of them by messages.
    #[must_use]
    pub fn no_names_in_url(mut self) -> Self {
        self.in_url = false;
        self
    }

    fn query<'a>(&self, names: &'a [StreamName], path: &str) -> (String, Vec<&'a StreamName>) {
        let mut query = String::new();
        let unit = if self.microseconds { "timeUnit=MICROSECOND" } else { "" };
        let mut joined = Vec::new();
        for name in names.iter().filter(|_| self.in_url) {
            let encoded = utf8_percent_encode(name.as_str(), PLAIN).to_string();
            let start = if query.is_empty() { "streams=" } else { "/" };
            let len = path.len() + query.len() + start.len() + encoded.len() + unit.len();
            if len + 2 > URL {
                break;
            }
            query.push_str(start);
            query.push_str(&encoded);
            joined.push(name);
        }
        let parts = [self.base.query().unwrap_or_default(), &query, unit];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        (parts.join("&"), joined)
    }
}

impl Protocol for BinanceCombined {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        let path = name::path(name.as_str(), self.market)?;
        Ok(Lane::new(path))
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        let base = self.base.path();
        let path = format!("{}{}", base.strip_suffix('/').unwrap_or(base), dial.lane.as_str());
        let (query, joined) = self.query(dial.names, &path);
        let query = Some(query).filter(|query| !query.is_empty());
        let request = Request::to(self.base.with_target(path, query)).made_from(&self.base);
        Ok(request.joining(joined.into_iter().cloned()))
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Combined::new(self.market, dial.names))
    }

    fn limits(&self, _: &Lane) -> Limits {
        let frames = match self.market {
            Market::Spot => 5,
            Market::UsdM => 10,
        };
        Limits::default()
            .capacity(self.capacity)
            .batch_bytes(BATCH_BYTES)
            .max_age(MAX_AGE)
            .messages(MessageRate::new(frames, SECOND, Counted::Everything))
    }
}
