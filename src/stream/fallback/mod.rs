//! A stream that is polled from elsewhere while it is down: smart polling.
//!
//! # Invariants
//!
//! 1. Nothing is polled while the stream is live, nor during the grace after it went down.
//! 2. In an outage polls begin at the end of the grace and then after intervals that double up to
//!    the longest; there is one at a time. Each outage begins anew.
//! 3. When the stream is live again, a poll under way is dropped. What an earlier one has brought
//!    is still yielded, before what comes live.
//! 4. No key is yielded twice within the window, whatever the source.
//! 5. Notices of the stream pass in their place. A poll that fails is none.
//!
//! All of it happens in the reader's task, while it polls. Nothing is spawned.

mod policy;
mod poller;
mod window;

use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{FusedStream, Stream};

use self::poller::{BoxError, Poller, boxed};
use self::window::Window;
use super::{StatusStream, Subscription};
use crate::decode::FromMessage;
use crate::error::{CloseReason, Gap, StreamError};

pub use policy::{FallbackPolicy, OnClose};

/// Stream of live items, and of polled ones while the stream is down; created by
/// [`Subscription::with_fallback`].
#[must_use = "streams do nothing unless polled"]
pub struct WithFallback<T> {
    closed: Option<CloseReason>,
    ended: bool,
    is_new: Box<dyn FnMut(&T) -> bool + Send>,
    live: Subscription<T>,
    /// What the last poll has brought.
    polled: std::vec::IntoIter<T>,
    poller: Poller<T>,
    status: StatusStream,
}

/// Where an item comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sourced<T> {
    /// From the stream.
    Live(T),
    /// From a poll.
    Polled(T),
}

impl<T> Sourced<T> {
    /// The item, wherever it comes from.
    pub fn into_inner(self) -> T {
        match self {
            Self::Live(item) | Self::Polled(item) => item,
        }
    }

    /// A look at the item, wherever it comes from.
    pub fn get(&self) -> &T {
        match self {
            Self::Live(item) | Self::Polled(item) => item,
        }
    }

    /// Whether it comes from the stream.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }
}

impl<T: FromMessage> Subscription<T> {
    /// Polls for items while the stream is not live ([`Status::Open`](crate::Status)), such as over
    /// REST: a feed that is down is slow, not silent.
    ///
    /// `poll` returns what there is: a list, or one item as `Some(item)`. It is called first when the
    /// stream has been down for the policy's grace, at once and then at intervals that double up to
    /// 60 s, and not any more as soon as the stream is live: a poll under way is dropped. `key` tells
    /// items apart, such as by a trade's id: a key that was yielded is not yielded again, from
    /// either source, as long as it is [remembered](field@FallbackPolicy::window).
    ///
    /// Notices pass in their place. When the stream is live again, a
    /// [`Gap::Reconnected`] says so as always: what came after the last
    /// poll and before the join may be missing.
    ///
    /// A poll that fails, or takes longer than the policy's timeout, is no item: it is a line at
    /// level WARN with the error's text (one that shows URLs with tokens had better be wrapped),
    /// counted by [`failures`](WithFallback::failures), and the next one is as due as ever.
    ///
    /// Runs in the reader's task, inside a Tokio runtime: nothing is spawned, and nothing is polled
    /// unless the result is.
    ///
    /// ```no_run
    /// # #[derive(serde::Deserialize)] struct Trade { #[serde(rename = "t", alias = "id")] id: u64 }
    /// # async fn get(url: &str) -> Result<Vec<Trade>, std::io::Error> { unimplemented!() }
    /// # async fn run(manager: wsmux::WsManager) -> Result<(), wsmux::SubscribeError> {
    /// use wsmux::{FallbackPolicy, Sourced};
    ///
    /// let poll = || get("https://api.binance.com/api/v3/trades?symbol=BTCUSDT");
    /// let trades = manager.subscribe::<Trade>("btcusdt@trade")?;
    /// let mut trades = trades.with_fallback(poll, |trade| trade.id, FallbackPolicy::default());
    /// while let Some(item) = trades.recv().await {
    ///     match item {
    ///         Ok(Sourced::Live(trade)) => println!("{}", trade.id),
    ///         Ok(Sourced::Polled(trade)) => println!("{}, with some delay", trade.id),
    ///         Err(notice) => println!("{notice}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_fallback<P, Fut, I, E, K>(
        self,
        mut poll: P,
        key: impl Fn(&T) -> K + Send + 'static,
        policy: FallbackPolicy,
    ) -> WithFallback<T>
    where
        P: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = T>,
        E: Into<BoxError>,
        K: Clone + Eq + Hash + Send + 'static,
    {
        let limit = policy.timeout;
        let mut window = Window::new(policy.window);
        let fetch = Box::new(move || boxed(poll(), limit));
        WithFallback {
            closed: None,
            ended: false,
            is_new: Box::new(move |item| window.is_new(key(item))),
            polled: Vec::new().into_iter(),
            poller: Poller::new(fetch, self.name().clone(), policy),
            status: self.status_changes(),
            live: self,
        }
    }
}

impl<T: FromMessage> WithFallback<T> {
    /// The next item; `None` after the end. The same as `StreamExt::next`, without an import.
    ///
    /// Cancel safe: dropping the future loses nothing, and a poll goes on where it was.
    pub async fn recv(&mut self) -> Option<Result<Sourced<T>, StreamError>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Whether the stream is down for longer than the grace, so that it is polled.
    #[must_use]
    pub fn is_polling(&self) -> bool {
        self.poller.is_polling()
    }

    /// Number of polls so far.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.poller.polls()
    }

    /// Number of polls that failed or took too long.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.poller.failures()
    }

    /// How the last poll failed; `None` if it did not.
    #[must_use]
    pub fn last_error(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.poller.last_error()
    }

    /// Why the stream ended for good, where the polls [go on](OnClose::KeepPolling).
    #[must_use]
    pub fn closed(&self) -> Option<&CloseReason> {
        self.closed.as_ref()
    }

    /// The subscription, for its name, status and lag.
    pub fn subscription(&self) -> &Subscription<T> {
        &self.live
    }

    /// The subscription itself. Polled items that were not read are lost.
    pub fn into_inner(self) -> Subscription<T> {
        self.live
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Sourced<T>, StreamError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            for item in self.polled.by_ref() {
                if (self.is_new)(&item) {
                    return Poll::Ready(Some(Ok(Sourced::Polled(item))));
                }
            }
            if let Poll::Ready(next) = self.poll_live(cx) {
                match next {
                    Some(item) => return Poll::Ready(Some(item)),
                    None => continue,
                }
            }
            self.follow(cx);
            self.polled = ready!(self.poller.poll(cx)).into_iter();
        }
    }

    /// The stream's next item, or that it changed something else.
    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Sourced<T>, StreamError>>> {
        if self.closed.is_some() {
            return Poll::Pending;
        }
        Poll::Ready(match ready!(self.live.poll_recv(cx)) {
            Some(Ok(item)) => (self.is_new)(&item).then_some(Ok(Sourced::Live(item))),
            Some(Err(StreamError::Closed(reason))) => {
                let keeps_on = self.poller.policy.on_close == OnClose::KeepPolling
                    && !matches!(reason, CloseReason::Shutdown | CloseReason::Aborted);
                if keeps_on {
                    let name = self.live.name();
                    tracing::warn!(%name, %reason, "closed for good: polled from now on");
                    self.closed = Some(reason);
                    None
                } else {
                    self.end();
                    Some(Err(StreamError::Closed(reason)))
                }
            }
            Some(Err(notice)) => {
                if let StreamError::Gap(Gap::Reconnected { .. }) = notice {
                    self.poller.live(); // It was, even if it is not any more.
                }
                Some(Err(notice))
            }
            None => {
                self.end();
                None
            }
        })
    }

    fn end(&mut self) {
        self.ended = true;
        self.poller.live();
    }

    /// Learns whether the stream is live.
    fn follow(&mut self, cx: &mut Context<'_>) {
        // Pending, or closed for good.
        while let Poll::Ready(Some(_)) = Pin::new(&mut self.status).poll_next(cx) {}
        if self.status.current().is_open() {
            self.poller.live();
        } else {
            self.poller.down();
        }
    }
}

impl<T: FromMessage> Stream for WithFallback<T> {
    type Item = Result<Sourced<T>, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl<T: FromMessage> FusedStream for WithFallback<T> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

// Nothing in it is pinned but what is boxed.
impl<T> Unpin for WithFallback<T> {}

impl<T> fmt::Debug for WithFallback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithFallback")
            .field("live", &self.live)
            .field("poller", &self.poller)
            .finish_non_exhaustive()
    }
}
