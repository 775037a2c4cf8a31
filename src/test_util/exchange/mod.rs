//! An exchange that makes no money: Binance's raw streams, on a mock server.

mod audit;
mod book;
mod decimal;
mod depth;
mod feed;
mod market;
mod rest;
mod tape;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::server::{Certificate, Lifetime, MockServer, Peer};
use crate::message::Message;

use depth::Mishaps;
use feed::Feed;
use market::Market;

pub use audit::Audit;
pub use depth::DepthFaults;
pub use feed::Served;
pub use rest::MockBook;
pub use tape::Tape;

const TICK: Duration = Duration::from_millis(5);
const PREFIX: &str = "/ws/";

/// An exchange with the streams `<symbol>@trade`, `<symbol>@bookTicker` and `<symbol>@depth` under
/// [`url`](Self::url), for any lower-case symbol.
///
/// A stream starts with its first socket, and goes on while it has none. All its sockets see the
/// same messages, each from its handshake on, numbered without a hole:
///
/// | stream | number | next |
/// |---|---|---|
/// | `@trade` | `t` | `t + 1` |
/// | `@depth` | `U` to `u` | `U` is `u + 1` |
/// | `@bookTicker` | `u` | higher |
///
/// Messages have Binance's fields, numbers in strings included:
///
/// ```text
/// {"e":"trade","E":1700000000000,"s":"BTCUSDT","t":1,"p":"64796.63000000","q":"0.50000000","T":1700000000000,"m":true,"M":true}
/// {"e":"depthUpdate","E":1700000000000,"s":"BTCUSDT","U":1,"u":3,"b":[["64796.63000000","0.50000000"]],"a":[]}
/// {"u":7,"s":"BTCUSDT","b":"64796.63000000","B":"0.50000000","a":"64796.64000000","A":"1.20000000"}
/// ```
///
/// [`drop_sockets`](Self::drop_sockets) is a short outage; for a long one, its
/// [`server`](Self::server) [stops listening](MockServer::stop_listening) first.
///
/// The book of a `@depth` stream is empty at first; [`book`](Self::book) has its snapshots, and what
/// it was at each number. Its streams may have [faults](MockExchangeBuilder::depth_faults).
///
/// Other names are accepted and stay silent, as on Binance. A client that is more than 1,024 ticks
/// of 5 ms behind is dropped. All ends when the exchange is dropped.
#[derive(Debug)]
pub struct MockExchange {
    server: MockServer,
    venue: Arc<Venue>,
    _lifetime: Lifetime,
}

/// Makes a [`MockExchange`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct MockExchangeBuilder {
    faults: DepthFaults,
    known: usize,
    rate: u32,
    seed: u64,
    certificate: Option<Certificate>,
}

impl MockExchangeBuilder {
    /// What goes wrong with the `@depth` streams and the snapshots of their books. Nothing by
    /// default. What is dropped is missing in [`MockExchange::delivered`] and the ledger's count, too.
    pub fn depth_faults(mut self, faults: DepthFaults) -> Self {
        self.faults = faults;
        self
    }

    /// How many changes back the books of `@depth` streams are known: what [`MockBook::at`] can tell, and how
    /// old a stale snapshot may be. 262,144 by default, which is some 10 MB for each symbol. Fewer are for an
    /// exchange that runs for long.
    pub fn known_changes(mut self, changes: usize) -> Self {
        self.known = changes;
        self
    }

    /// Messages per second of each stream. 200 by default; 0 is taken as 1.
    pub fn rate(mut self, per_second: u32) -> Self {
        self.rate = per_second.max(1);
        self
    }

    /// What all prices, quantities and numbers follow from. 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Serves `wss://`.
    pub fn tls(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Opens the exchange on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When the port or the certificate cannot be had.
    pub async fn start(self) -> io::Result<MockExchange> {
        let every = Duration::from_secs(1) / self.rate;
        let venue = Arc::new(Venue {
            every,
            faults: self.faults,
            feeds: Mutex::default(),
            known: self.known,
            seed: self.seed,
        });
        let shared = Arc::clone(&venue);
        let serve = move |peer: Peer| {
            let feed = peer.path().strip_prefix(PREFIX).and_then(|name| shared.open(name));
            let served = feed.map(|feed| feed.serve(peer));
            async move {
                if let Some(served) = served {
                    served.await;
                }
            }
        };
        let mut builder = MockServer::builder().route(PREFIX, serve);
        if let Some(certificate) = self.certificate {
            builder = builder.tls(certificate);
        }
        let server = builder.start().await?;
        let (lifetime, tasks) = Lifetime::new();
        tasks.spawn(Arc::clone(&venue).run());
        Ok(MockExchange { server, venue, _lifetime: lifetime })
    }
}

impl MockExchange {
    /// An exchange for `ws://`.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// An exchange made to measure.
    pub fn builder() -> MockExchangeBuilder {
        MockExchangeBuilder {
            faults: DepthFaults::default(),
            known: book::KEPT,
            rate: 200,
            seed: 0,
            certificate: None,
        }
    }

    /// The base of all streams: `ws://127.0.0.1:port/ws`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url() + PREFIX.trim_end_matches('/')
    }

    /// The server below, for counts and faults.
    #[must_use]
    pub fn server(&self) -> &MockServer {
        &self.server
    }

    /// The path of a stream, as [`MockServer`] counts it.
    #[must_use]
    pub fn path(name: &str) -> String {
        format!("{PREFIX}{name}")
    }

    /// How many messages a stream has had so far, whether or not anybody listened.
    #[must_use]
    pub fn sent(&self, name: &str) -> u64 {
        self.venue.find(name).map_or(0, |feed| feed.sent())
    }

    /// The last messages that a stream has had, in order, whether or not anybody listened: at most
    /// 1,000, and with no [fault](MockExchangeBuilder::depth_faults). What a venue's REST interface
    /// would list.
    #[must_use]
    pub fn recent(&self, name: &str) -> Vec<Message> {
        self.venue.find(name).map_or_else(Vec::new, |feed| feed.recent())
    }

    /// How many messages of a stream were written to sockets, all taken together.
    #[must_use]
    pub fn delivered(&self, name: &str) -> u64 {
        self.ledger(name).iter().map(|served| served.messages).sum()
    }

    /// What each socket of a stream was served, in order of opening. One that got nothing is left
    /// out.
    ///
    /// This is the truth to check a reader against: of the numbers that one socket was served, it
    /// misses none unless it was told; between two sockets it misses what it likes, but was told of
    /// a gap.
    #[must_use]
    pub fn ledger(&self, name: &str) -> Vec<Served> {
        self.venue.ledger(name)
    }

    /// Checks one reader of a stream against the ledger.
    #[must_use]
    pub fn audit(&self, name: &str) -> Audit {
        Audit::new(name, Arc::clone(&self.venue))
    }

    /// Forgets a stream and its ledger, so that a run over many names does not keep them all. Sockets
    /// that it still has fall silent; the next one begins the stream anew, with the same messages.
    pub fn forget(&self, name: &str) {
        self.venue.feeds.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The true book of a symbol, which starts now where there is none.
    #[must_use]
    pub fn book(&self, symbol: &str) -> MockBook {
        MockBook::new(symbol, Arc::clone(&self.venue))
    }

    /// Number of open sockets.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.server.sockets()
    }

    /// Ends every socket at once, without a close frame. New ones are welcome.
    pub fn drop_sockets(&self) {
        self.server.drop_all();
    }

    /// Ends everything, as dropping the exchange does.
    pub fn shutdown(self) {}
}

/// All streams.
#[derive(Debug)]
struct Venue {
    every: Duration,
    faults: DepthFaults,
    feeds: Mutex<HashMap<String, Arc<Feed>>>,
    known: usize,
    seed: u64,
}

impl Venue {
    /// The feed of a name, which starts now where there is none.
    fn open(&self, name: &str) -> Option<Arc<Feed>> {
        if let Some(feed) = self.find(name) {
            return Some(feed);
        }
        let market = Market::new(name, self.seed)?.keeping(self.known);
        let seed = self.seed ^ market::fnv(name);
        let mishaps = market.book().map(|_| Mishaps::new(self.faults, seed));
        let feed = Arc::new(Feed::new(market, mishaps));
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(feeds.entry(name.into()).or_insert(feed)))
    }

    fn find(&self, name: &str) -> Option<Arc<Feed>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn ledger(&self, name: &str) -> Vec<Served> {
        self.find(name).map_or_else(Vec::new, |feed| feed.ledger())
    }

    /// Has time go by.
    async fn run(self: Arc<Self>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let feeds: Vec<_> = {
                let feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
                feeds.values().cloned().collect()
            };
            for feed in feeds {
                feed.tick(now, self.every);
            }
        }
    }
}
