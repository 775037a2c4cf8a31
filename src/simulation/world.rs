//! What the network, the server and the oracle share: one state under one lock, and one agenda.
//!
//! A run has one thread, so the lock is never waited for; it is there because transports are `Sync`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::oracle::Oracle;
use super::program::{NAMES, Program};
use super::server::{Event, Server, Sock};
use super::wire;
use crate::message::Message;

#[derive(Clone)]
pub(super) struct World(Arc<Mutex<State>>);

pub(super) type SockId = u64;

pub(super) struct State {
    /// What is to happen, and in which order within a moment.
    agenda: BTreeMap<(Instant, u64), Event>,
    /// What went wrong first.
    pub(super) broken: Option<String>,
    pub(super) chance: SmallRng,
    /// Who carries out the agenda, to be woken when it changes.
    driver: Option<Waker>,
    next_event: u64,
    pub(super) next_sock: SockId,
    pub(super) oracle: Oracle,
    pub(super) program: Arc<Program>,
    /// Every message of a feed of quotes, with its number, by where it lies in memory.
    sent: HashMap<usize, (Message, u64)>,
    pub(super) server: Server,
    pub(super) socks: BTreeMap<SockId, Sock>,
    start: Instant,
    /// What happened, line by line, if somebody wants to read it.
    pub(super) story: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(program: Arc<Program>, tells: bool) -> Self {
        let start = Instant::now();
        let mut state = State {
            agenda: BTreeMap::new(),
            broken: None,
            chance: SmallRng::seed_from_u64(!program.seed),
            driver: None,
            next_event: 0,
            next_sock: 0,
            oracle: Oracle::new(&program.config, program.rotates),
            sent: HashMap::new(),
            server: Server::default(),
            socks: BTreeMap::new(),
            start,
            story: tells.then(Vec::new),
            program,
        };
        for name in 0..NAMES.len() {
            let period = state.program.periods[name];
            state.plan(period, Event::Feed(name));
        }
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has `event` happen after `delay`.
    pub(super) fn plan(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.agenda.insert((Instant::now() + delay, self.next_event), event);
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Carries out what is due, and says when the next is.
    pub(super) fn proceed(&mut self, driver: &Waker) -> Option<Instant> {
        let now = Instant::now();
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let event = entry.remove();
            self.happen(event);
        }
        self.driver = Some(driver.clone());
        self.agenda.keys().next().map(|(due, _)| *due)
    }

    /// Remembers message `number`, whose text does not tell which it is. It is kept, so that no other
    /// comes to lie in its place.
    pub(super) fn sends(&mut self, message: &Message, number: u64) {
        self.sent.insert(message.as_bytes().as_ptr().addr(), (message.clone(), number));
    }

    /// The number of a message that was sent.
    pub(super) fn number_of(&self, message: &Message) -> Option<u64> {
        if self.program.quotes {
            return Some(self.sent.get(&message.as_bytes().as_ptr().addr())?.1);
        }
        wire::numbered(message)
    }

    pub(super) fn break_with(&mut self, what: String) {
        self.note(|| format!("BROKEN: {what}"));
        self.broken.get_or_insert(what);
    }

    pub(super) fn check(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.break_with(what);
        }
    }

    /// Writes down that something happened, if anybody wants to know.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:9.3} {}", self.start.elapsed().as_secs_f64(), what()));
        }
    }

    /// The clock has been put forward, and nothing is to be seen of that.
    pub(super) fn skip(&mut self, time: Duration) {
        self.start += time;
    }
}

/// The number of a name.
pub(super) fn number(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

/// Counts by key, where there is one.
pub(super) type ByTask<T> = HashMap<tokio::task::Id, T>;
