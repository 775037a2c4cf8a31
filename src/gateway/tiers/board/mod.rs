//! Who is connected, and of which tier.
//!
//! - A user who is connected is one [`Member`], whatever the number of connections. With the last of
//!   them it is gone from the board: nothing is kept of who is not there. So there is no cache that could
//!   be full, or have to be cleared.
//! - Users who come at the same time are looked up together: whoever has the turn takes along all that
//!   wait, and nobody waits for more to come.
//! - All who are there are looked up anew, in batches, twice per [`ttl`](TiersBuilder::ttl): a change is
//!   seen within one.
//! - Where the source fails, everybody stays what they are for [`stale_for`](TiersBuilder::stale_for),
//!   and is of the lowest tier then. Whoever comes meanwhile is of the lowest until the source answers.

mod member;
mod refresh;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::source::TierSource;
use super::tier::Tier;
use crate::gateway::auth::Identity;

use self::member::Leaving;
pub(in crate::gateway) use self::member::Member;

/// The tiers there are, and who of those who are connected is of which. Cloning is cheap: all clones
/// are the same.
#[derive(Clone)]
pub struct Tiers(Arc<Board>);

/// Builds [`Tiers`]; made by [`Tiers::builder`].
#[must_use]
pub struct TiersBuilder {
    batch: usize,
    defined: Defined,
    source: Option<Box<dyn TierSource>>,
    stale_for: Duration,
    timeout: Duration,
    ttl: Duration,
}

/// The tiers there are.
#[derive(Debug)]
struct Defined {
    lowest: Arc<Tier>,
    others: HashMap<Arc<str>, Arc<Tier>>,
}

impl Defined {
    fn new(lowest: Tier, others: impl IntoIterator<Item = Tier>) -> Self {
        let others = others.into_iter().map(|tier| (Arc::clone(&tier.name), Arc::new(tier)));
        Self { lowest: Arc::new(lowest), others: others.collect() }
    }

    /// The tier of that name; the lowest where there is none.
    fn named(&self, name: &str) -> Arc<Tier> {
        Arc::clone(self.others.get(name).unwrap_or(&self.lowest))
    }
}

struct Board {
    /// Whoever is not known: one, as nothing is kept of each.
    anonymous: Arc<Member>,
    defined: RwLock<Defined>,
    failures: AtomicU64,
    look_ups: AtomicU64,
    members: Mutex<HashMap<Arc<str>, Weak<Member>>>,
    refreshing: Mutex<Option<JoinHandle<()>>>,
    settings: TiersBuilder,
    /// Who looks up.
    turn: tokio::sync::Mutex<()>,
    /// Who waits to be looked up.
    waiting: Mutex<HashSet<Arc<str>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tiers {
    /// Only one, for everybody.
    #[must_use]
    pub fn one(tier: Tier) -> Self {
        Self::builder(tier).build()
    }

    /// Starts to build tiers. `lowest` is that of whoever is unknown.
    pub fn builder(lowest: Tier) -> TiersBuilder {
        TiersBuilder {
            batch: 500,
            defined: Defined::new(lowest, []),
            source: None,
            stale_for: Duration::from_secs(3600),
            timeout: Duration::from_secs(5),
            ttl: Duration::from_secs(60),
        }
    }

    /// Sets which tiers there are from now on. Users who are connected are of the new tier of the same
    /// name at once, and of the lowest where there is none any more.
    pub fn replace(&self, lowest: Tier, others: impl IntoIterator<Item = Tier>) {
        let defined = Defined::new(lowest, others);
        *self.0.defined.write().unwrap_or_else(PoisonError::into_inner) = defined;
        self.0.anonymous.be(&self.0.lowest());
        for member in self.0.members() {
            member.be(&self.0.named(&member.tier().name));
        }
    }

    /// How often the source was asked, whether it answered or not.
    #[must_use]
    pub fn look_ups(&self) -> u64 {
        self.0.look_ups.load(Ordering::Relaxed)
    }

    /// How often the source could not tell.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// How many connected users are of each tier, by its name.
    #[must_use]
    pub fn users(&self) -> HashMap<Arc<str>, usize> {
        let mut users = HashMap::new();
        for member in self.0.members() {
            *users.entry(Arc::clone(&member.tier().name)).or_default() += 1;
        }
        users
    }

    /// Who is there, and the names of their tiers.
    pub(in crate::gateway) fn members(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let known =
            |member: &Arc<Member>| (Arc::clone(member.user()), Arc::clone(&member.tier().name));
        self.0.members().iter().map(known).collect()
    }

    /// The member that whoever is not known is, of the lowest tier.
    pub(in crate::gateway) fn anonymous(&self) -> Arc<Member> {
        Arc::clone(&self.0.anonymous)
    }

    /// The user as a member, looked up if it was not there.
    ///
    /// Where there is no source, it is of the tier that its proof names. Cancel safe.
    pub(in crate::gateway) async fn member(&self, identity: &Identity) -> Arc<Member> {
        let member = self.0.entered(identity);
        if self.0.settings.source.is_some() {
            self.0.keep_fresh();
            self.0.looked_up(&member).await;
        } else if let Some(tier) = &identity.tier {
            // The newest proof holds: it is what its issuer says now.
            member.set(&self.0.named(tier), Instant::now());
        }
        member
    }
}

impl TiersBuilder {
    /// Adds a tier above the lowest.
    pub fn tier(mut self, tier: Tier) -> Self {
        self.defined.others.insert(Arc::clone(&tier.name), Arc::new(tier));
        self
    }

    /// Sets where it is known who is of which tier. By default the proof says so: a token's claim
    /// `tier`.
    pub fn source(mut self, source: impl TierSource) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Sets how many users are asked for at once at most. Default 500: a statement or a URL that
    /// servers still take.
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch.max(1);
        self
    }

    /// Sets for how long users stay of their tier while the source fails. Default 1 h.
    pub fn stale_for(mut self, stale_for: Duration) -> Self {
        self.stale_for = stale_for;
        self
    }

    /// Sets how long one answer of the source may take. Default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how soon a change of the source takes effect at the latest, next to the time that it takes
    /// to answer. Default 60 s, at least 10 ms.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl.max(Duration::from_millis(10));
        self
    }

    /// Builds them. Asks nobody yet.
    #[must_use]
    pub fn build(mut self) -> Tiers {
        let nothing = Defined { lowest: Arc::clone(&self.defined.lowest), others: HashMap::new() };
        let defined = std::mem::replace(&mut self.defined, nothing);
        let lowest = Arc::clone(&defined.lowest);
        Tiers(Arc::new(Board {
            anonymous: Arc::new(Member::new("anonymous".into(), lowest, None)),
            defined: RwLock::new(defined),
            failures: AtomicU64::new(0),
            look_ups: AtomicU64::new(0),
            members: Mutex::default(),
            refreshing: Mutex::default(),
            settings: self,
            turn: tokio::sync::Mutex::new(()),
            waiting: Mutex::default(),
        }))
    }
}

impl Board {
    fn defined(&self) -> RwLockReadGuard<'_, Defined> {
        self.defined.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lowest(&self) -> Arc<Tier> {
        Arc::clone(&self.defined().lowest)
    }

    fn named(&self, name: &str) -> Arc<Tier> {
        self.defined().named(name)
    }

    /// The member of a user: the one who is there, or a new one of the lowest tier.
    fn entered(self: &Arc<Self>, identity: &Identity) -> Arc<Member> {
        let mut members = lock(&self.members);
        if let Some(member) = members.get(&identity.user).and_then(Weak::upgrade) {
            return member;
        }
        let user = Arc::clone(&identity.user);
        let board: Weak<dyn Leaving> = Arc::<Self>::downgrade(self);
        let member = Arc::new(Member::new(user, self.lowest(), Some(board)));
        members.insert(Arc::clone(&identity.user), Arc::downgrade(&member));
        member
    }

    /// All who are there. They are let go of without the lock: the last of one takes it off.
    fn members(&self) -> Vec<Arc<Member>> {
        lock(&self.members).values().filter_map(Weak::upgrade).collect()
    }
}

impl Leaving for Board {
    fn left(&self, user: &str) {
        let mut members = lock(&self.members);
        if members.get(user).is_some_and(|member| member.strong_count() == 0) {
            members.remove(user);
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let refreshing = self.refreshing.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = refreshing.take() {
            task.abort();
        }
    }
}

impl fmt::Debug for Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiers")
            .field("lowest", &self.0.lowest().name)
            .field("others", &self.0.defined().others.len())
            .field("members", &lock(&self.0.members).len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TiersBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TiersBuilder").field("defined", &self.defined).finish_non_exhaustive()
    }
}
