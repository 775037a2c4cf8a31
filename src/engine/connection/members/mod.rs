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

mod incoming;
mod review;

use std::sync::Arc;

use slab::Slab;
use tokio::time::Instant;

use super::batch::Batch;
use crate::config::Backoff;
use crate::engine::core::Core;
use crate::engine::moment::Moment;
use crate::engine::outgoing::Post;
use crate::engine::registry::Change;
use crate::engine::small::{Few, Index, Rare, Seldom};
use crate::engine::tools::Tools;
use crate::engine::topic::{Moved, Parcel, Topic};
use crate::error::CloseReason;
use crate::name::StreamName;
use crate::observe::{ConnectionId, Event, Status};
use crate::protocol::DisconnectReason;
use crate::transport::TransportError;

/// Messages and bytes read and published at once, before other tasks have their turn.
const BATCH: u32 = 128;
const BATCH_BYTES: u32 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Members {
    /// Of the most demanding member since there last was none.
    budget: (u32, u32),
    by_name: Index,
    /// The connection that carries them.
    connection: ConnectionId,
    /// When each silence may have been too long; looked at again when it comes.
    data_due: Rare<(Moment, usize)>,
    /// When each join has taken too long.
    join_due: Rare<(Moment, usize)>,
    /// Names that the server was asked for on this socket, and is to stop.
    leaving: Rare<StreamName>,
    members: Slab<Member>,
    /// What the registry has yet to be told.
    moved: Seldom<Handed>,
    /// What the program itself sends on those that are joined.
    post: Arc<Post>,
    /// When to look at the handover of a member that waits to be taken over.
    review_due: Rare<(Moment, usize)>,
    seed: u64,
    tools: Arc<Tools>,
    /// Members with messages that are not published yet.
    touched: Vec<usize>,
    /// Members whose joins are not known to be written.
    unwritten: Few<usize>,
    /// Members to be joined, and not before when.
    wanted: Rare<(Option<Moment>, usize)>,
}

#[derive(Debug)]
struct Member {
    /// Delays between joins that fail on a socket that works.
    backoff: Option<Box<Backoff>>,
    heard_at: Moment,
    joined_at: Moment,
    /// Messages that are not published yet.
    pending: Option<Box<Parcel>>,
    review_due: Option<Moment>,
    stage: Stage,
    topic: Arc<Topic>,
}

impl Member {
    /// What is not published yet of member `key`, to be added to.
    fn parcel(&mut self, key: usize, touched: &mut Vec<usize>) -> &mut Parcel {
        self.pending.get_or_insert_with(|| {
            touched.push(key);
            Box::default()
        })
    }

    /// How many messages, of how many bytes, are not published yet.
    fn waiting(&self) -> (usize, usize) {
        self.pending.as_ref().map_or((0, 0), |parcel| (parcel.messages.len(), parcel.bytes()))
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Joined {
        data_due: Option<Moment>,
    },
    /// Without a deadline until the join is written.
    Joining {
        deadline: Option<Moment>,
    },
    Wanted {
        not_before: Option<Moment>,
    },
}

/// A stream that has failed once too often on a socket that works.
pub(super) type GivenUp = (Arc<Topic>, CloseReason);

/// Where a handover has led: how the topic has moved, or that it stays where it is since its next
/// source brings nothing.
pub(super) type Handed = (Arc<Topic>, Option<Moved>);

impl Members {
    pub(super) fn new(core: &Core, connection: ConnectionId, seed: u64) -> Self {
        Self {
            budget: (BATCH, BATCH_BYTES),
            by_name: Index::None,
            connection,
            data_due: Rare::default(),
            join_due: Rare::default(),
            leaving: Rare::default(),
            members: Slab::with_capacity(1),
            moved: Seldom::default(),
            post: Arc::default(),
            review_due: Rare::default(),
            seed,
            tools: core.tools(),
            touched: Vec::new(),
            unwritten: Few::None,
            wanted: Rare::default(),
        }
    }

    /// Takes over what has changed.
    pub(super) fn apply(&mut self, changes: Vec<Change>, status: &Status) {
        for Change { name, not_before, topic } in changes {
            match (self.by_name.get(name.as_str()), topic) {
                (None, None) => {}
                (None, Some(topic)) => self.add(topic, not_before, status),
                (Some(key), Some(topic)) => self.succeed(key, topic, status),
                (Some(key), None) => {
                    let was_asked = !matches!(self.members[key].stage, Stage::Wanted { .. });
                    self.remove(key);
                    if was_asked {
                        self.leaving.insert(name);
                    }
                }
            }
        }
    }

    /// The server is to stop `name`.
    pub(super) fn leave(&mut self, name: StreamName) {
        self.leaving.insert(name);
    }

    /// Takes a `batch` of names that the server is to be told to stop. Until it is, none of them is
    /// joined again, and what it still says of their joins does not count.
    pub(super) fn start_leaving(&mut self, mut batch: Batch) -> Vec<StreamName> {
        let names: Vec<_> =
            self.leaving.iter().take_while(|name| batch.take(name)).cloned().collect();
        names.iter().for_each(|name| self.leaving.remove(name));
        names
    }

    /// What was pushed is written: joins have until `deadline`.
    pub(super) fn joins_are_written(&mut self, deadline: Instant) {
        if self.unwritten.is_empty() {
            return;
        }
        for key in std::mem::take(&mut self.unwritten).into_iter() {
            let stage = self.members.get(key).map(|member| member.stage);
            if stage == Some(Stage::Joining { deadline: None }) {
                self.move_to(key, Stage::Joining { deadline: Some(deadline.into()) });
            }
        }
    }

    /// Whether the server is to be told to stop a name.
    pub(super) fn wants_leaves(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Whether a name may be joined now.
    pub(super) fn wants_joins(&self, now: Instant) -> bool {
        let not_before = self.wanted.first().map(|(not_before, _)| *not_before);
        not_before.is_some_and(|at| at.is_none_or(|at| at.at() <= now))
    }

    /// Takes a `batch` of names that are to be joined now. The deadline of their joins begins when
    /// they are [written](Self::joins_are_written).
    pub(super) fn start_joining(&mut self, mut batch: Batch, now: Instant) -> Vec<StreamName> {
        let (mut names, now) = (Vec::new(), Moment::from(now));
        loop {
            match self.wanted.first() {
                Some(&(not_before, key))
                    if not_before.is_none_or(|at| at <= now)
                        && batch.take(&self.members[key].topic.name) =>
                {
                    self.move_to(key, Stage::Joining { deadline: None });
                    self.unwritten.insert(key);
                    if not_before.is_some() {
                        self.members[key].topic.set_status(self.connection, Status::Joining);
                    }
                    names.push(self.members[key].topic.name.clone());
                }
                _ => break,
            }
        }
        names
    }

    /// The server has confirmed `name`. A confirmation that comes while its next join waits is of
    /// one that was taken back: the server is about to stop what it confirms, or to be told to.
    pub(super) fn confirmed(&mut self, name: &str, attempt: u32, now: Instant) {
        let Some(key) = self.by_name.get(name) else { return };
        let is_taken_back = match self.members[key].stage {
            Stage::Wanted { not_before: Some(_) } => true,
            Stage::Wanted { not_before: None } => self.is_leaving(key),
            Stage::Joined { .. } | Stage::Joining { .. } => false,
        };
        if !is_taken_back {
            self.joined(name, attempt, now);
        }
    }

    /// `name` is joined, whether or not it was asked for.
    pub(super) fn joined(&mut self, name: &str, attempt: u32, now: Instant) {
        let Some(key) = self.by_name.get(name) else { return };
        let member = &mut self.members[key];
        if matches!(member.stage, Stage::Joined { .. }) {
            return;
        }
        (member.heard_at, member.joined_at) = (now.into(), now.into());
        let data_due = member.topic.settings.data_timeout.map(|timeout| (now + timeout).into());
        self.move_to(key, Stage::Joined { data_due });
        self.tell_joined(key, attempt, now);
    }

    /// What the registry has to be told of handovers.
    pub(super) fn take_moved(&mut self) -> Vec<Handed> {
        self.moved.take()
    }

    /// The server refuses `name`: it is not carried any more.
    pub(super) fn rejected(&mut self, name: &str, now: Instant) -> Option<Arc<Topic>> {
        self.publish(now);
        let key = self.by_name.get(name)?;
        Some(self.remove(key))
    }

    /// The server has ended `name`, which is joined again after a delay.
    pub(super) fn ended(&mut self, name: &str, now: Instant) -> Option<GivenUp> {
        self.publish(now);
        let key = self.by_name.get(name)?;
        self.fail(key, &DisconnectReason::StreamEnded, now)
    }

    /// A join that has taken too long, or a silence.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<(usize, DisconnectReason)> {
        if let Some(&(_, key)) = self.join_due.first().filter(|(due, _)| *due <= now.into()) {
            return Some((key, DisconnectReason::JoinTimeout));
        }
        while let Some(&(_, key)) = self.data_due.first().filter(|(due, _)| *due <= now.into()) {
            let member = &self.members[key];
            let data_timeout = member.topic.settings.data_timeout;
            let data_due = data_timeout.map(|timeout| member.heard_at.at() + timeout);
            if data_due.is_some_and(|due| due <= now) {
                return Some((key, DisconnectReason::DataTimeout));
            }
            self.move_to(key, Stage::Joined { data_due: data_due.map(Moment::from) });
        }
        None
    }

    /// Whether another member than `key` is well.
    pub(super) fn has_others(&self, key: usize) -> bool {
        let mut others = self.members.iter().filter(|(other, _)| *other != key);
        others.any(|(_, member)| matches!(member.stage, Stage::Joined { .. }))
    }

    fn is_leaving(&self, key: usize) -> bool {
        !self.leaving.is_empty() && self.leaving.contains(&self.members[key].topic.name)
    }

    /// Breaks off one member, to be joined again after a delay on the socket that works. The server
    /// is to stop it before.
    pub(super) fn fail_and_leave(
        &mut self,
        key: usize,
        reason: &DisconnectReason,
        now: Instant,
    ) -> Option<GivenUp> {
        self.leaving.insert(self.members[key].topic.name.clone());
        self.fail(key, reason, now)
    }

    /// Breaks off one member, to be joined again after a delay on the socket that works.
    fn fail(&mut self, key: usize, reason: &DisconnectReason, now: Instant) -> Option<GivenUp> {
        let seed = self.seed.wrapping_add(key as u64);
        let member = &mut self.members[key];
        let error = Arc::new(TransportError::new(reason.clone()));
        member.topic.failed(self.connection, Arc::clone(&error));
        let backoff = member
            .backoff
            .get_or_insert_with(|| Box::new(Backoff::new(Arc::clone(&self.tools.retry), seed)));
        if matches!(member.stage, Stage::Joined { .. }) {
            let (topic, heard_at) = (&member.topic, member.heard_at.at());
            let moved = topic.break_off(self.connection, heard_at, reason.clone(), now);
            note(&mut self.moved, topic, moved);
            backoff.record_uptime(now.saturating_duration_since(member.joined_at.at()));
        }
        let Some(delay) = backoff.next() else {
            let attempts = backoff.attempt();
            let topic = self.remove(key);
            return Some((topic, CloseReason::RetriesExhausted { attempts, last: error }));
        };
        let attempt = backoff.attempt();
        let name = member.topic.name.clone();
        tracing::warn!(%name, "stream {name}: {error}; attempt {attempt} follows in {delay:.1?}");
        self.tools.events.push(|| Event::StreamRetrying {
            name,
            attempt,
            delay,
            error: Arc::clone(&error),
        });
        member.topic.set_status(self.connection, Status::BackingOff { attempt, delay, error });
        self.move_to(key, Stage::Wanted { not_before: Some((now + delay).into()) });
        None
    }

    /// The socket is lost, which was last heard at `since`: all are to be joined again. Those that
    /// have to wait still have to.
    pub(super) fn break_off(&mut self, since: Instant, reason: &DisconnectReason, now: Instant) {
        self.publish(since);
        self.leaving = Rare::default();
        for key in self.keys() {
            let member = &mut self.members[key];
            match member.stage {
                Stage::Joined { .. } => {
                    let moved = member.topic.break_off(self.connection, since, reason.clone(), now);
                    note(&mut self.moved, &member.topic, moved);
                    if let Some(backoff) = &mut member.backoff {
                        backoff
                            .record_uptime(since.saturating_duration_since(member.joined_at.at()));
                    }
                }
                Stage::Joining { .. } => {}
                Stage::Wanted { .. } => continue,
            }
            self.move_to(key, Stage::Wanted { not_before: None });
        }
    }

    pub(super) fn failed(&self, error: &Arc<TransportError>) {
        let failed = |member: &Member| member.topic.failed(self.connection, Arc::clone(error));
        self.members.iter().for_each(|(_, member)| failed(member));
    }

    pub(super) fn announce(&self, status: &Status) {
        let tell = |member: &Member| member.topic.set_status(self.connection, status.clone());
        self.members.iter().for_each(|(_, member)| tell(member));
    }

    pub(super) fn names(&self) -> Vec<StreamName> {
        self.members.iter().map(|(_, member)| member.topic.name.clone()).collect()
    }

    /// The names that may be joined at `now`.
    pub(super) fn wanted(&self, now: Instant) -> Vec<StreamName> {
        let now = Moment::from(now);
        let due = self.wanted.iter().take_while(|(at, _)| at.is_none_or(|at| at <= now));
        due.map(|(_, key)| self.members[*key].topic.name.clone()).collect()
    }

    pub(super) fn carries(&self, name: &StreamName) -> bool {
        self.by_name.get(name.as_str()).is_some()
    }

    /// When something is to be done about a member, of joins only if they `can` come.
    pub(super) fn next_due(&self, can: bool) -> Option<Instant> {
        let wanted = self.wanted.first().and_then(|(at, _)| *at).filter(|_| can);
        let join = self.join_due.first().map(|(due, _)| *due);
        let data = self.data_due.first().map(|(due, _)| *due);
        let review = self.review_due.first().map(|(due, _)| *due);
        [wanted, join, data, review].into_iter().flatten().min().map(Moment::at)
    }

    /// How many messages and bytes to read at once, so that a reader that takes its turn whenever it
    /// is offered one does not lag: no more than half of what a stream keeps.
    pub(super) fn budget(&self) -> (usize, usize) {
        (self.budget.0 as usize, self.budget.1 as usize)
    }

    pub(super) fn post(&self) -> &Arc<Post> {
        &self.post
    }

    fn keys(&self) -> Vec<usize> {
        self.members.iter().map(|(key, _)| key).collect()
    }

    fn add(&mut self, topic: Arc<Topic>, not_before: Option<Instant>, status: &Status) {
        let status = match not_before {
            Some(_) => Status::Waiting { position: None, until: not_before },
            None => status.clone(),
        };
        topic.set_status(self.connection, status);
        self.cap_budget(&topic);
        let (name, now) = (topic.name.clone(), Moment::from(Instant::now()));
        let not_before = not_before.map(Moment::from);
        let key = self.members.insert(Member {
            backoff: None,
            heard_at: now,
            joined_at: now,
            pending: None,
            review_due: None,
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
            if matches!(member.stage, Stage::Joined { .. }) && topic.is_source(self.connection) {
                topic.outgoing.serve(&self.post); // It has gone over to us.
            }
            return;
        }
        member.pending = None;
        self.touched.retain(|touched| *touched != key);
        member.topic = topic;
        match member.stage {
            Stage::Joined { .. } => self.tell_joined(key, 1, Instant::now()),
            Stage::Joining { .. } | Stage::Wanted { .. } => {
                member.topic.set_status(self.connection, status.clone());
            }
        }
    }

    fn cap_budget(&mut self, topic: &Topic) {
        let (messages, bytes) =
            if self.members.is_empty() { (BATCH, BATCH_BYTES) } else { self.budget };
        let half = |of: usize| u32::try_from(of / 2).unwrap_or(u32::MAX);
        let settings = &topic.settings;
        let messages = messages.min(half(settings.buffer)).max(1);
        self.budget = (messages, bytes.min(half(settings.buffer_bytes)).max(1));
    }

    fn remove(&mut self, key: usize) -> Arc<Topic> {
        self.unlist(key);
        self.review_at(key, None);
        let member = self.members.remove(key);
        member.topic.outgoing.leave(&self.post);
        self.by_name.remove(member.topic.name.as_str());
        self.touched.retain(|touched| *touched != key);
        member.topic
    }

    fn move_to(&mut self, key: usize, stage: Stage) {
        self.unlist(key);
        if !matches!(stage, Stage::Joined { .. }) {
            self.members[key].topic.outgoing.leave(&self.post); // Only what is joined is written to.
        }
        self.members[key].stage = stage;
        match stage {
            Stage::Joined { data_due } => {
                data_due.into_iter().for_each(|due| self.data_due.insert((due, key)));
            }
            Stage::Joining { deadline } => {
                deadline.into_iter().for_each(|due| self.join_due.insert((due, key)));
            }
            Stage::Wanted { not_before } => {
                self.wanted.insert((not_before, key));
            }
        }
    }

    /// Takes a member out of the set that its stage is in.
    fn unlist(&mut self, key: usize) {
        match self.members[key].stage {
            Stage::Joined { data_due } => {
                if let Some(due) = data_due {
                    self.data_due.remove(&(due, key));
                }
            }
            Stage::Joining { deadline } => {
                deadline.into_iter().for_each(|due| self.join_due.remove(&(due, key)));
            }
            Stage::Wanted { not_before } => {
                self.wanted.remove(&(not_before, key));
            }
        }
    }
}

/// Keeps in mind that a topic has moved, if it has.
fn note(handed: &mut Seldom<Handed>, topic: &Arc<Topic>, moved: Option<Moved>) {
    if let Some(moved) = moved {
        handed.push((Arc::clone(topic), Some(moved)));
    }
}
