//! One reader: what it was given, held against the exchange's ledger.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep};
use wsmux::test_util::{Audit, MockExchange};
use wsmux::{DisconnectReason, Gap, StreamError, Subscription};

use super::session::BUFFER;
use super::twins::Defect;

const TICK: Duration = Duration::from_millis(20);
/// How long the ledger may take to have what a reader has.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
pub(crate) struct Trade {
    t: u64,
}

/// What one reader, or many, saw and found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ended: u64,
    pub(crate) faults: u64,
    pub(crate) joins: u64,
    pub(crate) lagged: u64,
    pub(crate) lost: u64,
    pub(crate) messages: u64,
    pub(crate) miscounted: u64,
    pub(crate) reconnected: u64,
    /// Messages that came again behind a gap, as is promised where a rotation's two sockets cannot
    /// be aligned.
    pub(crate) retold: u64,
    pub(crate) rotated: u64,
    pub(crate) stuck: u64,
    pub(crate) twice: u64,
    pub(crate) without_cause: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.ended += other.ended;
        self.faults += other.faults;
        self.joins += other.joins;
        self.lagged += other.lagged;
        self.lost += other.lost;
        self.messages += other.messages;
        self.miscounted += other.miscounted;
        self.reconnected += other.reconnected;
        self.retold += other.retold;
        self.rotated += other.rotated;
        self.stuck += other.stuck;
        self.twice += other.twice;
        self.without_cause += other.without_cause;
    }
}

/// What a name's gaps may come from so far, counted before it is done.
#[derive(Debug, Default)]
pub(crate) struct Causes {
    /// Breaks, and rotations too.
    pub(crate) breaks: AtomicU64,
    pub(crate) rotations: AtomicU64,
}

/// What a reader is told to do. When nobody can tell it anything any more, it leaves.
#[derive(Debug)]
pub(crate) enum Order {
    /// Not to read until more has come than is kept for it.
    Lag,
}

/// Who reads.
pub(crate) struct Reader {
    pub(crate) audit: Audit,
    pub(crate) causes: Arc<Causes>,
    /// How many breaks there were before it came.
    pub(crate) breaks_before: u64,
    pub(crate) defect: Option<Defect>,
    pub(crate) exchange: Arc<MockExchange>,
    pub(crate) name: String,
    pub(crate) orders: Receiver<Order>,
    /// Whether the name is nobody else's.
    pub(crate) owner: bool,
    pub(crate) read: Arc<AtomicU64>,
    pub(crate) stream: Subscription<Trade>,
}

/// What stands between two messages.
#[derive(Clone, Copy, Debug, Default)]
struct Between {
    missed: u64,
    reconnected: bool,
}

impl Reader {
    /// Reads until it is to leave.
    pub(crate) async fn run(mut self) -> Counts {
        let mut counts = Counts::default();
        let (mut between, mut last) = (Between::default(), None);
        loop {
            let item = tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(Order::Lag) => { self.lag().await; continue }
                    None => break,
                },
                item = self.stream.recv() => item,
            };
            let Some(item) = item else { break };
            match &item {
                Ok(Trade { t }) => {
                    self.read.fetch_add(1, Ordering::Relaxed);
                    let is_again = last.is_some_and(|last| *t <= last);
                    let was_rotated = self.causes.rotations.load(Ordering::Relaxed) > 0;
                    if is_again && between.reconnected && was_rotated {
                        counts.retold += 1;
                        continue;
                    }
                    let due = last.map(|last: u64| last + 1 + between.missed);
                    let lagged_only = between.missed > 0 && !between.reconnected;
                    counts.miscounted += u64::from(lagged_only && due.is_some_and(|due| due != *t));
                    (between, last) = (Between::default(), Some(*t));
                }
                Err(StreamError::Gap(gap)) => self.gap(gap, &mut between, &mut counts),
                Err(_) => counts.ended += 1,
            }
            self.show(item.as_ref().map(|trade| trade.t)).await;
        }
        self.leave(counts, last).await
    }

    fn gap(&self, gap: &Gap, between: &mut Between, counts: &mut Counts) {
        match gap {
            Gap::Lagged { missed } => {
                let wrong = u64::from(self.defect == Some(Defect::Miscounts));
                between.missed += missed + wrong;
                counts.lagged += 1;
            }
            Gap::Reconnected { reason, .. } => {
                between.reconnected = true;
                counts.reconnected += 1;
                counts.rotated += u64::from(*reason == DisconnectReason::Rotated);
            }
            _ => counts.without_cause += 1,
        }
    }

    /// Shows an item to the audit, where no defect prevents it.
    async fn show(&mut self, item: Result<u64, &StreamError>) {
        let fifth = item.is_ok() && self.read.load(Ordering::Relaxed) == 5;
        match self.defect {
            Some(Defect::Loses) if fifth => return,
            Some(Defect::Repeats) if fifth => self.audit.item(item.map(|t| t..=t)),
            Some(Defect::HangsUp) if fifth => while self.orders.recv().await.is_some() {},
            _ => {}
        }
        self.audit.item(item.map(|t| t..=t));
    }

    /// Lets more come than is kept, unless it is to leave. Where nothing comes, it does not last for
    /// ever either.
    async fn lag(&self) {
        let (start, enough) = (Instant::now(), self.exchange.sent(&self.name) + 2 * BUFFER as u64);
        let is_over = || self.exchange.sent(&self.name) >= enough || self.orders.is_closed();
        while !is_over() && start.elapsed() < PATIENCE {
            sleep(TICK).await;
        }
    }

    /// Leaves, and asks the audit when the ledger has the last that was read.
    async fn leave(self, mut counts: Counts, last: Option<u64>) -> Counts {
        drop(self.stream);
        let start = Instant::now();
        let is_behind = |last| self.exchange.ledger(&self.name).iter().all(|s| s.last < last);
        while last.is_some_and(is_behind) && start.elapsed() < PATIENCE {
            sleep(TICK).await;
        }
        counts.messages += self.audit.messages();
        counts.lost += self.audit.lost_silently();
        counts.twice += self.audit.repeated();
        // A break may have been under way when it came.
        let before = self.breaks_before.saturating_sub(u64::from(!self.owner));
        let causes = self.causes.breaks.load(Ordering::Relaxed) - before;
        let told = counts.reconnected + 1000 * u64::from(self.defect == Some(Defect::Invents));
        counts.without_cause += told.saturating_sub(causes);
        if self.owner {
            self.exchange.forget(&self.name);
        }
        counts
    }
}
