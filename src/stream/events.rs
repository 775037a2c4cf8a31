//! A manager's events as a stream.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::stream::Stream;

use crate::engine::events::{Log, Place};
use crate::observe::Event;

/// What happens from now on; created by [`WsManager::events`](crate::WsManager::events).
///
/// Bounded: of more than 1,024 events that were not read, the oldest are left out, and
/// [`missed`](Self::missed) counts them. Ends when the manager and all its streams are gone.
///
/// ```no_run
/// # async fn run(manager: wsmux::WsManager) {
/// use futures::StreamExt as _;
/// use wsmux::Event;
///
/// let mut events = manager.events();
/// while let Some(event) = events.next().await {
///     if let Event::Retrying { lane, delay, error, .. } = event {
///         eprintln!("{lane:?} is retried in {delay:.1?}: {error}");
///     }
/// }
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Events {
    log: Arc<Log<Event>>,
    missed: u64,
    place: Place,
}

impl Events {
    pub(crate) fn new(log: &Arc<Log<Event>>) -> Self {
        Self { log: Arc::clone(log), missed: 0, place: log.follow() }
    }

    /// How many events were left out so far because they were not read in time.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = &mut *self;
        let next = ready!(this.log.poll_next(&mut this.place, cx));
        Poll::Ready(next.map(|(missed, event)| {
            this.missed += missed;
            event
        }))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.log.unfollow(&self.place);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("missed", &self.missed).finish_non_exhaustive()
    }
}
