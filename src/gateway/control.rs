//! What the two sides of a client tell each other: the task that reads, and the shard that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use super::hub::Counted;
use super::io::Output;
use super::visitor::Visitor;
use super::words::Id;
use crate::name::StreamName;

/// A client of a shard. A place is given to another one after it, so it has a number besides: what is
/// late does not meet another client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ClientId {
    pub(super) key: usize,
    pub(super) number: u64,
}

/// In which form a client is sent what comes on its names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// What it has sent itself: for those who examine how frames are read and written.
    #[cfg(feature = "test-util")]
    Echo,
    /// JSON frames that bear the name.
    Words,
    /// The messages of its only name, byte for byte.
    Raw,
}

/// A client that comes.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) control: Arc<Control>,
    pub(super) counted: Counted,
    pub(super) form: Form,
    pub(super) output: Output,
    pub(super) visitor: Visitor,
}

/// Who comes and goes. There are as many of these as clients, so they wait in no bounded queue: a task
/// that is dropped can tell that it has gone.
#[derive(Debug)]
pub(super) enum Passage {
    Comes(Arrival, oneshot::Sender<ClientId>),
    /// Closes all clients with 1001, spread over a time, and answers when none is left.
    Drain(Duration, oneshot::Sender<()>),
    Goes(ClientId),
}

/// What a client wants of its shard. These wait in a bounded queue: a client that asks much waits.
#[derive(Debug)]
pub(super) enum Ask {
    Close(Option<u16>, &'static str),
    Say(Bytes),
    Subscribe(Id, Vec<StreamName>),
    Unsubscribe(Id, Vec<StreamName>),
}

/// A shard, as others reach it.
#[derive(Clone, Debug)]
pub(super) struct ShardHandle {
    pub(super) asks: mpsc::Sender<(ClientId, Ask)>,
    pub(super) passages: mpsc::UnboundedSender<Passage>,
}

/// What both sides of a client look at.
#[derive(Debug, Default)]
pub(super) struct Control {
    end: AtomicU8,
    heard: AtomicBool,
    told: Notify,
}

/// How far the end of a client has come, as its shard sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Open,
    /// A close frame is on its way. The client has a while to answer.
    Closing,
    /// Nothing more is written.
    Cut,
}

impl Control {
    /// Takes note that something came from the client.
    pub(super) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether anything came since this was asked.
    pub(super) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    pub(super) fn set_end(&self, end: End) {
        self.end.store(end as u8, Ordering::Release);
        self.told.notify_one();
    }

    pub(super) fn end(&self) -> End {
        match self.end.load(Ordering::Acquire) {
            0 => End::Open,
            1 => End::Closing,
            _ => End::Cut,
        }
    }

    /// Until the end has come further. Cancel safe.
    pub(super) async fn ending(&self) {
        self.told.notified().await;
    }
}
