//! From a [`Message`] to the reader's type.

use std::any::type_name;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::batch::Entry;
use crate::message::{Message, Text};

/// A type that can be read from a [`Message`].
///
/// | subscribe to | and read |
/// |---|---|
/// | any `T: DeserializeOwned` | the message as JSON, parsed by this reader |
/// | [`Message`] | the message as it came, without a copy |
/// | [`Text`] | the text of a text message, without a copy |
/// | [`Shared<T>`] | `T`, parsed once per message for all readers of `Shared<T>` |
/// | [`Stamped<T>`] | `T` with the time of its arrival and its position |
///
/// Implement it for a type that does not implement `Deserialize` to read another encoding. It runs
/// on the reader's task, when the reader asks for its next item.
///
/// ```
/// use wsmux::{DecodeError, FromMessage, Message};
///
/// struct Tick(u64);
///
/// impl FromMessage for Tick {
///     fn from_message(message: Message) -> Result<Self, DecodeError> {
///         match message.as_bytes().try_into() {
///             Ok(bytes) => Ok(Self(u64::from_be_bytes(bytes))),
///             Err(e) => Err(DecodeError::new(e, message)),
///         }
///     }
/// }
/// ```
pub trait FromMessage: Sized {
    /// Reads `Self` from `message`.
    ///
    /// # Errors
    ///
    /// When the message is not what `Self` is read from. The reader sees it as
    /// [`StreamError::Decode`](crate::StreamError::Decode), and its stream goes on.
    fn from_message(message: Message) -> Result<Self, DecodeError>;

    /// Reads `Self` from a message in its place.
    #[doc(hidden)]
    fn from_entry(entry: &Entry<'_>) -> Result<Self, DecodeError> {
        Self::from_message(entry.to_message())
    }

    /// The next message, if `text` gives it and a text is all it takes: the short way to most messages
    /// of a busy stream.
    #[doc(hidden)]
    #[inline]
    #[must_use]
    fn from_next_text(_: impl FnOnce() -> Option<Text>) -> Option<Self> {
        None
    }
}

impl<T: DeserializeOwned> FromMessage for T {
    fn from_message(message: Message) -> Result<Self, DecodeError> {
        serde_json::from_slice(message.as_bytes()).map_err(|e| DecodeError::of::<T>(e, message))
    }

    fn from_entry(entry: &Entry<'_>) -> Result<Self, DecodeError> {
        serde_json::from_slice(entry.message().as_bytes())
            .map_err(|e| DecodeError::of::<T>(e, entry.to_message()))
    }
}

impl FromMessage for Message {
    fn from_message(message: Message) -> Result<Self, DecodeError> {
        Ok(message)
    }

    #[inline]
    fn from_entry(entry: &Entry<'_>) -> Result<Self, DecodeError> {
        Ok(entry.to_message())
    }

    #[inline]
    fn from_next_text(text: impl FnOnce() -> Option<Text>) -> Option<Self> {
        text().map(Self::Text)
    }
}

impl FromMessage for Text {
    fn from_message(message: Message) -> Result<Self, DecodeError> {
        match message {
            Message::Text(text) => Ok(text),
            Message::Binary(_) => Err(DecodeError::of::<Self>("the message is binary", message)),
        }
    }

    #[inline]
    fn from_next_text(text: impl FnOnce() -> Option<Self>) -> Option<Self> {
        text()
    }
}

/// A value parsed once per message, however many readers of `Shared<T>` a stream has.
///
/// The first reader to reach a message parses it, on its own task; the others get the same
/// [`Arc`]. Worth it from the second reader on.
#[derive(Debug)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// The value's `Arc`.
    #[must_use]
    pub fn into_arc(self) -> Arc<T> {
        self.0
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: FromMessage + Send + Sync + 'static> FromMessage for Shared<T> {
    fn from_message(message: Message) -> Result<Self, DecodeError> {
        T::from_message(message).map(|value| Self(Arc::new(value)))
    }

    fn from_entry(entry: &Entry<'_>) -> Result<Self, DecodeError> {
        entry.decoded(|| T::from_entry(entry)).map(Self)
    }
}

/// A value with the time of its arrival and its position in the stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stamped<T> {
    /// When the message was read from the socket. Messages that arrive in one read share it.
    pub received_at: Instant,
    /// Whether the message came before this reader did, and is given to it first because
    /// [`Config::replay_latest`](field@crate::Config::replay_latest) says so.
    pub replayed: bool,
    /// Position of the message in its stream. Consecutive messages have consecutive positions;
    /// what this reader missed by [lagging](crate::Gap::Lagged) is the difference.
    pub seq: u64,
    /// The value.
    pub value: T,
}

impl<T: FromMessage> FromMessage for Stamped<T> {
    /// Without a place in a stream, the value counts as received now, at position 0.
    fn from_message(message: Message) -> Result<Self, DecodeError> {
        let value = T::from_message(message)?;
        Ok(Self { received_at: Instant::now(), replayed: false, seq: 0, value })
    }

    fn from_entry(entry: &Entry<'_>) -> Result<Self, DecodeError> {
        let value = T::from_entry(entry)?;
        Ok(Self {
            received_at: entry.received_at(),
            replayed: entry.is_replayed(),
            seq: entry.seq(),
            value,
        })
    }
}

/// A message that is not what the reader asked for.
#[derive(Clone)]
pub struct DecodeError(Arc<Inner>);

struct Inner {
    message: Message,
    source: Box<dyn StdError + Send + Sync>,
    wanted: Option<&'static str>,
}

impl DecodeError {
    /// Wraps the decoder's error together with the message it choked on.
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync>>, message: Message) -> Self {
        Self(Arc::new(Inner { message, source: source.into(), wanted: None }))
    }

    fn of<T>(source: impl Into<Box<dyn StdError + Send + Sync>>, message: Message) -> Self {
        let wanted = Some(type_name::<T>());
        Self(Arc::new(Inner { message, source: source.into(), wanted }))
    }

    /// The message as it was received.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.0.message
    }

    /// The decoder's error: for a look at its type. The error's own text says what it says, so it is
    /// not the [`source`](StdError::source), which goes on below it; as with
    /// [`std::io::Error::get_ref`].
    #[must_use]
    pub fn get_ref(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0.source
    }

    /// What the decoder says. It may quote a message of megabytes, so its middle is left out.
    fn cause(&self) -> String {
        let cause = self.0.source.to_string();
        if cause.len() <= LONGEST {
            return cause;
        }
        let end = (0..=LONGEST / 2).rev().find(|at| cause.is_char_boundary(*at));
        let rest = (cause.len() - LONGEST / 2..).find(|at| cause.is_char_boundary(*at));
        format!("{}…{}", &cause[..end.unwrap_or(0)], &cause[rest.unwrap_or(cause.len())..])
    }
}

/// Bytes of a decoder's error that are shown, at most.
const LONGEST: usize = 256;

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.cause();
        match self.0.wanted {
            Some(wanted) if wanted == type_name::<String>() => {
                write!(f, "cannot read the message: `String` is read as JSON; use `Text` ({cause})")
            }
            Some(wanted) => write!(f, "cannot read the message as `{wanted}`: {cause}"),
            None => write!(f, "cannot read the message: {cause}"),
        }
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages may be megabytes; a debugging print must not be.
        let bytes = self.0.message.as_bytes();
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]);
        f.debug_struct("DecodeError")
            .field("wanted", &self.0.wanted)
            .field("cause", &self.cause())
            .field("len", &bytes.len())
            .field("start", &start)
            .finish()
    }
}

impl StdError for DecodeError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_that_is_not_json_names_the_way_out() {
        let e = String::from_message("plain".into()).unwrap_err();
        let text = "cannot read the message: `String` is read as JSON; use `Text` (expected value at \
                    line 1 column 1)";
        assert_eq!(e.to_string(), text);
        assert!(e.get_ref().is::<serde_json::Error>());
        assert_eq!(&*Text::from_message("plain".into()).unwrap(), "plain");
    }

    #[test]
    fn text_is_not_binary() {
        assert!(Text::from_message(Message::binary(vec![1])).is_err());
    }

    #[test]
    fn a_print_of_an_error_is_short() {
        for text in ["x".repeat(1 << 20), format!("\"{}\"", "é".repeat(1 << 20))] {
            let e = u8::from_message(text.into()).unwrap_err();
            assert!(format!("{e:?}").len() < 1000 && e.to_string().len() < 400);
        }
        let e = u8::from_message(format!("\"{}\"", "é".repeat(999)).into()).unwrap_err();
        let text = e.to_string();
        assert!(
            text.starts_with("cannot read the message as `u8`: invalid type: string"),
            "{text}"
        );
        assert!(text.ends_with("expected u8 at line 1 column 2000"), "{text}");
    }
}
