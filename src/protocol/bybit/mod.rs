//! Bybit's streams: which names there are, what is dialled, and what a socket carries.

mod name;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use self::name::{PRIVATE, split};
use self::session::Topics;
use super::{
    Counted, Dial, DialError, Lane, Limits, MessageRate, Protocol, Request, Session, Url, UrlError,
};
use crate::name::{InvalidName, StreamName};

/// The longest topic that is taken, in bytes, and how many a socket carries: with quotes and commas that
/// is less than the 21,000 characters of `args` that the venue allows a socket.
const LONGEST: usize = 100;
const CAPACITY: usize = 200;
/// Topics per call. The venue allows ten on `spot`; elsewhere it is a choice of ours.
const SPOT_BATCH: usize = 10;
const BATCH: usize = 100;
/// Calls in a second: a choice of ours.
const CALLS: u32 = 10;

/// Streams of [Bybit](https://bybit-exchange.github.io/docs/v5/ws/connect), API v5.
///
/// | name | what is asked for |
/// |---|---|
/// | `linear:orderbook.50.BTCUSDT` | the topic `orderbook.50.BTCUSDT` under `/public/linear` |
/// | `spot:publicTrade.BTCUSDT` | a topic under `/public/spot`; so for `inverse`, `option` and `spread` |
/// | `private:order` | a topic under `/private` |
///
/// A name is a category, a colon, and a topic of at most 100 bytes as the venue spells it. Readers get
/// whole messages, with `topic`, `type` and `data`.
///
/// - Topics are asked for many by one call, ten on `spot`, which is confirmed as a whole, or on `option` and
///   `spread` topic by topic. The venue refuses a call for one topic in it: that one is
///   [rejected](crate::CloseReason::Rejected), and the others are asked for again. Where it does not say
///   which topic it means, the call is made again in halves.
/// - `orderbook.*`: a change whose `u` does not follow on the one before is preceded by a
///   [`Gap::Sequence`](crate::Gap::Sequence). The snapshots that the venue sends on its own account, as
///   with `u` 1 after it has started anew, begin a chain, and are no gap. They and those of `tickers.*`
///   are [marked](crate::protocol::Mark::snapshot): a socket that takes over from another begins with its own,
///   and without a gap.
/// - `ping` is said each 20 s, to be answered within 10 s.
/// - A socket carries up to 200 names, so that the 21,000 characters of `args` are kept. The venue
///   counts dials as well, 500 in five minutes: give the manager a [`Limiter`](crate::Limiter) with that
///   [`DialRate`](crate::DialRate) where a program dials much.
/// - Private names want [`Credentials::in_band`](crate::Credentials::in_band). The token is the `args` of
///   `auth` as JSON: `["<key>",<expires>,"<signature>"]`, `expires` in milliseconds, and the signature
///   HMAC-SHA256 of `GET/realtime<expires>` in hexadecimal. The program signs; give it no
///   [`expires_at`](crate::Token::expires_at), and it is asked to do so for each dial. A socket that is
///   authenticated stays so. A token that is refused is asked for anew.
/// - Orders (`/trade`) are not supported, and [`send`](crate::WsManager::send) is refused.
///
/// Sources: Bybit API v5, "WebSocket Stream: Connect", "Orderbook", "Ticker", "Trade", and "Error Codes".
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::Bybit;
///
/// let manager = WsManager::new(Bybit::new("wss://stream.bybit.com/v5")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Bybit {
    base: Url,
}

impl Bybit {
    /// The venue at `base`, such as `wss://stream.bybit.com/v5`: without `/public` and `/private`, which
    /// names say. A query, such as `max_active_time=10m`, is kept.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        Url::parse(base).map(|base| Self { base })
    }
}

impl Protocol for Bybit {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        let (category, topic) = split(name.as_str()).ok_or(InvalidName::Unsupported {
            why: "a name is `spot`, `linear`, `inverse`, `option`, `spread` or `private`, `:`, and a topic",
        })?;
        match topic.len() <= LONGEST {
            true => Ok(Lane::new(category)),
            false => Err(InvalidName::Unsupported { why: "its topic has more than 100 bytes" }),
        }
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        let path = self.base.path().trim_end_matches('/');
        let path = match dial.lane.as_str() {
            PRIVATE => format!("{path}/{PRIVATE}"),
            category => format!("{path}/public/{category}"),
        };
        let url = self.base.with_target(path, self.base.query().map(Into::into));
        Ok(Request::to(url).made_from(&self.base))
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        let batch = if dial.lane.as_str() == "spot" { SPOT_BATCH } else { BATCH };
        Box::new(Topics::new(dial.lane.as_str() == PRIVATE, batch))
    }

    fn limits(&self, lane: &Lane) -> Limits {
        let calls = MessageRate::new(CALLS, Duration::from_secs(1), Counted::Joins);
        let batch = if lane.as_str() == "spot" { SPOT_BATCH } else { BATCH };
        Limits::default().capacity(CAPACITY).batch(batch).messages(calls)
    }
}

impl fmt::Debug for Bybit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bybit").field("base", &self.base).finish()
    }
}
