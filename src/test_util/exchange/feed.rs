//! One stream of the exchange: its messages as time goes by, and who was served which.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;

use super::book::History;
use super::depth::Mishaps;
use super::market::{Event, Market};
use crate::message::Message;
use crate::test_util::Peer;
use crate::test_util::server::Encoded;

/// How many batches a socket may lag behind before it is dropped.
const LAG: usize = 1024;
/// How many messages of the past are kept.
const RECENT: usize = 1000;
/// What is caught up with at most in one tick, where time went by unused.
const CATCH_UP: Duration = Duration::from_millis(100);

/// What one socket was served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Served {
    /// The first number: the trade id, or the first update id.
    pub first: u64,
    /// The last number of the last message that the kernel took as a whole. A reset may lose some
    /// of the last ones.
    pub last: u64,
    /// How many messages that were.
    pub messages: u64,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Feed {
    batches: broadcast::Sender<Arc<Batch>>,
    ledger: Mutex<Vec<Option<Served>>>,
    production: Mutex<Production>,
    sent: AtomicU64,
}

#[derive(Debug)]
struct Production {
    market: Market,
    mishaps: Option<Mishaps>,
    /// The time up to which all is produced.
    until: Instant,
    recent: VecDeque<Message>,
}

/// What happened within a tick.
#[derive(Debug)]
struct Batch {
    frames: Encoded,
    /// First and last number of each message.
    numbers: Vec<(u64, u64)>,
}

impl Feed {
    pub(super) fn new(market: Market, mishaps: Option<Mishaps>) -> Self {
        Self {
            batches: broadcast::Sender::new(LAG),
            ledger: Mutex::default(),
            production: Mutex::new(Production {
                market,
                mishaps,
                recent: VecDeque::new(),
                until: Instant::now(),
            }),
            sent: AtomicU64::new(0),
        }
    }

    /// Produces what is due by `now`, whether or not anybody listens.
    pub(super) fn tick(&self, now: Instant, every: Duration) {
        let mut production = lock(&self.production);
        let production = &mut *production;
        if now.saturating_duration_since(production.until) > CATCH_UP.max(every) {
            production.until = now - CATCH_UP.max(every);
        }
        let time = millis();
        let mut events = Vec::new();
        while production.until + every <= now {
            production.until += every;
            let event = production.market.next(time);
            production.recent.push_back(event.message.clone());
            events.push(event);
        }
        let surplus = production.recent.len().saturating_sub(RECENT);
        production.recent.drain(..surplus);
        if events.is_empty() {
            return;
        }
        self.sent.fetch_add(events.len() as u64, Ordering::Relaxed);
        if let Some(mishaps) = &mut production.mishaps {
            events = mishaps.befall(events);
        }
        if self.batches.receiver_count() > 0 && !events.is_empty() {
            // They may all have gone meanwhile.
            let _ = self.batches.send(Arc::new(Batch::new(&events)));
        }
    }

    /// Serves a socket, from this call on, until it ends. One that lags is dropped, as a real venue
    /// does.
    pub(super) fn serve(self: Arc<Self>, peer: Peer) -> impl Future<Output = ()> + Send {
        let (place, mut batches) = {
            let mut ledger = lock(&self.ledger);
            ledger.push(None);
            (ledger.len() - 1, self.batches.subscribe())
        };
        async move { self.feed(&peer, place, &mut batches).await }
    }

    async fn feed(
        self: Arc<Self>,
        peer: &Peer,
        place: usize,
        batches: &mut broadcast::Receiver<Arc<Batch>>,
    ) {
        loop {
            let batch = tokio::select! {
                batch = batches.recv() => batch,
                () = peer.closed() => return,
            };
            match batch {
                Ok(batch) => {
                    let (feed, count) = (Arc::clone(&self), batch.numbers.len());
                    let frames = batch.frames.clone();
                    let record = move |written| feed.served(place, &batch.numbers[..written]);
                    if peer.write_counted(frames, record).await < count {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => return peer.fin(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Looks at the true book, where there is one.
    pub(super) fn book<R>(&self, look: impl FnOnce(&History) -> R) -> Option<R> {
        lock(&self.production).market.book().map(look)
    }

    /// The last messages there were.
    pub(super) fn recent(&self) -> Vec<Message> {
        lock(&self.production).recent.iter().cloned().collect()
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn ledger(&self) -> Vec<Served> {
        lock(&self.ledger).iter().flatten().copied().collect()
    }

    fn served(&self, place: usize, numbers: &[(u64, u64)]) {
        let (Some((first, _)), Some((_, last))) = (numbers.first(), numbers.last()) else { return };
        let served = &mut lock(&self.ledger)[place];
        let served = served.get_or_insert(Served { first: *first, last: *last, messages: 0 });
        served.last = *last;
        served.messages += numbers.len() as u64;
    }
}

impl Batch {
    fn new(events: &[Event]) -> Self {
        Self {
            frames: Encoded::messages(events.iter().map(|event| &event.message)),
            numbers: events.iter().map(|event| (event.first, event.last)).collect(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
