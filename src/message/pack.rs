//! Messages that came together.
//!
//! A busy socket brings hundreds of small texts at once. Here they stand one behind another in one
//! string, so that a message costs the copy of its bytes and a number, not an allocation, a reference
//! count and a move of its own. Whatever is larger, or binary, is kept as it came, since a copy of it
//! would cost more.
//!
//! # Invariants
//!
//! 1. Messages come out as they went in, in order.
//! 2. A small text keeps no memory but its pack's: not the buffer that it was read into.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::text::Text;
use super::{Message, MessageRef};

/// The longest text that is copied, in bytes.
pub(crate) const SMALL: usize = 1024;

/// Messages in order.
#[derive(Clone, Default)]
pub(crate) struct Pack {
    bytes: usize,
    /// Where each message ends in `texts`: one of the `whole` ones where it begins.
    ends: Vec<u32>,
    texts: String,
    /// Messages that are not in `texts`, and the place of each.
    whole: Vec<(usize, Whole)>,
}

/// A message in memory of its own.
#[derive(Clone)]
enum Whole {
    Binary(Bytes),
    Text(Utf8Bytes),
}

/// Where a message of a pack is.
enum Place<'a> {
    /// In the string.
    Text(Range<usize>),
    Whole(&'a Whole),
}

impl Whole {
    #[inline]
    fn message(&self) -> Message {
        match self {
            Self::Binary(bytes) => Message::Binary(bytes.clone()),
            Self::Text(text) => Message::Text(Text::own(text.clone())),
        }
    }
}

impl Pack {
    /// Makes room for so many texts, of so many bytes together.
    pub(crate) fn reserve(&mut self, texts: usize, bytes: usize) {
        self.ends.reserve(texts);
        self.texts.reserve(bytes);
    }

    /// Makes room for so many messages that are not copied.
    pub(crate) fn reserve_whole(&mut self, messages: usize) {
        self.ends.reserve(messages);
        self.whole.reserve(messages);
    }

    /// Gives back room that is not needed, if it is worth the while.
    pub(crate) fn fit(&mut self) {
        if self.texts.capacity() / 2 > self.texts.len() {
            self.texts.shrink_to_fit();
        }
        if self.ends.capacity() / 2 > self.ends.len() {
            self.ends.shrink_to_fit();
        }
    }

    /// Appends a text by copying it.
    #[inline]
    pub(crate) fn push_text(&mut self, text: &str) {
        let Ok(end) = u32::try_from(self.texts.len() + text.len()) else {
            return self.push_whole(Message::text(text));
        };
        self.bytes += text.len();
        self.texts.push_str(text);
        self.ends.push(end);
    }

    pub(crate) fn push(&mut self, message: Message) {
        match message {
            Message::Text(text) if text.len() <= SMALL => self.push_text(&text),
            message => self.push_whole(message),
        }
    }

    fn push_whole(&mut self, message: Message) {
        self.bytes += message.len();
        let whole = match message {
            Message::Binary(bytes) => Whole::Binary(bytes),
            Message::Text(text) => Whole::Text(text.into_own()),
        };
        self.whole.push((self.ends.len(), whole));
        self.ends.push(self.ends.last().copied().unwrap_or_default());
    }

    /// Appends the messages of another.
    pub(crate) fn append(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else {
            other.into_iter().for_each(|message| self.push(message));
        }
    }

    /// Number of messages.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all messages.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of those messages.
    pub(crate) fn bytes_in(&self, places: Range<usize>) -> usize {
        places.filter_map(|place| self.get(place)).map(MessageRef::len).sum()
    }

    #[inline]
    fn place(&self, index: usize) -> Option<Place<'_>> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        if start == end {
            if let Some(whole) = self.whole_at(index) {
                return Some(Place::Whole(whole));
            }
        }
        Some(Place::Text(start..end))
    }

    #[inline(never)]
    fn whole_at(&self, index: usize) -> Option<&Whole> {
        let at = self.whole.binary_search_by_key(&index, |(place, _)| *place).ok()?;
        Some(&self.whole[at].1)
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<MessageRef<'_>> {
        Some(match self.place(index)? {
            Place::Text(range) => MessageRef::packed(&self.texts, &range),
            Place::Whole(Whole::Binary(bytes)) => MessageRef::binary(bytes),
            Place::Whole(Whole::Text(text)) => MessageRef::text(text.as_str()),
        })
    }

    #[inline]
    pub(super) fn text(&self, range: &Range<usize>) -> &str {
        self.texts.get(range.clone()).unwrap_or_default()
    }

    #[inline]
    pub(super) fn text_bytes(&self, range: &Range<usize>) -> &[u8] {
        self.texts.as_bytes().get(range.clone()).unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = MessageRef<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl IntoIterator for Pack {
    type Item = Message;
    type IntoIter = std::vec::IntoIter<Message>;

    /// The messages, each in memory of its own.
    fn into_iter(mut self) -> Self::IntoIter {
        let mut whole = std::mem::take(&mut self.whole).into_iter().peekable();
        let message = |index| match whole.next_if(|(place, _)| *place == index) {
            Some((_, Whole::Binary(bytes))) => Message::Binary(bytes),
            Some((_, Whole::Text(text))) => Message::Text(Text::own(text)),
            None => self.get(index).map_or_else(|| Message::text(""), MessageRef::to_message),
        };
        (0..self.len()).map(message).collect::<Vec<_>>().into_iter()
    }
}

impl FromIterator<Message> for Pack {
    fn from_iter<I: IntoIterator<Item = Message>>(messages: I) -> Self {
        let mut pack = Self::default();
        messages.into_iter().for_each(|message| pack.push(message));
        pack
    }
}

impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The message at `index` of a pack that does not change any more. A small text keeps the whole pack
/// as long as it lives.
#[inline]
pub(crate) fn message_of(pack: &Arc<Pack>, index: usize) -> Message {
    match pack.place(index) {
        Some(Place::Text(range)) => Message::Text(Text::held(Arc::clone(pack), range)),
        Some(Place::Whole(whole)) => whole.message(),
        None => Message::Text(Text::from_static("")),
    }
}

/// A pack, as one reader holds it. The messages that it makes count their references here, and not
/// where every other reader of the same pack counts as well: a count that only one task changes stays
/// in that task's cache.
pub(crate) struct Run(Arc<Pack>);

impl Run {
    pub(crate) fn new(pack: Arc<Pack>) -> Arc<Self> {
        Arc::new(Self(pack))
    }

    /// The message at `index`, which there is.
    #[inline]
    pub(crate) fn message(self: &Arc<Self>, index: usize) -> Message {
        match self.0.place(index) {
            Some(Place::Text(range)) => Message::Text(Text::among(Arc::clone(self), range)),
            Some(Place::Whole(whole)) => whole.message(),
            None => Message::Text(Text::from_static("")),
        }
    }

    #[inline]
    pub(super) fn pack(&self) -> &Pack {
        &self.0
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Run").field(&self.pack().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            4 => "\\PC{0,9}".prop_map(Message::from),
            1 => Just(Message::text("é".repeat(SMALL / 2))),
            1 => Just(Message::text("é".repeat(SMALL / 2 + 1))),
            1 => proptest::collection::vec(any::<u8>(), 0..9).prop_map(Message::from),
        ]
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in proptest::collection::vec(message(), 0..20),
            more in proptest::collection::vec(message(), 0..20),
        ) {
            let mut pack: Pack = messages.iter().cloned().collect();
            pack.fit();
            pack.append(more.iter().cloned().collect());
            let all = [messages, more].concat();
            prop_assert_eq!(pack.len(), all.len());
            prop_assert_eq!(pack.bytes(), all.iter().map(Message::len).sum::<usize>());
            prop_assert_eq!(pack.bytes_in(0..all.len()), pack.bytes());
            prop_assert!(pack.iter().eq(all.iter().map(MessageRef::from)));
            prop_assert!(pack.get(all.len()).is_none());
            let shared = Arc::new(pack.clone());
            let run = Run::new(Arc::clone(&shared));
            for (index, message) in all.iter().enumerate() {
                prop_assert_eq!(&message_of(&shared, index), message);
                prop_assert_eq!(&run.message(index), message);
            }
            prop_assert_eq!(pack.into_iter().collect::<Vec<_>>(), all);
        }
    }

    #[test]
    fn a_part_of_a_text_is_a_text_in_the_same_memory_and_half_a_letter_is_none() {
        let pack: Pack = ["one", "zwölf"].into_iter().map(Message::from).collect();
        let pack = Arc::new(pack);
        let own = Message::text("zwölf");
        for message in [message_of(&pack, 1), Run::new(Arc::clone(&pack)).message(1), own] {
            let bytes = message.as_bytes();
            let part = message.part(&bytes[1..4]);
            assert_eq!(part, Message::text("wö"));
            assert_eq!(part.as_bytes().as_ptr(), bytes[1..].as_ptr());
            assert_eq!(message.part(&bytes[1..3]), Message::binary(&b"w\xc3"[..]));
            assert_eq!(message.part(b"elsewhere"), Message::text("elsewhere"));
            assert_eq!(part.part(&part.as_bytes()[1..]), Message::text("ö"));
        }
    }

    #[test]
    fn what_is_small_is_copied_and_what_is_not_is_shared() {
        let buffer = Bytes::from("x".repeat(SMALL + 1));
        let text = |len| Text::try_from(buffer.slice(..len)).unwrap();
        let pack: Pack =
            [SMALL, SMALL + 1].map(|len| Message::Text(text(len))).into_iter().collect();
        let is_shared =
            |message: MessageRef<'_>| buffer.as_ptr_range().contains(&message.as_bytes().as_ptr());
        assert!(pack.iter().map(is_shared).eq([false, true]));
    }

    #[test]
    fn room_that_is_not_needed_is_given_back() {
        let mut pack = Pack::default();
        pack.reserve(100, 10_000);
        pack.push_text("a");
        pack.fit();
        assert!(pack.texts.capacity() < 100 && pack.ends.capacity() < 100);
        assert_eq!(pack.get(0).unwrap().as_text(), Some("a"));
    }
}
