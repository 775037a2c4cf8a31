//! One request, and how it is to be treated.

use std::time::Duration;

use super::config::NEVER;
use crate::message::{Message, Text};

/// A request to a [`RequestPool`](super::RequestPool). Whatever is a [`Message`] is a call with the
/// pool's settings.
///
/// ```
/// use std::time::Duration;
/// use wsmux::requests::Call;
///
/// let call = Call::new(r#"{"method":"klines"}"#).idempotent().deadline(Duration::from_secs(5));
/// # let _ = call;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a call does nothing before it is given to a pool"]
pub struct Call {
    pub(super) body: Message,
    pub(super) deadline: Option<Duration>,
    pub(super) idempotent: bool,
    /// What its reply is kept by.
    #[cfg(feature = "cache")]
    pub(super) key: Option<super::cache::Key>,
}

impl Call {
    /// A request of this body, in the form that the pool's protocol expects.
    pub fn new(body: impl Into<Message>) -> Self {
        Self {
            body: body.into(),
            deadline: None,
            idempotent: false,
            #[cfg(feature = "cache")]
            key: None,
        }
    }

    /// Sets how long it may take as a whole. Default: [`PoolConfig::deadline`](super::PoolConfig).
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline.min(NEVER));
        self
    }

    /// The server may get it more than once without harm: it is made again, on another connection
    /// where there is one, if its own broke before the whole reply was there or no reply came in
    /// [time](field@crate::Config::reply_timeout). By default it is not, and that is
    /// [`RequestError::Unknown`](crate::RequestError::Unknown).
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Its reply may be one that the pool's [cache](super::RequestPoolBuilder::cache) keeps, of a request
    /// of the same body, and is kept there. Without a cache it is asked for each time.
    #[cfg(feature = "cache")]
    #[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
    pub fn cached(mut self) -> Self {
        let kind = if self.body.as_text().is_some() { b't' } else { b'b' };
        self.key = Some([&[kind], self.body.as_bytes()].concat().into());
        self
    }

    /// The same, for what has this name rather than this body: where bodies that ask the same differ.
    #[cfg(feature = "cache")]
    #[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
    pub fn cached_as(mut self, name: &str) -> Self {
        self.key = Some([b"n", name.as_bytes()].concat().into());
        self
    }

    /// What is asked.
    #[must_use]
    pub fn body(&self) -> &Message {
        &self.body
    }
}

macro_rules! from {
    ($($type:ty),*) => {
        $(impl From<$type> for Call {
            fn from(body: $type) -> Self {
                Self::new(body)
            }
        })*
    };
}

from!(Message, Text, String, &str, bytes::Bytes);
