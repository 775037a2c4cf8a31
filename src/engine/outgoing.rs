//! The program's own messages, on their way to a stream's socket.
//!
//! ```text
//!                take            start            flushed
//! with Outgoing ──────▶ Taken ─────────▶ Taken ─────────────▶ Ok
//!    │      ▲             │ dropped        │ dropped
//!    │      └─────────────┘                └─────────────────▶ Unknown
//!    └────▶ withdrawn, or Closed with the stream
//! ```
//!
//! They wait with the stream, in its [`Outgoing`], so that it is of no concern to them which socket
//! comes and goes. A connection takes them from its [`Post`], which has those of all streams that it
//! is the source of, in the order in which they were sent.
//!
//! # Invariants
//!
//! 1. A message waits or is taken, never both, and it changes hands under its stream's lock. So what
//!    was withdrawn is not written, and what is being written is not withdrawn.
//! 2. A [`Taken`] that is dropped tells the truth, whoever drops it: it goes back to its place if
//!    nothing of it was handed to a socket, and else its outcome is not known.
//! 3. A message is in the post of its stream's source while it waits, and in no other.
//! 4. The lock of a stream is taken before that of a post or of an outcome, never after. Nobody is
//!    woken and no message dropped under either.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use super::defect::{Defect, seeded};
use super::request::Answer;
use super::sync::{Mutex, Promise, register};
use crate::error::SendError;
use crate::message::Message;
use crate::name::StreamName;

/// Number of the next message, over all streams: they are written in its order.
static NEXT: AtomicU64 = AtomicU64::new(0);

type Outcome = Result<(), SendError>;

/// The messages that wait to be sent on one stream.
#[derive(Debug)]
pub(crate) struct Outgoing {
    most: usize,
    pub(crate) name: StreamName,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    closed: bool,
    /// The post of the connection that the stream is joined on.
    source: Option<Arc<Post>>,
    waiting: BTreeMap<u64, Letter>,
}

#[derive(Debug)]
struct Letter {
    /// Where the reply goes, if it is a request.
    answer: Option<Arc<Answer>>,
    message: Message,
    outcome: Arc<Promise<Outcome>>,
}

impl Outgoing {
    /// Lets up to `most` messages wait.
    pub(crate) fn new(name: StreamName, most: usize) -> Arc<Self> {
        Arc::new(Self { most, name, queue: Mutex::default() })
    }

    /// Has `message` sent as soon as the stream has a source that can write it.
    pub(crate) fn send(self: &Arc<Self>, message: Message) -> Result<Waiting, SendError> {
        self.post(message, None)
    }

    /// The same for a request, whose reply goes to `answer`.
    pub(crate) fn ask(
        self: &Arc<Self>,
        message: Message,
        answer: Arc<Answer>,
    ) -> Result<Waiting, SendError> {
        self.post(message, Some(answer))
    }

    /// Whether the stream is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    fn post(
        self: &Arc<Self>,
        message: Message,
        answer: Option<Arc<Answer>>,
    ) -> Result<Waiting, SendError> {
        let outcome = Arc::new(Promise::default());
        let (number, waker) = {
            let mut queue = self.queue.lock();
            if queue.closed {
                return Err(SendError::Closed);
            }
            if queue.waiting.len() >= self.most {
                return Err(SendError::Full);
            }
            let number = NEXT.fetch_add(1, Relaxed);
            let letter = Letter { answer, message, outcome: Arc::clone(&outcome) };
            (number, queue.insert(number, letter, self))
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(Waiting { done: false, number, outcome, outgoing: Arc::clone(self) })
    }

    /// The stream is joined on the connection of `post`, which writes its messages from now on; any
    /// other writes none any more.
    pub(crate) fn serve(self: &Arc<Self>, post: &Arc<Post>) {
        let (waker, before) = {
            let mut queue = self.queue.lock();
            if queue.closed || queue.is_served_by(post) {
                return;
            }
            let before = queue.unserve();
            queue.source = Some(Arc::clone(post));
            let waiting = queue.waiting.iter();
            let wakers = waiting.map(|(number, letter)| post.insert(*number, letter, self));
            (wakers.fold(None, Option::or), before)
        };
        drop(before);
        waker.into_iter().for_each(Waker::wake);
    }

    /// The stream is no longer joined on the connection of `post`. Says nothing to a source that
    /// has come after it.
    pub(crate) fn leave(&self, post: &Arc<Post>) {
        let before = {
            let mut queue = self.queue.lock();
            if queue.is_served_by(post) { queue.unserve() } else { None }
        };
        drop(before);
    }

    /// The stream is over: nothing is sent on it any more.
    pub(crate) fn close(&self) {
        let (waiting, before) = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            let before = queue.unserve();
            (std::mem::take(&mut queue.waiting), before)
        };
        drop(before);
        for letter in waiting.into_values() {
            letter.outcome.keep(Err(SendError::Closed));
        }
    }

    /// Takes the message back, unless a connection has it.
    fn withdraw(&self, number: u64) -> bool {
        let mut queue = self.queue.lock();
        if seeded(Defect::WithdrawInTwoSteps) {
            let waits = queue.waiting.contains_key(&number);
            drop(queue);
            let _ = self.queue.lock().remove(number);
            return waits;
        }
        let letter = queue.remove(number);
        drop(queue);
        letter.is_some()
    }

    /// Nobody waits for the message any more: it is not to come back to its place.
    fn forsake(&self, number: u64, outcome: &Promise<Outcome>) {
        let mut queue = self.queue.lock();
        let letter = queue.remove(number);
        if letter.is_none() && !seeded(Defect::ForsakenIsKept) {
            outcome.forsake();
        }
        drop(queue);
    }

    /// Gives the message to the connection of `post`, if it still waits and that is its source.
    fn take(self: &Arc<Self>, number: u64, post: &Arc<Post>) -> Option<Taken> {
        let mut queue = self.queue.lock();
        if !queue.is_served_by(post) {
            return None;
        }
        let Letter { answer, message, outcome } = queue.waiting.remove(&number)?;
        Some(Taken {
            answer,
            message: Some(message),
            number,
            outcome: Some(outcome),
            outgoing: Arc::clone(self),
        })
    }

    /// Puts a message back in its place, of which nothing was written.
    fn put_back(self: &Arc<Self>, number: u64, letter: Letter) {
        let outcome = Arc::clone(&letter.outcome);
        let mut queue = self.queue.lock();
        if queue.closed || outcome.is_forsaken() {
            drop(queue);
            return outcome.keep(Err(SendError::Closed));
        }
        let waker = queue.insert(number, letter, self);
        drop(queue);
        outcome.wake(); // It may have expired meanwhile.
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Queue {
    fn is_served_by(&self, post: &Arc<Post>) -> bool {
        self.source.as_ref().is_some_and(|source| Arc::ptr_eq(source, post))
    }

    fn insert(&mut self, number: u64, letter: Letter, of: &Arc<Outgoing>) -> Option<Waker> {
        let waker = self.source.as_ref().and_then(|post| post.insert(number, &letter, of));
        self.waiting.insert(number, letter);
        waker
    }

    #[must_use = "dropped after the lock"]
    fn remove(&mut self, number: u64) -> Option<Letter> {
        if let Some(post) = &self.source {
            post.remove(number);
        }
        self.waiting.remove(&number)
    }

    #[must_use = "dropped after the lock"]
    fn unserve(&mut self) -> Option<Arc<Post>> {
        let post = self.source.take()?;
        self.waiting.keys().for_each(|number| post.remove(*number));
        Some(post)
    }
}

/// What one connection may write now, of all streams that it is the source of.
#[derive(Debug, Default)]
pub(crate) struct Post(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    /// Lengths and streams of the messages.
    waiting: BTreeMap<u64, (usize, Arc<Outgoing>)>,
    waker: Option<Waker>,
}

impl Post {
    /// The message that was sent first; `None` if it is longer than `room`, and pending, to be woken
    /// by the next, while none waits. One task polls a post.
    pub(crate) fn poll_take(
        self: &Arc<Self>,
        room: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Taken>> {
        loop {
            let mut line = self.0.lock();
            let Some(first) = line.waiting.first_entry() else {
                let replaced = register(&mut line.waker, cx);
                drop(line);
                drop(replaced);
                return Poll::Pending;
            };
            if first.get().0 > room {
                return Poll::Ready(None);
            }
            let (number, (_, outgoing)) = first.remove_entry();
            drop(line);
            let taken = outgoing.take(number, self);
            if taken.is_some() {
                return Poll::Ready(taken);
            }
        }
    }

    /// Ready if a message waits; else to be woken by the next.
    pub(crate) fn poll_waiting(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut line = self.0.lock();
        if !line.waiting.is_empty() {
            return Poll::Ready(());
        }
        let replaced = register(&mut line.waker, cx);
        drop(line);
        drop(replaced);
        Poll::Pending
    }

    #[must_use = "woken after the lock"]
    fn insert(&self, number: u64, letter: &Letter, of: &Arc<Outgoing>) -> Option<Waker> {
        let mut line = self.0.lock();
        line.waiting.insert(number, (letter.message.len(), Arc::clone(of)));
        line.waker.take()
    }

    fn remove(&self, number: u64) {
        self.0.lock().waiting.remove(&number);
    }
}

/// A message in the hands of the connection that writes it.
#[derive(Debug)]
pub(crate) struct Taken {
    answer: Option<Arc<Answer>>,
    /// Until the first byte of it may be written.
    message: Option<Message>,
    number: u64,
    /// Until it is told.
    outcome: Option<Arc<Promise<Outcome>>>,
    outgoing: Arc<Outgoing>,
}

impl Taken {
    pub(crate) fn name(&self) -> &StreamName {
        &self.outgoing.name
    }

    /// The message, until it is started.
    pub(crate) fn message(&self) -> Option<&Message> {
        self.message.as_ref()
    }

    /// Where the reply goes, if it is a request.
    pub(crate) fn answer(&self) -> Option<&Arc<Answer>> {
        self.answer.as_ref()
    }

    /// The stream's messages that it is one of.
    pub(crate) fn outgoing(&self) -> &Arc<Outgoing> {
        &self.outgoing
    }

    /// From here on, bytes of it may have been written.
    pub(crate) fn start(&mut self) {
        if seeded(Defect::UnknownIsSentAgain) {
            return;
        }
        self.message = None;
    }

    /// Tells the sender how it ended.
    pub(crate) fn settle(mut self, outcome: Outcome) {
        if let Some(promise) = self.outcome.take() {
            promise.keep(outcome);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        match (self.outcome.take(), self.message.take()) {
            (Some(outcome), Some(message)) => {
                let answer = self.answer.take();
                self.outgoing.put_back(self.number, Letter { answer, message, outcome });
            }
            (Some(outcome), None) => outcome.keep(Err(SendError::Unknown)),
            (None, _) => {}
        }
    }
}

/// The sender's end of a message. Dropping it withdraws the message, if it still waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    done: bool,
    number: u64,
    outcome: Arc<Promise<Outcome>>,
    outgoing: Arc<Outgoing>,
}

impl Waiting {
    pub(crate) fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = self.outcome.poll_take(cx);
        self.done |= outcome.is_ready();
        outcome
    }

    /// Takes the message back, unless a connection has it: then its outcome is still to come.
    pub(crate) fn withdraw(&mut self) -> bool {
        let withdrawn = self.outgoing.withdraw(self.number);
        self.done |= withdrawn;
        withdrawn
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.done {
            self.outgoing.forsake(self.number, &self.outcome);
        }
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use futures::task::noop_waker;

    use super::*;

    fn outgoing(name: &str) -> Arc<Outgoing> {
        Outgoing::new(StreamName::try_from(name).unwrap(), 3)
    }

    fn take(post: &Arc<Post>) -> Option<Taken> {
        match post.poll_take(usize::MAX, &mut Context::from_waker(&noop_waker())) {
            Poll::Ready(taken) => taken,
            Poll::Pending => None,
        }
    }

    fn outcome(waiting: &mut Waiting) -> Poll<Outcome> {
        waiting.poll_outcome(&mut Context::from_waker(&noop_waker()))
    }

    fn text(taken: &Taken) -> &str {
        taken.message().and_then(Message::as_text).unwrap()
    }

    #[test]
    fn messages_are_taken_in_the_order_they_were_sent_whatever_their_stream() {
        let (a, b, post) = (outgoing("a"), outgoing("b"), Arc::default());
        b.serve(&post);
        let _sent: Vec<_> = [(&a, "1"), (&b, "2"), (&a, "3"), (&b, "4")]
            .map(|(outgoing, text)| outgoing.send(text.into()).unwrap())
            .into();
        a.serve(&post);
        let taken: Vec<_> = std::iter::from_fn(|| take(&post)).collect();
        assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    }

    #[test]
    fn what_was_taken_and_not_started_goes_back_to_its_place() {
        let (a, post) = (outgoing("a"), Arc::default());
        a.serve(&post);
        let mut sent = ["1", "2"].map(|text| a.send(text.into()).unwrap());
        drop(take(&post).unwrap());
        let mut first = take(&post).unwrap();
        assert_eq!(text(&first), "1");
        first.start();
        drop(first);
        assert_eq!(outcome(&mut sent[0]), Poll::Ready(Err(SendError::Unknown)));
        take(&post).unwrap().settle(Ok(()));
        assert_eq!(outcome(&mut sent[1]), Poll::Ready(Ok(())));
    }

    #[test]
    fn what_nobody_waits_for_is_not_taken_and_does_not_come_back() {
        let (a, post) = (outgoing("a"), Arc::default());
        a.serve(&post);
        drop(a.send("1".into()).unwrap());
        assert!(take(&post).is_none());
        let mut second = a.send("2".into()).unwrap();
        let taken = take(&post).unwrap();
        assert!(!second.withdraw(), "it is taken");
        drop((second, taken));
        assert!(take(&post).is_none());
    }

    #[test]
    fn only_the_source_that_came_last_writes() {
        let (a, old, new) = (outgoing("a"), Arc::default(), Arc::default());
        a.serve(&old);
        let _first = a.send("1".into()).unwrap();
        a.serve(&new);
        let _second = a.send("2".into()).unwrap();
        assert!(take(&old).is_none());
        a.leave(&old);
        assert_eq!(text(&take(&new).unwrap()), "1");
        a.leave(&new);
        assert!(take(&new).is_none());
        a.serve(&old);
        let taken: Vec<_> = std::iter::from_fn(|| take(&old)).collect();
        assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn no_more_wait_than_may_and_the_end_is_told_to_all() {
        let (a, post) = (outgoing("a"), Arc::default());
        let mut sent = ["1", "2", "3"].map(|text| a.send(text.into()).unwrap());
        assert_eq!(a.send("4".into()).unwrap_err(), SendError::Full);
        assert!(sent[0].withdraw());
        a.serve(&post);
        let taken = take(&post).unwrap();
        a.close();
        assert_eq!(outcome(&mut sent[2]), Poll::Ready(Err(SendError::Closed)));
        assert_eq!(outcome(&mut sent[1]), Poll::Pending, "it is being written");
        drop(taken);
        assert_eq!(outcome(&mut sent[1]), Poll::Ready(Err(SendError::Closed)));
        assert_eq!(a.send("5".into()).unwrap_err(), SendError::Closed);
    }

    #[test]
    fn a_message_without_room_keeps_its_place() {
        let (a, post) = (outgoing("a"), Arc::<Post>::default());
        a.serve(&post);
        let _sent = ["long", "s"].map(|text| a.send(text.into()).unwrap());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(post.poll_take(3, &mut cx), Poll::Ready(None)));
        assert!(post.poll_waiting(&mut cx).is_ready());
        assert_eq!(text(&take(&post).unwrap()), "long");
    }
}
