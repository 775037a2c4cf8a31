//! The names that a connection carries, and how far each has come.
//!
//! ```text
//! Wanted ──▶ Joining ──▶ Joined
//!   ▲           │ deadline  │ ended, silent, socket lost
//!   └───────────┴───────────┘
//! ```
//!
//! A connection does not replay a log of joins and leaves. It compares what it carries with what
//! the registry wants, and says the difference: the first join, later ones, and those after a
//! reconnect are the same code.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::task::Waker;

use slab::Slab;
use tokio::time::Instant;

use crate::config::{Backoff, RetryPolicy};
use crate::engine::events::Log;
use crate::engine::outgoing::Post;
use crate::engine::registry::Change;
use crate::engine::topic::Topic;
use crate::error::{CloseReason, Gap};
use crate::message::Message;
use crate::name::StreamName;
use crate::observe::{Event, Metrics, Status};
use crate::protocol::{DisconnectReason, To};
use crate::transport::TransportError;

/// Messages and bytes read and published at once, before other tasks have their turn.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Members {
    /// Of the most demanding member since there last was none.
    budget: (usize, usize),
    by_name: HashMap<StreamName, usize>,
    /// When each silence may have been too long; looked at again when it comes.
    data_due: BTreeSet<(Instant, usize)>,
    events: Arc<Log<Event>>,
    /// When each join has taken too long.
    join_due: BTreeSet<(Instant, usize)>,
    members: Slab<Member>,
    metrics: Arc<Metrics>,
    /// What the program itself sends on those that are joined.
    post: Arc<Post>,
    retry: RetryPolicy,
    seed: u64,
    /// Members with messages that are not published yet.
    touched: Vec<usize>,
    /// Members to be joined, and not before when.
    wanted: BTreeSet<(Option<Instant>, usize)>,
    woken: Vec<Waker>,
}

#[derive(Debug)]
struct Member {
    /// Delays between joins that fail on a socket that works.
    backoff: Option<Box<Backoff>>,
    heard_at: Instant,
    joined_at: Instant,
    /// Messages that are not published yet.
    pending: Vec<Message>,
    stage: Stage,
    topic: Arc<Topic>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Joined { data_due: Option<Instant> },
    Joining { deadline: Instant },
    Wanted { not_before: Option<Instant> },
}

/// A stream that has failed once too often on a socket that works.
pub(super) type GivenUp = (Arc<Topic>, CloseReason);

impl Members {
    pub(super) fn new(
        retry: RetryPolicy,
        seed: u64,
        metrics: Arc<Metrics>,
        events: Arc<Log<Event>>,
    ) -> Self {
        Self {
            budget: (BATCH, BATCH_BYTES),
            by_name: HashMap::new(),
            data_due: BTreeSet::new(),
            events,
            join_due: BTreeSet::new(),
            members: Slab::new(),
            metrics,
            post: Arc::default(),
            retry,
            seed,
            touched: Vec::new(),
            wanted: BTreeSet::new(),
            woken: Vec::new(),
        }
    }

    /// Takes over what has changed, and returns the names that the server was asked for and is to
    /// stop.
    pub(super) fn apply(&mut self, changes: Vec<Change>, status: &Status) -> Vec<StreamName> {
        let mut left = Vec::new();
        for Change { name, not_before, topic } in changes {
            match (self.by_name.get(&name).copied(), topic) {
                (None, None) => {}
                (None, Some(topic)) => self.add(topic, not_before, status),
                (Some(key), Some(topic)) => self.succeed(key, topic, status),
                (Some(key), None) => {
                    let was_asked = !matches!(self.members[key].stage, Stage::Wanted { .. });
                    self.remove(key);
                    left.extend(was_asked.then_some(name));
                }
            }
        }
        left
    }

    /// Takes up to `most` names that are to be joined now; their joins have until `deadline`.
    pub(super) fn start_joining(
        &mut self,
        most: usize,
        deadline: Instant,
        now: Instant,
    ) -> Vec<StreamName> {
        let mut names = Vec::new();
        while names.len() < most {
            match self.wanted.first() {
                Some(&(not_before, key)) if not_before.is_none_or(|at| at <= now) => {
                    self.move_to(key, Stage::Joining { deadline });
                    if not_before.is_some() {
                        self.members[key].topic.set_status(Status::Joining);
                    }
                    names.push(self.members[key].topic.name.clone());
                }
                _ => break,
            }
        }
        names
    }

    /// The server has confirmed `name`. A confirmation that comes while its next join waits is of
    /// one that was taken back: the server is about to stop what it confirms.
    pub(super) fn confirmed(&mut self, name: &str, attempt: u32, now: Instant) {
        let Some(&key) = self.by_name.get(name) else { return };
        if !matches!(self.members[key].stage, Stage::Wanted { not_before: Some(_) }) {
            self.joined(name, attempt, now);
        }
    }

    /// `name` is joined, whether or not it was asked for.
    pub(super) fn joined(&mut self, name: &str, attempt: u32, now: Instant) {
        let Some(&key) = self.by_name.get(name) else { return };
        let member = &mut self.members[key];
        if matches!(member.stage, Stage::Joined { .. }) {
            return;
        }
        (member.heard_at, member.joined_at) = (now, now);
        member.topic.joined(now, attempt);
        let data_due = member.topic.settings.data_timeout.map(|timeout| now + timeout);
        self.move_to(key, Stage::Joined { data_due });
    }

    /// Takes a message for later [`publish`](Self::publish), if it is for anybody.
    pub(super) fn data(&mut self, to: To<'_>, payload: Message) {
        let known = match to {
            To::Name(name) => self.by_name.get(name).copied(),
            To::All if self.members.len() == 1 => self.members.iter().next().map(|(key, _)| key),
            To::All => return self.data_for_all(&payload),
        };
        if !known.is_some_and(|key| self.hand_to(key, payload)) {
            self.metrics.unroutable(1);
        }
    }

    fn data_for_all(&mut self, payload: &Message) {
        let keys: Vec<_> = self.members.iter().map(|(key, _)| key).collect();
        let mut anybody = false;
        for key in keys {
            anybody |= self.hand_to(key, payload.clone());
        }
        if !anybody {
            self.metrics.unroutable(1);
        }
    }

    fn hand_to(&mut self, key: usize, payload: Message) -> bool {
        let member = &mut self.members[key];
        if !matches!(member.stage, Stage::Joined { .. }) {
            return false;
        }
        if member.pending.is_empty() {
            self.touched.push(key);
        }
        member.pending.push(payload);
        true
    }

    /// Publishes what came. Everything that tells readers of something else comes after it.
    pub(super) fn publish(&mut self, now: Instant) {
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            let member = &mut self.members[key];
            member.heard_at = now;
            let messages = std::mem::take(&mut member.pending);
            member.topic.publish(messages, now, &mut self.woken);
        }
        self.touched = touched;
    }

    /// The feed itself tells that messages are missing.
    pub(super) fn missing(&mut self, to: To<'_>, gap: &Gap, now: Instant) {
        self.publish(now);
        let skip = |member: &Member| {
            if matches!(member.stage, Stage::Joined { .. }) {
                member.topic.missing(gap.clone());
            }
        };
        match to {
            To::All => self.members.iter().for_each(|(_, member)| skip(member)),
            To::Name(name) => {
                let member = self.by_name.get(name).map(|&key| &self.members[key]);
                member.into_iter().for_each(skip);
            }
        }
    }

    /// Whether one more message of `len` bytes makes no reader of `name` lose one.
    pub(super) fn has_room(&mut self, name: &str, len: usize, now: Instant) -> bool {
        let Some(&key) = self.by_name.get(name) else { return true };
        if self.members[key].pending.len() >= BATCH {
            self.publish(now); // Counting what waits must not take longer and longer.
        }
        let Member { pending, topic, .. } = &self.members[key];
        topic.has_room(pending.len() + 1, pending.iter().map(Message::len).sum::<usize>() + len)
    }

    /// The server refuses `name`: it is not carried any more.
    pub(super) fn rejected(&mut self, name: &str, now: Instant) -> Option<Arc<Topic>> {
        self.publish(now);
        let &key = self.by_name.get(name)?;
        Some(self.remove(key))
    }

    /// The server has ended `name`, which is joined again after a delay.
    pub(super) fn ended(&mut self, name: &str, now: Instant) -> Option<GivenUp> {
        self.publish(now);
        let &key = self.by_name.get(name)?;
        self.fail(key, &DisconnectReason::StreamEnded, now)
    }

    /// A join that has taken too long, or a silence.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<(usize, DisconnectReason)> {
        if let Some(&(_, key)) = self.join_due.first().filter(|(due, _)| *due <= now) {
            return Some((key, DisconnectReason::JoinTimeout));
        }
        while let Some(&(_, key)) = self.data_due.first().filter(|(due, _)| *due <= now) {
            let member = &self.members[key];
            let data_due = member.topic.settings.data_timeout.map(|t| member.heard_at + t);
            if data_due.is_some_and(|due| due <= now) {
                return Some((key, DisconnectReason::DataTimeout));
            }
            self.move_to(key, Stage::Joined { data_due });
        }
        None
    }

    /// Whether another member than `key` is well.
    pub(super) fn has_others(&self, key: usize) -> bool {
        let mut others = self.members.iter().filter(|(other, _)| *other != key);
        others.any(|(_, member)| matches!(member.stage, Stage::Joined { .. }))
    }

    pub(super) fn name(&self, key: usize) -> StreamName {
        self.members[key].topic.name.clone()
    }

    /// Breaks off one member, to be joined again after a delay on the socket that works.
    pub(super) fn fail(
        &mut self,
        key: usize,
        reason: &DisconnectReason,
        now: Instant,
    ) -> Option<GivenUp> {
        let seed = self.seed.wrapping_add(key as u64);
        let member = &mut self.members[key];
        let error = Arc::new(TransportError::new(reason.clone()));
        member.topic.failed(Arc::clone(&error));
        let backoff =
            member.backoff.get_or_insert_with(|| Box::new(Backoff::new(self.retry.clone(), seed)));
        if matches!(member.stage, Stage::Joined { .. }) {
            member.topic.break_off(member.heard_at, reason.clone());
            backoff.record_uptime(now.saturating_duration_since(member.joined_at));
        }
        let Some(delay) = backoff.next() else {
            let attempts = backoff.attempt();
            let topic = self.remove(key);
            return Some((topic, CloseReason::RetriesExhausted { attempts, last: error }));
        };
        let attempt = backoff.attempt();
        let name = member.topic.name.clone();
        tracing::warn!(%name, "stream {name}: {error}; attempt {attempt} follows in {delay:.1?}");
        self.events.push(|| Event::StreamRetrying {
            name,
            attempt,
            delay,
            error: Arc::clone(&error),
        });
        member.topic.set_status(Status::BackingOff { attempt, delay, error });
        self.move_to(key, Stage::Wanted { not_before: Some(now + delay) });
        None
    }

    /// The socket is lost, which was last heard at `since`: all are to be joined again. Those that
    /// have to wait still have to.
    pub(super) fn break_off(&mut self, since: Instant, reason: &DisconnectReason) {
        self.publish(since);
        for key in self.keys() {
            let member = &mut self.members[key];
            match member.stage {
                Stage::Joined { .. } => {
                    member.topic.break_off(since, reason.clone());
                    if let Some(backoff) = &mut member.backoff {
                        backoff.record_uptime(since.saturating_duration_since(member.joined_at));
                    }
                }
                Stage::Joining { .. } => {}
                Stage::Wanted { .. } => continue,
            }
            self.move_to(key, Stage::Wanted { not_before: None });
        }
    }

    pub(super) fn failed(&self, error: &Arc<TransportError>) {
        self.members.iter().for_each(|(_, member)| member.topic.failed(Arc::clone(error)));
    }

    pub(super) fn announce(&self, status: &Status) {
        self.members.iter().for_each(|(_, member)| member.topic.set_status(status.clone()));
    }

    pub(super) fn names(&self) -> Vec<StreamName> {
        self.members.iter().map(|(_, member)| member.topic.name.clone()).collect()
    }

    /// The names that may be joined at `now`.
    pub(super) fn wanted(&self, now: Instant) -> Vec<StreamName> {
        let due = self.wanted.iter().take_while(|(at, _)| at.is_none_or(|at| at <= now));
        due.map(|(_, key)| self.members[*key].topic.name.clone()).collect()
    }

    pub(super) fn carries(&self, name: &StreamName) -> bool {
        self.by_name.contains_key(name)
    }

    /// When something is to be done about a member. Joins come only once the session is `ready`.
    pub(super) fn next_due(&self, ready: bool) -> Option<Instant> {
        let wanted = self.wanted.first().and_then(|(at, _)| *at).filter(|_| ready);
        let join = self.join_due.first().map(|(due, _)| *due);
        let data = self.data_due.first().map(|(due, _)| *due);
        [wanted, join, data].into_iter().flatten().min()
    }

    /// How many messages and bytes to read at once, so that a reader that takes its turn whenever it
    /// is offered one does not lag: no more than half of what a stream keeps.
    pub(super) fn budget(&self) -> (usize, usize) {
        self.budget
    }

    pub(super) fn post(&self) -> &Arc<Post> {
        &self.post
    }

    fn keys(&self) -> Vec<usize> {
        self.members.iter().map(|(key, _)| key).collect()
    }

    fn add(&mut self, topic: Arc<Topic>, not_before: Option<Instant>, status: &Status) {
        topic.set_status(match not_before {
            Some(_) => Status::Waiting { position: None, until: not_before },
            None => status.clone(),
        });
        self.cap_budget(&topic);
        let (name, now) = (topic.name.clone(), Instant::now());
        let key = self.members.insert(Member {
            backoff: None,
            heard_at: now,
            joined_at: now,
            pending: Vec::new(),
            stage: Stage::Wanted { not_before },
            topic,
        });
        self.by_name.insert(name, key);
        self.wanted.insert((not_before, key));
    }

    /// The name was given up and wanted again before we heard of either: another topic has it now,
    /// and what the server was told still holds.
    fn succeed(&mut self, key: usize, topic: Arc<Topic>, status: &Status) {
        let member = &mut self.members[key];
        if Arc::ptr_eq(&member.topic, &topic) {
            return;
        }
        match member.stage {
            Stage::Joined { .. } => {
                topic.joined(Instant::now(), 1);
                topic.outgoing.serve(&self.post);
            }
            Stage::Joining { .. } | Stage::Wanted { .. } => topic.set_status(status.clone()),
        }
        member.pending.clear();
        self.touched.retain(|touched| *touched != key);
        member.topic = topic;
    }

    fn cap_budget(&mut self, topic: &Topic) {
        let (messages, bytes) =
            if self.members.is_empty() { (BATCH, BATCH_BYTES) } else { self.budget };
        let settings = &topic.settings;
        let messages = messages.min(settings.buffer / 2).max(1);
        self.budget = (messages, bytes.min(settings.buffer_bytes / 2).max(1));
    }

    fn remove(&mut self, key: usize) -> Arc<Topic> {
        self.unlist(key);
        let member = self.members.remove(key);
        self.by_name.remove(&member.topic.name);
        self.touched.retain(|touched| *touched != key);
        member.topic
    }

    fn move_to(&mut self, key: usize, stage: Stage) {
        self.unlist(key);
        self.members[key].stage = stage;
        match stage {
            Stage::Joined { data_due } => {
                self.data_due.extend(data_due.map(|due| (due, key)));
                self.members[key].topic.outgoing.serve(&self.post);
            }
            Stage::Joining { deadline } => {
                self.join_due.insert((deadline, key));
            }
            Stage::Wanted { not_before } => {
                self.wanted.insert((not_before, key));
            }
        }
    }

    /// Takes a member out of the set that its stage is in. Only what is joined is written to.
    fn unlist(&mut self, key: usize) {
        match self.members[key].stage {
            Stage::Joined { data_due } => {
                self.members[key].topic.outgoing.leave(&self.post);
                if let Some(due) = data_due {
                    self.data_due.remove(&(due, key));
                }
            }
            Stage::Joining { deadline } => {
                self.join_due.remove(&(deadline, key));
            }
            Stage::Wanted { not_before } => {
                self.wanted.remove(&(not_before, key));
            }
        }
    }
}
