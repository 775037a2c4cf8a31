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
    whole: Vec<(usize, Message)>,
}

/// Where a message of a pack is.
enum Place<'a> {
    /// In the string.
    Text(Range<u32>),
    Whole(&'a Message),
}

impl Pack {
    /// Makes room for so many texts, of so many bytes together.
    pub(crate) fn reserve(&mut self, texts: usize, bytes: usize) {
        self.ends.reserve(texts);
        self.texts.reserve(bytes);
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
        self.whole.push((self.ends.len(), message));
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
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        if start == end && !self.whole.is_empty() {
            if let Ok(at) = self.whole.binary_search_by_key(&index, |(place, _)| *place) {
                return Some(Place::Whole(&self.whole[at].1));
            }
        }
        Some(Place::Text(start..end))
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<MessageRef<'_>> {
        Some(match self.place(index)? {
            Place::Text(range) => MessageRef::packed(&self.texts, &range),
            Place::Whole(message) => message.into(),
        })
    }

    #[inline]
    pub(super) fn text(&self, range: &Range<u32>) -> &str {
        self.texts.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    #[inline]
    pub(super) fn text_bytes(&self, range: &Range<u32>) -> &[u8] {
        let range = range.start as usize..range.end as usize;
        self.texts.as_bytes().get(range).unwrap_or_default()
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
            Some((_, message)) => message,
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
        Some(Place::Whole(message)) => message.clone(),
        None => Message::text(""),
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
            _ => message_of(&self.0, index),
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
