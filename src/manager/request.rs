//! Messages of the program's own that a server answers.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::FusedStream;
use tokio::time::Instant;

use super::WsManager;
use super::send::Expiry;
use crate::engine::core::Core;
use crate::engine::outgoing::Waiting;
use crate::engine::request::Answer;
use crate::error::{RequestError, SendError};
use crate::message::Message;

impl WsManager {
    /// Asks the server something on stream `name`, which a subscription or a lease keeps open, and
    /// resolves with the whole reply.
    ///
    /// What a request looks like, and which message is its reply, is for the stream's protocol to say:
    /// see [`Session::request`](crate::protocol::Session::request). [`Direct`](crate::protocol::Direct)
    /// has none.
    ///
    /// Until it is written, a request waits as a message does that is [sent](Self::send), under the same
    /// bounds. From then on the reply has [`reply_timeout`](field@crate::Config::reply_timeout), each
    /// part of it anew. A request is never written twice: where its socket is lost before the reply
    /// came, that is [`RequestError::Unknown`]. A socket that another one takes the place of stays for
    /// the replies it owes. Up to 1,024 requests of a socket may wait for their replies.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes the request back, if nothing of it was written. Else the session is
    /// told ([`Session::cancel`](crate::protocol::Session::cancel)), and a reply that still comes is
    /// ignored; what the server does about it is not known.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send) does.
    ///
    /// ```
    /// # use wsmux::{RequestError, SendError, WsManager};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let manager = WsManager::connect("wss://host/ws")?;
    /// let error = manager.request("orders", "list").await.unwrap_err();
    /// assert_eq!(error, RequestError::NotSent(SendError::NotOpen), "it opens nothing");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn request(
        &self,
        name: impl AsRef<str>,
        body: impl Into<Message>,
    ) -> Result<Reply, RequestError> {
        self.request_parts(name, body).whole().await
    }

    /// The same, for replies that come in parts: each is yielded as it comes.
    ///
    /// The request is on its way when this returns. The stream ends after the last part, or after the
    /// first error, of which the request's own are the first item. Dropping it cancels the request, as
    /// dropping the future of [`request`](Self::request) does. What was not read is bounded by the
    /// stream's [`buffer`](field@crate::Config::buffer) and
    /// [`buffer_bytes`](field@crate::Config::buffer_bytes); a reply that needs more ends with
    /// [`RequestError::Overrun`].
    pub fn request_parts(&self, name: impl AsRef<str>, body: impl Into<Message>) -> Replies {
        match Asking::begin(&self.core, name.as_ref(), body.into()) {
            Ok((asking, most)) => Replies { asking: Some(asking), arrived: None, most },
            Err(e) => {
                self.core.metrics.sent(&Err(e));
                Replies { asking: None, arrived: Some(Err(e.into())), most: (0, 0) }
            }
        }
    }
}

/// What a server answered to a [`request`](WsManager::request): one part, with most protocols.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply(Vec<Message>);

impl Reply {
    /// A reply of these parts: for what stands in for a server.
    #[must_use]
    pub fn new(parts: Vec<Message>) -> Self {
        Self(parts)
    }

    /// Its last part, which is the only one with most protocols.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        self.0.last()
    }

    /// Its parts, in the order in which they came.
    #[must_use]
    pub fn parts(&self) -> &[Message] {
        &self.0
    }

    /// The same, to be kept.
    #[must_use]
    pub fn into_parts(self) -> Vec<Message> {
        self.0
    }
}

/// The parts of a server's answer, as they come: see [`WsManager::request_parts`].
#[must_use = "dropping it cancels the request"]
#[derive(Debug)]
pub struct Replies {
    /// What is there and was not read yet: see [`arrived`](method@Self::arrived).
    arrived: Option<Result<Message, RequestError>>,
    /// Until it is over.
    asking: Option<Asking>,
    /// Parts and bytes that may wait to be read.
    most: (usize, usize),
}

impl Replies {
    /// The rest of the reply, as one: its parts that were not read yet.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    ///
    /// # Cancel safety
    ///
    /// Parts that have come are lost with the future. The request goes on as long as this stream is not
    /// dropped.
    pub async fn whole(&mut self) -> Result<Reply, RequestError> {
        let (most, most_bytes) = self.most;
        let (mut parts, mut bytes) = (Vec::new(), 0_usize);
        while let Some(part) = poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await {
            let part = part?;
            bytes = bytes.saturating_add(part.len());
            if parts.len() >= most || (bytes > most_bytes && !parts.is_empty()) {
                self.asking = None;
                return Err(RequestError::Overrun);
            }
            parts.push(part);
        }
        Ok(Reply(parts))
    }

    /// Resolves once there is something to be read: a part, an error, or that it is over.
    ///
    /// # Cancel safety
    ///
    /// What is there stays there.
    pub async fn arrived(&mut self) {
        if self.arrived.is_none() {
            self.arrived = poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await;
        }
    }

    /// What [`arrived`](method@Self::arrived) has found, where that is a failure. It is the next item.
    #[must_use]
    pub fn failure(&self) -> Option<&RequestError> {
        self.arrived.as_ref()?.as_ref().err()
    }

    /// Takes the request back if nothing of it was written: it is over then, and may be made
    /// elsewhere. Else it goes on, and this returns false.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures::StreamExt as _;
    ///
    /// let manager = wsmux::WsManager::connect("ws://host.invalid")?;
    /// let _lease = manager.keep_warm("orders")?;
    /// let mut replies = manager.request_parts("orders", "list");
    /// assert!(replies.withdraw(), "there is no connection yet");
    /// assert_eq!(replies.next().await, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn withdraw(&mut self) -> bool {
        let withdrawn = self.asking.as_mut().is_some_and(Asking::withdraw);
        if withdrawn {
            self.asking = None;
        }
        withdrawn
    }

    /// Cancels the request, and returns whether it is certain that nothing of it was, or will be,
    /// written. Else the server may act upon it.
    pub fn take_back(mut self) -> bool {
        match &self.arrived {
            Some(Err(e)) => e.is_unsent(),
            Some(Ok(_)) => false,
            None => self.withdraw(),
        }
    }
}

impl Stream for Replies {
    type Item = Result<Message, RequestError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(arrived) = self.arrived.take() {
            return Poll::Ready(Some(arrived));
        }
        let Some(asking) = &mut self.asking else { return Poll::Ready(None) };
        let polled = asking.poll(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.asking = None;
        }
        polled
    }
}

impl FusedStream for Replies {
    fn is_terminated(&self) -> bool {
        self.asking.is_none() && self.arrived.is_none()
    }
}

/// A request whose reply is waited for. Dropping it cancels it.
struct Asking {
    answer: Arc<Answer>,
    core: Arc<Core>,
    expiry: Expiry,
    reply_timeout: Duration,
    /// Until it is written.
    waiting: Option<Waiting>,
}

impl Asking {
    fn begin(
        core: &Arc<Core>,
        name: &str,
        body: Message,
    ) -> Result<(Self, (usize, usize)), SendError> {
        let Some(topic) = core.topic(name) else {
            return Err(if core.is_shut_down() { SendError::Closed } else { SendError::NotOpen });
        };
        let settings = &topic.settings;
        let most = (settings.buffer, settings.buffer_bytes);
        let answer = Answer::new(core.next_request(), most);
        let waiting = topic.outgoing.ask(body, Arc::clone(&answer))?;
        let expiry = Expiry::at(Instant::now() + settings.send_ttl, core);
        let (core, reply_timeout) = (Arc::clone(core), core.config.reply_timeout);
        Ok((Self { answer, core, expiry, reply_timeout, waiting: Some(waiting) }, most))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, RequestError>>> {
        if let Poll::Ready(part) = self.answer.poll_part(cx) {
            if self.waiting.is_some() || matches!(part, Some(Ok(_))) {
                self.heard(&Ok(())); // What is answered was written.
            }
            return Poll::Ready(part);
        }
        if let Some(waiting) = &mut self.waiting {
            match waiting.poll_outcome(cx) {
                Poll::Ready(Ok(())) => self.heard(&Ok(())),
                Poll::Ready(Err(e)) => {
                    self.heard(&Err(e));
                    return Poll::Ready(Some(Err(e.into())));
                }
                Poll::Pending => {}
            }
        }
        if self.expiry.poll(cx).is_pending() {
            return Poll::Pending;
        }
        match &mut self.waiting {
            None => Poll::Ready(Some(Err(RequestError::TimedOut))),
            Some(waiting) => {
                if !waiting.withdraw() {
                    return Poll::Pending; // What is being written has its own deadline.
                }
                self.heard(&Err(SendError::Expired));
                Poll::Ready(Some(Err(SendError::Expired.into())))
            }
        }
    }

    fn withdraw(&mut self) -> bool {
        self.waiting.as_mut().is_some_and(Waiting::withdraw)
    }

    /// There is news: of how the request was sent, or of the server.
    fn heard(&mut self, outcome: &Result<(), SendError>) {
        if self.waiting.take().is_some() {
            self.core.metrics.sent(outcome);
        }
        self.expiry = Expiry::at(Instant::now() + self.reply_timeout, &self.core);
    }
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking").field("id", &self.answer.id).finish_non_exhaustive()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.answer.forsake();
    }
}
