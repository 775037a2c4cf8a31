//! Who is listening to what, and which connection carries it.
//!
//! The registry is plain data: no tasks, no I/O, no clock of its own. Every decision to open or to
//! close is taken here, under one lock, and so cannot race with another; connections only carry the
//! decisions out. Nothing here is linear in the number of streams.
//!
//! # Invariants
//!
//! 1. Each topic in `topics` is carried by one connection in `connections`, and each connection
//!    there carries at least one.
//! 2. A connection that carries nothing any more is taken out at once and told so; it is in its
//!    lane's `closing` until its task ends. Nobody is ever given a seat on it.
//! 3. A topic is in `idle` and in `due` if and only if it has neither readers nor leases.
//! 4. A connection dials only while it holds one of `max_connections` slots, and not before older
//!    connections of its lane have ended: a name has at most one socket.
//! 5. A connection that is [retired](packing) has its streams go over to others of its lane, and is
//!    given none; see there.
//! 6. What is taken out is handed to [`Leftovers`], and dropped without the lock: wakers and errors
//!    run other people's code.

mod connections;
mod handover;
mod listing;
mod packing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::defect::{Defect, seeded};
use super::moment::Moment;
use super::penalty::{Bounds, Penalties};
use super::small::Few;
use super::sync::Signal;
use super::topic::Topic;
use crate::config::Config;
use crate::error::{CloseReason, SubscribeError};
use crate::name::StreamName;
use crate::observe::ConnectionId;
use crate::protocol::Lane;

#[derive(Debug)]
pub(crate) struct Registry {
    by_name: HashMap<StreamName, usize>,
    connections: HashMap<ConnectionId, Box<Handle>>,
    /// Lanes that were found to have too many connections, and how long to wait before a look.
    crowded: Vec<(Lane, Duration)>,
    /// Streams in the order in which they will have lingered long enough.
    due: BTreeSet<(Moment, usize)>,
    /// Connections that were taken out, and whose tasks have not ended.
    ending: HashMap<ConnectionId, Ending>,
    /// Streams in the order in which they were left.
    idle: BTreeSet<(Moment, usize)>,
    lanes: HashMap<Lane, Box<Crossing>>,
    leftovers: Leftovers,
    max_connections: usize,
    next_id: NonZeroU64,
    next_rank: NonZeroU64,
    open: usize,
    /// When to look at lanes that have too many connections.
    packs: BTreeSet<(Instant, Lane)>,
    penalties: Penalties<Lane>,
    refusals: Penalties<StreamName>,
    /// Tasks of connections that have not ended.
    running: usize,
    shut_down: bool,
    slots: Slots,
    /// Connections that nobody needs now, in the order in which they were left.
    spare: BTreeMap<NonZeroU64, ConnectionId>,
    /// How many connections have yet to take the place of another.
    succeeding: usize,
    topics: Slab<Entry>,
}

#[derive(Debug)]
struct Entry {
    connection: ConnectionId,
    /// When it was left by the last of them, and when it will have lingered long enough.
    idle: Option<(Moment, Moment)>,
    leases: u32,
    /// The connection that is to take it over from `connection`.
    next: Option<ConnectionId>,
    readers: u32,
    topic: Arc<Topic>,
    /// Since when it has been leased and not read; holds while it is.
    unattended_since: Moment,
}

/// The registry's end of a connection.
#[derive(Debug)]
struct Handle {
    /// Where its socket leads, or led last.
    base: u16,
    capacity: usize,
    /// Names whose topic may have changed since the connection last asked; in order, so that a seed
    /// decides in which order they are joined.
    dirty: Few<StreamName>,
    /// What it holds of those that there are.
    has_slot: bool,
    /// How many of its topics have neither readers nor leases.
    idle: u32,
    /// Its place in `spare`, while all of them have none.
    idle_rank: Option<NonZeroU64>,
    is_open: bool,
    lane: Lane,
    /// Once it is retired.
    moving: Option<Box<Moving>>,
    /// Keys of the topics it carries, or is to take over.
    names: Few<usize>,
    /// How many of them it is to take over.
    pending: u32,
    /// Whether another one is to take its place, as soon as it comes to it.
    rotate: bool,
    signal: Arc<Signal>,
    /// The connection that takes its place.
    successor: Option<ConnectionId>,
    /// The connection whose place it takes. As long as that one is there, it counts towards no limit.
    succeeds: Option<ConnectionId>,
    task: Option<AbortHandle>,
}

impl Handle {
    /// Whether it has a slot, or that of the connection whose place it takes.
    fn may_dial(&self) -> bool {
        self.has_slot || self.succeeds.is_some()
    }
}

/// What is left of a connection that was taken out.
#[derive(Debug)]
struct Ending {
    has_slot: bool,
    task: Option<AbortHandle>,
}

/// What a connection that is retired still has to do.
#[derive(Debug, Default)]
struct Moving {
    /// How many of its topics are on their way to others.
    topics: usize,
    /// Whether it has been told.
    told: bool,
}

/// The connections of one lane.
#[derive(Debug, Default)]
struct Crossing {
    /// Those that wait for an older one to end.
    blocked: Few<ConnectionId>,
    /// Names that one of them may carry.
    capacity: usize,
    /// Those that were taken out and whose tasks have not ended.
    closing: Few<ConnectionId>,
    live: usize,
    /// How many topics they carry.
    names: usize,
    /// While there are more of them than it takes.
    packing: Option<Box<Packing>>,
    /// Those with room for another name.
    roomy: Few<ConnectionId>,
}

/// What is going on in a lane that has too many connections.
#[derive(Debug, Default)]
struct Packing {
    /// When it is looked at.
    due: Option<Instant>,
    /// How often in a row a connection has got its names back, or none could be retired.
    failed: u32,
    /// The connection that is losing its names.
    retired: Option<ConnectionId>,
}

/// The right to have a socket. A connection that is closing keeps its slot until its task ends.
#[derive(Debug, Default)]
struct Slots {
    held: usize,
    queue: BTreeSet<ConnectionId>,
}

/// The connection's end of a [`Handle`].
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: ConnectionId,
    pub(crate) lane: Lane,
    /// The first dial has to wait until then.
    pub(crate) not_before: Option<Moment>,
    pub(crate) signal: Arc<Signal>,
}

/// How somebody sits on a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Lease,
    Reader,
}

/// Whom a seat is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    /// Whether a connection could be run.
    pub(crate) can_open: bool,
    pub(crate) capacity: usize,
    pub(crate) kind: Kind,
    pub(crate) lane: &'a Lane,
    pub(crate) name: &'a StreamName,
    pub(crate) now: Instant,
}

/// What a connection has to do.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) names: Vec<Change>,
    /// Its streams go over to others: see that the peer proves what it has brought.
    pub(crate) parts: bool,
    /// Have another one take its place.
    pub(crate) rotate: bool,
}

/// What a connection has to do about a name.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) name: StreamName,
    /// The join has to wait until then.
    pub(crate) not_before: Option<Instant>,
    /// Its topic; `None` once it is not wanted.
    pub(crate) topic: Option<Arc<Topic>>,
}

/// What a decision leaves to be done without the lock.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    handles: Vec<AbortHandle>,
    /// Topics whose source is gone, and the connection that takes its place.
    left: Vec<(Arc<Topic>, ConnectionId)>,
    signals: Vec<Arc<Signal>>,
    /// Topics that were taken out, and why if they are to be closed.
    pub(crate) topics: Vec<(Arc<Topic>, Option<CloseReason>)>,
}

impl Leftovers {
    pub(crate) fn done(self) -> Vec<(Arc<Topic>, Option<CloseReason>)> {
        if !self.left.is_empty() {
            let now = Instant::now();
            self.left.iter().for_each(|(topic, to)| topic.leave_to(*to, now));
        }
        self.signals.iter().for_each(|signal| signal.set());
        self.topics
    }
}

impl Registry {
    pub(crate) fn new(config: &Config) -> Self {
        let bounds = Bounds { min: config.retry.min_delay, max: config.retry.max_delay };
        Self {
            by_name: HashMap::new(),
            connections: HashMap::new(),
            crowded: Vec::new(),
            due: BTreeSet::new(),
            ending: HashMap::new(),
            idle: BTreeSet::new(),
            lanes: HashMap::new(),
            leftovers: Leftovers::default(),
            max_connections: config.limits.max_connections,
            next_id: NonZeroU64::MIN,
            next_rank: NonZeroU64::MIN,
            open: 0,
            packs: BTreeSet::new(),
            penalties: Penalties::new(bounds),
            refusals: Penalties::new(bounds),
            running: 0,
            shut_down: false,
            slots: Slots::default(),
            spare: BTreeMap::new(),
            succeeding: 0,
            topics: Slab::new(),
        }
    }

    /// Takes a seat in a topic, made by `open` if there is none. A returned [`Link`] is a new
    /// connection for the caller to run.
    pub(crate) fn join(
        &mut self,
        asked: &Asked<'_>,
        open: impl FnOnce(ConnectionId) -> Arc<Topic>,
    ) -> Result<(Arc<Topic>, Option<Link>), SubscribeError> {
        if self.shut_down && !seeded(Defect::OpenAfterShutdown) {
            return Err(SubscribeError::Shutdown);
        }
        self.penalties.forget_old(asked.now);
        self.refusals.forget_old(asked.now);
        if let Some(&key) = self.by_name.get(asked.name) {
            if !self.topics[key].topic.is_closed() {
                return Ok((self.sit(key, asked), None));
            }
            self.take_out(key, None); // It has ended, and nobody has told us yet.
        }
        let (connection, link) = self.room(asked)?;
        let topic = open(connection);
        let unattended_since = asked.now.into();
        let (idle, next) = (None, None);
        let entry =
            Entry { connection, idle, leases: 0, next, readers: 0, topic, unattended_since };
        let key = self.topics.insert(entry);
        self.by_name.insert(asked.name.clone(), key);
        self.lanes.entry(asked.lane.clone()).or_default().names += 1;
        self.carry(connection, key, asked.name);
        Ok((self.sit(key, asked), link))
    }

    /// Gives a seat back. Says nothing to a topic that has succeeded the one that was sat in.
    ///
    /// Returns whether the topic is due to be closed later.
    pub(crate) fn leave(&mut self, topic: &Arc<Topic>, kind: Kind, now: Instant) -> bool {
        let Some(key) = self.key(topic) else { return false };
        let entry = &mut self.topics[key];
        match kind {
            Kind::Lease => entry.leases -= u32::from(!seeded(Defect::LeaseIsLeaked)),
            Kind::Reader => {
                entry.readers -= 1;
                entry.unattended_since = now.into();
            }
        }
        if entry.leases + entry.readers > 0 {
            return false;
        }
        if topic.settings.linger.is_zero() {
            self.take_out(key, Some(CloseReason::Unused));
            return false;
        }
        let due = Moment::from(now + topic.settings.linger);
        let now = Moment::from(now);
        entry.idle = Some((now, due));
        self.idle.insert((now, key));
        self.due.insert((due, key));
        for id in carriers(entry) {
            self.count_idle(id, |idle| idle + 1);
        }
        true
    }

    /// Closes a topic that has lingered long enough. Call again until there is none.
    pub(crate) fn sweep(&mut self, now: Instant) -> bool {
        match self.due.first() {
            Some(&(due, key)) if due <= now.into() => self.take_out(key, Some(CloseReason::Unused)),
            _ => return false,
        }
        true
    }

    /// Closes a topic that was left by `since` or earlier. Call again until there is none.
    pub(crate) fn sweep_idle(&mut self, since: Instant) -> bool {
        match self.idle.first() {
            Some(&(left, key)) if left <= since.into() => {
                self.take_out(key, Some(CloseReason::Unused))
            }
            _ => return false,
        }
        true
    }

    /// When the next topic is due, if none is joined again, or a penalty is to be forgotten.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let topic = self.due.first().map(|(due, _)| due.at());
        let topic = [topic, self.packing_due()].into_iter().flatten().min();
        [topic, self.penalties.next_due(), self.refusals.next_due()].into_iter().flatten().min()
    }

    pub(crate) fn forget_old_penalties(&mut self, now: Instant) {
        self.penalties.forget_old(now);
        self.refusals.forget_old(now);
    }

    /// A topic ended alone, and for good: its name has earned a wait.
    pub(crate) fn ended(&mut self, topic: &Arc<Topic>, reason: CloseReason, now: Instant) {
        self.refusals.strike(&topic.name, false, Duration::ZERO, now);
        match self.key(topic) {
            Some(key) => self.take_out(key, Some(reason)),
            // It was left meanwhile, or another has its name: only its readers are to be told.
            None => self.leftovers.topics.push((Arc::clone(topic), Some(reason))),
        }
    }

    /// Takes out the topics among the next `some` places from `place` on, and lets nobody in any
    /// more. Returns the place to go on from.
    pub(crate) fn shut_down(&mut self, place: usize, some: usize) -> Option<usize> {
        self.shut_down = true;
        let end = (place + some).min(self.topics.capacity());
        for key in place..end {
            if self.topics.contains(key) {
                self.take_out(key, Some(CloseReason::Shutdown));
            }
        }
        Some(end).filter(|end| *end < self.topics.capacity())
    }

    /// Signals the connections of the topics among the next `some` places from `place` on. Returns the
    /// place to go on from.
    pub(crate) fn rouse(&mut self, place: usize, some: usize) -> Option<usize> {
        let end = (place + some).min(self.topics.capacity());
        let entries = (place..end).filter_map(|key| self.topics.get(key));
        let handles = entries.filter_map(|entry| self.connections.get(&entry.connection));
        self.leftovers.signals.extend(handles.map(|handle| Arc::clone(&handle.signal)));
        Some(end).filter(|end| *end < self.topics.capacity())
    }

    /// The registry is going away: tells every connection to look again, and closes every topic.
    pub(crate) fn let_go(&mut self) -> Leftovers {
        let mut leftovers = std::mem::take(&mut self.leftovers);
        leftovers.signals.extend(self.connections.drain().map(|(_, handle)| handle.signal));
        let topics = self.topics.drain().map(|entry| (entry.topic, Some(CloseReason::Unused)));
        leftovers.topics.extend(topics);
        leftovers
    }

    pub(crate) fn leftovers(&mut self) -> Leftovers {
        std::mem::take(&mut self.leftovers)
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name).map(|&key| &self.topics[key].topic)
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.shut_down
    }

    /// The key of `topic`, unless it was taken out.
    fn key(&self, topic: &Arc<Topic>) -> Option<usize> {
        let &key = self.by_name.get(&topic.name)?;
        let is_it = Arc::ptr_eq(&self.topics[key].topic, topic);
        (is_it || seeded(Defect::LeaveByName)).then_some(key)
    }

    fn sit(&mut self, key: usize, asked: &Asked<'_>) -> Arc<Topic> {
        let entry = &mut self.topics[key];
        if entry.leases == 0 {
            entry.unattended_since = asked.now.into();
        }
        match asked.kind {
            Kind::Lease => entry.leases += 1,
            Kind::Reader => entry.readers += 1,
        }
        if let Some((left, due)) = entry.idle.take() {
            self.idle.remove(&(left, key));
            if !seeded(Defect::SitsOnDueTopic) {
                self.due.remove(&(due, key));
            }
            for id in carriers(entry) {
                self.count_idle(id, |idle| idle - 1);
            }
        }
        Arc::clone(&self.topics[key].topic)
    }

    /// Takes a topic out; with a `reason`, it is closed for whoever still reads it.
    fn take_out(&mut self, key: usize, reason: Option<CloseReason>) {
        let entry = self.topics.remove(key);
        self.by_name.remove(&entry.topic.name);
        if let Some((left, due)) = entry.idle {
            self.idle.remove(&(left, key));
            self.due.remove(&(due, key));
        }
        if entry.next.is_some() {
            self.moved(entry.connection);
        }
        let lane = self.connections.get(&entry.connection).map(|handle| handle.lane.clone());
        for id in carriers(&entry) {
            self.let_go_of(id, key, &entry);
        }
        if let Some(lane) = lane {
            self.lanes.get_mut(&lane).into_iter().for_each(|crossing| crossing.names -= 1);
            self.look_for_crowding(&lane);
        }
        self.leftovers.topics.push((entry.topic, reason));
    }
}

/// The connections that carry a topic: the one that is to take it over first.
fn carriers(entry: &Entry) -> impl Iterator<Item = ConnectionId> + use<> {
    [entry.next, Some(entry.connection)].into_iter().flatten()
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests;
