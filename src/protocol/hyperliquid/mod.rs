//! Hyperliquid: which names there are, what is dialled, and what a socket carries.

mod session;
#[cfg(test)]
mod tests;
mod want;

use std::fmt;
use std::time::Duration;

use self::session::Feeds;
use self::want::Want;
use super::{
    Counted, Dial, DialError, Lane, Limits, MessageRate, Protocol, Request, Session, Url, UrlError,
};
use crate::name::{InvalidName, StreamName};

/// Names per socket, and messages in a minute on it: a tenth of what the venue allows an address, as it
/// allows that ten sockets.
const CAPACITY: usize = 100;
const MESSAGES: u32 = 200;

/// Feeds of [Hyperliquid](https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket).
///
/// | name | what is asked for |
/// |---|---|
/// | `trades:BTC` | `{"type":"trades","coin":"BTC"}` |
/// | `candle:BTC,interval=1m` | `{"type":"candle","coin":"BTC","interval":"1m"}` |
/// | `l2Book:BTC,nSigFigs=5` | `{"type":"l2Book","coin":"BTC","nSigFigs":5}` |
/// | `allMids` | `{"type":"allMids"}` |
/// | `userFills,user=0x…` | `{"type":"userFills","user":"0x…"}`; public, as all of the venue |
///
/// A name is a type, after a colon its coin, and after commas what else its subscription has. Readers get
/// whole messages, with `channel` and `data`. Addresses are written in small letters, as the venue does.
///
/// - The venue confirms by an echo of the subscription, with its defaults. A refusal echoes it too, or says
///   nothing of it: then it is that of the oldest without an answer. What passes (too many) has a name
///   asked for again after a delay.
/// - Data tells neither the user nor the options that it was asked for with, but a candle's interval. So the
///   names of a user have a socket of their own, and so have those of the same options.
/// - The feeds have no numbers. Where a message is the whole state (`l2Book`, `bbo`, `allMids`,
///   `activeAssetCtx`), and where the venue says `isSnapshot`, it is
///   [marked](crate::protocol::Mark::snapshot): a socket that takes over from another needs no gap then.
/// - A message without rows (`"data":[]`) is nobody's, and counts as a sign of life.
/// - Where nothing came for 45 s, `ping` is said, to be answered within 10 s: the venue closes sockets on
///   which it has said nothing for 60 s.
/// - A socket carries 100 names, and says at most 200 messages in a minute: the venue allows an address 1,000
///   subscriptions and 2,000 messages. It counts users, ten of them, and dials too (30 in a minute): give
///   the manager a [`Limiter`](crate::Limiter) with that [`DialRate`](crate::DialRate) where a program
///   dials much.
/// - Requests (`post`) and orders are not supported, and [`send`](crate::WsManager::send) is refused.
///
/// Sources: Hyperliquid Docs, API: "Websocket", "Subscriptions", "Timeouts and heartbeats", and
/// "Rate limits and user limits".
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::Hyperliquid;
///
/// let manager = WsManager::new(Hyperliquid::new("wss://api.hyperliquid.xyz/ws")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Hyperliquid {
    base: Url,
}

impl Hyperliquid {
    /// The venue at `base`, such as `wss://api.hyperliquid.xyz/ws`.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        Url::parse(base).map(|base| Self { base })
    }
}

impl Protocol for Hyperliquid {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        let want = Want::of_name(name.as_str()).map_err(|why| InvalidName::Unsupported { why })?;
        Ok(Lane::new(want.lane()))
    }

    fn request(&self, _: &Dial<'_>) -> Result<Request, DialError> {
        Ok(Request::to(self.base.clone()))
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Feeds::default())
    }

    fn limits(&self, _: &Lane) -> Limits {
        let messages = MessageRate::new(MESSAGES, Duration::from_secs(60), Counted::Messages);
        Limits::default().capacity(CAPACITY).batch(1).messages(messages)
    }
}

impl fmt::Debug for Hyperliquid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hyperliquid").field("base", &self.base).finish()
    }
}
