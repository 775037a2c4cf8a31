//! Where it is known who is of which tier.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;

/// Users, each with the name of its tier.
pub type TiersByUser = HashMap<Arc<str>, Arc<str>>;

/// Tells which users are of which tier.
pub trait TierSource: Send + Sync + 'static {
    /// The tiers of some users, by their names, as far as they are known. At most
    /// [`batch`](super::TiersBuilder::batch) are asked for at once.
    ///
    /// Cancel safe: the future may be dropped at any time, and is after
    /// [`timeout`](super::TiersBuilder::timeout).
    ///
    /// # Errors
    ///
    /// When it cannot tell now. Who is connected stays of the tier that was last known.
    fn look_up<'a>(
        &'a self,
        users: &'a [Arc<str>],
    ) -> BoxFuture<'a, Result<TiersByUser, TierError>>;
}

/// Why a source cannot tell now.
#[derive(Debug)]
pub struct TierError(Box<dyn Error + Send + Sync>);

impl TierError {
    /// Because of this.
    pub fn new(why: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for TierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source of tiers cannot tell")
    }
}

impl Error for TierError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// Users and their tiers, in memory. Cloning is cheap: all clones are the same.
///
/// ```
/// use wsmux::gateway::tiers::MemoryTiers;
///
/// let tiers = MemoryTiers::new([("ann", "gold")]);
/// tiers.set("bob", "free");
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryTiers(Arc<RwLock<TiersByUser>>);

impl MemoryTiers {
    /// Users, each with its tier.
    pub fn new<U: Into<Arc<str>>, T: Into<Arc<str>>>(
        users: impl IntoIterator<Item = (U, T)>,
    ) -> Self {
        let tiers = Self::default();
        tiers.replace(users);
        tiers
    }

    /// Sets the tier of a user.
    pub fn set(&self, user: impl Into<Arc<str>>, tier: impl Into<Arc<str>>) {
        let (user, tier) = (user.into(), tier.into());
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(user, tier);
    }

    /// Sets the tiers of all users; whoever is not among them is unknown.
    pub fn replace<U: Into<Arc<str>>, T: Into<Arc<str>>>(
        &self,
        users: impl IntoIterator<Item = (U, T)>,
    ) {
        let users = users.into_iter().map(|(user, tier)| (user.into(), tier.into())).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = users;
    }
}

impl TierSource for MemoryTiers {
    fn look_up<'a>(
        &'a self,
        users: &'a [Arc<str>],
    ) -> BoxFuture<'a, Result<TiersByUser, TierError>> {
        Box::pin(async move {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let found = users.iter().filter_map(|user| known.get_key_value(user));
            Ok(found.map(|(user, tier)| (Arc::clone(user), Arc::clone(tier))).collect())
        })
    }
}
