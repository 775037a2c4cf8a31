//! The program that uses the client: it subscribes, reads at its pace, and leaves.
//!
//! It is one future beside the engine's tasks. It reads each subscription by hand and parks it with
//! a waker of its own, so that a reader outlives a runtime, and a wake-up that is missing is seen.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use futures::task::AtomicWaker;
use tokio::time::{self, Instant};

use super::invariants;
use super::network::Network;
use super::oracle::{Item, Seat};
use super::program::{NAMES, Op, Pace, Program};
use super::senders::Senders;
use super::wire::Spoken;
use super::world::World;
use crate::config::{Credentials, Token, TokenReason};
use crate::engine::limiter::Limiter;
use crate::error::{StreamError, SubscribeError};
use crate::manager::WsManager;
use crate::message::Message;
use crate::stream::{Lease, Subscription};

pub(super) struct Client {
    leases: BTreeMap<usize, Lease>,
    pub(super) manager: Option<WsManager>,
    readers: BTreeMap<usize, Reader>,
    pub(super) senders: Senders,
    pub(super) shut_down: bool,
    pub(super) swept_at: Option<Instant>,
    pub(super) world: World,
}

struct Reader {
    next: Option<Instant>,
    pace: Pace,
    stream: Subscription<Message>,
    /// Whether it has something to do, as its waker says.
    woken: Arc<Woken>,
}

pub(super) struct Woken {
    driver: Arc<AtomicWaker>,
    pub(super) is_set: AtomicBool,
}

impl Woken {
    /// One that is to be looked at.
    pub(super) fn new(driver: Arc<AtomicWaker>) -> Arc<Self> {
        Arc::new(Self { driver, is_set: true.into() })
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_set.store(true, Relaxed);
        self.driver.wake();
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// What makes a step fail.
pub(super) type Checked = Result<(), String>;

impl Client {
    pub(super) fn new(program: &Arc<Program>, world: &World) -> Self {
        let mut manager = WsManager::builder(Spoken::new(program.wire, world.clone()))
            .config(program.config.clone())
            .limiter(Limiter::new())
            .seed(program.seed)
            .transport(Network(world.clone()))
            .wall_clock(|| SystemTime::UNIX_EPOCH);
        if let Some(delay) = program.tokens {
            manager = manager.credentials(Credentials::new(move |_: TokenReason| async move {
                time::sleep(delay).await;
                Ok::<_, io::Error>(Token::new("token").expires_at(SystemTime::UNIX_EPOCH + HOUR))
            }));
        }
        let manager = manager.build().unwrap();
        Self {
            leases: BTreeMap::new(),
            manager: Some(manager),
            readers: BTreeMap::new(),
            senders: Senders::new(world.clone()),
            shut_down: false,
            swept_at: None,
            world: world.clone(),
        }
    }

    /// Does one step of the client's.
    pub(super) fn call(&mut self, op: &Op) -> Checked {
        self.world.lock().note(|| format!("program: {op:?}"));
        match op {
            Op::Drop { reader } => self.drop_reader(*reader),
            Op::Lease { lease, name } => return self.lease(*lease, *name),
            Op::Release { lease } => self.release(*lease),
            Op::RenewTokens => {
                let manager = self.manager.iter();
                manager.for_each(WsManager::rotate_credentials);
                self.world.lock().all_rotate();
            }
            Op::Rotate { name } => self.rotate(*name),
            Op::Send { name, count, form } => {
                let Some(manager) = &self.manager else { return Ok(()) };
                return self.senders.send(manager, *name, *count, *form);
            }
            Op::Shutdown => self.shut_down(),
            Op::Subscribe { reader, name, pace } => return self.subscribe(*reader, *name, *pace),
            Op::Sweep { idle } => {
                self.swept_at = Some(Instant::now());
                let _ = self.manager.as_ref().map(|manager| manager.sweep_idle(*idle));
            }
            Op::TakeBack { name } => self.senders.take_back(Some(*name)),
            op => self.world.lock().fault(op),
        }
        Ok(())
    }

    fn subscribe(&mut self, reader: usize, name: usize, pace: Pace) -> Checked {
        self.take(Seat::Reader(reader), name, |client, manager| {
            let stream = manager.subscribe::<Message>(NAMES[name])?;
            let woken = Woken::new(Arc::default());
            let info = stream.info();
            client.readers.insert(reader, Reader { next: None, pace, stream, woken });
            Ok(info.map(|info| info.connection))
        })
    }

    fn lease(&mut self, lease: usize, name: usize) -> Checked {
        self.take(Seat::Lease(lease), name, |client, manager| {
            client.leases.insert(lease, manager.keep_warm(NAMES[name])?);
            let infos = manager.streams();
            let of_name = infos.into_iter().find(|info| info.name.as_str() == NAMES[name]);
            Ok(of_name.map(|info| info.connection))
        })
    }

    fn take(
        &mut self,
        seat: Seat,
        name: usize,
        take: impl FnOnce(
            &mut Self,
            &WsManager,
        ) -> Result<Option<crate::observe::ConnectionId>, SubscribeError>,
    ) -> Checked {
        let Some(manager) = self.manager.clone() else { return Ok(()) };
        let before = manager.metrics().stream_creations;
        let connection = match take(self, &manager) {
            Err(SubscribeError::Shutdown) if self.shut_down => return Ok(()),
            Err(e) => return Err(format!("cannot subscribe: {e}")),
            Ok(_) if self.shut_down => return Err("let in after the shutdown".to_owned()),
            Ok(connection) => connection.ok_or("a stream that is not there was joined")?,
        };
        let opened = manager.metrics().stream_creations > before;
        let state = &mut *self.world.lock();
        let socks = &state.socks;
        state.oracle.sits(seat, name, opened, connection, |connection| {
            let mut socks = socks.values().filter(|sock| sock.connection == Some(connection));
            socks.any(|sock| sock.joined.contains_key(&name))
        })
    }

    fn drop_reader(&mut self, reader: usize) {
        if let Some(dropped) = self.readers.remove(&reader) {
            drop(dropped);
            self.world.lock().oracle.leaves(Seat::Reader(reader));
        }
    }

    fn release(&mut self, lease: usize) {
        if let Some(released) = self.leases.remove(&lease) {
            drop(released);
            self.world.lock().oracle.leaves(Seat::Lease(lease));
        }
    }

    fn rotate(&mut self, name: usize) {
        if self.manager.as_ref().is_some_and(|manager| manager.reconnect(NAMES[name])) {
            self.world.lock().rotates(name);
        }
    }

    fn shut_down(&mut self) {
        let Some(manager) = self.manager.clone() else { return };
        self.shut_down = true;
        self.world.lock().oracle.all_end(super::oracle::End::Shutdown);
        let mut shutting = Box::pin(async move { manager.shutdown().await });
        // What it does at once, it does now; the rest it does beside us.
        let done = shutting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        if !done {
            tokio::spawn(shutting);
        }
    }

    /// Lets everything go on until `until`.
    pub(super) async fn go_on(&mut self, until: Instant) -> Checked {
        let driver = Arc::new(AtomicWaker::new());
        let mut sleep = Box::pin(time::sleep_until(until));
        for reader in self.readers.values_mut() {
            let is_set = reader.woken.is_set.load(Relaxed);
            let woken = Woken { driver: Arc::clone(&driver), is_set: is_set.into() };
            reader.woken = Arc::new(woken);
            reader.woken.is_set.store(true, Relaxed); // Its old waker is gone.
        }
        self.senders.driven_by(&driver);
        std::future::poll_fn(|cx| self.poll_on(cx, until, &driver, sleep.as_mut())).await
    }

    fn poll_on(
        &mut self,
        cx: &mut Context<'_>,
        until: Instant,
        driver: &AtomicWaker,
        mut sleep: Pin<&mut time::Sleep>,
    ) -> Poll<Checked> {
        driver.register(cx.waker());
        self.world.lock().oracle.turn += 1;
        let next = self.world.lock().proceed(cx.waker());
        let told = self.senders.poll();
        let read = told.and_then(|()| self.read_all(Instant::now()));
        let broken = self.world.lock().broken.clone();
        let now = Instant::now();
        match (broken, read) {
            (Some(what), _) | (None, Err(what)) => return Poll::Ready(Err(what)),
            (None, Ok(_)) if now >= until => return Poll::Ready(Ok(())),
            (None, Ok(due)) => {
                let due = [next, due].into_iter().flatten().fold(until, Instant::min);
                sleep.as_mut().reset(due);
                if sleep.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
        }
        Poll::Pending
    }

    /// Has each reader read that is to, and says when the next is to.
    fn read_all(&mut self, now: Instant) -> Result<Option<Instant>, String> {
        let mut due: Option<Instant> = None;
        for (number, reader) in &mut self.readers {
            reader.read(*number, &self.world, now)?;
            due = [due, reader.next].into_iter().flatten().min();
        }
        Ok(due)
    }

    /// Readers that wait to be woken, and have not been, must have nothing to read.
    pub(super) fn nobody_is_forgotten(&self) -> Checked {
        let state = self.world.lock();
        for (number, reader) in &self.readers {
            let waits = reader.next.is_none() && !reader.woken.is_set.load(Relaxed);
            let is_owed = state.oracle.readers[number].is_owed();
            if waits && !matches!(reader.pace, Pace::Stuck) && is_owed {
                return Err(format!("reader {number} was not woken, and has something to read"));
            }
        }
        Ok(())
    }

    /// Everybody reads what there is from now on.
    pub(super) fn hurry(&mut self) {
        for reader in self.readers.values_mut() {
            reader.pace = Pace::Eager;
            reader.next = None;
            reader.woken.is_set.store(true, Relaxed);
        }
        let mut state = self.world.lock();
        state.oracle.readers.values_mut().for_each(|reading| reading.is_fed = reading.is_over());
    }

    /// Lets go of all there is, in one of several orders.
    pub(super) fn let_go(&mut self, manager_first: bool) {
        if manager_first {
            self.senders.take_back(None); // They hold it too.
            self.manager = None;
        }
        while let Some((number, reader)) = self.readers.pop_first() {
            drop(reader);
            self.world.lock().oracle.leaves(Seat::Reader(number));
        }
        while let Some((number, lease)) = self.leases.pop_first() {
            drop(lease);
            self.world.lock().oracle.leaves(Seat::Lease(number));
        }
    }

    pub(super) fn seats(&self) -> (usize, usize) {
        (self.readers.len(), self.leases.len())
    }

    pub(super) fn check(&mut self) -> Checked {
        invariants::hold(self)
    }
}

impl Reader {
    fn read(&mut self, number: usize, world: &World, now: Instant) -> Checked {
        let is_due = self.next.is_none_or(|next| next <= now);
        let (most, pause) = match self.pace {
            Pace::Stuck => return Ok(()),
            Pace::Eager => (usize::MAX, None),
            Pace::Gulp(pause) => (usize::MAX, Some(pause)),
            Pace::Sip(pause) => (1, Some(pause)),
        };
        if !is_due || !self.woken.is_set.swap(false, Relaxed) {
            return Ok(());
        }
        for _ in 0..most {
            let item = self.item(world);
            let mut state = world.lock();
            let is_last = matches!(item, Item::Nothing | Item::End);
            if !is_last {
                state.note(|| format!("reader {number}: {item:?}"));
            }
            state.oracle.reads(number, &item)?;
            if is_last {
                self.next = None;
                return Ok(());
            }
        }
        self.woken.is_set.store(true, Relaxed); // There may be more.
        self.next = pause.map(|pause| now + pause);
        Ok(())
    }

    fn item(&mut self, world: &World) -> Item {
        let waker = Waker::from(Arc::clone(&self.woken));
        match self.stream.poll_next_unpin(&mut Context::from_waker(&waker)) {
            Poll::Pending => Item::Nothing,
            Poll::Ready(None) => Item::End,
            Poll::Ready(Some(Ok(message))) => {
                Item::Message { bytes: message.len(), number: world.lock().number_of(&message) }
            }
            Poll::Ready(Some(Err(StreamError::Gap(gap)))) => Item::Gap(gap),
            Poll::Ready(Some(Err(StreamError::Closed(reason)))) => Item::Closed(reason),
            Poll::Ready(Some(Err(StreamError::Decode(e)))) => panic!("a message is no text: {e}"),
        }
    }
}

/// How long the client may need from the end of the faults to the next message of each name.
pub(super) fn patience(program: &Program) -> Duration {
    let config = &program.config;
    let heartbeat = config.heartbeat.interval + config.heartbeat.timeout;
    let once = config.connect_timeout + config.join_timeout + config.write_timeout;
    let waits = config.retry.max_delay + config.close_timeout + Duration::from_secs(12);
    let data = config.data_timeout.unwrap_or_default();
    let period = program.periods.iter().max().copied().unwrap_or_default();
    let handover = if program.rotates { config.handover_timeout * 2 } else { Duration::ZERO };
    2 * (heartbeat + handover + once + waits + data + period + program.latency)
}
