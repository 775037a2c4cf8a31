//! Deribit: which names there are, what is dialled, and what a socket carries.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::channels::Channels;
use super::session::Rpc;
use crate::name::{InvalidName, StreamName};
use crate::protocol::{
    Counted, Dial, DialError, Lane, Limits, MessageRate, Protocol, Request, Session, Url, UrlError,
};

/// Channels per socket, and per call: a choice of ours, as the venue states no bound.
const CAPACITY: usize = 500;
/// The shortest interval of heartbeats that the venue takes (`public/set_heartbeat`).
const LEAST_BEAT: Duration = Duration::from_secs(10);

/// Channels of [Deribit](https://docs.deribit.com), and calls to it, all on one socket: JSON-RPC 2.0 with
/// `public/subscribe`.
///
/// A name is a channel, as the venue spells it: `trades.BTC-PERPETUAL.100ms`, `user.orders.any.any.raw`.
/// A reader gets `params.data` of each notice, as a slice of the frame it came in.
///
/// - The venue answers a call for many channels with the list of those it accepted. What is not in it
///   is [rejected](crate::CloseReason::Rejected); its neighbours are not concerned. After an error that
///   passes (too many requests, maintenance, and the like) channels are asked for again after a delay.
/// - `book.*`: a change whose `prev_change_id` is not the `change_id` before it is preceded by a
///   [`Gap::Sequence`](crate::Gap::Sequence). The venue sends no snapshot by itself then:
///   [`resync`](crate::Subscription::resync) with one of `public/get_order_book`, or subscribe anew.
///   A socket that takes over from another begins with its own snapshot, and without a gap.
/// - Heartbeats are set to [30 s](Self::heartbeat), and each `test_request` is answered by `public/test`.
///   Where nothing at all came for twice that time, the socket is given up.
/// - Calls to join and leave are paced: ten in 3 s, as the credits that they cost allow ("Rate limits":
///   3,000 each of 30,000, which fill up by 10,000 a second).
/// - With [`Credentials::in_band`](crate::Credentials::in_band) the token is said by `public/auth` before
///   anything is joined: as the client's secret, with [`client_id`](Self::client_id), else as a
///   refresh token. A fresh one is said on the open socket. Channels are then joined by `private/subscribe`,
///   which takes public ones as well. Signatures (`client_signature`) are not supported.
/// - [`request`](crate::WsManager::request) and [`send`](crate::WsManager::send) are as with
///   [`JsonRpc`](super::JsonRpc).
///
/// Sources: Deribit API v2: "JSON-RPC", "Subscriptions", `public/auth`, `public/set_heartbeat`,
/// "Connection management best practices".
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::Deribit;
///
/// let manager = WsManager::new(Deribit::new("wss://www.deribit.com/ws/api/v2")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Deribit {
    base: Url,
    beat: Duration,
    client_id: Option<Arc<str>>,
}

impl Deribit {
    /// The venue's socket at `base`, such as `wss://www.deribit.com/ws/api/v2`.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        Ok(Self { base: Url::parse(base)?, beat: Duration::from_secs(30), client_id: None })
    }

    /// The client whose secret the token is.
    #[must_use]
    pub fn client_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// The interval of the venue's heartbeats, in whole seconds. 30 s by default; at least 10 s, as the
    /// venue wants.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.beat = interval.max(LEAST_BEAT);
        self
    }
}

impl Protocol for Deribit {
    fn lane(&self, _: &StreamName) -> Result<Lane, InvalidName> {
        Ok(Lane::new("deribit"))
    }

    fn request(&self, _: &Dial<'_>) -> Result<Request, DialError> {
        Ok(Request::to(self.base.clone()))
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Rpc::new(Channels::new(self.client_id.clone(), self.beat)))
    }

    fn limits(&self, _: &Lane) -> Limits {
        let calls = MessageRate::new(10, Duration::from_secs(3), Counted::Joins);
        Limits::default().capacity(CAPACITY).batch(CAPACITY).messages(calls)
    }
}

impl fmt::Debug for Deribit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deribit")
            .field("base", &self.base)
            .field("beat", &self.beat)
            .finish_non_exhaustive()
    }
}
