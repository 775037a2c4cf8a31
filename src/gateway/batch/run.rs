//! The task of a batch: asks, says what comes, and stops when nobody is there for it.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::outbox::{Client, Outbox};
use super::says::{End, Failure, Far, Group, summary};
use crate::gateway::visitor::{Denied, Visitor};
use crate::manager::Reply;
use crate::name::StreamName;
use crate::requests::{Batch, BatchItem};

/// About how much of what has come is told at once, in bytes.
const GROUP: usize = 64 << 10;

/// A batch that runs. Dropping it cancels what is in flight, and forgets the rest.
pub(super) struct Run {
    /// What was asked, in the batch's order: its place in what the client posted, and its name.
    pub(super) asked: Vec<(usize, StreamName)>,
    pub(super) batch: Batch,
    pub(super) draining: watch::Receiver<bool>,
    pub(super) far: Far,
    /// What may wait for the client before no more is begun, and the longest reply, in bytes.
    pub(super) most: usize,
    pub(super) outbox: Outbox,
    /// How long the client may take nothing.
    pub(super) patience: Duration,
    /// Of the visitor's rights, when they were looked at.
    pub(super) version: u64,
    pub(super) visitor: Visitor,
}

/// What a batch is woken by.
enum Woken {
    Client(Client),
    End(End),
    Item(BatchItem),
}

impl Run {
    /// Runs it to its end.
    pub(super) async fn run(mut self) {
        loop {
            if self.outbox.waiting() < self.most {
                self.batch.go_on();
            } else {
                self.batch.hold();
            }
            match self.woken().await {
                Woken::Client(Client::Gone | Client::Stuck) => return,
                Woken::Client(Client::Took) => {}
                Woken::End(end) => return self.outbox.put(summary(self.far, end)),
                Woken::Item(item) => self.tell(item),
            }
        }
    }

    async fn woken(&mut self) -> Woken {
        let expires_at = self.visitor.expires_at();
        tokio::select! {
            biased;
            client = self.outbox.client(self.patience) => Woken::Client(client),
            _ = self.draining.wait_for(|is_draining| *is_draining) => Woken::End(End::Draining),
            () = until(expires_at) => Woken::End(End::Expired),
            item = self.batch.next() => item.map_or(Woken::End(End::Complete), Woken::Item),
        }
    }

    /// Tells of a result, and of all that have come meanwhile.
    fn tell(&mut self, first: BatchItem) {
        let mut group = Group::default();
        let mut next = Some(first);
        while let Some(item) = next {
            self.add(&mut group, &item);
            if group.len() >= GROUP {
                self.outbox.put(std::mem::take(&mut group).results(self.far));
            }
            next = if self.outbox.waiting() < self.most {
                self.batch.next().now_or_never().flatten()
            } else {
                None
            };
        }
        if !group.is_empty() {
            self.outbox.put(group.results(self.far));
        }
    }

    fn add(&mut self, group: &mut Group, item: &BatchItem) {
        let (index, name) = &self.asked[item.index];
        let result = match &item.outcome {
            Ok(_) if self.may_not_read(name) => Err(Failure::Denied(Denied::Name)),
            Ok(reply) if size(reply) > self.most => Err(Failure::TooLarge),
            Ok(reply) => Ok(reply),
            Err(e) => Err(e.into()),
        };
        self.far.ended(result.is_ok());
        match result {
            Ok(reply) => group.answered(*index, name, reply),
            Err(why) => group.failed(*index, Some(name), why),
        }
    }

    /// Rights are looked at again when they have changed.
    fn may_not_read(&self, name: &StreamName) -> bool {
        self.visitor.standing().version() != self.version && self.visitor.may_read(name).is_err()
    }
}

fn size(reply: &Reply) -> usize {
    reply.parts().iter().map(|part| part.as_bytes().len()).sum()
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
