//! What every handle, subscription and task of one manager shares.
//!
//! Ownership runs one way: managers, subscriptions and leases own the core, which owns the
//! registry. Tasks hold at most a `Weak` of it, so dropping the last owner stops everything.
//!
//! # Deadlock safety
//!
//! The registry's lock is taken in [`Core::decide`] alone, for plain synchronous code that takes no
//! lock but, shortly, a topic's. What a decision leaves to be done (wake, close, drop) is done after
//! the lock is released, since it may run other people's code, which may come back here.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle as Runtime;
use tokio::time::{self, Instant};

use super::bases::Bases;
use super::dedicated::Hold;
use super::events::Log;
use super::limiter::Limiter;
use super::neighbours::ManagerId;
use super::registry::{Asked, Changes, Kind, Leftovers, Link, Registry};
use super::sync::{Following, Mutex, Signal, Watch};
use super::tokens::Tokens;
use super::tools::Tools;
use super::topic::Topic;
use crate::config::{Config, Credentials, StreamConfig};
use crate::error::{CloseReason, SubscribeError};
use crate::name::StreamName;
use crate::observe::health::Ended;
use crate::observe::{ConnectionId, Event, HandoverReason, Metrics, Overall, StreamInfo};
use crate::protocol::{Lane, Protocol, RequestId};
use crate::transport::DynTransport;

/// Topics looked at under one hold of the lock, by what has to look at all of them.
const PIECE: usize = 64;

/// Streams that ended by themselves, of which the latest are known.
const MAX_ENDED: usize = 256;

pub(crate) struct Core {
    /// The latest streams that ended by themselves, the oldest first.
    ended: Mutex<VecDeque<Ended>>,
    /// Keeps the thread of our own going, if there is one.
    hold: Option<Hold>,
    pub(crate) overall: Arc<Watch<Overall>>,
    registry: Mutex<Registry>,
    /// Number of the latest request.
    requests: AtomicU64,
    /// Tasks that run.
    running: Arc<Watch<usize>>,
    pub(crate) runtime: Option<Runtime>,
    /// Where the latest connection was started.
    runs_on: Mutex<Option<Runtime>>,
    pub(crate) seed: u64,
    /// What holds for each stream, and for those that have values of their own.
    stream: Arc<StreamConfig>,
    streams: HashMap<StreamName, Arc<StreamConfig>>,
    pub(super) sweeper: Arc<Signal>,
    pub(super) sweeping: Arc<AtomicBool>,
    pub(crate) tokens: Option<Tokens>,
    tools: Arc<Tools>,
}

/// What a core is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) hold: Option<Hold>,
    pub(crate) limiter: Limiter,
    pub(crate) metrics: Metrics,
    pub(crate) protocol: Arc<dyn Protocol>,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) seed: u64,
    pub(crate) streams: HashMap<StreamName, StreamConfig>,
    pub(crate) transport: Arc<dyn DynTransport>,
    pub(crate) wall: fn() -> SystemTime,
}

/// A core has its tools as if they were fields of its own.
impl Deref for Core {
    type Target = Tools;

    fn deref(&self) -> &Tools {
        &self.tools
    }
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { config, credentials, hold, limiter, metrics, protocol, runtime, .. } = parts;
        let Parts { seed, streams, transport, wall, .. } = parts;
        let tools = Tools {
            bases: Bases::new(protocol.bases()),
            events: Arc::new(Log::new()),
            limiter,
            metrics: Arc::new(metrics),
            protocol,
            retry: Arc::new(config.retry.clone()),
            sleeps: Arc::default(),
            transport,
            wall,
            config: Arc::new(config),
        };
        let config = &tools.config;
        Arc::new(Self {
            ended: Mutex::default(),
            hold,
            overall: Arc::new(Watch::new(Overall::default())),
            registry: Mutex::new(Registry::new(config)),
            requests: AtomicU64::new(0),
            running: Arc::new(Watch::new(0)),
            runtime,
            runs_on: Mutex::default(),
            seed,
            stream: Arc::new(config.stream()),
            streams: streams.into_iter().map(|(name, own)| (name, Arc::new(own))).collect(),
            sweeper: Arc::default(),
            sweeping: Arc::default(),
            tokens: credentials.map(|c| Tokens::new(c, config, seed, wall)),
            tools: Arc::new(tools),
        })
    }

    pub(super) fn tools(&self) -> Arc<Tools> {
        Arc::clone(&self.tools)
    }

    /// Takes a seat on `name`. A returned [`Link`] is a new connection for the caller to run.
    pub(super) fn join(
        &self,
        name: &StreamName,
        kind: Kind,
        can_open: bool,
    ) -> Result<(Arc<Topic>, Option<Link>), SubscribeError> {
        // Asked before the lock is taken: it is the user's code.
        let lane = self.protocol.lane(name)?;
        let capacity = self.protocol.limits(&lane).capacity.unwrap_or(usize::MAX);
        let asked = Asked { can_open, capacity, kind, lane: &lane, name, now: Instant::now() };
        let mut opened = false;
        let joined = self.decide(|registry| {
            registry.join(&asked, |source| {
                opened = true;
                self.open_topic(name, source)
            })
        });
        if let Err(SubscribeError::ConnectionLimit { .. }) = &joined {
            self.metrics.recent.refused.add(1, asked.now);
        }
        let joined = joined?;
        if opened {
            tracing::debug!(%name, "stream opened");
            self.metrics.stream_opened();
            self.events.push(|| Event::StreamOpened { name: name.clone() });
        }
        match kind {
            Kind::Lease => self.metrics.lease_taken(),
            Kind::Reader => self.metrics.reader_joined(),
        }
        Ok(joined)
    }

    fn open_topic(&self, name: &StreamName, source: ConnectionId) -> Arc<Topic> {
        let settings = Arc::clone(self.streams.get(name).unwrap_or(&self.stream));
        Arc::new(Topic::new(name.clone(), source, settings, Arc::clone(&self.metrics)))
    }

    /// Gives a seat back. Returns whether the topic is due to be closed later.
    pub(super) fn leave(&self, topic: &Arc<Topic>, kind: Kind) -> bool {
        let now = Instant::now();
        match kind {
            Kind::Lease => self.metrics.lease_left(),
            Kind::Reader => self.metrics.reader_left(),
        }
        self.decide(|registry| registry.leave(topic, kind, now) || registry.has_crowded())
    }

    /// Whether there is anything for a sweeper to wait for.
    pub(super) fn has_due(&self) -> bool {
        let registry = self.registry.lock();
        registry.next_due().is_some() || registry.has_crowded()
    }

    /// Closes what has lingered long enough, and says when to look again.
    pub(super) fn sweep(&self, now: Instant) -> Option<Instant> {
        while self.decide(|registry| registry.sweep(now)) {}
        while let Some(id) = self.decide(|registry| registry.retire(now)) {
            self.packs(id);
            let mut from = Some(0);
            while let Some(key) = from {
                from = self.decide(|registry| registry.spread(id, key, PIECE, now));
            }
        }
        self.decide(|registry| {
            registry.forget_old_penalties(now);
            registry.next_due()
        })
    }

    /// The streams of connection `id` move to sockets that have room for them.
    fn packs(&self, id: ConnectionId) {
        let Some(lane) = self.decide(|registry| registry.lane_of(id)) else { return };
        tracing::info!(connection = %id, ?lane, "its streams move to sockets that have room for them");
        let reason = HandoverReason::Packing;
        self.metrics.hands_over(reason);
        self.events.push(|| Event::HandingOver { connection: id, successor: None, lane, reason });
    }

    /// Closes what nobody has read or leased since `since`, and says how much that was.
    pub(crate) fn sweep_idle(&self, since: Instant) -> usize {
        std::iter::repeat_with(|| self.decide(|registry| registry.sweep_idle(since)))
            .take_while(|closed| *closed)
            .count()
    }

    pub(super) fn changes(&self, id: ConnectionId) -> Option<Changes> {
        let now = Instant::now();
        self.decide(|registry| registry.changes(id, now))
    }

    /// Moves all open sockets to fresh credentials.
    pub(crate) fn rotate_credentials(&self) {
        match &self.tokens {
            Some(tokens) => {
                tokens.give_up_all();
                self.decide(Registry::call_all);
            }
            // Whatever they are, only the protocol knows.
            None => self.rotate_all(),
        }
    }

    /// Has every connection take a turn: one of them has noticed something that concerns all.
    pub(super) fn rouse(&self) {
        let mut from = Some(0);
        while let Some(place) = from {
            from = self.decide(|registry| registry.rouse(place, PIECE));
        }
    }

    pub(super) fn may_dial(&self, id: ConnectionId) -> bool {
        self.decide(|registry| registry.may_dial(id))
    }

    pub(super) fn opened(&self, id: ConnectionId, is_open: bool) {
        self.decide(|registry| registry.opened(id, is_open));
    }

    /// The socket of a connection leads to this base.
    pub(super) fn leads_to(&self, id: ConnectionId, base: u16) {
        self.decide(|registry| registry.leads_to(id, base));
    }

    /// Closes one topic, whose connection lives on.
    pub(crate) fn end_topic(&self, topic: &Arc<Topic>, reason: CloseReason) {
        let now = Instant::now();
        self.decide(|registry| registry.ended(topic, reason, now));
    }

    /// Has the connection of `topic` look for a successor. Returns whether it has a socket to be
    /// replaced.
    pub(crate) fn rotate(&self, topic: &Arc<Topic>) -> bool {
        self.decide(|registry| registry.ask_to_rotate_of(topic))
    }

    /// The same for all connections.
    fn rotate_all(&self) {
        let mut from = Some(0);
        while let Some(place) = from {
            from = self.decide(|registry| registry.ask_all_to_rotate(place, PIECE));
        }
    }

    /// Hands the streams of connection `id` over to its successor. A returned [`Link`] is a new one,
    /// for the caller to run.
    pub(super) fn hand_over(&self, id: ConnectionId) -> Option<Link> {
        let now = Instant::now();
        let (to, link) = self.decide(|registry| registry.successor(id, now))?;
        let mut from = Some(0);
        while let Some(key) = from {
            from = self.decide(|registry| registry.hand_over(id, to, key, PIECE, now));
        }
        self.decide(|registry| registry.handed_over(to));
        link
    }

    /// Whether another connection is to take the place of connection `id`.
    pub(super) fn has_successor(&self, id: ConnectionId) -> bool {
        self.decide(|registry| registry.has_successor(id))
    }

    /// Whether connection `id` is to take the place of another.
    pub(super) fn succeeds(&self, id: ConnectionId) -> bool {
        self.decide(|registry| registry.succeeds(id))
    }

    /// `topic` has gone over to its next source.
    pub(super) fn took_over(&self, topic: &Arc<Topic>) {
        self.decide(|registry| registry.took_over(topic));
    }

    /// `topic` does not go over to connection `to`.
    pub(super) fn stays(&self, topic: &Arc<Topic>, to: ConnectionId) {
        self.decide(|registry| registry.stays(topic, to));
    }

    /// Connection `id` has failed: if it was to take another's place, that one keeps it.
    pub(super) fn give_up_succeeding(&self, id: ConnectionId) {
        while self.decide(|registry| registry.give_up_succeeding(id, PIECE)) {}
    }

    /// Connection `id` ended by itself: its streams end with it.
    pub(super) fn abandon(&self, id: ConnectionId, reason: &CloseReason) {
        while self.decide(|registry| registry.abandon(id, PIECE, reason)) {}
    }

    /// A lane's connection failed for good: the next one has to wait.
    pub(super) fn punish(&self, lane: &Lane, was_stable: bool, floor: Duration) {
        let now = Instant::now();
        self.decide(|registry| registry.failed(lane, was_stable, floor, now));
    }

    pub(super) fn running(&self, id: ConnectionId, task: tokio::task::AbortHandle) {
        self.decide(|registry| registry.running(id, task));
    }

    pub(super) fn finished(&self, id: ConnectionId, lane: &Lane) {
        self.decide(|registry| registry.finished(id, lane));
    }

    /// Closes every stream, and waits until the tasks have ended, which takes no longer than the
    /// close handshakes may.
    pub(crate) async fn shut_down(&self) {
        self.close_all();
        self.sweeper.set();
        let finished = {
            // Whoever waits may be in no runtime; and if nobody has one, nothing ever ran.
            let elsewhere = if Runtime::try_current().is_ok() { None } else { self.clock() };
            let _entered = elsewhere.as_ref().map(Runtime::enter);
            if Runtime::try_current().is_err() {
                return;
            }
            time::timeout(self.config.close_timeout, self.all_finished())
        };
        if finished.await.is_err() {
            let tasks = self.registry.lock().tasks();
            tasks.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }

    /// Closes every stream, and lets nobody in any more.
    pub(super) fn close_all(&self) {
        let mut from = Some(0);
        while let Some(place) = from {
            from = self.decide(|registry| registry.shut_down(place, PIECE));
        }
    }

    pub(super) async fn all_finished(&self) {
        let mut running = Following::new(&self.running);
        while poll_fn(|cx| running.poll_changed(cx)).await.is_some_and(|running| running > 0) {}
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.registry.lock().is_shut_down()
    }

    /// The number of a new request.
    pub(crate) fn next_request(&self) -> RequestId {
        RequestId(1 + self.requests.fetch_add(1, Relaxed))
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.registry.lock().topic(name).cloned()
    }

    pub(crate) fn stream_count(&self) -> usize {
        self.registry.lock().stream_count()
    }

    pub(crate) fn streams(&self) -> Vec<StreamInfo> {
        let now = Instant::now();
        let mut streams = Vec::new();
        let mut from = Some(0);
        while let Some(key) = from {
            let (listed, next) = self.registry.lock().page(key, PIECE);
            streams.extend(listed.into_iter().map(|listed| listed.info(now)));
            from = next;
        }
        streams
    }

    pub(crate) fn info(&self, topic: &Arc<Topic>) -> Option<StreamInfo> {
        let listed = self.registry.lock().listed(topic);
        listed.map(|listed| listed.info(Instant::now()))
    }

    /// What tells this manager from the others of the process.
    pub(crate) fn id(&self) -> ManagerId {
        Arc::as_ptr(&self.metrics) as usize
    }

    /// The runtime to run connections on.
    pub(crate) fn runtime(&self) -> Option<Runtime> {
        self.runtime.clone().or_else(|| Runtime::try_current().ok())
    }

    /// What a task holds that is run for this core.
    pub(super) fn hold(&self) -> Option<Hold> {
        self.hold.clone()
    }

    /// A connection was started on `runtime`.
    pub(super) fn runs_on(&self, runtime: &Runtime) {
        let before = self.runs_on.lock().replace(runtime.clone());
        drop(before);
    }

    /// A runtime to wait on for who is in none: the latest that a connection was started on.
    pub(crate) fn clock(&self) -> Option<Runtime> {
        self.runs_on.lock().clone()
    }

    /// Takes a decision under the lock, and carries it out without.
    fn decide<R>(&self, decision: impl FnOnce(&mut Registry) -> R) -> R {
        let (result, leftovers, changed) = {
            let mut registry = self.registry.lock();
            let before = (registry.overall(), registry.running_tasks());
            let result = decision(&mut registry);
            let after = (registry.overall(), registry.running_tasks());
            if registry.has_crowded() {
                self.sweeper.set();
            }
            (result, registry.leftovers(), before != after)
        };
        if changed {
            self.refresh();
        }
        self.carry_out(leftovers);
        result
    }

    /// Brings what is watched up to date. Read anew inside the watch's lock, so that of two that
    /// come here at once the later does not leave behind what the earlier saw.
    fn refresh(&self) {
        self.overall.update(|overall| {
            let before = std::mem::replace(overall, self.registry.lock().overall());
            before != *overall
        });
        self.running.update(|running| {
            let before = std::mem::replace(running, self.registry.lock().running_tasks());
            before != *running
        });
    }

    fn carry_out(&self, leftovers: Leftovers) {
        for (topic, reason) in leftovers.done() {
            let Some(reason) = reason else { continue };
            let name = topic.name.clone();
            self.events.push(|| match &reason {
                CloseReason::Unused => Event::StreamSwept { name },
                reason => Event::StreamClosed { name, reason: reason.clone() },
            });
            tracing::debug!(name = %topic.name, %reason, "stream closed");
            match reason {
                CloseReason::Shutdown => {}
                CloseReason::Unused => self.forget_ends(&topic.name),
                _ => self.remember_end(&topic, &reason),
            }
            topic.close(reason);
        }
    }

    fn remember_end(&self, topic: &Topic, reason: &CloseReason) {
        let (at, name, reason) = (Instant::now(), topic.name.clone(), reason.clone());
        self.metrics.recent.ended.add(1, at);
        let forgotten = {
            let mut ended = self.ended.lock();
            ended.push_back(Ended { at, name, reason });
            if ended.len() > MAX_ENDED { ended.pop_front() } else { None }
        };
        drop(forgotten);
    }

    /// Nobody wants the stream any more: that it once ended by itself is of no interest.
    fn forget_ends(&self, name: &StreamName) {
        let forgotten: VecDeque<Ended> = {
            let mut ended = self.ended.lock();
            let (of_name, others) =
                std::mem::take(&mut *ended).into_iter().partition(|e| e.name == *name);
            *ended = others;
            of_name
        };
        drop(forgotten);
    }

    /// The latest streams that ended by themselves, the oldest first.
    pub(crate) fn ended(&self) -> Vec<Ended> {
        self.ended.lock().iter().cloned().collect()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.sweeper.set(); // It finds us gone, and ends.
        let leftovers = self.registry.lock().let_go();
        self.carry_out(leftovers);
        let none = Overall::Disconnected;
        self.overall.update(|overall| std::mem::replace(overall, none) != none);
        self.overall.close();
        self.events.close();
    }
}
