//! TradingView's chart socket: quotes by name, and histories as requests.

mod charts;
mod frame;
mod ids;
mod packet;
mod quotes;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use self::session::Talk;
use super::json::quote;
use super::{Dial, DialError, Lane, Limits, Protocol, Request, Session, Url, UrlError};
use crate::name::{InvalidName, StreamName};

/// Names per socket unless told otherwise. The server states no bound.
const CAPACITY: usize = 100;

/// The chart socket of TradingView, or of a server that speaks as it does: quotes of symbols as streams,
/// and histories of bars as requests.
///
/// The protocol is not published. It is told here as open-source clients speak it, without a login
/// (`unauthorized_user_token`), and there is no handling of credentials. **The venue's terms of use restrict
/// automated access**: ask what they allow before you dial it.
///
/// # Quotes
///
/// A name is a symbol, such as `NASDAQ:AAPL`. Readers get what a `qsd` says of it,
/// `{"n":"NASDAQ:AAPL","s":"ok","v":{"lp":189.9}}`, as a slice of the frame: `v` has the
/// [fields](Self::fields) that have changed, and the first one all of them.
///
/// - A name is joined by its first quote, or by `quote_completed`. A symbol that the server does not have is
///   [`Rejected`](crate::CloseReason::Rejected); one that it gives up later is asked for again after a
///   delay.
/// - Quotes have no numbers. Where a stream goes over from one socket to another, they are compared; after
///   a gap the first quote is a whole one again.
///
/// # Histories
///
/// [`request`](crate::WsManager::request) takes this object, on any name:
///
/// | field | |
/// |---|---|
/// | `symbol` | `"NASDAQ:AAPL"`, or an object as `resolve_symbol` takes it, `{"symbol":…,"adjustment":"splits"}` |
/// | `resolution` | as the server has them: `"1"`, `"60"`, `"1D"` |
/// | `count` | how many bars, 1 to 100,000; 300 unless given. Servers have fewer |
/// | `from`, `to` | seconds since 1970: the bars between them. Both or neither |
///
/// Each `timescale_update` is a part of the reply, `{"node":…,"s":[{"i":0,"v":[time,open,high,low,close,volume]}…]}`,
/// and `series_completed` ends it. Then the chart session is given back. A `symbol_error`, `series_error` or
/// `critical_error` is [`Failed`](crate::RequestError::Failed) with the packet as it came:
/// `{"m":"series_error","p":["cs_…","sds_1","s1","custom_resolution"]}`. Where histories are all that is wanted,
/// `requests::Pooled::unjoined` asks for no quotes.
///
/// # The socket
///
/// - Lengths of packets are counted in UTF-16 code units. A length that lies, a packet that is not whole or
///   not JSON, or data of a session that is not the socket's, cost the socket: it is opened anew, after a
///   delay.
/// - Heartbeats (`~h~1`) are answered, up to 100 in 10 s.
/// - [`send`](crate::WsManager::send) takes a command, `{"m":…,"p":[…]}`, and frames it.
///
/// Sources: the open-source clients `TradingView-API` (JavaScript) and `tradingview-rs`, and packets recorded
/// by them.
///
/// ```
/// use http::HeaderValue;
/// use http::header::ORIGIN;
/// use wsmux::WsManager;
/// use wsmux::protocol::TradingView;
///
/// let venue = TradingView::new("wss://charts.example.com/socket.io/websocket")?
///     .header(ORIGIN, HeaderValue::from_static("https://charts.example.com"))
///     .fields(["lp", "bid", "ask"]);
/// let manager = WsManager::new(venue);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct TradingView {
    base: Url,
    capacity: usize,
    fields: Arc<[String]>,
    headers: HeaderMap,
}

impl TradingView {
    /// The server at `base`.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        let venue = Self {
            base: Url::parse(base)?,
            capacity: CAPACITY,
            fields: Arc::default(),
            headers: HeaderMap::new(),
        };
        Ok(venue.fields(["lp", "volume", "update_mode"]))
    }

    /// A header of the handshake: servers look at `Origin` and `User-Agent`. None by default.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// What is wanted of a quote. By default `lp` (last price), `volume` and `update_mode`; none leaves it
    /// to the server.
    #[must_use]
    pub fn fields(mut self, fields: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.fields = fields.into_iter().map(|field| quote(field.as_ref())).collect();
        self
    }

    /// Names per socket; more get further sockets. 100 by default. Zero counts as one.
    #[must_use]
    pub fn capacity(mut self, names: usize) -> Self {
        self.capacity = names.max(1);
        self
    }
}

impl Protocol for TradingView {
    fn lane(&self, _: &StreamName) -> Result<Lane, InvalidName> {
        Ok(Lane::new("tradingview"))
    }

    fn request(&self, _: &Dial<'_>) -> Result<Request, DialError> {
        let request = Request::to(self.base.clone());
        Ok(self
            .headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name.clone(), value.clone())))
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Talk::new(Arc::clone(&self.fields)))
    }

    fn limits(&self, _: &Lane) -> Limits {
        Limits::default().capacity(self.capacity).batch(100).batch_bytes(16 << 10)
    }
}

impl fmt::Debug for TradingView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TradingView")
            .field("base", &self.base)
            .field("capacity", &self.capacity)
            .field("fields", &self.fields)
            .finish_non_exhaustive()
    }
}
