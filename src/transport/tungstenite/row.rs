//! Small texts in a row, each in a frame of its own: what a busy feed sends.
//!
//! Their heads are overwritten by zeros, which are letters of one byte. So the row is one text, which is
//! seen to be UTF-8 and copied at one go, at a fraction of what that costs for each text by itself. A
//! letter that is cut off at the end of a payload is followed by a zero, or by the end, and so is as
//! wrong in the row as it is in its own text.

use std::str::from_utf8;

use simdutf8::basic;

use crate::message::Place;

/// How many texts a row has at most: it is gone through three times, and should stay in the processor's
/// cache meanwhile.
const MOST: usize = 64;

/// Where texts stand in the bytes that they were read into.
pub(super) struct Row {
    count: usize,
    len: u32,
    places: [Place; MOST],
}

impl Row {
    #[inline]
    pub(super) fn new() -> Self {
        Self { count: 0, len: 0, places: [Place::default(); MOST] }
    }

    /// Takes the texts of up to `longest` bytes that `bytes` begin with: `most` of them at most and, but
    /// for the last one, no more than `room` bytes. Their heads are overwritten.
    #[inline]
    pub(super) fn take(&mut self, bytes: &mut [u8], longest: usize, most: usize, room: usize) {
        let mut taken = 0;
        for place in self.places.iter_mut().take(most) {
            let rest = &mut bytes[self.len as usize..];
            let Some((head, len)) = small_text(rest, longest) else { break };
            match head {
                2 => rest[..2].fill(0),
                _ => rest[..4].fill(0),
            }
            *place = Place::new(self.len + head, self.len + head + len);
            (self.count, self.len) = (self.count + 1, place.end());
            taken += len as usize;
            if taken >= room {
                break;
            }
        }
    }

    /// How many bytes of what it was taken from it is.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// The row as one text, and the places in it: as far as it is UTF-8.
    #[inline]
    pub(super) fn text<'a>(&self, bytes: &'a [u8]) -> (&'a str, &[Place]) {
        let (bytes, places) = (&bytes[..self.len()], &self.places[..self.count]);
        match basic::from_utf8(bytes) {
            Ok(text) => (text, places),
            Err(_) => valid(bytes, places),
        }
    }
}

#[cold]
fn valid<'a, 'b>(bytes: &'a [u8], places: &'b [Place]) -> (&'a str, &'b [Place]) {
    let valid = from_utf8(bytes).map_or_else(|e| e.valid_up_to(), str::len);
    let whole = places.partition_point(|place| place.end() as usize <= valid);
    (from_utf8(&bytes[..valid]).unwrap_or_default(), &places[..whole])
}

/// Whether `bytes` begin with a text of up to `longest` bytes.
#[inline]
pub(super) fn begins(bytes: &[u8], longest: usize) -> bool {
    small_text(bytes, longest).is_some()
}

/// The lengths of the head and of the payload of the frame that `bytes` begin with, if all of it is
/// there and it is a whole text of up to `longest` bytes.
#[inline]
fn small_text(bytes: &[u8], longest: usize) -> Option<(u32, u32)> {
    let (head, len) = match *bytes {
        [0x81, len @ 0..126, ..] => (2, u32::from(len)),
        [0x81, 126, high, low, ..] => (4, u32::from(u16::from_be_bytes([high, low]))),
        _ => return None,
    };
    (len as usize <= longest && (head + len) as usize <= bytes.len()).then_some((head, len))
}

#[cfg(test)]
mod tests {
    use super::super::testing::frame;
    use super::*;
    use crate::message::SMALL;

    /// The texts of a row of all that can be taken from frames with `payloads`, and its length.
    fn taken(payloads: &[&[u8]]) -> (Vec<String>, usize) {
        let mut bytes: Vec<u8> = payloads.iter().flat_map(|text| frame(0x81, text)).collect();
        let mut row = Row::new();
        row.take(&mut bytes, SMALL, usize::MAX, usize::MAX);
        let (text, places) = row.text(&bytes);
        let part = |place: &Place| text[place.range()].to_owned();
        (places.iter().map(part).collect(), text.len())
    }

    #[test]
    fn texts_stand_in_their_row_as_they_came() {
        let long = "é".repeat(300);
        let texts = ["", "a", "zwölf", &long, "\0\0", "\u{81}~"];
        let (row, _) = taken(&texts.map(str::as_bytes));
        assert_eq!(row, texts);
    }

    #[test]
    fn a_letter_that_goes_on_in_the_next_text_is_none() {
        let [first, rest] = ["é".as_bytes()[..1].to_vec(), "é".as_bytes()[1..].to_vec()];
        for (payloads, good) in [
            ([b"good".as_slice(), &first, &rest], 1),
            ([b"good", b"good", &first], 2),
            ([&rest, b"good", b"good"], 0),
        ] {
            assert_eq!(taken(&payloads).0, vec!["good"; good]);
        }
    }

    #[test]
    fn a_row_ends_with_what_was_asked_for_and_leaves_the_rest_as_it_came() {
        let came = frame(0x81, b"1234").repeat(5);
        for (most, room, count) in [(2, 99, 2), (99, 9, 3), (99, 8, 2), (99, 1, 1), (99, 99, 5)] {
            let (mut bytes, mut row) = (came.clone(), Row::new());
            row.take(&mut bytes, SMALL, most, room);
            assert_eq!((row.count, row.len()), (count, 6 * count));
            assert_eq!(bytes[row.len()..], came[row.len()..]);
        }
    }

    #[test]
    fn a_row_begins_with_a_whole_text_that_is_not_too_long() {
        let text = frame(0x81, b"1234");
        assert!(begins(&text, 4));
        assert!(!begins(&text[..5], SMALL) && !begins(&text, 3) && !begins(b"", SMALL));
        assert!(!begins(&frame(0x82, b"1234"), SMALL), "no text");
        assert!(!begins(&frame(0x01, b"1234"), SMALL), "a fragment");
    }
}
