//! What each reader must get, as the server's side knows it.
//!
//! The oracle follows the engine's promises, not its code: it is told who sits where, what the
//! client took off its sockets and when they ended, and owes each reader its items one by one. A
//! reader that gets anything else, or nothing where something is owed, has found a fault.

mod dialers;
mod moving;
mod reading;
mod sending;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::world::{ByTask, SockId};
use crate::config::Config;
use crate::error::CloseReason;
use crate::observe::ConnectionId;

pub(super) use dialers::Cause;
use dialers::Dialer;
use moving::Course;
pub(super) use reading::Item;
use reading::{Broken, Owed, Reading};
use sending::Letters;

pub(super) struct Oracle {
    buffer: (usize, usize),
    /// What happened to each name, where sockets are replaced.
    courses: BTreeMap<usize, Course>,
    /// The topic of each name, for as long as it may be there.
    pub(super) current: BTreeMap<usize, usize>,
    dialers: ByTask<Dialer>,
    /// Lanes that are being dialled.
    pub(super) in_flight: Vec<String>,
    letters: Letters,
    pub(super) linger: Duration,
    paused_until: Option<Instant>,
    pub(super) readers: BTreeMap<usize, Reading>,
    redials: BTreeMap<Instant, Vec<Duration>>,
    reset_after: Duration,
    /// Whether sockets are replaced: see [`moving`].
    rotates: bool,
    retry: crate::config::RetryPolicy,
    pub(super) topics: Vec<Topic>,
    /// Counts up whenever the engine has its turn.
    pub(super) turn: u64,
}

/// A stream, from its first seat to its end.
pub(super) struct Topic {
    broken: Option<Broken>,
    connection: ConnectionId,
    /// Failures of the name alone, on sockets that work.
    failures: u32,
    heard_at: Instant,
    pub(super) idle_since: Option<Instant>,
    pub(super) leases: BTreeSet<usize>,
    left_in: u64,
    /// Numbers and sizes of what was delivered.
    messages: Vec<(u64, usize)>,
    name: usize,
    pub(super) readers: BTreeSet<usize>,
    served: bool,
}

impl Topic {
    pub(super) fn seats(&self) -> usize {
        self.readers.len() + self.leases.len()
    }
}

/// Why a stream is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Aborted,
    Exhausted(u32),
    Fatal,
    Rejected,
    Shutdown,
    Unauthorized,
}

impl End {
    fn is(self, reason: &CloseReason) -> bool {
        match reason {
            CloseReason::Aborted => self == Self::Aborted,
            CloseReason::Fatal(_) => self == Self::Fatal,
            CloseReason::Rejected { .. } => self == Self::Rejected,
            CloseReason::RetriesExhausted { attempts, .. } => self == Self::Exhausted(*attempts),
            CloseReason::Shutdown => self == Self::Shutdown,
            CloseReason::Unauthorized(_) => self == Self::Unauthorized,
            _ => false,
        }
    }
}

/// Who sits down.
#[derive(Clone, Copy)]
pub(super) enum Seat {
    Lease(usize),
    Reader(usize),
}

impl Oracle {
    pub(super) fn new(config: &Config, rotates: bool) -> Self {
        Self {
            buffer: (config.buffer, config.buffer_bytes),
            courses: BTreeMap::new(),
            current: BTreeMap::new(),
            dialers: ByTask::new(),
            in_flight: Vec::new(),
            letters: Letters::new(config),
            linger: config.linger,
            paused_until: None,
            readers: BTreeMap::new(),
            redials: BTreeMap::new(),
            reset_after: config.retry.reset_after,
            retry: config.retry.clone(),
            rotates,
            topics: Vec::new(),
            turn: 0,
        }
    }

    /// Somebody has sat down on `name`, carried by `connection`; `opened` if that made a topic.
    pub(super) fn sits(
        &mut self,
        seat: Seat,
        name: usize,
        opened: bool,
        connection: ConnectionId,
        is_joined: impl Fn(ConnectionId) -> bool,
    ) -> Result<(), String> {
        let current = self.current.get(&name).map(|&topic| &self.topics[topic]);
        let may_have_ended = self.may_have_ended(name);
        if opened && current.is_some_and(|topic| topic.seats() > 0) && !may_have_ended {
            return Err(format!("{name} was opened twice"));
        }
        if !opened && current.is_none() {
            return Err(format!("{name} is still there, and nobody wants it"));
        }
        if opened {
            self.open(name, connection, is_joined(connection));
        }
        let key = self.current[&name];
        let topic = &mut self.topics[key];
        topic.idle_since = None;
        match seat {
            Seat::Lease(lease) => drop(topic.leases.insert(lease)),
            Seat::Reader(reader) => {
                topic.readers.insert(reader);
                let mut reading = Reading::new(key, topic.messages.len());
                if self.rotates {
                    reading.follower = Some(self.courses.entry(name).or_default().follower());
                }
                self.readers.insert(reader, reading);
            }
        }
        Ok(())
    }

    /// A new topic. One that follows another in the same turn, on the same socket, finds the name
    /// as it was left there.
    fn open(&mut self, name: usize, connection: ConnectionId, is_joined: bool) {
        let before = self.topics.iter().rev().find(|topic| topic.name == name);
        let (failures, heard_at) = before
            .filter(|before| before.connection == connection && before.left_in == self.turn)
            .map_or((0, Instant::now()), |before| (before.failures, before.heard_at));
        self.current.insert(name, self.topics.len());
        self.topics.push(Topic {
            broken: None,
            connection,
            failures,
            heard_at,
            idle_since: None,
            leases: BTreeSet::new(),
            left_in: 0,
            messages: Vec::new(),
            name,
            readers: BTreeSet::new(),
            served: is_joined,
        });
    }

    /// Somebody has stood up.
    pub(super) fn leaves(&mut self, seat: Seat) {
        if let Seat::Reader(reader) = seat {
            self.readers.remove(&reader);
        }
        let (turn, lingers) = (self.turn, !self.linger.is_zero());
        self.current.retain(|_, key| {
            let topic = &mut self.topics[*key];
            let was_there = match seat {
                Seat::Lease(lease) => topic.leases.remove(&lease),
                Seat::Reader(reader) => topic.readers.remove(&reader),
            };
            if was_there && topic.seats() == 0 {
                topic.idle_since = Some(Instant::now());
                topic.left_in = turn;
                return lingers;
            }
            true
        });
    }

    /// Nobody sits on `name`, and the client has closed it.
    pub(super) fn swept(&mut self, name: usize) {
        self.current.remove(&name);
    }

    /// The topic of `name`, if `connection` carries it.
    fn carried(&mut self, name: usize, connection: Option<ConnectionId>) -> Option<&mut Topic> {
        let topic = &mut self.topics[*self.current.get(&name)?];
        (Some(topic.connection) == connection).then_some(topic)
    }

    /// `name` is joined on a socket of `connection`.
    pub(super) fn joined(&mut self, name: usize, _: SockId, connection: Option<ConnectionId>) {
        let now = Instant::now();
        let Some(topic) = self.carried(name, connection) else { return };
        topic.served = true;
        topic.heard_at = now;
        let Some(broken) = topic.broken.take() else { return };
        let key = self.current[&name];
        for reading in self.readers.values_mut().filter(|reading| reading.topic == key) {
            if std::mem::take(&mut reading.in_break) {
                reading.owed.push_back(Owed::Gap(broken.gap(now)));
            }
        }
    }

    /// The client has taken a message of `name` off its socket.
    pub(super) fn delivered(
        &mut self,
        name: usize,
        _: SockId,
        connection: Option<ConnectionId>,
        number: u64,
        bytes: usize,
        is_first: bool,
    ) {
        if self.rotates {
            if is_first {
                self.courses.entry(name).or_default().begins(number);
            }
            return;
        }
        let Some(topic) = self.carried(name, connection) else { return };
        topic.served = true;
        topic.heard_at = Instant::now();
        topic.messages.push((number, bytes));
        let (at, key) = (topic.messages.len() - 1, self.current[&name]);
        for reading in self.readers.values_mut().filter(|reading| reading.topic == key) {
            reading.owed.push_back(Owed::Message(at));
        }
    }

    /// The socket that `name` was joined on is lost.
    pub(super) fn broken_off(
        &mut self,
        name: usize,
        connection: Option<ConnectionId>,
        joined_at: Instant,
        heard_at: Instant,
        cause: &Cause,
    ) {
        if self.rotates {
            return self.courses.entry(name).or_default().breaks(cause.label());
        }
        let reset_after = self.reset_after;
        let Some(topic) = self.carried(name, connection) else { return };
        if heard_at.saturating_duration_since(joined_at) >= reset_after {
            topic.failures = 0;
        }
        self.breaks(name, Broken::new(heard_at, cause.label()));
    }

    fn breaks(&mut self, name: usize, broken: Broken) {
        let Some(&key) = self.current.get(&name) else { return };
        let topic = &mut self.topics[key];
        if !std::mem::take(&mut topic.served) {
            return;
        }
        topic.broken.get_or_insert(broken);
        for reading in self.readers.values_mut().filter(|reading| reading.topic == key) {
            reading.in_break = true;
        }
    }

    /// `name` has failed on a socket that works: it was joined there since `joined_at`, or not yet.
    pub(super) fn failed_alone(
        &mut self,
        name: usize,
        connection: Option<ConnectionId>,
        joined_at: Option<Instant>,
        why: &'static str,
    ) {
        let (reset_after, most) = (self.reset_after, self.retry.max_attempts);
        if self.rotates {
            let course = self.courses.entry(name).or_default();
            course.breaks(Some(why));
            return course.may_end(End::Exhausted(0));
        }
        let Some(topic) = self.carried(name, connection) else { return };
        let heard_at = topic.heard_at;
        if joined_at.is_some_and(|at| at.elapsed() >= reset_after) {
            topic.failures = 0;
        }
        topic.failures += 1;
        let failures = topic.failures;
        if joined_at.is_some() {
            self.breaks(name, Broken::new(heard_at, Some(why)));
        }
        if most.is_some_and(|most| failures > most) {
            self.ends(name, End::Exhausted(failures));
        }
    }

    pub(super) fn rejected(&mut self, name: usize, connection: Option<ConnectionId>) {
        if self.rotates {
            self.courses.entry(name).or_default().may_end(End::Rejected);
        } else if self.carried(name, connection).is_some() {
            self.ends(name, End::Rejected);
        }
    }

    /// `name` is over for all who sit on it.
    fn ends(&mut self, name: usize, end: End) {
        let Some(key) = self.current.remove(&name) else { return };
        for reading in self.readers.values_mut().filter(|reading| reading.topic == key) {
            reading.owed.push_back(Owed::End(end));
        }
    }

    /// Everything that `connection` carries is over.
    fn connection_ends(&mut self, connection: ConnectionId, end: End) {
        let is_of = |key: &usize| self.topics[*key].connection == connection;
        let names: Vec<_> =
            self.current.iter().filter(|(_, key)| is_of(key)).map(|(name, _)| *name).collect();
        names.into_iter().for_each(|name| self.ends(name, end));
    }

    /// Another socket was asked for, to take over from the one of `name`.
    pub(super) fn moves(&mut self, name: usize) {
        self.courses.entry(name).or_default().is_moved = true;
    }

    /// Whether `name` may be over, though somebody wants it.
    pub(super) fn may_have_ended(&self, name: usize) -> bool {
        self.courses.get(&name).is_some_and(Course::has_ended)
    }

    /// Everything is over.
    pub(super) fn all_end(&mut self, end: End) {
        self.courses.values_mut().for_each(|course| course.may_end(end));
        let names: Vec<_> = self.current.keys().copied().collect();
        names.into_iter().for_each(|name| self.ends(name, end));
    }
}
