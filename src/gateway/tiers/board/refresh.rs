//! Asking the source: for who comes, and again for who is there.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::time::{Instant, sleep, timeout};

use super::{Board, Member, lock};
use crate::gateway::defect::{Defect, seeded};

impl Board {
    /// Looks a member up, unless it was before, together with all who wait for the same.
    ///
    /// There is no task for it: whoever has the turn asks for all who wait by then. One who is dropped
    /// while it asks leaves the others to ask for themselves, as each finds out that it was not asked for.
    /// A source that fails is not asked by each anew: that would be one timeout after the other.
    pub(super) async fn looked_up(&self, member: &Arc<Member>) {
        if member.was_asked_for() {
            return;
        }
        lock(&self.waiting).insert(Arc::clone(member.user()));
        let _turn = self.turn.lock().await;
        if member.was_asked_for() {
            return;
        }
        if seeded(Defect::TurnIsTrusted) && !lock(&self.waiting).contains(member.user()) {
            return;
        }
        let mut batch = vec![Arc::clone(member.user())];
        {
            let mut waiting = lock(&self.waiting);
            waiting.remove(member.user());
            let more = waiting.iter().take(self.settings.batch - 1).cloned();
            if !seeded(Defect::EachIsAskedForAlone) {
                batch.extend(more);
            }
            for user in &batch {
                waiting.remove(user);
            }
        }
        self.ask(&batch).await;
    }

    /// Asks for some users, and notes what is said of those who are there.
    async fn ask(&self, users: &[Arc<str>]) {
        let Some(source) = &self.settings.source else { return };
        self.look_ups.fetch_add(1, Ordering::Relaxed);
        let asked_at = Instant::now();
        let answer = timeout(self.settings.timeout, source.look_up(users)).await;
        let found = match answer {
            Ok(Ok(found)) => Some(found),
            Ok(Err(e)) => {
                tracing::warn!(error = &e as &dyn std::error::Error, "tiers cannot be looked up");
                None
            }
            Err(_) => {
                tracing::warn!("tiers cannot be looked up: no answer in time");
                None
            }
        };
        self.failures.fetch_add(u64::from(found.is_none()), Ordering::Relaxed);
        for user in users {
            let member = lock(&self.members).get(user).and_then(Weak::upgrade);
            let Some(member) = member else { continue };
            match &found {
                Some(found) => {
                    let tier = found.get(user).map(|name| self.named(name));
                    member.set(&tier.unwrap_or_else(|| self.lowest()), asked_at);
                }
                None => self.grow_stale(&member),
            }
            member.asked_for();
        }
    }

    fn grow_stale(&self, member: &Member) {
        let known_at = member.known_at();
        let is_stale = known_at.is_none_or(|at| at.elapsed() >= self.settings.stale_for);
        if (is_stale && !seeded(Defect::StaleForEver)) || seeded(Defect::FailureDemotes) {
            member.be(&self.lowest());
        }
    }

    /// Starts the task that looks everybody up anew, unless it runs.
    pub(super) fn keep_fresh(self: &Arc<Self>) {
        let mut refreshing = lock(&self.refreshing);
        // One whose runtime has gone is finished, too.
        if refreshing.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            *refreshing = Some(tokio::spawn(refresh(Arc::downgrade(self))));
        }
    }

    async fn refresh(&self) {
        if seeded(Defect::TierIsKept) {
            return;
        }
        let users: Vec<_> = self.members().iter().map(|member| Arc::clone(member.user())).collect();
        for batch in users.chunks(self.settings.batch) {
            self.ask(batch).await;
        }
    }
}

/// Looks up all who are there, for as long as there is a board.
async fn refresh(board: Weak<Board>) {
    loop {
        let Some(period) = board.upgrade().map(|board| board.settings.ttl / 2) else { return };
        sleep(period).await;
        let Some(board) = board.upgrade() else { return };
        board.refresh().await;
    }
}
