//! Requests of the program's own, from the socket that has them to their replies.
//!
//! A request goes to its socket as any message of the program's does. What it has beside that is an
//! [`Answer`], which the program reads and the socket's [`Owed`] fills.
//!
//! # Invariants
//!
//! 1. A request is in the `Owed` of the socket that it was handed to, and in no other, until its
//!    reply ends. It is never handed to a second one.
//! 2. An `Owed` that is dropped ends what is left in it as unknown. So nobody waits for a socket that
//!    is gone, whatever became of it.
//! 3. What waits in an answer is bounded, in parts and in bytes, and so are the requests of a socket.
//! 4. No lock is held while anybody is woken or a message is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::sync::{Mutex, Signal, register};
use crate::error::RequestError;
use crate::message::Message;
use crate::protocol::RequestId;

/// Requests of one socket that have no reply yet.
const MOST: usize = 1024;

/// What is known of one request's reply.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) id: RequestId,
    /// Parts and bytes that may wait to be read.
    most: (usize, usize),
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: usize,
    /// How it ended; taken once.
    end: Option<Result<(), RequestError>>,
    /// Nobody waits for it any more.
    forsaken: bool,
    parts: VecDeque<Message>,
    /// The connection that is to hear of it, once the request is handed to one.
    signal: Option<Arc<Signal>>,
    waker: Option<Waker>,
}

impl Answer {
    pub(crate) fn new(id: RequestId, most: (usize, usize)) -> Arc<Self> {
        Arc::new(Self { id, most, state: Mutex::default() })
    }

    /// The next part; `None` once it is complete.
    pub(crate) fn poll_part(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, RequestError>>> {
        let replaced = {
            let mut state = self.state.lock();
            if let Some(part) = state.parts.pop_front() {
                state.bytes -= part.len();
                return Poll::Ready(Some(Ok(part)));
            }
            if let Some(end) = state.end.take() {
                return Poll::Ready(end.err().map(Err));
            }
            register(&mut state.waker, cx)
        };
        drop(replaced);
        Poll::Pending
    }

    /// Nobody waits for it any more: the connection that has it is told.
    pub(crate) fn forsake(&self) {
        let (parts, signal, waker) = {
            let mut state = self.state.lock();
            state.forsaken = true;
            state.bytes = 0;
            (std::mem::take(&mut state.parts), state.signal.take(), state.waker.take())
        };
        drop((parts, waker));
        signal.iter().for_each(|signal| signal.set());
    }

    fn is_forsaken(&self) -> bool {
        self.state.lock().forsaken
    }

    fn handed_to(&self, signal: &Arc<Signal>) {
        self.state.lock().signal = Some(Arc::clone(signal));
    }

    /// Returns whether there was room for it.
    fn add(&self, part: Message) -> bool {
        let mut state = self.state.lock();
        if state.forsaken {
            return true;
        }
        let bytes = state.bytes.saturating_add(part.len());
        if state.parts.len() >= self.most.0 || (bytes > self.most.1 && !state.parts.is_empty()) {
            return false;
        }
        state.bytes = bytes;
        state.parts.push_back(part);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        true
    }

    fn end(&self, end: Result<(), RequestError>) {
        let waker = {
            let mut state = self.state.lock();
            state.signal = None;
            state.end = Some(end);
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The requests that one socket was handed and that have no reply yet, each with what it was asked on.
#[derive(Debug)]
pub(crate) struct Owed<S>(BTreeMap<RequestId, (Arc<Answer>, S)>);

impl<S> Default for Owed<S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<S> Owed<S> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }

    /// The request of `answer` is handed to this socket; `signal` is set should nobody wait for it any
    /// more.
    pub(crate) fn add(&mut self, answer: Arc<Answer>, on: S, signal: &Arc<Signal>) {
        answer.handed_to(signal);
        if answer.is_forsaken() {
            signal.set(); // It was while nobody could be told.
        }
        self.0.insert(answer.id, (answer, on));
    }

    /// A part has come, or the end. Returns whether the rest of it is not wanted; what nobody waits
    /// for is ignored.
    pub(crate) fn reply(&mut self, id: RequestId, part: Option<Message>, last: bool) -> bool {
        let Some((answer, _)) = self.0.get(&id) else { return false };
        let has_room = part.is_none_or(|part| answer.add(part));
        if last || !has_room {
            answer.end(if has_room { Ok(()) } else { Err(RequestError::Overrun) });
            self.0.remove(&id);
        }
        !last && !has_room
    }

    /// The server says that it failed.
    pub(crate) fn failed(&mut self, id: RequestId, words: Message) {
        if let Some((answer, _)) = self.0.remove(&id) {
            answer.end(Err(RequestError::Failed(words)));
        }
    }

    /// The server cannot say what it has done.
    pub(crate) fn unknown(&mut self, id: RequestId) {
        if let Some((answer, _)) = self.0.remove(&id) {
            answer.end(Err(RequestError::Unknown));
        }
    }

    /// Takes out what nobody waits for, the oldest first.
    pub(crate) fn take_forsaken(&mut self) -> Vec<RequestId> {
        let forsaken = self.0.iter().filter(|(_, (answer, _))| answer.is_forsaken());
        let ids: Vec<_> = forsaken.map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| drop(self.0.remove(id)));
        ids
    }

    /// Gives up what was asked on a stream that has ended.
    pub(crate) fn give_up(&mut self, has_ended: impl Fn(&S) -> bool) {
        self.0.retain(|_, (answer, on)| {
            let stays = !has_ended(on);
            if !stays {
                answer.end(Err(RequestError::Unknown));
            }
            stays
        });
    }
}

impl<S> Drop for Owed<S> {
    fn drop(&mut self) {
        self.0.values().for_each(|(answer, _)| answer.end(Err(RequestError::Unknown)));
    }
}
