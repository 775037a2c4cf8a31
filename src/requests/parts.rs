//! A reply that comes in parts.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::stream::{FusedStream, Stream, StreamExt as _};
use tokio::time::timeout_at;

use super::call::Call;
use super::lanes::Place;
use super::shared::{Resends, Shared, explained, overdue};
use crate::error::RequestError;
use crate::manager::Replies;
use crate::message::Message;

/// The parts of a reply, as they come: see [`RequestPool::request_parts`](super::RequestPool::request_parts).
#[must_use = "nothing happens before it is polled"]
pub struct Parts {
    shared: Arc<Shared>,
    state: State,
}

/// The first part, which is `None` for a reply of none, and where the rest comes from.
type Begun = Result<(Option<Message>, Place, Replies), RequestError>;

enum State {
    /// Until the first part.
    Beginning(BoxFuture<'static, Begun>),
    Ended,
    Flowing(Place, Box<Replies>),
}

impl Parts {
    pub(super) fn new(shared: Arc<Shared>, call: Call) -> Self {
        let begun = begin(Arc::clone(&shared), call);
        Self { shared, state: State::Beginning(Box::pin(begun)) }
    }

    fn end(
        &mut self,
        outcome: Result<(), RequestError>,
    ) -> Poll<Option<Result<Message, RequestError>>> {
        self.state = State::Ended;
        self.shared.ended(outcome.as_ref().copied());
        Poll::Ready(outcome.err().map(Err))
    }
}

/// Has the request made until a first part has come.
async fn begin(shared: Arc<Shared>, call: Call) -> Begun {
    let deadline = shared.deadline(&call);
    let mut resends = Resends::of(&shared, &call);
    loop {
        let begun = shared.begin(&call, usize::MAX, deadline).await;
        let (mut place, mut replies) = match begun {
            Ok(begun) => begun,
            Err(e) => return Err(resends.whole_truth(e)),
        };
        let first = timeout_at(deadline, async {
            shared.arrived(&call, &mut place, &mut replies).await;
            replies.next().await
        });
        let error = match first.await {
            Ok(None) => return Ok((None, place, replies)),
            Ok(Some(Ok(part))) => return Ok((Some(part), place, replies)),
            Ok(Some(Err(e))) => explained(e, &place),
            Err(_) => explained(overdue(replies), &place),
        };
        if !resends.allow(&error, deadline) {
            return Err(resends.whole_truth(error));
        }
    }
}

impl Stream for Parts {
    type Item = Result<Message, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.state {
            State::Ended => Poll::Ready(None),
            State::Beginning(begun) => match ready!(begun.as_mut().poll(cx)) {
                Ok((Some(part), place, replies)) => {
                    self.state = State::Flowing(place, Box::new(replies));
                    Poll::Ready(Some(Ok(part)))
                }
                Ok((None, ..)) => self.end(Ok(())),
                Err(e) => self.end(Err(e)),
            },
            State::Flowing(place, replies) => match ready!(replies.poll_next_unpin(cx)) {
                Some(Ok(part)) => Poll::Ready(Some(Ok(part))),
                Some(Err(e)) => {
                    let error = explained(e, place);
                    self.end(Err(error))
                }
                None => self.end(Ok(())),
            },
        }
    }
}

impl FusedStream for Parts {
    fn is_terminated(&self) -> bool {
        matches!(self.state, State::Ended)
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("ended", &self.is_terminated()).finish_non_exhaustive()
    }
}
