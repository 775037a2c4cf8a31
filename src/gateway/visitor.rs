//! One connected client, as the doors know it.
//!
//! A [`Visitor`] is made by [`Doors`](super::Doors) before anything is upgraded, and goes along with the
//! connection. The places it takes (of its user, of its address) are in the guard it holds, and are given
//! back when the last clone is dropped, whether the connection ended well, failed, or was never made.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::name::StreamName;

/// A client that was let in. Cloning is cheap: all clones are the same visitor.
#[derive(Clone)]
pub struct Visitor(Arc<Inner>);

struct Inner {
    expires_at: Mutex<Option<Instant>>,
    /// Given back on drop.
    _places: Box<dyn Any + Send + Sync>,
    standing: Arc<dyn Standing>,
    /// The same, as what it is.
    standing_as: Arc<dyn Any + Send + Sync>,
    user: Arc<str>,
    /// Who it has said to be once it was in.
    user_said: OnceLock<Arc<str>>,
}

/// What a visitor may do, as of now. It may change while the visitor is connected.
///
/// Asked on the way of every message, so an implementation answers from memory: it never waits, and
/// takes no lock that is held for long.
pub trait Standing: Send + Sync + 'static {
    /// A number that changes whenever [`may_read`](Self::may_read) may answer otherwise than before.
    /// It is looked at before each delivery; only when it has changed, `may_read` is asked again.
    fn version(&self) -> u64 {
        0
    }

    /// Whether the visitor may read a stream.
    ///
    /// # Errors
    ///
    /// When it may not, and why.
    fn may_read(&self, name: &StreamName) -> Result<(), Denied> {
        let _ = name;
        Ok(())
    }

    /// How many names the visitor may read on one connection; those of the
    /// [configuration](field@super::GatewayConfig::names_per_client) at most.
    fn max_names(&self) -> usize {
        usize::MAX
    }

    /// Takes note of one message from the visitor; `false` where it sends more than it may, and is to
    /// be closed.
    fn may_say(&self) -> bool {
        true
    }

    /// Takes note of one request for many things at once (`POST /batch`). By default it counts as a message.
    ///
    /// # Errors
    ///
    /// Where it asks more than it may, which is answered with 429: how long it is to wait, as `Retry-After`.
    fn may_ask(&self) -> Result<(), Duration> {
        if self.may_say() { Ok(()) } else { Err(Duration::from_secs(1)) }
    }

    /// Has the visitor read a name, among all that its user reads on any connection. What is returned is dropped when
    /// this connection does not read it any more. By default there may be any number of names.
    ///
    /// # Errors
    ///
    /// When it may not: [`Denied::TooMany`], where its user reads as many others as it may.
    fn hold(&self, name: &StreamName) -> Result<Box<dyn Any + Send + Sync>, Denied> {
        let _ = name;
        Ok(Box::new(()))
    }

    /// How much later than they come the visitor is sent messages. Asked when it subscribes, and whenever
    /// [`version`](Self::version) has changed: then it reads on behind a gap, and a raw relay, which cannot
    /// tell of one, is closed with 1012. What is held meanwhile is bounded (16 MiB per name and delay), and
    /// beyond a gap tells what is missing.
    fn delay(&self) -> Duration {
        Duration::ZERO
    }

    /// What the visitor is counted as, such as the name of its tier. A label: few values, no secret.
    fn tier(&self) -> Arc<str> {
        "none".into()
    }
}

/// Who may do everything.
impl Standing for () {}

/// Why a visitor may not do what it asks for. Its text is shown to the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Denied {
    /// The name is none of those that the visitor may read.
    Name,
    /// What was shown as proof is not valid, or no longer.
    Proof,
    /// The visitor asks for more than it may have at once.
    TooMany,
}

impl Denied {
    /// A stable word for it, as clients see it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Name => "denied",
            Self::Proof => "unauthorized",
            Self::TooMany => "too_many",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "you may not read this name",
            Self::Proof => "the token is not valid: get a fresh one",
            Self::TooMany => "you have as many as you may",
        })
    }
}

impl std::error::Error for Denied {}

impl Visitor {
    /// A visitor. `user` is who it is, the same on all its connections; it is shown to operators, so it
    /// is no secret.
    pub fn new(user: impl Into<Arc<str>>, standing: impl Standing) -> Self {
        Self::with_places(user, standing, ())
    }

    /// A visitor that holds `places`, which are dropped when it has gone.
    pub fn with_places(
        user: impl Into<Arc<str>>,
        standing: impl Standing,
        places: impl Send + Sync + 'static,
    ) -> Self {
        let standing = Arc::new(standing);
        Self(Arc::new(Inner {
            expires_at: Mutex::new(None),
            _places: Box::new(places),
            standing: Arc::clone(&standing) as Arc<dyn Standing>,
            standing_as: standing,
            user: user.into(),
            user_said: OnceLock::new(),
        }))
    }

    /// Who it is.
    #[must_use]
    pub fn user(&self) -> &str {
        self.0.user_said.get().unwrap_or(&self.0.user)
    }

    /// Sets who it is, where that was not known when it was let in. Only the first time: a visitor does not
    /// become another.
    pub fn identify(&self, user: impl Into<Arc<str>>) {
        let _ = self.0.user_said.set(user.into());
    }

    /// What it may do.
    #[must_use]
    pub fn standing(&self) -> &dyn Standing {
        &*self.0.standing
    }

    /// What it may do, as the doors know it that have let it in; `None` where others have.
    #[must_use]
    pub fn standing_as<S: Standing>(&self) -> Option<&S> {
        self.0.standing_as.downcast_ref()
    }

    /// When it is closed with 4401, unless it is [renewed](Self::renew) before; `None` is never.
    #[must_use]
    pub fn expires_at(&self) -> Option<Instant> {
        *self.0.expires_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets when it expires.
    pub fn renew(&self, expires_at: Option<Instant>) {
        *self.0.expires_at.lock().unwrap_or_else(PoisonError::into_inner) = expires_at;
    }

    /// Whether it has expired.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expires_at().is_some_and(|at| at <= Instant::now())
    }

    /// Whether it may read a stream.
    ///
    /// # Errors
    ///
    /// When it may not, and why.
    pub fn may_read(&self, name: &StreamName) -> Result<(), Denied> {
        self.0.standing.may_read(name)
    }
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visitor")
            .field("user", &self.user())
            .field("tier", &self.0.standing.tier())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_with_the_last_clone() {
        let places = Arc::new(());
        let visitor = Visitor::with_places("ann", (), Arc::clone(&places));
        let clone = visitor.clone();
        drop(visitor);
        assert_eq!(Arc::strong_count(&places), 2);
        drop(clone);
        assert_eq!(Arc::strong_count(&places), 1);
    }

    #[test]
    fn the_doors_find_their_own_standing_again() {
        struct Own(u8);
        impl Standing for Own {}
        let visitor = Visitor::new("ann", Own(7));
        assert_eq!(visitor.standing_as::<Own>().map(|own| own.0), Some(7));
        assert!(visitor.standing_as::<()>().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_visitor_expires_unless_it_is_renewed() {
        let visitor = Visitor::new("ann", ());
        assert!(!visitor.is_expired());
        visitor.renew(Some(Instant::now() + Duration::from_secs(1)));
        assert!(!visitor.is_expired());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(visitor.is_expired());
        visitor.renew(Some(Instant::now() + Duration::from_secs(1)));
        assert!(!visitor.is_expired());
    }
}
