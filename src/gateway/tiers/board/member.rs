//! One user who is connected.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tokio::time::Instant;

use crate::gateway::tiers::tier::Tier;

/// Whom the last connection of a user is told to.
pub(super) trait Leaving: Send + Sync {
    /// A user has no connection any more, unless another has come.
    fn left(&self, user: &str);
}

/// A user, as all of its connections see it.
pub(in crate::gateway) struct Member {
    asked_for: AtomicBool,
    board: Option<Weak<dyn Leaving>>,
    /// When it was known last of which tier it is.
    known_at: Mutex<Option<Instant>>,
    tier: RwLock<Arc<Tier>>,
    user: Arc<str>,
    version: AtomicU64,
}

impl Member {
    pub(super) fn new(user: Arc<str>, tier: Arc<Tier>, board: Option<Weak<dyn Leaving>>) -> Self {
        Self {
            asked_for: AtomicBool::new(false),
            board,
            known_at: Mutex::new(None),
            tier: RwLock::new(tier),
            user,
            version: AtomicU64::new(1),
        }
    }

    pub(in crate::gateway) fn tier(&self) -> Arc<Tier> {
        Arc::clone(&self.tier.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(in crate::gateway) fn user(&self) -> &Arc<str> {
        &self.user
    }

    /// A number above zero that changes after each change of the tier.
    pub(in crate::gateway) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether the source was asked for it, and has answered or failed.
    pub(super) fn was_asked_for(&self) -> bool {
        self.asked_for.load(Ordering::Acquire)
    }

    pub(super) fn asked_for(&self) {
        self.asked_for.store(true, Ordering::Release);
    }

    pub(super) fn known_at(&self) -> Option<Instant> {
        *self.known_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is of this tier, as was known at `at`.
    pub(super) fn set(&self, tier: &Arc<Tier>, at: Instant) {
        *self.known_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        self.be(tier);
    }

    /// It is of this tier until more is known.
    pub(super) fn be(&self, tier: &Arc<Tier>) {
        let mut current = self.tier.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, tier) {
            *current = Arc::clone(tier);
            // After the tier: whoever sees the number sees what it stands for.
            self.version.fetch_add(1, Ordering::Release);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(board) = self.board.as_ref().and_then(Weak::upgrade) {
            board.left(&self.user);
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("user", &self.user)
            .field("tier", &self.tier().name)
            .finish_non_exhaustive()
    }
}
