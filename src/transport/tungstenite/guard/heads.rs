//! Where the frames of a byte stream begin (RFC 6455 §5.2), however it is cut.
//!
//! Looks at heads only, and skips payloads: a few nanoseconds per frame.

/// The longest head: two bytes, eight of length, four of mask.
const LONGEST: usize = 14;

const MASKED: u8 = 0x80;

/// What a frame's head says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    /// FIN, reserved bits and opcode.
    pub(super) first: u8,
    /// Length of the head.
    pub(super) len: usize,
    pub(super) payload: u64,
}

impl Head {
    pub(super) fn is_final(self) -> bool {
        self.first & 0x80 != 0
    }

    pub(super) fn opcode(self) -> u8 {
        self.first & 0x0f
    }

    pub(super) fn is_control(self) -> bool {
        self.opcode() >= 8
    }

    /// Reads the head that `bytes` begin with, if all of it is there.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let [first, second, ..] = *bytes else { return None };
        let extended = match second & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let len = 2 + extended + if second & MASKED != 0 { 4 } else { 0 };
        if bytes.len() < len {
            return None;
        }
        let payload = match extended {
            0 => u64::from(second & !MASKED),
            n => bytes[2..2 + n].iter().fold(0, |value, byte| value << 8 | u64::from(*byte)),
        };
        Some(Self { first, len, payload })
    }
}

/// The place in a stream of frames.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads {
    /// The part of a head that has passed.
    head: [u8; LONGEST],
    len: usize,
    /// How much of a payload is still to pass.
    rest: u64,
}

impl Heads {
    /// Passes over `bytes` up to the end of the next head: how many that are, and the head if its
    /// end is there.
    pub(super) fn next(&mut self, bytes: &[u8]) -> (usize, Option<Head>) {
        let at = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len());
        self.rest -= at as u64;
        let bytes = &bytes[at..];
        if self.len == 0 {
            if let Some(head) = Head::of(bytes) {
                self.rest = head.payload;
                return (at + head.len, Some(head));
            }
        }
        // A head that is cut: byte by byte, as its length is known only once it is read.
        for (passed, byte) in (1..).zip(bytes) {
            self.head[self.len] = *byte;
            self.len += 1;
            if let Some(head) = Head::of(&self.head[..self.len]) {
                (self.len, self.rest) = (0, head.payload);
                return (at + passed, Some(head));
            }
        }
        (at + bytes.len(), None)
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_between(&self) -> bool {
        self.len == 0 && self.rest == 0
    }

    /// Whether a head has begun and not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.len > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heads in `bytes`, cut into pieces.
    fn heads(bytes: &[u8], piece: usize) -> Vec<Head> {
        let (mut place, mut found) = (Heads::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut at = 0;
            while at < piece.len() {
                let (passed, head) = place.next(&piece[at..]);
                assert!(passed > 0, "it goes on");
                at += passed;
                found.extend(head);
            }
        }
        assert!(place.is_between() && !place.is_in_head());
        found
    }

    #[test]
    fn heads_are_found_however_the_stream_is_cut() {
        let mut bytes = Vec::new();
        bytes.extend([0x81, 0]);
        bytes.extend([0x02, 3, 0xff, 0xff, 0xff]);
        bytes.extend([&[0x80, 126, 0, 200][..], &[0x8a; 200]].concat());
        bytes.extend([&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[0; 65_536]].concat());
        bytes.extend([0x89, 0x82, 1, 2, 3, 4, 9, 9]);
        let expected = [(0x81, 0), (0x02, 3), (0x80, 200), (0x82, 65_536), (0x89, 2)];
        for piece in (1..40).chain([1000, bytes.len()]) {
            let found: Vec<_> =
                heads(&bytes, piece).iter().map(|head| (head.first, head.payload)).collect();
            assert_eq!(found, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_head_says_the_most_that_it_can() {
        let bytes = [&[0x82, 127][..], &[0xff; 8]].concat();
        let mut place = Heads::default();
        assert_eq!(place.next(&bytes), (10, Head::of(&bytes)));
        assert_eq!(Head::of(&bytes).unwrap().payload, u64::MAX);
        assert_eq!(place.next(&[0; 100]), (100, None), "all of it is payload");
        assert!(!place.is_between() && !place.is_in_head());
    }
}
