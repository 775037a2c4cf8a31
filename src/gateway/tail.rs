//! The newest events of a name, shared by all who read it by events or ask for a snapshot.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::StreamExt as _;
use tokio::sync::watch;
use tokio::time::sleep;

use super::config::GatewayConfig;
use super::event::{Event, Place};
use super::feed::{Source, Unread};
use super::news::{Feed, News};
use super::numbers::Numbers;
use super::words;
use crate::error::StreamError;
use crate::message::Message;
use crate::name::StreamName;

/// The tails that there are.
#[derive(Debug)]
pub(super) struct Tails {
    /// Dropped with the gateway, which ends the tails that nobody reads.
    alive: watch::Sender<()>,
    names: Mutex<HashMap<Key, Arc<Tail>>>,
    numbers: Arc<Numbers>,
}

/// A name, and how much later it comes.
type Key = (StreamName, Duration);

/// The newest events of a name. There is one as long as somebody reads it, and for
/// [`replay_linger`](field@GatewayConfig::replay_linger) after that.
pub(super) struct Tail {
    /// Tells who reads that there is more.
    changed: watch::Sender<()>,
    key: Key,
    numbers: Arc<Numbers>,
    pub(super) prefix: Bytes,
    ring: Mutex<Ring>,
    /// How often somebody came to read it.
    visits: AtomicU64,
}

#[derive(Debug, Default)]
struct Ring {
    bytes: usize,
    /// By their numbers, which rise.
    events: VecDeque<(u64, Arc<Event>)>,
    /// What was up to here is no longer there, or never was.
    gone: u64,
    is_ended: bool,
    latest: Option<(u64, Message)>,
    status: &'static str,
}

/// What a cursor comes to.
#[derive(Debug)]
pub(super) enum Next {
    Ended,
    Event(u64, Arc<Event>),
    /// What was there is no longer, up to that number.
    Missed(u64),
    Nothing,
}

impl Tails {
    pub(super) fn new(numbers: Numbers) -> Self {
        let (alive, _) = watch::channel(());
        Self { alive, names: Mutex::default(), numbers: Arc::new(numbers) }
    }

    /// The tail of a name, and what tells of changes, which keeps it.
    pub(super) fn open(
        self: &Arc<Self>,
        (name, delay): (&StreamName, Duration),
        config: &GatewayConfig,
        source: &Source,
    ) -> Result<(Arc<Tail>, watch::Receiver<()>), Unread> {
        let mut names = self.lock();
        let key = (name.clone(), delay);
        if let Some(tail) = names.get(&key) {
            tail.visits.fetch_add(1, Ordering::Relaxed);
            let changes = tail.changed.subscribe();
            return Ok((Arc::clone(tail), changes));
        }
        let (feed, latest) = source.open(name, delay)?;
        let gone = self.numbers.fresh();
        let ring = Ring { latest: latest.map(|message| (gone, message)), gone, ..Ring::default() };
        let tail = Arc::new(Tail {
            changed: watch::Sender::new(()),
            key,
            numbers: Arc::clone(&self.numbers),
            prefix: words::data_prefix(name.as_str()),
            ring: Mutex::new(ring),
            visits: AtomicU64::new(0),
        });
        let changes = tail.changed.subscribe();
        names.insert(tail.key.clone(), Arc::clone(&tail));
        let guard = Listed { tail: Arc::clone(&tail), tails: Arc::downgrade(self) };
        tokio::spawn(follow(guard, feed, config.clone(), self.alive.subscribe()));
        Ok((tail, changes))
    }

    /// The order of all events.
    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Tail>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a tail off the list, unless somebody has come to read it.
    fn leave(&self, tail: &Arc<Tail>, visits: u64) -> bool {
        let mut names = self.lock();
        let is_left =
            tail.changed.receiver_count() == 0 && tail.visits.load(Ordering::Relaxed) == visits;
        if is_left && names.get(&tail.key).is_some_and(|own| Arc::ptr_eq(own, tail)) {
            names.remove(&tail.key);
        }
        is_left
    }
}

/// Takes a tail off the list when its task ends, in whatever way.
struct Listed {
    tail: Arc<Tail>,
    tails: Weak<Tails>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        if let Some(tails) = self.tails.upgrade() {
            let mut names = tails.lock();
            if names.get(&self.tail.key).is_some_and(|own| Arc::ptr_eq(own, &self.tail)) {
                names.remove(&self.tail.key);
            }
        }
        self.tail.end();
    }
}

/// Fills a tail until its name ends, or nobody wants it.
async fn follow(
    listed: Listed,
    mut feed: Feed,
    config: GatewayConfig,
    mut alive: watch::Receiver<()>,
) {
    let tail = Arc::clone(&listed.tail);
    let left = async {
        loop {
            tail.changed.closed().await;
            let visits = tail.visits.load(Ordering::Relaxed);
            tokio::select! {
                () = sleep(config.replay_linger) => {}
                _ = alive.changed() => return,
            }
            let Some(tails) = listed.tails.upgrade() else { return };
            if tails.leave(&tail, visits) {
                return;
            }
        }
    };
    tokio::pin!(left);
    loop {
        tokio::select! {
            news = feed.next() => match news {
                Some(news) => listed.tail.take(news, &config),
                None => return,
            },
            () = &mut left => return,
        }
    }
}

impl Tail {
    pub(super) fn name(&self) -> &StreamName {
        &self.key.0
    }

    /// How much later it comes.
    pub(super) fn delay(&self) -> Duration {
        self.key.1
    }

    pub(super) fn place(&self, number: u64) -> Place {
        Place { delay: self.key.1, epoch: self.numbers.epoch(), number }
    }

    /// What the name is doing.
    pub(super) fn status(&self) -> &'static str {
        self.lock().status
    }

    /// Whether a reader that was at `place` can go on there without a gap.
    pub(super) fn has_all_after(&self, place: Place) -> bool {
        let is_own = place == self.place(place.number) && place.number <= self.numbers.upto();
        is_own && place.number >= self.lock().gone
    }

    /// What comes after that number.
    pub(super) fn after(&self, number: u64) -> Next {
        let ring = self.lock();
        if number < ring.gone {
            return Next::Missed(ring.gone);
        }
        let at = ring.events.partition_point(|(own, _)| *own <= number);
        match ring.events.get(at) {
            Some((number, event)) => Next::Event(*number, Arc::clone(event)),
            None if ring.is_ended => Next::Ended,
            None => Next::Nothing,
        }
    }

    /// The last message with its place, and what the name is doing.
    pub(super) fn latest(&self) -> (Option<(Place, Message)>, &'static str) {
        let ring = self.lock();
        let latest = ring.latest.as_ref();
        (latest.map(|(number, message)| (self.place(*number), message.clone())), ring.status)
    }

    pub(super) fn is_ended(&self) -> bool {
        self.lock().is_ended
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, news: News, config: &GatewayConfig) {
        let name = self.key.0.as_str();
        // Encoded without the lock, under which readers look.
        let mut events = Vec::new();
        let (mut latest, mut status) = (None, None);
        match news {
            News::Batch(batch) => {
                for item in batch {
                    match item {
                        Ok(message) => {
                            latest = Some((events.len(), message.clone()));
                            events.push(Event::message(message));
                        }
                        Err(StreamError::Gap(gap)) => events.push(Event::gap(name, &gap)),
                        Err(_) => {}
                    }
                }
            }
            News::Status(news) => {
                status = Some(news);
                events.push(Event::status(name, news));
            }
        }
        // Dropped last: numbers are seen when their events are.
        let mut turn = self.numbers.turn();
        let mut ring = self.lock();
        ring.status = status.unwrap_or(ring.status);
        for (at, event) in events.into_iter().enumerate() {
            let number = turn.next();
            if let Some((_, message)) = latest.take_if(|(own, _)| *own == at) {
                ring.latest = Some((number, message));
            }
            ring.push(number, event, config);
        }
        drop(ring);
        drop(turn);
        self.changed.send_replace(());
    }

    fn end(&self) {
        self.lock().is_ended = true;
        self.changed.send_replace(());
    }
}

impl Ring {
    fn push(&mut self, number: u64, event: Event, config: &GatewayConfig) {
        self.bytes += event.len();
        self.events.push_back((number, Arc::new(event)));
        // The newest stays, however long it is.
        while self.events.len() > 1
            && (self.events.len() > config.replay || self.bytes > config.replay_bytes)
        {
            if let Some((number, oldest)) = self.events.pop_front() {
                self.bytes -= oldest.len();
                self.gone = number;
            }
        }
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("name", &self.key.0).finish_non_exhaustive()
    }
}
