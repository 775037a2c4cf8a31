//! The program's own messages: it sends them, waits to be told, or takes them back.
//!
//! Each is polled by hand with a waker of its own, so that a wake-up that is missing is seen: its
//! sender is told too late.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use futures::task::AtomicWaker;

use super::client::{Checked, Woken};
use super::program::{Form, NAMES};
use super::wire;
use super::world::World;
use crate::error::SendError;
use crate::manager::WsManager;

/// All who wait to be told what came of their message, by its number.
pub(super) struct Senders {
    waiting: BTreeMap<usize, Sending>,
    world: World,
}

struct Sending {
    name: usize,
    outcome: Pin<Box<dyn Future<Output = Result<(), SendError>>>>,
    woken: Arc<Woken>,
}

impl Senders {
    pub(super) fn new(world: World) -> Self {
        Self { waiting: BTreeMap::new(), world }
    }

    pub(super) fn send(
        &mut self,
        manager: &WsManager,
        name: usize,
        count: usize,
        form: Form,
    ) -> Checked {
        for _ in 0..count {
            self.poll()?; // Who has been told does not wait any more.
            let number = {
                let mut state = self.world.lock();
                let is_speakable = wire::is_speakable(state.program.wire, form);
                state.oracle.posts(name, is_speakable)
            };
            let (manager, text) = (manager.clone(), wire::letter(name, number, form));
            let outcome = Box::pin(async move { manager.send(NAMES[name], text).await });
            let woken = Woken::new(Arc::default());
            self.waiting.insert(number, Sending { name, outcome, woken });
        }
        self.poll()
    }

    /// Takes back what waits on `name`; everything without one.
    pub(super) fn take_back(&mut self, name: Option<usize>) {
        let is_meant = |sending: &Sending| name.is_none_or(|name| sending.name == name);
        let (meant, rest) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(_, sending)| is_meant(sending));
        self.waiting = rest;
        for (number, sending) in meant {
            drop(sending);
            self.world.lock().oracle.takes_back(number);
        }
    }

    /// From now on, `driver` is woken for them.
    pub(super) fn driven_by(&mut self, driver: &Arc<AtomicWaker>) {
        for sending in self.waiting.values_mut() {
            sending.woken = Woken::new(Arc::clone(driver));
        }
    }

    /// Looks at those that were woken.
    pub(super) fn poll(&mut self) -> Checked {
        let mut told = Vec::new();
        for (number, sending) in &mut self.waiting {
            if !sending.woken.is_set.swap(false, Relaxed) {
                continue;
            }
            let waker = Waker::from(Arc::clone(&sending.woken));
            let polled = sending.outcome.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(outcome) = polled {
                told.push((*number, outcome));
            }
        }
        for (number, outcome) in told {
            self.waiting.remove(&number);
            let state = &mut *self.world.lock();
            state.note(|| format!("letter {number} is {outcome:?}"));
            let socks = &state.socks;
            let is_lost = |sock| socks.get(&sock).is_none_or(|sock| sock.lost);
            state.oracle.told(number, outcome, is_lost)?;
        }
        Ok(())
    }
}
