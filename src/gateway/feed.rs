//! What comes on a name, wherever it comes from: the manager's stream, or the application's own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use futures::stream::StreamExt as _;
use tokio::sync::broadcast;

use super::delayed::delayed;
use super::news::{Feed, News};
use super::own::Own;
use crate::error::{Gap, StreamError, SubscribeError};
use crate::manager::WsManager;
use crate::message::Message;
use crate::name::StreamName;
use crate::observe::Status;
use crate::stream::Subscription;

/// What clients' names stand for.
pub(super) type Names = dyn Fn(&StreamName) -> Option<StreamName> + Send + Sync;

/// How many messages are taken at once.
const BATCH: usize = 256;

/// Where names come from. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) manager: WsManager,
    pub(super) names: Arc<Names>,
    pub(super) own: Arc<Own>,
}

/// Why a name cannot be read.
#[derive(Debug)]
pub(super) enum Unread {
    Refused(SubscribeError),
    /// Clients have no such name.
    Unknown,
}

impl Unread {
    /// A stable word for it, as clients see it.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Refused(SubscribeError::InvalidName(_)) => "invalid_name",
            Self::Refused(_) => "unavailable",
            Self::Unknown => "unknown_name",
        }
    }

    /// Whether it makes no sense to ask again.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Self::Refused(SubscribeError::InvalidName(_)) | Self::Unknown)
    }
}

/// For clients: nothing of what is inside.
impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(SubscribeError::InvalidName(_)) => "this cannot be a name here",
            Self::Refused(_) => "no more names can be opened now: try again later",
            Self::Unknown => "there is no such name",
        })
    }
}

impl Source {
    /// Whether clients have such a name. Whether upstream has, is seen later.
    pub(super) fn has(&self, name: &StreamName) -> bool {
        self.own.has(name) || (self.names)(name).is_some()
    }

    /// Begins to read a name, from now on, each item `delay` after it came. Beside it, the last message
    /// by now, for a reader that wants to know what was last; none where there is a delay.
    pub(super) fn open(
        &self,
        name: &StreamName,
        delay: Duration,
    ) -> Result<(Feed, Option<Message>), Unread> {
        let (feed, latest) = self.open_now(name)?;
        Ok(if delay.is_zero() { (feed, latest) } else { (delayed(feed, delay), None) })
    }

    fn open_now(&self, name: &StreamName) -> Result<(Feed, Option<Message>), Unread> {
        if let Some((ring, latest)) = self.own.read(name) {
            return Ok((own(ring), latest));
        }
        let upstream = (self.names)(name).ok_or(Unread::Unknown)?;
        let subscription = self.manager.subscribe::<Message>(upstream).map_err(Unread::Refused)?;
        let latest = subscription.latest().and_then(Result::ok);
        Ok((relayed(subscription), latest))
    }
}

fn relayed(mut subscription: Subscription<Message>) -> Feed {
    let mut states = subscription.status_changes();
    Box::pin(stream! {
        let mut batch = Vec::new();
        let mut last = "";
        loop {
            // What has come is told before what the name is doing now: a gap is the reason.
            tokio::select! {
                biased;
                count = subscription.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    yield News::Batch(std::mem::take(&mut batch));
                }
                Some(state) = states.next() => {
                    let state = coarse(&state);
                    if std::mem::replace(&mut last, state) != state {
                        yield News::Status(state);
                    }
                }
            }
        }
    })
}

/// What a client can make use of: whether messages come, will come again, or will not.
fn coarse(status: &Status) -> &'static str {
    match status {
        Status::Open => "open",
        Status::Closed(_) => "closed",
        _ => "connecting",
    }
}

fn own(mut ring: broadcast::Receiver<Message>) -> Feed {
    Box::pin(stream! {
        yield News::Status("open");
        loop {
            let mut batch = match ring.recv().await {
                Ok(message) => vec![Ok(message)],
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    vec![Err(StreamError::Gap(Gap::Lagged { missed }))]
                }
                Err(broadcast::error::RecvError::Closed) => break,
            };
            while batch.len() < BATCH {
                match ring.try_recv() {
                    Ok(message) => batch.push(Ok(message)),
                    Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                        batch.push(Err(StreamError::Gap(Gap::Lagged { missed })));
                    }
                    Err(_) => break,
                }
            }
            yield News::Batch(batch);
        }
        yield News::Status("closed");
    })
}
