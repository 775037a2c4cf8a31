//! One client of a shard: what waits for it, and how that is written.
//!
//! A write never waits. Where it falls short, the client is *blocked*: its socket wakes the shard when
//! it takes more, and until then what comes stays in the queue, within its bounds.

use std::io::IoSlice;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::gateway::config::{GatewayConfig, SlowClient};
use crate::gateway::control::{Arrival, ClientId, Control, End, Form};
use crate::gateway::frame;
use crate::gateway::hub::Counted;
use crate::gateway::io::Output;
use crate::gateway::queue::{Full, Queue};
use crate::gateway::visitor::Visitor;

/// How many pieces are written at once.
const SLICES: usize = 16;

#[derive(Debug)]
pub(super) struct Client {
    /// Since when nothing of what waits was taken.
    pub(super) blocked: Option<Instant>,
    pub(super) control: Arc<Control>,
    _counted: Counted,
    /// Whether it is among those that this round writes to.
    pub(super) dirty: bool,
    pub(super) form: Form,
    pub(super) id: ClientId,
    is_closing: bool,
    /// How many messages were dropped for it.
    pub(super) missed: u64,
    /// The feeds it reads, and its seats there.
    pub(super) names: Vec<(usize, usize)>,
    output: Option<Output>,
    /// Whether it was pinged since it was looked at.
    pub(super) pinged: bool,
    pub(super) queue: Queue,
    pub(super) visitor: Visitor,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Written {
    /// Nothing waits.
    All,
    /// The socket failed, or the client does not keep up. It is cut off.
    Broken,
    /// Some waits until the socket takes more.
    Short,
}

impl Client {
    pub(super) fn new(arrival: Arrival, id: ClientId) -> Self {
        Self {
            blocked: None,
            control: arrival.control,
            _counted: arrival.counted,
            dirty: false,
            form: arrival.form,
            id,
            is_closing: false,
            missed: 0,
            names: Vec::new(),
            output: Some(arrival.output),
            pinged: false,
            queue: Queue::default(),
            visitor: arrival.visitor,
        }
    }

    /// Whether it is still sent what comes.
    pub(super) fn is_open(&self) -> bool {
        !self.is_closing && self.output.is_some()
    }

    /// Says a last word. What waits before it is sent, too, unless it is too much.
    pub(super) fn close(&mut self, code: Option<u16>, reason: &str) {
        if !self.is_open() {
            return;
        }
        self.is_closing = true;
        self.queue.push_word(frame::close(code, reason));
        self.control.set_end(End::Closing);
    }

    /// The same in place of what waits.
    pub(super) fn close_now(&mut self, code: u16, reason: &str) {
        if self.is_open() {
            self.queue.finish_frame();
            self.close(Some(code), reason);
        }
    }

    /// Ends it without a word.
    pub(super) fn cut(&mut self) {
        self.output = None;
        self.blocked = None;
        self.queue = Queue::default();
        self.control.set_end(End::Cut);
    }

    /// What a client of this form may be done to: a raw relay cannot tell of a gap.
    pub(super) fn enforce(&mut self, config: &GatewayConfig) -> Result<u64, Full> {
        let tells = self.form == Form::Words;
        let policy = if tells { config.slow } else { SlowClient::Disconnect };
        if self.is_closing { Ok(0) } else { self.queue.enforce(policy, config.queue_bytes) }
    }

    /// Writes what waits, as far as the socket takes it. Counts the writes.
    pub(super) fn write(&mut self, ready: &Arc<Ready>, writes: &mut u64) -> Written {
        let Some(output) = &mut self.output else { return Written::All };
        // Most writes are done at once, and need no waker of their own.
        let mut waker: Option<Waker> = None;
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.queue.slices(&mut slices);
            let mut cx = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
            match output.poll_write(&mut cx, &slices[..count]) {
                Poll::Ready(Ok(written)) => {
                    *writes += 1;
                    self.queue.advance(written);
                    self.blocked = None;
                }
                Poll::Ready(Err(_)) => return Written::Broken,
                Poll::Pending if waker.is_some() => {
                    self.blocked.get_or_insert_with(Instant::now);
                    return Written::Short;
                }
                Poll::Pending => waker = Some(Ready::waker(ready, self.id)),
            }
        }
        self.blocked = None;
        // What lies between hands it on by itself, if not at once.
        let _ = output.poll_flush(&mut Context::from_waker(Waker::noop()));
        if self.is_closing {
            self.output = None;
        }
        Written::All
    }
}

/// The clients whose sockets take more.
#[derive(Debug, Default)]
pub(super) struct Ready {
    clients: Mutex<Vec<ClientId>>,
    shard: AtomicWaker,
}

struct Unblock {
    client: ClientId,
    ready: Arc<Ready>,
}

impl Ready {
    fn waker(ready: &Arc<Self>, client: ClientId) -> Waker {
        Arc::new(Unblock { client, ready: Arc::clone(ready) }).into()
    }

    /// Those whose sockets take more since this was asked.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Vec<ClientId>> {
        self.shard.register(cx.waker());
        match self.take() {
            clients if clients.is_empty() => Poll::Pending,
            clients => Poll::Ready(clients),
        }
    }

    pub(super) fn take(&self) -> Vec<ClientId> {
        std::mem::take(&mut self.clients.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wake for Unblock {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut clients = self.ready.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.push(self.client);
        drop(clients);
        self.ready.shard.wake();
    }
}
