//! Events on their way from a batch to its client, counted in bytes.
//!
//! A batch never waits to put one in: it has a bounded number of results, and begins no more requests while
//! there is too much in here. The client's side tells what it has taken, so that the other knows whether it
//! reads at all.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// The batch's end.
#[derive(Debug)]
pub(super) struct Outbox {
    events: mpsc::UnboundedSender<Bytes>,
    /// Since when nothing was taken of what is there.
    idle_since: Instant,
    put: usize,
    taken: watch::Receiver<usize>,
}

/// The client's end.
#[derive(Debug)]
pub(super) struct Inbox {
    events: mpsc::UnboundedReceiver<Bytes>,
    taken: watch::Sender<usize>,
}

/// What the client has done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Client {
    Gone,
    /// It has taken nothing for too long.
    Stuck,
    Took,
}

/// Both ends.
pub(super) fn outbox() -> (Outbox, Inbox) {
    let (events, to_client) = mpsc::unbounded_channel();
    let (tell, taken) = watch::channel(0);
    let outbox = Outbox { events, idle_since: Instant::now(), put: 0, taken };
    (outbox, Inbox { events: to_client, taken: tell })
}

impl Outbox {
    pub(super) fn put(&mut self, event: Bytes) {
        if self.waiting() == 0 {
            self.idle_since = Instant::now();
        }
        self.put += event.len();
        let _ = self.events.send(event); // Whoever is gone gets nothing more.
    }

    /// How many bytes wait for the client.
    pub(super) fn waiting(&self) -> usize {
        self.put - *self.taken.borrow()
    }

    /// Waits until the client has done something, or nothing for `patience` although something waits for it.
    /// Cancel safe.
    pub(super) async fn client(&mut self, patience: Duration) -> Client {
        let is_waiting = self.waiting() > 0;
        let gives_up_at = self.idle_since + patience;
        tokio::select! {
            biased;
            () = self.events.closed() => Client::Gone,
            Ok(()) = self.taken.changed() => {
                self.idle_since = Instant::now();
                Client::Took
            }
            () = sleep_until(gives_up_at), if is_waiting => Client::Stuck,
            else => Client::Gone,
        }
    }
}

impl Inbox {
    /// The next event; `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let event = self.events.recv().await?;
        self.taken.send_modify(|taken| *taken += event.len());
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_something_now_and_then_is_not_stuck() {
        let (mut outbox, mut inbox) = outbox();
        outbox.put("one".into());
        outbox.put("two".into());
        for left in [3, 0] {
            tokio::time::advance(PATIENCE - Duration::from_millis(1)).await;
            assert_eq!(outbox.client(PATIENCE).now_or_never(), None);
            assert!(inbox.next().await.is_some());
            assert_eq!(outbox.client(PATIENCE).await, Client::Took);
            assert_eq!(outbox.waiting(), left);
        }
        tokio::time::advance(10 * PATIENCE).await;
        assert_eq!(outbox.client(PATIENCE).now_or_never(), None, "there is nothing to take");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_stuck_after_that_time_and_no_later() {
        let (mut outbox, _inbox) = outbox();
        tokio::time::advance(10 * PATIENCE).await;
        outbox.put("one".into());
        let start = Instant::now();
        assert_eq!(outbox.client(PATIENCE).await, Client::Stuck);
        assert_eq!(start.elapsed(), PATIENCE, "from when there was something");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_gone_is_noticed_at_once() {
        let (mut outbox, inbox) = outbox();
        outbox.put("one".into());
        drop(inbox);
        assert_eq!(outbox.client(PATIENCE).now_or_never(), Some(Client::Gone));
        outbox.put("two".into());
    }
}
