//! A stream that changes its source while it is read.
//!
//! It is on one side, and while it is to be on the other it has both: it yields from the one it has,
//! holds what the other brings, and goes over where the two are [aligned](super::align). All of it
//! happens in `poll_next`; there is no task, and an unread stream changes when it is read.
//!
//! # Invariants
//!
//! 1. The stream it has is dropped only once the other has brought something, or has taken over
//!    from a stream that ended.
//! 2. A message is dropped only if the reader got it. Where that cannot be told, a gap says so.
//! 3. Nothing that the reader may not have is held for longer than [`Place::within`], while the
//!    stream it has is silent; twice that if it is not.
//! 4. A source that fails is left, and asked again by the next change only; or when the stream it
//!    has ends, for there is nothing to lose then.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{BoxStream, FusedStream, Stream, StreamExt as _};
use tokio::runtime::Handle as Runtime;
use tokio::time::{Instant, Sleep, sleep_until};

use super::align::{Ahead, Digest, Item, MAX_MESSAGES, Overlap, Rest, Standing, Verdict};
use super::board::{Aim, Place};
use super::report::{MoveError, Side};
use crate::error::{Gap, StreamError};
use crate::message::Message;
use crate::protocol::DisconnectReason;

type Yielded = Result<Message, StreamError>;

/// A stream of a [`Switch`](super::Switch): yields from the one source or the other, and moves
/// between them without losing a message that both carry; created by
/// [`Switch::subscribe`](super::Switch::subscribe).
#[must_use = "streams do nothing unless polled"]
pub struct Switched {
    current: Feed,
    ended: bool,
    /// The change whose side has failed.
    failed: Option<u64>,
    /// The last message yielded, if no notice came after it.
    last: Option<Message>,
    next: Option<Next>,
    place: Place,
}

/// The stream that is yielded from.
struct Feed {
    ahead: Ahead,
    /// What is yielded before anything else.
    front: VecDeque<Yielded>,
    side: Side,
    stream: BoxStream<'static, Yielded>,
}

/// The stream that is to be yielded from.
struct Next {
    overlap: Overlap,
    side: Side,
    stream: BoxStream<'static, Yielded>,
    /// Since when something is held that the reader may not have.
    withholding: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

fn gap() -> Yielded {
    let reason = DisconnectReason::Switched;
    Err(StreamError::Gap(Gap::Reconnected { down_for: Duration::ZERO, reason }))
}

impl Switched {
    pub(super) fn new(place: Place) -> Self {
        let side = place.aim().side;
        let stream = place.board.source(side).subscribe(&place.name);
        let (ahead, front) = (Ahead::default(), VecDeque::new());
        let current = Feed { ahead, front, side, stream };
        Self { current, ended: false, failed: None, last: None, next: None, place }
    }

    /// The next item; `None` after the end. The same as `StreamExt::next`, without an import.
    ///
    /// Cancel safe: dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Result<Message, StreamError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The name subscribed to.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// The side that the next item comes from, as far as is known.
    #[must_use]
    pub fn side(&self) -> Side {
        self.current.side
    }

    /// Whether both sources are joined, on the way to the other side.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.next.is_some()
    }

    /// Joins the side it should be on, or leaves the one it should not go to after all.
    fn turn_to(&mut self, aim: Aim) {
        if aim.side == self.current.side {
            if self.next.take().is_some() || self.failed.take().is_some() {
                self.place.stays();
            }
        } else if self.next.is_none() && self.failed != Some(aim.version) {
            self.next = Some(self.join(aim.side));
        }
    }

    fn join(&self, side: Side) -> Next {
        let stream = self.place.board.source(side).subscribe(&self.place.name);
        self.place.moving(true);
        let keys = &self.place.board.keys;
        let delivered = if self.current.ahead.is_empty() {
            self.last.iter().map(|last| Digest::of(last, keys)).collect()
        } else {
            self.current.ahead.digests().clone()
        };
        Next { overlap: Overlap::new(delivered), side, stream, timer: None, withholding: None }
    }

    /// Holds what the other side has, up to a budget. Returns whether it may have more.
    fn fill(&mut self, aim: Aim, cx: &mut Context<'_>) -> bool {
        let Some(next) = &mut self.next else { return false };
        for _ in 0..MAX_MESSAGES {
            if next.overlap.is_full() || next.overlap.standing() == Standing::Aligned {
                return false;
            }
            let item = match next.stream.poll_next_unpin(cx) {
                Poll::Pending => return false,
                Poll::Ready(item) => item,
            };
            let error = match item {
                Some(Ok(message)) => {
                    next.hold(Ok(message), &self.place);
                    continue;
                }
                Some(Err(StreamError::Decode(e))) => {
                    next.hold(Err(e), &self.place);
                    continue;
                }
                Some(Err(StreamError::Gap(_))) => {
                    next.overlap.restart();
                    continue;
                }
                Some(Err(StreamError::Closed(reason))) => MoveError::Closed(reason),
                None => MoveError::Ended,
            };
            self.place.failed(next.side, error);
            self.failed = Some(aim.version);
            self.next = None;
            return false;
        }
        true
    }

    /// Goes over if the two are aligned, or have been in vain for too long.
    fn go_over_in_time(&mut self) {
        let Some(next) = &mut self.next else { return };
        match next.overlap.standing() {
            Standing::Aligned => self.go_over(Seam::None),
            Standing::Idle => (next.withholding, next.timer) = (None, None),
            Standing::Hopeless | Standing::Withholding => {
                let since = *next.withholding.get_or_insert_with(Instant::now);
                if since.elapsed() >= self.place.within.saturating_mul(2) {
                    self.go_over(Seam::Gap);
                }
            }
        }
    }

    /// The stream that it has is silent: goes over if something is held and its time is up.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(next) = &mut self.next else { return Poll::Pending };
        let Some(since) = next.withholding else { return Poll::Pending };
        let is_hopeless = next.overlap.standing() == Standing::Hopeless;
        let within = if is_hopeless { Duration::ZERO } else { self.place.within };
        let Some(until) = since.checked_add(within) else { return Poll::Pending };
        ready!(next.poll_until(until, cx));
        self.go_over(Seam::Gap);
        Poll::Ready(())
    }

    /// Leaves the stream that it has for the other.
    fn go_over(&mut self, seam: Seam) {
        let Some(next) = self.next.take() else { return };
        let Rest { ahead, items } = next.overlap.finish();
        let mut front: VecDeque<_> = items.into_iter().map(yielded).collect();
        if seam == Seam::Gap {
            front.push_front(gap());
        }
        let ahead = Ahead::new(ahead, seam != Seam::None);
        self.place.moved(next.side, seam != Seam::None);
        self.current = Feed { ahead, front, side: next.side, stream: next.stream };
    }

    /// What becomes of an item of the stream that it has; `None` if the reader gets none for it.
    fn pass(&mut self, item: Option<Yielded>, aim: Aim) -> Option<Yielded> {
        match &item {
            Some(Ok(message)) => {
                self.last = Some(message.clone());
                self.delivered(message);
            }
            Some(Err(StreamError::Decode(e))) => {
                self.last = None;
                self.delivered(e.message());
            }
            Some(Err(StreamError::Gap(_))) => {
                self.last = None;
                match &mut self.next {
                    // What is in front would be lost with the stream.
                    Some(next) if next.overlap.holds_any() && self.current.front.is_empty() => {
                        self.go_over(Seam::Told);
                    }
                    Some(next) => next.overlap.forget(),
                    None => {}
                }
            }
            Some(Err(StreamError::Closed(_))) | None => {
                if self.current.side != aim.side {
                    let to = aim.side;
                    tracing::warn!(name = &*self.place.name, %to, "stream ended before it moved");
                    let next = self.next.take().unwrap_or_else(|| self.join(to));
                    self.next = Some(next);
                    self.go_over(Seam::Gap);
                    return None;
                }
                self.ended = true;
            }
        }
        item
    }

    fn delivered(&mut self, message: &Message) {
        if let Some(next) = &mut self.next {
            next.overlap.deliver(Digest::of(message, &self.place.board.keys));
            self.go_over_in_time();
        }
    }
}

/// What the reader sees of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Seam {
    /// A gap of its own.
    Gap,
    /// Nothing.
    None,
    /// A gap that came for another reason.
    Told,
}

fn yielded(item: Item) -> Yielded {
    item.map_err(StreamError::Decode)
}

impl Next {
    fn hold(&mut self, item: Item, place: &Place) {
        let message = item.as_ref().unwrap_or_else(|e| e.message());
        self.overlap.hold(Digest::of(message, &place.board.keys), item);
    }

    /// Asks a timer also where the time is known to be up: within a runtime, it says so only if the
    /// task may go on, and else the stream it has may be silent for the same reason.
    fn poll_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = &mut self.timer;
        let polled = Runtime::try_current().ok().and_then(|_| {
            // It panics where the runtime has no timers, or the one that it was made in is gone.
            let poll = || {
                let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
                timer.as_mut().poll(cx)
            };
            catch_unwind(AssertUnwindSafe(poll)).ok()
        });
        polled.unwrap_or_else(|| {
            self.timer = None;
            if Instant::now() < until { Poll::Pending } else { Poll::Ready(()) }
        })
    }
}

impl Feed {
    fn poll_next(&mut self, place: &Place, cx: &mut Context<'_>) -> Poll<Option<Yielded>> {
        loop {
            if let Some(item) = self.front.pop_front() {
                return Poll::Ready(Some(item));
            }
            let item = ready!(self.stream.poll_next_unpin(cx));
            if self.ahead.is_empty() {
                return Poll::Ready(item);
            }
            let message = match &item {
                Some(Ok(message)) => message,
                Some(Err(StreamError::Decode(e))) => e.message(),
                Some(Err(StreamError::Gap(_))) => {
                    self.ahead.told();
                    return Poll::Ready(item);
                }
                Some(Err(StreamError::Closed(_))) | None => return Poll::Ready(item),
            };
            match self.ahead.judge(Digest::of(message, &place.board.keys)) {
                Verdict::Next => return Poll::Ready(item),
                Verdict::Repeat => {}
                Verdict::Torn => {
                    self.front.extend(item);
                    return Poll::Ready(Some(gap()));
                }
            }
        }
    }
}

impl Stream for Switched {
    type Item = Yielded;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Yielded>> {
        let this = self.get_mut();
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            let aim = this.place.aim();
            this.turn_to(aim);
            let more = this.fill(aim, cx);
            this.go_over_in_time();
            match this.current.poll_next(&this.place, cx) {
                Poll::Ready(item) => {
                    if let Some(item) = this.pass(item, aim) {
                        return Poll::Ready(Some(item));
                    }
                }
                Poll::Pending => {
                    if this.poll_overdue(cx).is_ready() {
                        continue;
                    }
                    this.place.park(cx);
                    if this.place.aim() != aim {
                        continue;
                    }
                    if more {
                        cx.waker().wake_by_ref();
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

impl FusedStream for Switched {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl fmt::Debug for Switched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switched")
            .field("name", &self.place.name)
            .field("side", &self.current.side)
            .field("moving", &self.next.is_some())
            .finish_non_exhaustive()
    }
}
