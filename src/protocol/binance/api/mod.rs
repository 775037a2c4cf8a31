//! Binance's WebSocket API: requests and their replies.

mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;

use self::session::Desk;
use super::{Dial, DialError, InvalidName, Lane, Limits, MAX_AGE, Protocol, Request};
use super::{Session, StreamName, Url, UrlError};

/// Binance's WebSocket API: what its REST API has, asked on a socket that stays open.
///
/// A name is a connection: call it as you like. [`request`](crate::WsManager::request) on it takes
/// `{"method":"time"}`, with `params` where the method has any; the id is the client's, and one of your own
/// is left out. For many requests at once there is `requests::RequestPool`.
///
/// | `status` | what comes of the request |
/// |---|---|
/// | 200 | the `result`, as a slice of the frame; the whole message with [`whole`](Self::whole) |
/// | 4xx | [`Failed`](crate::RequestError::Failed) with the `error`, `{"code":-2010,"msg":…}` |
/// | 429, 418 (too many requests, banned) | the same, and nothing more is asked on this socket before `retryAfter` (without one: 1 min, 2 min). What is asked meanwhile waits, and expires [unsent](crate::RequestError::is_unsent) after [`send_ttl`](field@crate::Config::send_ttl) |
/// | 5xx | [`Unknown`](crate::RequestError::Unknown): the venue does not say whether it has acted, and asks to not take it for a failure |
///
/// - Replies come in any order. One that comes late, or twice, is ignored.
/// - Readers of the name get what the server says by itself, as it came: events of user data
///   (`{"subscriptionId":0,"event":…}`), where the program has asked for them, and errors that answer nothing
///   (`{"id":null,"status":401,…}`, a key that was revoked).
/// - What a request does to its connection, such as `session.logon` and `userDataStream.subscribe`, ends
///   with the socket. The client does not log on by itself, and signs nothing: where that is wanted, ask
///   again after each [`Gap`](crate::Gap).
/// - A socket is replaced before it is 24 h old, and when the server says that it is about to go, both
///   make before break: requests in flight finish on the old one.
///
/// Sources: "WebSocket API for Binance" of the spot API ("General API Information", "Request format",
/// "Response format", "Status codes", "Rate limits", "User Data Stream requests"), and "Websocket API General
/// Info" of USDⓈ-M futures.
///
/// ```
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use wsmux::WsManager;
/// use wsmux::protocol::BinanceApi;
///
/// let manager = WsManager::new(BinanceApi::spot());
/// let _warm = manager.keep_warm("api")?;
/// let time = manager.request("api", r#"{"method":"time"}"#).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BinanceApi {
    base: Url,
    is_whole: bool,
    microseconds: bool,
}

impl BinanceApi {
    /// Spot, at `wss://ws-api.binance.com:443/ws-api/v3`.
    #[must_use]
    pub fn spot() -> Self {
        Self::of("wss://ws-api.binance.com:443/ws-api/v3")
    }

    /// USDⓈ-M futures, at `wss://ws-fapi.binance.com/ws-fapi/v1`.
    #[must_use]
    pub fn usd_m() -> Self {
        Self::of("wss://ws-fapi.binance.com/ws-fapi/v1")
    }

    #[expect(clippy::expect_used, reason = "a constant, which tests read")]
    fn of(base: &str) -> Self {
        Self { base: Url::parse(base).expect("a URL"), is_whole: false, microseconds: false }
    }

    /// The same at another URL, such as `wss://ws-api.testnet.binance.vision/ws-api/v3`, or one of a test.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn at(mut self, base: &str) -> Result<Self, UrlError> {
        self.base = Url::parse(base)?;
        Ok(self)
    }

    /// Replies are whole messages, with `status` and `rateLimits`: how much of its budget is used.
    #[must_use]
    pub fn whole(mut self) -> Self {
        self.is_whole = true;
        self
    }

    /// Has the server tell times in microseconds.
    #[must_use]
    pub fn microseconds(mut self) -> Self {
        self.microseconds = true;
        self
    }
}

impl Protocol for BinanceApi {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        Ok(Lane::new(name.as_str()))
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        let limits = if self.is_whole { "" } else { "returnRateLimits=false" };
        let unit = if self.microseconds { "timeUnit=MICROSECOND" } else { "" };
        let parts = [self.base.query().unwrap_or_default(), limits, unit];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let query = Some(parts.join("&")).filter(|query| !query.is_empty());
        let url = self.base.with_target(self.base.path().to_owned(), query);
        Ok(Request::to(url).made_from(&self.base).joining(dial.names.iter().cloned()))
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Desk::new(self.is_whole))
    }

    fn limits(&self, _: &Lane) -> Limits {
        Limits::default().capacity(1).max_age(MAX_AGE)
    }
}

impl fmt::Debug for BinanceApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BinanceApi").field("base", &self.base).finish_non_exhaustive()
    }
}
