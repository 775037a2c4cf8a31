//! Messages of the program's own.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle as Runtime;
use tokio::task::JoinHandle;
use tokio::time::{self, Instant, Sleep};

use super::WsManager;
use crate::engine::core::Core;
use crate::error::SendError;
use crate::message::Message;

impl WsManager {
    /// Sends a message on stream `name`, which a subscription or a lease keeps open: sending opens
    /// nothing.
    ///
    /// Resolves once the operating system has taken the whole message. That the server has read it,
    /// or acted upon it, only the server can say. Where it may be written is the protocol's affair:
    /// on the stream's own socket, as it is, unless [`Session::send`](crate::protocol::Session::send)
    /// says otherwise.
    ///
    /// While the stream is not joined, or its socket takes nothing, the message waits, for
    /// [`send_ttl`](field@crate::Config::send_ttl) at most. It survives the loss of sockets that
    /// nothing of it was written to. What is sent on one socket is written in the order in which the
    /// futures were first polled, after what keeps the connection alive, joins and leaves. A message
    /// that waits behind a busy protocol goes with the next 64 of its frames.
    ///
    /// # Errors
    ///
    /// See [`SendError`]. Nothing was written, unless it is [`SendError::Unknown`]: then bytes may
    /// have left before the socket was lost, and whether to send again is for the program to decide.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes the message back: nothing of it is written then. Once it is being
    /// written, which takes [`write_timeout`](field@crate::Config::write_timeout) at most, dropping
    /// the future changes nothing but that nobody learns how it ended.
    ///
    /// # Panics
    ///
    /// In a tokio runtime without timers, like all of tokio's. On threads without a runtime it works,
    /// under any executor.
    ///
    /// ```
    /// use wsmux::protocol::Direct;
    /// use wsmux::test_util::memory;
    /// use wsmux::transport::Frame;
    /// use wsmux::{Message, SendError, WsManager};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (transport, mut server) = memory::pair();
    /// let manager = WsManager::builder(Direct::new("ws://test/ws")?).transport(transport).build()?;
    /// assert_eq!(manager.send("orders", "buy").await, Err(SendError::NotOpen));
    ///
    /// let replies = manager.subscribe::<Message>("orders")?;
    /// let (sent, mut peer) = tokio::join!(manager.send("orders", "buy"), server.accept());
    /// # sent?;
    /// assert_eq!(peer.recv().await, Some(Frame::Data("buy".into())));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send(
        &self,
        name: impl AsRef<str>,
        message: impl Into<Message>,
    ) -> Result<(), SendError> {
        let outcome = send(&self.core, name.as_ref(), message.into()).await;
        self.core.metrics.sent(&outcome);
        outcome
    }
}

async fn send(core: &Arc<Core>, name: &str, message: Message) -> Result<(), SendError> {
    let Some(topic) = core.topic(name) else {
        return Err(if core.is_shut_down() { SendError::Closed } else { SendError::NotOpen });
    };
    let deadline = Instant::now() + topic.settings.send_ttl;
    let mut waiting = topic.outgoing.send(message)?;
    drop(topic);
    let mut expiry = Expiry::at(deadline, core);
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = waiting.poll_outcome(cx) {
            return Poll::Ready(outcome);
        }
        ready!(expiry.poll(cx));
        // What is being written has its own deadline.
        if waiting.withdraw() { Poll::Ready(Err(SendError::Expired)) } else { Poll::Pending }
    })
    .await
}

/// The moment at which a message has waited long enough.
pub(super) enum Expiry {
    /// On the runtime of whoever waits.
    Here(Pin<Box<Sleep>>),
    /// Its moment has come.
    Over,
    /// On the runtime of the manager's connections, for whoever is in none. Should that runtime go,
    /// nothing is waited for any more.
    There(JoinHandle<()>),
}

impl Expiry {
    pub(super) fn at(deadline: Instant, core: &Core) -> Self {
        if Runtime::try_current().is_ok() {
            return Self::Here(Box::pin(time::sleep_until(deadline)));
        }
        match core.clock() {
            Some(runtime) => {
                Self::There(runtime.spawn(async move { time::sleep_until(deadline).await }))
            }
            None => Self::Over,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Here(sleep) => ready!(sleep.as_mut().poll(cx)),
            Self::There(task) => drop(ready!(Pin::new(task).poll(cx))),
            Self::Over => {}
        }
        *self = Self::Over;
        Poll::Ready(())
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        if let Self::There(task) = self {
            task.abort();
        }
    }
}
