//! The rounds of a shard.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt as _;
use futures::stream::{SelectAll, StreamExt as _};
use slab::Slab;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::client::{Client, Written};
use super::state::{Drain, Shard};
use crate::error::StreamError;
use crate::gateway::config::GatewayConfig;
use crate::gateway::control::{Ask, ClientId, Passage, ShardHandle};
use crate::gateway::feed::Source;
use crate::gateway::frame;
use crate::gateway::hub::Hub;
use crate::gateway::news::News;
use crate::message::Message;

/// How many asks wait, of all clients of a shard.
const ASKS: usize = 1024;
/// How much of each kind a round takes, so that it comes to an end.
const ROUND: usize = 256;
/// After how many clients other tasks have their turn: half a millisecond.
const TURN: usize = 128;
/// In how many parts the clients are pinged, one part at a time.
const PARTS: u32 = 16;

/// What wakes a shard.
enum Woken {
    Asked(Option<(ClientId, Ask)>),
    Fed(Option<(usize, Option<News>)>),
    Passed(Option<Passage>),
    Ready(Vec<ClientId>),
    Ticked,
}

impl Shard {
    /// Starts a shard, in the runtime that this is called in. It ends when its handles are dropped.
    pub(in crate::gateway) fn start(
        config: GatewayConfig,
        hub: Arc<Hub>,
        source: Source,
    ) -> ShardHandle {
        let (asks, asked) = mpsc::channel(ASKS);
        let (passages, passed) = mpsc::unbounded_channel();
        let shard = Self {
            asks: asked,
            by_name: HashMap::new(),
            clients: Slab::new(),
            config,
            delivered: 0,
            dirty: Vec::new(),
            drain: None,
            feeds: Slab::new(),
            laggards: hub.place_for_laggards(),
            hub,
            next: 0,
            news: SelectAll::new(),
            part: 0,
            passages: passed,
            ready: Arc::default(),
            source,
        };
        // A round has an end of its own, and gives way where it may.
        tokio::spawn(tokio::task::unconstrained(shard.run()));
        ShardHandle { asks, passages }
    }

    async fn run(mut self) {
        let period = (self.config.ping_interval / PARTS).max(Duration::from_millis(1));
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ready = Arc::clone(&self.ready);
            let woken = tokio::select! {
                biased;
                passage = self.passages.recv() => Woken::Passed(passage),
                asked = self.asks.recv() => Woken::Asked(asked),
                clients = poll_fn(|cx| ready.poll(cx)) => Woken::Ready(clients),
                news = self.news.next(), if !self.news.is_empty() => Woken::Fed(news),
                _ = ticks.tick(), if !self.clients.is_empty() => Woken::Ticked,
            };
            match woken {
                // Nobody is left who could come.
                Woken::Passed(None) => return,
                Woken::Passed(Some(passage)) => self.pass(passage),
                Woken::Asked(asked) => self.heard(asked),
                Woken::Ready(clients) => self.unblock(&clients),
                Woken::Fed(news) => {
                    self.fed(news);
                    if !self.config.window.is_zero() {
                        sleep(self.config.window).await;
                    }
                }
                Woken::Ticked => self.tick(),
            }
            self.take_what_is_there();
            self.flush().await;
        }
    }

    fn take_what_is_there(&mut self) {
        for _ in 0..ROUND {
            let Ok(passage) = self.passages.try_recv() else { break };
            self.pass(passage);
        }
        for _ in 0..ROUND {
            let Ok(asked) = self.asks.try_recv() else { break };
            self.heard(Some(asked));
        }
        for _ in 0..ROUND {
            let Some(Some(news)) = self.news.next().now_or_never() else { break };
            self.fed(Some(news));
        }
    }

    fn pass(&mut self, passage: Passage) {
        match passage {
            Passage::Comes(arrival, answer) => {
                let entry = self.clients.vacant_entry();
                let id = ClientId { key: entry.key(), number: self.next };
                self.next += 1;
                entry.insert(Client::new(arrival, id));
                if answer.send(id).is_err() {
                    self.remove(id);
                } else if self.drain.is_some() {
                    self.close(id.key, Some(1001), "the server goes");
                }
            }
            Passage::Drain(window, answer) => {
                let of = self.clients.len();
                let begun = Instant::now();
                self.drain
                    .get_or_insert_with(|| Drain { answers: Vec::new(), begun, of, window })
                    .answers
                    .push(answer);
                self.drain();
            }
            Passage::Goes(id) => self.remove(id),
        }
    }

    fn heard(&mut self, asked: Option<(ClientId, Ask)>) {
        let Some((id, ask)) = asked else { return };
        let Some(client) = self.clients.get_mut(id.key).filter(|client| client.id == id) else {
            return;
        };
        match ask {
            Ask::Say(frame) if client.is_open() => {
                client.queue.push_word(frame);
                self.mark(id.key);
            }
            Ask::Close(code, reason) => self.close(id.key, code, reason),
            Ask::Subscribe(asked, names) if client.is_open() => {
                self.subscribe(id.key, &asked, names);
            }
            Ask::Unsubscribe(asked, names) if client.is_open() => {
                self.unsubscribe(id.key, &asked, &names);
            }
            Ask::Say(_) | Ask::Subscribe(..) | Ask::Unsubscribe(..) => {}
        }
    }

    fn fed(&mut self, news: Option<(usize, Option<News>)>) {
        match news {
            Some((feed, Some(News::Batch(batch)))) => self.deliver(feed, batch),
            Some((feed, Some(News::Status(status)))) => self.tell_status(feed, status),
            Some((feed, None)) => self.end(feed),
            None => {}
        }
    }

    /// Delivers what came on a feed, run by run: gaps are told in their place.
    fn deliver(&mut self, feed: usize, batch: Vec<Result<Message, StreamError>>) {
        let mut run = Vec::with_capacity(batch.len());
        for item in batch {
            match item {
                Ok(message) => run.push(message),
                Err(StreamError::Gap(gap)) => {
                    self.send_run(feed, &run);
                    run.clear();
                    let parcel = self.feeds.get(feed).map(|feed| feed.gap(&gap));
                    self.send(feed, parcel);
                }
                // The end is told when the feed comes to it; and every message is a message.
                Err(_) => {}
            }
        }
        self.send_run(feed, &run);
    }

    fn send_run(&mut self, feed: usize, run: &[Message]) {
        if !run.is_empty() {
            let parcel = self.feeds.get(feed).map(|feed| feed.messages(run));
            self.send(feed, parcel);
        }
    }

    fn unblock(&mut self, clients: &[ClientId]) {
        for id in clients {
            if self.clients.get(id.key).is_some_and(|client| client.id == *id) {
                self.write(id.key);
            }
        }
    }

    /// Writes to each client for whom there is something, once.
    async fn flush(&mut self) {
        let delivered = std::mem::take(&mut self.delivered);
        if delivered > 0 {
            self.hub.delivered.fetch_add(delivered, Ordering::Relaxed);
            self.hub.rounds.fetch_add(1, Ordering::Relaxed);
        }
        let dirty = std::mem::take(&mut self.dirty);
        for (at, key) in dirty.iter().enumerate() {
            // It may have gone meanwhile, and another one have come in its place, to no harm.
            let Some(client) = self.clients.get_mut(*key) else { continue };
            client.dirty = false;
            if client.blocked.is_some() {
                self.enforce(*key);
            } else {
                self.write(*key);
            }
            if at % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
            self.dirty.clear();
        }
    }

    fn write(&mut self, key: usize) {
        let mut writes = 0;
        let written = self.clients[key].write(&self.ready, &mut writes);
        self.hub.writes.fetch_add(writes, Ordering::Relaxed);
        match written {
            Written::All => {}
            Written::Broken => {
                self.leave_all(key);
                self.clients[key].cut();
            }
            Written::Short => self.enforce(key),
        }
    }

    /// Looks after clients that may have gone, and closes those whose turn has come.
    fn tick(&mut self) {
        let now = Instant::now();
        let part = self.part;
        self.part = (part + 1) % PARTS as usize;
        let keys: Vec<usize> = self.clients.iter().map(|(key, _)| key).collect();
        for key in keys {
            let client = &mut self.clients[key];
            if let Some(since) = client.blocked {
                client.pinged = false;
                if now.duration_since(since) >= self.config.write_timeout {
                    self.cut(key);
                }
            } else if key % PARTS as usize == part && client.is_open() {
                let is_heard = client.control.take_heard();
                if std::mem::replace(&mut client.pinged, true) && !is_heard {
                    self.cut(key);
                } else {
                    client.queue.push_word(frame::frame(frame::PING, &[]));
                    self.mark(key);
                }
            }
        }
        self.tell_laggards();
        self.drain();
    }

    /// Closes as many clients as the time since it began is part of the window.
    fn drain(&mut self) {
        let Some(Drain { begun, of, window, .. }) = self.drain else { return };
        let part = if window.is_zero() {
            1.0
        } else {
            (begun.elapsed().as_secs_f64() / window.as_secs_f64()).min(1.0)
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of it")]
        #[expect(clippy::cast_precision_loss, reason = "a number of clients")]
        let may_stay = ((1.0 - part) * of as f64) as usize;
        let open = self.clients.iter().filter(|(_, client)| client.is_open());
        let open: Vec<usize> = open.map(|(key, _)| key).collect();
        for key in open.iter().skip(may_stay) {
            self.close(*key, Some(1001), "the server goes");
        }
        self.answer_drain();
    }
}
