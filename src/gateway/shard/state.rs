//! What a shard holds, and how a client comes to its end.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SelectAll, Stream};
use slab::Slab;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::client::{Client, Ready};
use super::feed::Feed;
use crate::gateway::config::GatewayConfig;
use crate::gateway::control::{Ask, ClientId, Passage};
use crate::gateway::feed::Source;
use crate::gateway::hub::{Hub, Laggard};
use crate::gateway::news::News;
use crate::name::StreamName;

/// News of a feed; `None` is its end.
pub(super) type Tagged = Pin<Box<dyn Stream<Item = (usize, Option<News>)> + Send>>;

pub(in crate::gateway) struct Shard {
    pub(super) asks: mpsc::Receiver<(ClientId, Ask)>,
    /// By name, and how much later it comes.
    pub(super) by_name: HashMap<(StreamName, Duration), usize>,
    pub(super) clients: Slab<Client>,
    pub(super) config: GatewayConfig,
    /// Messages that this round has delivered.
    pub(super) delivered: u64,
    /// Those for whom there is something in this round.
    pub(super) dirty: Vec<usize>,
    pub(super) drain: Option<Drain>,
    pub(super) feeds: Slab<Feed>,
    pub(super) hub: Arc<Hub>,
    /// Where its laggards stand in the hub.
    pub(super) laggards: usize,
    /// The number of the next client.
    pub(super) next: u64,
    pub(super) news: SelectAll<Tagged>,
    /// The part of the clients that is looked at next.
    pub(super) part: usize,
    pub(super) passages: mpsc::UnboundedReceiver<Passage>,
    pub(super) ready: Arc<Ready>,
    pub(super) source: Source,
}

/// All clients are being closed.
pub(super) struct Drain {
    pub(super) answers: Vec<oneshot::Sender<()>>,
    pub(super) begun: Instant,
    /// How many clients there were.
    pub(super) of: usize,
    pub(super) window: Duration,
}

impl Shard {
    /// Tells a client something.
    pub(super) fn say(&mut self, client: usize, word: Bytes) {
        if self.clients[client].is_open() {
            self.clients[client].queue.push_word(word);
            self.mark(client);
        }
    }

    /// Sees to it that a client is written to at the end of the round.
    pub(super) fn mark(&mut self, client: usize) {
        let dirty = &mut self.clients[client].dirty;
        if !std::mem::replace(dirty, true) {
            self.dirty.push(client);
        }
    }

    pub(super) fn close(&mut self, client: usize, code: Option<u16>, reason: &str) {
        self.leave_all(client);
        self.clients[client].close(code, reason);
        self.mark(client);
    }

    /// Closes a client that does not keep up.
    pub(super) fn give_up(&mut self, client: usize) {
        self.leave_all(client);
        self.hub.cut_off.fetch_add(1, Ordering::Relaxed);
        self.clients[client].close_now(1013, "too slow");
    }

    pub(super) fn cut(&mut self, client: usize) {
        self.leave_all(client);
        if self.clients[client].is_open() {
            // One that is being closed was counted, or went by itself.
            self.hub.cut_off.fetch_add(1, Ordering::Relaxed);
        }
        self.clients[client].cut();
    }

    pub(super) fn remove(&mut self, id: ClientId) {
        if self.clients.get(id.key).is_some_and(|client| client.id == id) {
            self.leave_all(id.key);
            self.clients.remove(id.key);
        }
        if self.clients.is_empty() {
            self.tell_laggards();
        }
        self.answer_drain();
    }

    /// Tells who waits for it that no client is left.
    pub(super) fn answer_drain(&mut self) {
        if !self.clients.is_empty() {
            return;
        }
        for answer in self.drain.iter_mut().flat_map(|drain| drain.answers.drain(..)) {
            let _ = answer.send(());
        }
    }

    /// Keeps what waits for a client in its bounds.
    pub(super) fn enforce(&mut self, key: usize) {
        match self.clients[key].enforce(&self.config) {
            Ok(0) => {}
            Ok(missed) => {
                self.clients[key].missed += missed;
                self.hub.missed.fetch_add(missed, Ordering::Relaxed);
            }
            Err(_) => self.give_up(key),
        }
    }

    /// Tells the hub which clients are furthest behind.
    pub(super) fn tell_laggards(&self) {
        let clients = self.clients.iter().map(|(_, client)| client);
        let behind = clients.filter(|client| client.missed > 0 || client.blocked.is_some());
        let laggard = |client: &Client| Laggard {
            missed: client.missed,
            stuck_for: client.blocked.map_or(Duration::ZERO, |since| since.elapsed()),
            user: client.visitor.user().into(),
            waiting: client.queue.bytes(),
        };
        self.hub.tell_laggards(self.laggards, behind.map(laggard).collect());
    }
}
