//! Tiers that another server tells.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::gateway::fetch::Fetch;
use crate::gateway::tiers::source::{TierError, TierSource, TiersByUser};

/// Users and their tiers, as a server tells them that is asked by `POST`, for many users at once. Cloning is
/// cheap: all clones are the same.
///
/// ```text
/// → {"users":["ann","bob","eve"]}
/// ← {"tiers":{"ann":"gold","bob":"free","eve":null}}
/// ```
///
/// Whoever is not in the answer, or is `null`, is unknown. Whoever was not asked for is ignored.
///
/// ```
/// use wsmux::gateway::fetch::Fetch;
/// use wsmux::gateway::tiers::{HttpTiers, Tier, Tiers};
///
/// let users = Fetch::builder("https://users.example.com/tiers")?.build()?;
/// let tiers = Tiers::builder(Tier::new("free"))
///     .tier(Tier::new("gold"))
///     .source(HttpTiers::new(users))
///     .build();
/// # Ok::<(), wsmux::gateway::fetch::FetchError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HttpTiers(Arc<RwLock<Fetch>>);

#[derive(Serialize)]
struct Question<'a> {
    users: Vec<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    tiers: HashMap<String, Option<String>>,
}

impl HttpTiers {
    /// As this server tells them.
    #[must_use]
    pub fn new(server: Fetch) -> Self {
        Self(Arc::new(RwLock::new(server)))
    }

    /// Asks another server from now on, for all clones.
    pub fn replace(&self, server: Fetch) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = server;
    }

    fn server(&self) -> Fetch {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn told(&self, users: &[Arc<str>]) -> Result<TiersByUser, TierError> {
        let question = Question { users: users.iter().map(|user| &**user).collect() };
        let question = serde_json::to_vec(&question).map_err(TierError::new)?;
        let answer: Answer = self.server().post(question).await.map_err(TierError::new)?;
        let mut tiers = answer.tiers;
        let known = users.iter().filter_map(|user| {
            let tier = tiers.remove(&**user)??;
            Some((Arc::clone(user), tier.into()))
        });
        Ok(known.collect())
    }
}

impl TierSource for HttpTiers {
    fn look_up<'a>(
        &'a self,
        users: &'a [Arc<str>],
    ) -> BoxFuture<'a, Result<TiersByUser, TierError>> {
        Box::pin(self.told(users))
    }
}
