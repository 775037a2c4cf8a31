//! What a frame's head says (RFC 6455 §5.2).

use super::fault::Fault;

/// The most that a control frame carries, in bytes (RFC 6455 §5.5).
const MAX_CONTROL: u64 = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Binary,
    Close,
    /// More of the message that has begun.
    Continuation,
    Ping,
    Pong,
    Text,
}

impl Kind {
    /// By the first byte of a frame.
    fn of(first: u8) -> Result<Self, Fault> {
        Ok(match first & 0x0f {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return Err(Fault::Violation("a frame of a kind that is reserved")),
        })
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Where a frame's payload begins and ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Extent {
    /// Length of the head.
    pub(super) head: usize,
    pub(super) payload: u64,
}

impl Extent {
    /// Of the frame that `bytes` begin with, if all of its head is there. What is wrong with it is
    /// [`Head::of`]'s to say.
    #[inline]
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let [_, second, ..] = *bytes else { return None };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (head, payload) = match second & 0x7f {
            126 => (4, u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
            127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
            short => (2, u64::from(short)),
        };
        (bytes.len() >= head + mask).then_some(Self { head: head + mask, payload })
    }

    /// Length of the whole frame; as much as there can be, where it is longer.
    #[inline]
    pub(super) fn len(self) -> usize {
        usize::try_from(self.payload).unwrap_or(usize::MAX).saturating_add(self.head)
    }
}

/// The first two bytes of a frame that a client may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) is_final: bool,
    pub(super) kind: Kind,
}

impl Head {
    /// Reads the head of a frame from a server, which has at least two bytes; of payload, `max` are
    /// the most.
    #[inline]
    pub(super) fn of(bytes: &[u8], extent: Extent, max: usize) -> Result<Self, Fault> {
        let [first, second, ..] = *bytes else { return Err(Fault::Violation("half a head")) };
        let is_large = extent.payload > max as u64;
        if first == 0x81 && second & 0x80 == 0 && !is_large {
            return Ok(Self { is_final: true, kind: Kind::Text }); // Most are.
        }
        let kind = Kind::of(first)?;
        if is_large {
            return Err(Fault::TooLarge { bytes: extent.payload, max });
        }
        let is_final = first & 0x80 != 0;
        if first & 0x70 != 0 {
            return Err(Fault::Violation("a reserved bit is set, and no extension was agreed on"));
        }
        if second & 0x80 != 0 {
            return Err(Fault::Violation("a frame from the server is masked"));
        }
        if kind.is_control() && !is_final {
            return Err(Fault::Violation("a control frame in fragments"));
        }
        if kind.is_control() && extent.payload > MAX_CONTROL {
            return Err(Fault::Violation("a control frame of more than 125 bytes"));
        }
        Ok(Self { is_final, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_one_three_or_nine_bytes() {
        for (bytes, head, payload) in [
            (&[0x81, 125][..], 2, 125),
            (&[0x81, 126, 1, 2], 4, 0x0102),
            (&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0], 10, 0x1_0000),
            (&[0x81, 0x80, 0, 0, 0, 0], 6, 0),
        ] {
            assert_eq!(Extent::of(bytes), Some(Extent { head, payload }));
            for cut in 0..bytes.len() {
                assert_eq!(Extent::of(&bytes[..cut]), None, "{cut} bytes of {bytes:?}");
            }
        }
        let longest = [&[0x82, 127][..], &[0xff; 8]].concat();
        assert_eq!(Extent::of(&longest).unwrap().len(), usize::MAX);
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        let refused =
            [[0xc1, 0], [0xa1, 0], [0x91, 0], [0x83, 0], [0x8b, 0], [0x81, 0x80], [0x09, 0]];
        for bytes in refused {
            let extent = Extent { head: 2, payload: 0 };
            assert!(matches!(Head::of(&bytes, extent, 9), Err(Fault::Violation(_))), "{bytes:x?}");
        }
        let long = Extent { head: 4, payload: 126 };
        assert!(Head::of(&[0x89, 126], long, 126).is_err());
        assert!(Head::of(&[0x82, 126], long, 126).is_ok());
        let too_large = Head::of(&[0x82, 126], long, 125);
        assert!(matches!(too_large, Err(Fault::TooLarge { bytes: 126, max: 125 })));
    }
}
