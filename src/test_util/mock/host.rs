//! A service, its sockets, and what is to be said on them: now, or later.
//!
//! All of it is changed under one lock, so that a test's order falls between two messages, and what is
//! said to one socket keeps its order.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::dial::{Handshake, SocketId};
use super::out::{Answers, Fault, Out, Say};
use super::service::Service;
use crate::test_util::server::Watched;
use crate::transport::Frame;

/// How many faults are kept.
const FAULTS: usize = 1000;
/// How much waits for one socket. A client that is further behind is dropped, as venues do.
const QUEUE: usize = 65_536;

pub(super) struct Host<S>(Watched<Inner<S>>);

pub(super) struct Inner<S> {
    pub(super) answers: Answers,
    pub(super) faults: Vec<Fault>,
    pub(super) refusals: VecDeque<u16>,
    pub(super) service: S,
    /// By when it is due, and by the order in which it was said.
    late: BTreeMap<(Instant, u64), (SocketId, Say)>,
    opened: u64,
    said: u64,
    sockets: BTreeMap<SocketId, mpsc::Sender<Say>>,
}

impl<S: Service> Host<S> {
    pub(super) fn new(service: S) -> Self {
        Self(Watched::new(Inner {
            answers: Answers::default(),
            faults: Vec::new(),
            late: BTreeMap::new(),
            opened: 0,
            refusals: VecDeque::new(),
            said: 0,
            service,
            sockets: BTreeMap::new(),
        }))
    }

    /// Has the service do something.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut S, &mut Out) -> R) -> R {
        self.0.change(|inner| {
            let mut out = Out::new(inner.answers, Instant::now());
            let result = change(&mut inner.service, &mut out);
            inner.carry_out(out);
            result
        })
    }

    /// Looks at what has nothing to do with the service.
    pub(super) fn look<R>(&self, look: impl FnOnce(&mut Inner<S>) -> R) -> R {
        self.0.change(look)
    }

    pub(super) async fn until<R>(&self, take: impl FnMut(&mut Inner<S>) -> Option<R>) -> R {
        self.0.until(take).await
    }

    /// A socket has opened; what is to be said on it comes out here.
    pub(super) fn open(&self, dial: &Handshake) -> (SocketId, mpsc::Receiver<Say>) {
        let (queue, says) = mpsc::channel(QUEUE);
        let socket = self.look(|inner| {
            inner.opened += 1;
            let socket = SocketId(inner.opened);
            inner.sockets.insert(socket, queue);
            socket
        });
        self.change(|service, out| service.open(socket, dial, out));
        (socket, says)
    }

    /// A client said something.
    pub(super) fn heard(&self, socket: SocketId, frame: &Frame) {
        self.change(|service, out| match frame {
            Frame::Data(message) => service.receive(socket, message, out),
            Frame::Ping(_) | Frame::Pong(_) => service.control(socket, frame, out),
            Frame::Close(_) => {}
        });
    }

    pub(super) fn gone(&self, socket: SocketId) {
        self.look(|inner| {
            if inner.sockets.remove(&socket).is_some() {
                inner.service.gone(socket);
            }
        });
    }

    /// Waits until something is due at another time than `known`, and says when that is.
    pub(super) async fn due_other_than(&self, known: Option<Instant>) -> Option<Instant> {
        self.until(|inner| Some(inner.due()).filter(|due| *due != known)).await
    }

    /// Does what is due.
    pub(super) fn tick(&self) {
        let now = Instant::now();
        self.look(|inner| inner.say_what_is_due(now));
        if self.look(|inner| inner.service.deadline().is_some_and(|due| due <= now)) {
            self.change(Service::tick);
        }
    }
}

impl<S: Service> Inner<S> {
    pub(super) fn sockets(&self) -> Vec<SocketId> {
        self.sockets.keys().copied().collect()
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    fn due(&self) -> Option<Instant> {
        let late = self.late.first_key_value().map(|((due, _), _)| *due);
        late.into_iter().chain(self.service.deadline()).min()
    }

    fn carry_out(&mut self, out: Out) {
        let (now, room) = (out.now(), FAULTS - self.faults.len());
        self.faults.extend(out.faults.into_iter().take(room));
        for (due, socket, say) in out.said {
            self.said += 1;
            self.late.insert((due, self.said), (socket, say));
        }
        self.say_what_is_due(now);
    }

    fn say_what_is_due(&mut self, now: Instant) {
        while let Some(entry) = self.late.first_entry().filter(|entry| entry.key().0 <= now) {
            let (socket, say) = entry.remove();
            let queue = self.sockets.get(&socket);
            if queue.is_some_and(|queue| queue.try_send(say).is_err()) {
                // Its end is seen by its task.
                self.sockets.remove(&socket);
                self.service.gone(socket);
            }
        }
    }
}
