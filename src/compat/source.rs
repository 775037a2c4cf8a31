//! Where streams come from, as far as a program that changes clients cares.

use std::future::ready;
use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt as _, once};

use crate::error::{CloseReason, StreamError, SubscribeError};
use crate::manager::WsManager;
use crate::message::Message;

/// A client that hands out streams by name: a [`WsManager`], a [`Switch`](super::Switch), a closure,
/// or the client that a program has had so far.
///
/// The stream is as a [`Subscription`](crate::Subscription): an `Err` is a notice in its place, and
/// `None` follows [`Closed`](StreamError::Closed) alone. A client that cannot tell why a stream
/// ended may leave the `Closed` out. Dropping the stream unsubscribes.
///
/// Where a [`WsManager`] refuses to subscribe, its stream is one
/// [`Closed(NotSubscribed)`](CloseReason::NotSubscribed), or `Closed(Shutdown)`.
///
/// ```
/// use futures::stream::{self, BoxStream, StreamExt as _};
/// use wsmux::compat::Source;
/// use wsmux::{Message, StreamError};
///
/// # #[derive(Clone)] struct OldReceiver;
/// # impl OldReceiver { async fn recv(&mut self) -> Option<String> { None } }
/// struct OldClient { /* … */ }
/// # impl OldClient { fn listen(&self, _: &str) -> OldReceiver { OldReceiver } }
///
/// impl Source for OldClient {
///     fn subscribe(&self, name: &str) -> BoxStream<'static, Result<Message, StreamError>> {
///         stream::unfold(self.listen(name), |mut receiver| async move {
///             let text = receiver.recv().await?;
///             Some((Ok(Message::from(text)), receiver))
///         })
///         .boxed()
///     }
/// }
/// ```
pub trait Source: Send + Sync {
    /// A stream of what comes on `name` from now on.
    fn subscribe(&self, name: &str) -> BoxStream<'static, Result<Message, StreamError>>;
}

impl Source for WsManager {
    fn subscribe(&self, name: &str) -> BoxStream<'static, Result<Message, StreamError>> {
        match Self::subscribe::<Message>(self, name) {
            Ok(subscription) => subscription.boxed(),
            Err(refused) => {
                let reason = match refused {
                    SubscribeError::Shutdown => CloseReason::Shutdown,
                    refused => CloseReason::NotSubscribed(refused),
                };
                once(ready(Err(StreamError::Closed(reason)))).boxed()
            }
        }
    }
}

impl<F> Source for F
where
    F: Fn(&str) -> BoxStream<'static, Result<Message, StreamError>> + Send + Sync,
{
    fn subscribe(&self, name: &str) -> BoxStream<'static, Result<Message, StreamError>> {
        self(name)
    }
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn subscribe(&self, name: &str) -> BoxStream<'static, Result<Message, StreamError>> {
        (**self).subscribe(name)
    }
}

impl Source for Box<dyn Source> {
    fn subscribe(&self, name: &str) -> BoxStream<'static, Result<Message, StreamError>> {
        (**self).subscribe(name)
    }
}
