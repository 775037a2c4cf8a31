//! A stream that is recorded: from its ring into the queue.

use std::sync::Arc;

use futures::FutureExt as _;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::entry::What;
use super::writing::{Job, cost};
use crate::decode::Stamped;
use crate::error::StreamError;
use crate::message::Message;
use crate::name::StreamName;
use crate::stream::Subscription;

/// Items taken at once: all that may be on its way between ring and queue.
const ITEMS: usize = 128;

/// What a recorder asks of its streams.
pub(super) enum Command {
    /// Take what is there, and say so.
    Drain(oneshot::Sender<()>),
    /// The same, and then no more.
    Stop(oneshot::Sender<()>),
}

/// The way to the file.
#[derive(Clone)]
pub(super) struct Queue {
    /// All its room.
    pub(super) bytes: usize,
    pub(super) jobs: mpsc::UnboundedSender<Job>,
    pub(super) room: Arc<Semaphore>,
}

/// The file cannot be written any more.
struct Gone;

pub(super) struct Taker {
    commands: mpsc::UnboundedReceiver<Command>,
    items: Vec<Result<Stamped<Message>, StreamError>>,
    name: StreamName,
    queue: Queue,
    subscription: Subscription<Stamped<Message>>,
}

impl Taker {
    pub(super) fn new(
        subscription: Subscription<Stamped<Message>>,
        name: StreamName,
        commands: mpsc::UnboundedReceiver<Command>,
        queue: Queue,
    ) -> Self {
        Self { commands, items: Vec::new(), name, queue, subscription }
    }

    /// Takes what comes until there is no more, or no more is wanted; `first` comes before it.
    pub(super) async fn run(mut self, first: Option<What>) {
        // The name, if nothing else: that nothing came on it is worth knowing.
        let first = first.map(|what| (Instant::now(), what)).into_iter().collect();
        if self.put(first).await.is_err() {
            return;
        }
        loop {
            tokio::select! {
                biased; // A stream that always has something must not hold up the end.
                command = self.commands.recv() => {
                    if self.drain().await.is_err() {
                        return;
                    }
                    match command {
                        // Who has asked may have gone.
                        Some(Command::Drain(done)) => _ = done.send(()),
                        Some(Command::Stop(done)) => {
                            let _ = done.send(());
                            return;
                        }
                        None => return, // The recorder was dropped.
                    }
                }
                some = self.subscription.recv_many(&mut self.items, ITEMS) => {
                    if some == 0 || self.forward().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Takes what is there by now; what comes meanwhile need not be.
    async fn drain(&mut self) -> Result<(), Gone> {
        let mut left = self.subscription.lag();
        while left > 0 && self.subscription.lag() > 0 {
            let some = self.subscription.recv_many(&mut self.items, ITEMS).await;
            left = left.saturating_sub(some as u64);
            self.forward().await?;
        }
        // Notices are not counted.
        let rest = self.subscription.recv_many(&mut self.items, ITEMS);
        let _ = unconstrained(rest).now_or_never();
        self.forward().await
    }

    async fn forward(&mut self) -> Result<(), Gone> {
        // A gap came no later than what follows on it.
        let mut at = Instant::now();
        let mut items = Vec::with_capacity(self.items.len());
        for item in self.items.drain(..).rev() {
            let what = match item {
                Ok(stamped) => {
                    at = at.min(stamped.received_at);
                    if stamped.replayed {
                        continue; // It came before the recording began.
                    }
                    What::Message(stamped.value)
                }
                Err(StreamError::Gap(gap)) => What::Gap(gap),
                Err(StreamError::Closed(reason)) => {
                    What::Closed { label: reason.label().into(), words: reason.to_string().into() }
                }
                Err(StreamError::Decode(_)) => continue, // Every message is one.
            };
            items.push((at, what));
        }
        items.reverse();
        if items.is_empty() { Ok(()) } else { self.put(items).await }
    }

    /// Waits for room, and meanwhile takes nothing.
    async fn put(&mut self, items: Vec<(Instant, What)>) -> Result<(), Gone> {
        let cost: usize = items.iter().map(|(_, what)| cost(what)).sum();
        let room = u32::try_from(cost.min(self.queue.bytes)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.queue.room).acquire_many_owned(room).await;
        let room = room.map_err(|_| Gone)?;
        let job = Job::Items { name: self.name.clone(), items, room };
        self.queue.jobs.send(job).map_err(|_| Gone)
    }
}
