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
    places: Vec<Place>,
    texts: String,
    /// Messages that are not in `texts`, in order.
    whole: Vec<Whole>,
}

/// Where a text stands in a longer one, in bytes. In a pack, a message in memory of its own has its
/// index there for an end, and no start.
// In one word, as it is moved as one: a processor that is to read together what was just written in
// two parts waits until it has left for the cache.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place(u64);

/// A message in memory of its own.
#[derive(Clone)]
enum Whole {
    Binary(Bytes),
    Text(Utf8Bytes),
}

/// What is at a place.
enum Found<'a> {
    Text(Place),
    Whole(&'a Whole),
}

impl Place {
    const NO_START: u32 = u32::MAX;

    #[inline]
    pub(crate) fn new(start: u32, end: u32) -> Self {
        Self(u64::from(end) << 32 | u64::from(start))
    }

    #[inline]
    fn of(start: usize, end: usize) -> Option<Self> {
        let end = u32::try_from(end).ok().filter(|end| *end < Self::NO_START)?;
        Some(Self::new(u32::try_from(start).ok()?, end))
    }

    #[inline]
    fn start(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) fn end(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Where its message is in memory of its own, if it is.
    #[inline]
    fn whole(self) -> Option<usize> {
        (self.start() == Self::NO_START).then_some(self.end() as usize)
    }

    /// The same place after so many bytes more.
    #[inline]
    fn after(self, bytes: u32) -> Self {
        Self::new(self.start() + bytes, self.end() + bytes)
    }

    /// The place of a part of its text.
    pub(super) fn part(self, part: Range<usize>) -> Option<Self> {
        let start = self.start() as usize;
        Self::of(start + part.start, start + part.end)
    }

    #[inline]
    pub(crate) fn range(self) -> Range<usize> {
        self.start() as usize..self.end() as usize
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.range().fmt(f)
    }
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
    /// Makes room for so many texts, of so many bytes together, and for no more.
    pub(crate) fn reserve(&mut self, texts: usize, bytes: usize) {
        self.places.reserve_exact(texts);
        self.texts.reserve_exact(bytes);
    }

    /// Makes room for so many messages that are not copied.
    pub(crate) fn reserve_whole(&mut self, messages: usize) {
        self.places.reserve(messages);
        self.whole.reserve(messages);
    }

    /// Gives back room that is not needed, if it is worth the while.
    pub(crate) fn fit(&mut self) {
        if self.texts.capacity() / 2 > self.texts.len() {
            self.texts.shrink_to_fit();
        }
        if self.places.capacity() / 2 > self.places.len() {
            self.places.shrink_to_fit();
        }
    }

    /// Appends a text by copying it.
    #[inline]
    pub(crate) fn push_text(&mut self, text: &str) {
        let start = self.texts.len();
        let Some(place) = Place::of(start, start + text.len()) else {
            return self.push_whole(Message::text(text));
        };
        self.bytes += text.len();
        self.texts.push_str(text);
        self.places.push(place);
    }

    /// Appends the texts at `places` of `row` by copying it, with what stands between them.
    pub(crate) fn push_row(&mut self, row: &str, places: &[Place]) {
        let start = self.texts.len();
        let Some(place) = Place::of(start, start + row.len()) else {
            return places.iter().for_each(|place| self.push_text(&row[place.range()]));
        };
        let start = place.start();
        self.bytes += places.iter().map(|place| place.range().len()).sum::<usize>();
        self.texts.push_str(row);
        self.places.extend(places.iter().map(|place| place.after(start)));
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
        let end = u32::try_from(self.whole.len()).unwrap_or(u32::MAX);
        self.places.push(Place::new(Place::NO_START, end));
        self.whole.push(whole);
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
        self.places.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
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
    fn find(&self, index: usize) -> Option<Found<'_>> {
        let place = *self.places.get(index)?;
        match place.whole() {
            Some(index) => self.whole.get(index).map(Found::Whole),
            None => Some(Found::Text(place)),
        }
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<MessageRef<'_>> {
        Some(match self.find(index)? {
            Found::Text(place) => MessageRef::packed(&self.texts, &place.range()),
            Found::Whole(Whole::Binary(bytes)) => MessageRef::binary(bytes),
            Found::Whole(Whole::Text(text)) => MessageRef::text(text.as_str()),
        })
    }

    #[inline]
    pub(super) fn text(&self, place: Place) -> &str {
        self.texts.get(place.range()).unwrap_or_default()
    }

    #[inline]
    pub(super) fn text_bytes(&self, place: Place) -> &[u8] {
        self.texts.as_bytes().get(place.range()).unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = MessageRef<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl IntoIterator for Pack {
    type Item = Message;
    type IntoIter = std::vec::IntoIter<Message>;

    /// The messages, each in memory of its own.
    fn into_iter(self) -> Self::IntoIter {
        let Self { places, texts, whole, .. } = self;
        let mut whole = whole.into_iter();
        let message = |place: Place| match place.whole().map(|_| whole.next()) {
            Some(Some(Whole::Binary(bytes))) => Message::Binary(bytes),
            Some(Some(Whole::Text(text))) => Message::Text(Text::own(text)),
            Some(None) | None => Message::text(texts.get(place.range()).unwrap_or_default()),
        };
        places.into_iter().map(message).collect::<Vec<_>>().into_iter()
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
    match pack.find(index) {
        Some(Found::Text(place)) => Message::Text(Text::held(Arc::clone(pack), place)),
        Some(Found::Whole(whole)) => whole.message(),
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
        match self.0.find(index) {
            Some(Found::Text(place)) => Message::Text(Text::among(Arc::clone(self), place)),
            Some(Found::Whole(whole)) => whole.message(),
            None => Message::Text(Text::from_static("")),
        }
    }

    /// The message at `index`, if it is a small text.
    #[inline]
    pub(crate) fn text(self: &Arc<Self>, index: usize) -> Option<Text> {
        let place = *self.0.places.get(index).filter(|place| place.whole().is_none())?;
        Some(Text::among(Arc::clone(self), place))
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
                let small = matches!(message, Message::Text(text) if text.len() <= SMALL);
                let text = run.text(index).map(Message::Text);
                prop_assert_eq!(text, small.then(|| message.clone()));
            }
            prop_assert_eq!(pack.into_iter().collect::<Vec<_>>(), all);
        }
    }

    #[test]
    fn a_part_of_a_text_is_a_text_in_the_same_memory_and_half_a_letter_is_none() {
        let pack: Pack = ["one", "zwölf"].into_iter().map(Message::from).collect();
        let pack = Arc::new(pack);
        let own = Message::text("zwölf");
        let among = Run::new(Arc::clone(&pack)).message(1);
        for message in [message_of(&pack, 1), among, own] {
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
        assert!(pack.texts.capacity() < 100 && pack.places.capacity() < 100);
        assert_eq!(pack.get(0).unwrap().as_text(), Some("a"));
    }
}
