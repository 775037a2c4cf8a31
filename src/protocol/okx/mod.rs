//! OKX's public channels: which names there are, what is dialled, and what a socket carries.

mod arg;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use self::arg::Arg;
use self::session::Channels;
use super::{
    Counted, Dial, DialError, Lane, Limits, MessageRate, Protocol, Request, Session, Url, UrlError,
};
use crate::name::{InvalidName, StreamName};

/// Channels per socket: a choice of ours.
const CAPACITY: usize = 200;

/// Beginnings of the channels that are served under `/business`.
const BUSINESS: &[&str] = &[
    "candle",
    "index-candle",
    "mark-price-candle",
    "sprd-",
    "trades-all",
    "block-tickers",
    "public-block-trades",
    "public-struc-block-trades",
    "economic-calendar",
];

/// Beginnings of the channels that want a login.
const PRIVATE: &[&str] = &[
    "account",
    "positions",
    "balance_and_position",
    "orders",
    "fills",
    "liquidation-warning",
    "algo-",
    "grid-",
    "deposit-info",
    "withdrawal-info",
    "rfqs",
    "quotes",
    "struc-block-trades",
    "copytrading-",
];

/// Public channels of [OKX](https://www.okx.com/docs-v5/en/#overview-websocket), API v5.
///
/// | name | what is asked for |
/// |---|---|
/// | `trades:BTC-USDT` | `{"channel":"trades","instId":"BTC-USDT"}` |
/// | `candle1m:BTC-USDT` | the same, on the sockets of `/business` |
/// | `instruments,instType=SPOT` | `{"channel":"instruments","instType":"SPOT"}` |
///
/// A name is a channel, after a colon its instrument, and after commas what else its `arg` has. Readers
/// get whole messages, with `arg`, `action` and `data`.
///
/// - Channels that want a login are not supported: `subscribe` refuses their names.
/// - Many names are asked for by one call, and confirmed one by one. A refusal names its `arg`; where
///   it does not, its call is asked again in halves until it is known whom it concerns. Neighbours
///   are not concerned. After an error that passes (too frequent, busy) a name is asked for again
///   after a delay.
/// - Calls to join and leave are paced: 480 in an hour on a socket, of up to 100 names each.
/// - `books`, `books-l2-tbt`, `books50-l2-tbt`: an update whose `prevSeqId` is not the `seqId` before it
///   is preceded by a [`Gap::Sequence`](crate::Gap::Sequence). The venue sends no snapshot by itself then:
///   subscribe anew. A socket that takes over from another begins with its own snapshot, and without a gap.
/// - Where nothing came for 25 s, `ping` is said, to be answered within 10 s; the venue drops sockets on
///   which nothing was said for 30 s.
/// - The notice of an upgrade (64008) has another socket take over within 30 s.
///
/// Sources: OKX API v5, "WebSocket: Overview, Connect, Subscribe, Unsubscribe, Notification",
/// "WS / Order book channel", and its error codes of WebSocket.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::Okx;
///
/// let manager = WsManager::new(Okx::new("wss://ws.okx.com:8443/ws/v5")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Okx {
    base: Url,
}

impl Okx {
    /// The venue at `base`, such as `wss://ws.okx.com:8443/ws/v5`: without `/public` and `/business`,
    /// which names say.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        Url::parse(base).map(|base| Self { base })
    }
}

impl Protocol for Okx {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        let arg = Arg::of_name(name.as_str()).ok_or(InvalidName::Unsupported {
            why: "a name is `channel`, `:instId`, and `,key=value` for what else there is",
        })?;
        let begins = |with: &&str| arg.channel().starts_with(*with);
        match (PRIVATE.iter().any(begins), BUSINESS.iter().any(begins)) {
            (true, _) => Err(InvalidName::Unsupported {
                why: "this channel wants a login, which is not supported",
            }),
            (false, true) => Ok(Lane::new("business")),
            (false, false) => Ok(Lane::new("public")),
        }
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        let path = self.base.path().trim_end_matches('/');
        let path = format!("{path}/{}", dial.lane.as_str());
        let url = self.base.with_target(path, self.base.query().map(Into::into));
        Ok(Request::to(url).made_from(&self.base))
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Channels::new())
    }

    fn limits(&self, _: &Lane) -> Limits {
        let calls = MessageRate::new(480, Duration::from_secs(3600), Counted::Joins);
        Limits::default().capacity(CAPACITY).batch(100).batch_bytes(16 << 10).messages(calls)
    }
}

impl fmt::Debug for Okx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Okx").field("base", &self.base).finish()
    }
}
