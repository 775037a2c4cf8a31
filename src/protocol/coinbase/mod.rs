//! Coinbase Advanced Trade: which names there are, what is dialled, and what a socket carries.

mod session;
#[cfg(test)]
mod tests;
mod want;

use std::fmt;
use std::time::Duration;

use self::session::Channels;
use self::want::Want;
use super::{
    Counted, Dial, DialError, Lane, Limits, MessageRate, Protocol, Request, Session, Url, UrlError,
};
use crate::name::{InvalidName, StreamName};

/// Names per socket and per call: choices of ours, as the venue states no bound.
const CAPACITY: usize = 200;
const BATCH: usize = 50;
/// Messages in a second on a socket: half of what the venue allows an address.
const MESSAGES: u32 = 4;
/// The lane of an account.
const USER: &str = "user";

/// Channels of [Coinbase Advanced
/// Trade](https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-overview).
///
/// | name | what is asked for |
/// |---|---|
/// | `level2:BTC-USD` | `{"channel":"level2","product_ids":["BTC-USD"]}`, which comes as `l2_data` |
/// | `market_trades:BTC-USD` | a channel of a product; so `ticker`, `ticker_batch`, `candles`, `status` |
/// | `user`, `futures_balance_summary` | channels of an account, on the [user's host](Self::user) |
///
/// Readers get whole messages. One with rows of several products goes to each of their names.
///
/// - The venue answers a call with all that the socket is subscribed to. A name is joined when it is listed,
///   and left when it is not any more; one that is not listed although its call was answered is
///   [rejected](crate::CloseReason::Rejected). An error names nothing: it is that of the oldest call
///   without an answer, which is made again in halves until it is known whom it concerns.
/// - The venue numbers all messages of a socket (`sequence_num`). Where that leaps, every name on it
///   gets a [`Gap::Sequence`](crate::Gap::Sequence): nobody can know whose the missing ones were. For a
///   book, subscribe anew then.
/// - What the venue calls a snapshot of `level2`, `status` and tickers is
///   [marked](crate::protocol::Mark::snapshot): a socket that takes over from another begins with its
///   own, and without a gap.
/// - `heartbeats` are asked for with the first words on each socket, within the 5 s in which the venue wants
///   any: they keep quiet channels open. A socket is given up when they stop for 10 s.
/// - On its market channels the venue calls `X-USDC` by the name of `X-USD`, so names of the former are
///   refused.
/// - Private names want [`Credentials::in_band`](crate::Credentials::in_band), whose token is the JWT. It is
///   said in each call, and is good for two minutes: say so by
///   [`Token::expires_at`](crate::Token::expires_at), and a fresh one is there for the next call. What is
///   subscribed to lives on. `authentication failure` has it asked for anew.
/// - [`send`](crate::WsManager::send) is refused: there is nothing to say.
///
/// Sources: Coinbase Developer Documentation, Advanced Trade: "WebSocket Overview", "WebSocket Channels",
/// "WebSocket Authentication", "WebSocket Rate Limits", and its AsyncAPI description.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::CoinbaseAdvanced;
///
/// let coinbase = CoinbaseAdvanced::new("wss://advanced-trade-ws.coinbase.com")?
///     .user("wss://advanced-trade-ws-user.coinbase.com")?;
/// let manager = WsManager::new(coinbase);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CoinbaseAdvanced {
    market: Url,
    user: Option<Url>,
}

impl CoinbaseAdvanced {
    /// The venue's market channels at `base`, such as `wss://advanced-trade-ws.coinbase.com`.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        Ok(Self { market: Url::parse(base)?, user: None })
    }

    /// Has `user` and `futures_balance_summary` too, at `base`, such as
    /// `wss://advanced-trade-ws-user.coinbase.com`.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn user(mut self, base: &str) -> Result<Self, UrlError> {
        self.user = Some(Url::parse(base)?);
        Ok(self)
    }
}

impl Protocol for CoinbaseAdvanced {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        let want = Want::of_name(name.as_str()).map_err(|why| InvalidName::Unsupported { why })?;
        match (want.is_private(), &self.user) {
            (false, _) => Ok(Lane::new("market")),
            (true, Some(_)) => Ok(Lane::new(USER)),
            (true, None) => Err(InvalidName::Unsupported {
                why: "its channel has a host of its own: see `CoinbaseAdvanced::user`",
            }),
        }
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        // A lane of a host that is not there is none of ours.
        let user = self.user.as_ref().filter(|_| dial.lane.as_str() == USER);
        Ok(Request::to(user.unwrap_or(&self.market).clone()))
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Channels::new(dial.lane.as_str() == USER))
    }

    fn limits(&self, _: &Lane) -> Limits {
        let messages = MessageRate::new(MESSAGES, Duration::from_secs(1), Counted::Messages);
        Limits::default().capacity(CAPACITY).batch(BATCH).batch_bytes(16 << 10).messages(messages)
    }
}

impl fmt::Debug for CoinbaseAdvanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut this = f.debug_struct("CoinbaseAdvanced");
        this.field("market", &self.market).field("user", &self.user).finish()
    }
}
