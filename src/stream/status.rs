//! A status as a stream.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::Stream;

use crate::engine::sync::{Following, Watch};
use crate::observe::Status;

/// What a stream is doing ([`Status`]), or a manager ([`Overall`](crate::Overall)): its present
/// state first, and then each change. States that passed between two polls are left out. Ends when
/// nothing can change any more.
///
/// ```no_run
/// # async fn run(manager: wsmux::WsManager) {
/// use futures::StreamExt as _;
///
/// let mut states = manager.status();
/// while let Some(state) = states.next().await {
///     println!("the manager is {state}");
/// }
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct StatusStream<S: Clone = Status>(Following<S>);

impl<S: Clone> StatusStream<S> {
    pub(crate) fn new(watch: &Arc<Watch<S>>) -> Self {
        Self(Following::new(watch))
    }

    /// The present state, whether or not the stream has yielded it.
    #[must_use]
    pub fn current(&self) -> S {
        self.0.current()
    }
}

impl<S: Clone> Stream for StatusStream<S> {
    type Item = S;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S>> {
        self.0.poll_changed(cx)
    }
}

impl<S: Clone + fmt::Debug> fmt::Debug for StatusStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StatusStream").field(&self.current()).finish()
    }
}
