//! What comes on a name, as those who pass it on see it.

use std::pin::Pin;

use futures::stream::Stream;

use crate::error::StreamError;
use crate::message::Message;

/// What comes on a name. Ends with the name.
pub(super) type Feed = Pin<Box<dyn Stream<Item = News> + Send>>;

pub(super) enum News {
    /// Messages and notices, in order.
    Batch(Vec<Result<Message, StreamError>>),
    /// What the name is doing: `connecting`, `open`, `closed`.
    Status(&'static str),
}
