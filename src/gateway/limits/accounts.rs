//! What one user, or one address of whoever is anonymous, has of the gateway on all of its connections.
//!
//! - An account lasts for as long as somebody holds it, and for as long as it remembers what was asked: a client that
//!   comes by one connection per request does not begin anew with each.
//! - What is idle is forgotten as others come: there are twice as many as are in use at most, and 64.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::address::Network;
use super::pace::Pace;
use crate::name::StreamName;

/// How many are kept before any is looked for that is idle.
const FEW: usize = 64;

/// Whose an account is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(in crate::gateway) enum Owner {
    Address(Network),
    User(Arc<str>),
}

/// What an owner has.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Account {
    names: Mutex<HashMap<StreamName, usize>>,
    pace: Pace,
}

/// A name that is held on one connection, until it is dropped.
#[derive(Debug)]
pub(in crate::gateway) struct Holding {
    account: Arc<Account>,
    name: StreamName,
}

/// The accounts there are.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Accounts(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    by_owner: HashMap<Owner, Arc<Account>>,
    /// With so many, idle ones are looked for.
    full: usize,
}

impl Accounts {
    pub(in crate::gateway) fn of(&self, owner: Owner) -> Arc<Account> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.by_owner.len() >= all.full.max(FEW) {
            all.by_owner.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_idle());
            all.full = 2 * all.by_owner.len();
        }
        Arc::clone(all.by_owner.entry(owner).or_default())
    }
}

impl Account {
    /// Takes note of one request.
    ///
    /// # Errors
    ///
    /// Where it is one too many, which costs nothing then: how long until the next may come.
    pub(in crate::gateway) fn ask(&self, per_second: u32) -> Result<(), Duration> {
        if self.pace.take(per_second) { Ok(()) } else { Err(self.pace.due_in(per_second)) }
    }

    /// Holds a name on one more connection; `None` where it is another one than the `most` that are held.
    pub(in crate::gateway) fn hold(
        self: &Arc<Self>,
        name: &StreamName,
        most: usize,
    ) -> Option<Holding> {
        let mut names = self.names();
        let is_new = !names.contains_key(name);
        if is_new && names.len() >= most {
            return None;
        }
        *names.entry(name.clone()).or_default() += 1;
        drop(names);
        Some(Holding { account: Arc::clone(self), name: name.clone() })
    }

    fn is_idle(&self) -> bool {
        self.pace.is_idle()
    }

    fn names(&self) -> MutexGuard<'_, HashMap<StreamName, usize>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut names = self.account.names();
        if let Some(count) = names.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                names.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Owner {
        Owner::User(name.into())
    }

    fn name(text: &str) -> StreamName {
        StreamName::try_from(text).unwrap()
    }

    #[test]
    fn an_account_holds_so_many_distinct_names_and_each_until_the_last_has_left_it() {
        let accounts = Accounts::default();
        let (one, same) = (accounts.of(user("ann")), accounts.of(user("ann")));
        let first = one.hold(&name("a"), 2);
        let again = same.hold(&name("a"), 2);
        let second = same.hold(&name("b"), 2);
        assert!(first.is_some() && again.is_some() && second.is_some());
        assert!(one.hold(&name("c"), 2).is_none());
        let lower = one.hold(&name("a"), 0);
        assert!(lower.is_some(), "what is held already is no other name");
        assert!(accounts.of(user("bob")).hold(&name("c"), 2).is_some(), "another has its own");
        drop((first, lower));
        assert!(one.hold(&name("c"), 2).is_none(), "it is held on the other connection");
        drop(again);
        assert!(one.hold(&name("c"), 2).is_some());
        drop(second);
        assert!(one.names().is_empty(), "nothing is kept of what was left");
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_remembers_what_was_asked_and_is_forgotten_when_that_is_over() {
        let accounts = Accounts::default();
        assert_eq!(accounts.of(user("ann")).ask(2), Ok(()));
        assert_eq!(accounts.of(user("ann")).ask(2), Ok(()));
        let half = Duration::from_millis(500);
        assert_eq!(accounts.of(user("ann")).ask(2), Err(half));
        for n in 0..1000 {
            accounts.of(user(&n.to_string()));
        }
        assert_eq!(accounts.of(user("ann")).ask(2), Err(half), "whoever comes meanwhile");
        assert!(accounts.0.lock().unwrap().by_owner.len() <= FEW);
        tokio::time::advance(half).await;
        assert_eq!(accounts.of(user("ann")).ask(2), Ok(()));
        tokio::time::advance(2 * half).await;
        for n in 0..FEW {
            accounts.of(user(&n.to_string()));
        }
        assert!(!accounts.0.lock().unwrap().by_owner.contains_key(&user("ann")));
    }
}
