//! The token of one open socket, and the fresh one that is to take its place.

use std::future::Future as _;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use crate::config::{NoToken, Secret};
use crate::engine::tokens::{Issued, Tokens};

/// Without credentials there is nothing to renew.
pub(super) struct Renewal(Option<Box<Used>>);

struct Used {
    asking: Option<BoxFuture<'static, Result<Issued, NoToken>>>,
    /// How much before its time this socket renews: a crowd should not move at one moment.
    early: Duration,
    issued: Issued,
    next_look: Option<Instant>,
    tokens: Tokens,
}

impl Renewal {
    pub(super) fn new(used: Option<(Tokens, Issued)>, random: &mut SmallRng) -> Self {
        Self(used.map(|(tokens, issued)| {
            let early = random.random_range(Duration::ZERO..=issued.jitter());
            let next_look = tokens.next_look(&issued, early);
            Box::new(Used { asking: None, early, issued, next_look, tokens })
        }))
    }

    pub(super) fn issued(&self) -> Option<&Issued> {
        self.0.as_ref().map(|used| &used.issued)
    }

    pub(super) fn token(&self) -> Option<&Secret> {
        self.issued().map(Issued::secret)
    }

    /// Something may have changed: the token may be given up.
    pub(super) fn look(&mut self) {
        if let Some(used) = &mut self.0 {
            used.next_look = used.tokens.next_look(&used.issued, used.early);
        }
    }

    /// When [`poll`](Self::poll) has something to do, if nothing wakes it before.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let used = self.0.as_ref()?;
        if used.asking.is_some() { None } else { used.next_look }
    }

    /// Whether a fresh token is being asked for.
    pub(super) fn is_asking(&self) -> bool {
        self.0.as_ref().is_some_and(|used| used.asking.is_some())
    }

    /// Renews the token once it is due. Ready with what came of it: after a failure the old token
    /// stays, and is looked at again.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        random: &mut SmallRng,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), NoToken>> {
        let Some(used) = &mut self.0 else { return Poll::Pending };
        if used.asking.is_none() {
            if used.next_look.is_none_or(|at| at > now) {
                return Poll::Pending;
            }
            used.next_look = used.tokens.next_look(&used.issued, used.early);
            if used.next_look.is_none_or(|at| at > now) {
                return Poll::Pending;
            }
        }
        let asking = used.asking.get_or_insert_with(|| {
            let (tokens, old) = (used.tokens.clone(), used.issued.clone());
            async move { tokens.renew(&old).await }.boxed()
        });
        let renewed = std::task::ready!(std::pin::Pin::new(asking).poll(cx));
        used.asking = None;
        let renewed = renewed.map(|issued| {
            used.early = random.random_range(Duration::ZERO..=issued.jitter());
            used.issued = issued;
        });
        used.next_look = used.tokens.next_look(&used.issued, used.early);
        Poll::Ready(renewed)
    }
}
