//! Kraken's WebSocket API v2: which names there are, what is dialled, and what a socket carries.

mod session;
#[cfg(test)]
mod tests;
mod want;

use std::fmt;
use std::time::Duration;

use self::session::Channels;
use self::want::{Host, Want};
use super::{
    Counted, Dial, DialError, Lane, Limits, MessageRate, Protocol, Request, Session, Url, UrlError,
};
use crate::name::{InvalidName, StreamName};

/// Names per socket, names per call, and calls in a second: choices of ours, as the venue tells no
/// bound but that there is one ("Exceeded msg rate").
const CAPACITY: usize = 200;
const BATCH: usize = 100;
const CALLS: u32 = 10;

/// Channels of [Kraken](https://docs.kraken.com/exchange/guides/websockets/introduction)'s WebSocket API
/// v2, spot.
///
/// | name | what is asked for |
/// |---|---|
/// | `ticker:BTC/USD` | `{"channel":"ticker","symbol":["BTC/USD"]}` |
/// | `book:BTC/USD,depth=100` | the same with `"depth":100` |
/// | `ohlc:BTC/USD,interval=5` | the same with `"interval":5` |
/// | `instrument` | a channel without symbols |
/// | `executions,snap_trades=true`, `balances` | channels of an account, on the [private](Self::private) host |
/// | `level3:BTC/USD` | single orders, on a [host of their own](Self::level3) |
///
/// A name is a channel, after a colon its symbol, and after commas its options. Readers get whole
/// messages, as they came: prices are numbers whose digits are significant, and a book's `checksum` is over
/// them, so it is the program that checks it. A message with rows of several symbols goes to each of
/// their names.
///
/// - Many symbols are asked for by one call, and confirmed one by one. A refusal concerns its symbol; where
///   it names none, its call is asked again in halves until it is known whom it concerns. After an error
///   that passes (rate, busy, unavailable) a name is asked for again after a delay.
/// - Data does not tell the options that it was asked for with. So names with options have sockets of
///   their own, one for all symbols of the same options.
/// - Of books and other states, what the venue calls a snapshot is
///   [marked](crate::protocol::Mark::snapshot) as one: a socket that takes over from another begins with
///   it, and without a gap. `executions` and `balances` have a `sequence`: where it leaps, there is a
///   [`Gap::Sequence`](crate::Gap::Sequence).
/// - Where nothing came for 5 s, not even the venue's `heartbeat` of each second, `ping` is said, to be
///   answered within 5 s.
/// - Private names want [`Credentials::in_band`](crate::Credentials::in_band), whose token is one of
///   `GetWebSocketsToken` (15 minutes, [`Token::expires_at`](crate::Token::expires_at)). It is said with
///   each call, and what is subscribed to lives on when it expires; so a fresh one is used from the next
///   call on, on the open socket. A token that is refused (`EAPI:Invalid token`, `ESession:Invalid
///   session`) is asked for anew.
/// - The venue counts dials by address, at about 150 in ten minutes: give the manager a
///   [`Limiter`](crate::Limiter) with that [`DialRate`](crate::DialRate) where a program dials much.
/// - Orders are not supported: [`send`](crate::WsManager::send) is refused.
///
/// Sources: Kraken API Center, "Spot WebSocket v2" (`ticker`, `book`, `level3`, `ohlc`, `trade`,
/// `instrument`, `executions`, `balances`, `ping`, `heartbeat`, `status`), "WebSocket authentication",
/// `GetWebSocketsToken`, and the guide to reconnecting.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::KrakenV2;
///
/// let kraken = KrakenV2::new("wss://ws.kraken.com/v2")?.private("wss://ws-auth.kraken.com/v2")?;
/// let manager = WsManager::new(kraken);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct KrakenV2 {
    level3: Option<Url>,
    private: Option<Url>,
    public: Url,
}

impl KrakenV2 {
    /// The venue's public channels at `base`, such as `wss://ws.kraken.com/v2`.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        Ok(Self { level3: None, private: None, public: Url::parse(base)? })
    }

    /// Has `level3` too, at `base`, such as `wss://ws-l3.kraken.com/v2`.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn level3(mut self, base: &str) -> Result<Self, UrlError> {
        self.level3 = Some(Url::parse(base)?);
        Ok(self)
    }

    /// Has `executions` and `balances` too, at `base`, such as `wss://ws-auth.kraken.com/v2`.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn private(mut self, base: &str) -> Result<Self, UrlError> {
        self.private = Some(Url::parse(base)?);
        Ok(self)
    }

    fn url(&self, host: Host) -> Option<&Url> {
        match host {
            Host::Level3 => self.level3.as_ref(),
            Host::Private => self.private.as_ref(),
            Host::Public => Some(&self.public),
        }
    }
}

impl Protocol for KrakenV2 {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        let want = Want::of_name(name.as_str()).map_err(|why| InvalidName::Unsupported { why })?;
        match self.url(want.host()) {
            Some(_) => Ok(Lane::new(want.lane())),
            None => Err(InvalidName::Unsupported {
                why: "its channel has a host of its own: see `KrakenV2::private` and `level3`",
            }),
        }
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        // A lane of a host that is not there is none of ours.
        let url = self.url(Host::of_lane(dial.lane.as_str())).unwrap_or(&self.public);
        Ok(Request::to(url.clone()))
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Channels::new(Host::of_lane(dial.lane.as_str())))
    }

    fn limits(&self, _: &Lane) -> Limits {
        let calls = MessageRate::new(CALLS, Duration::from_secs(1), Counted::Joins);
        Limits::default().capacity(CAPACITY).batch(BATCH).batch_bytes(16 << 10).messages(calls)
    }
}

impl fmt::Debug for KrakenV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KrakenV2")
            .field("level3", &self.level3)
            .field("private", &self.private)
            .field("public", &self.public)
            .finish()
    }
}
