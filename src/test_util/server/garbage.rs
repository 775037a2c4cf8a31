//! Bytes that no server may send.

use super::wire::put;

/// A violation of RFC 6455, to be sent by [`Peer::garbage`](super::Peer::garbage).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Garbage {
    /// A frame of an unknown data kind.
    BadDataOpcode,
    /// A frame of an unknown control kind.
    BadControlOpcode,
    /// A close frame with the code 1005, which must not be sent.
    BadCloseCode,
    /// A close frame whose reason is not UTF-8.
    BadCloseReason,
    /// A text message that is not UTF-8.
    BadUtf8,
    /// A ping in two fragments.
    FragmentedPing,
    /// Text of another protocol in place of a frame.
    Http,
    /// A message that starts within another.
    Interleaved,
    /// A continuation of nothing.
    LoneContinuation,
    /// A ping of 126 bytes: one too many.
    LongPing,
    /// A masked text frame, which only clients may send.
    MaskedFrame,
    /// A text frame with a reserved bit, and no extension agreed on.
    ReservedBits,
    /// A close frame with half a code.
    ShortClose,
}

impl Garbage {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::BadDataOpcode,
        Self::BadControlOpcode,
        Self::BadCloseCode,
        Self::BadCloseReason,
        Self::BadUtf8,
        Self::FragmentedPing,
        Self::Http,
        Self::Interleaved,
        Self::LoneContinuation,
        Self::LongPing,
        Self::MaskedFrame,
        Self::ReservedBits,
        Self::ShortClose,
    ];

    pub(super) fn bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::BadDataOpcode => put(&mut out, 0x83, b"odd"),
            Self::BadControlOpcode => put(&mut out, 0x8B, b"odd"),
            Self::BadCloseCode => put(&mut out, 0x88, &1005_u16.to_be_bytes()),
            Self::BadCloseReason => put(&mut out, 0x88, b"\x03\xE8\xFF\xFE"),
            Self::BadUtf8 => put(&mut out, 0x81, b"\xC3\x28"),
            Self::FragmentedPing => {
                put(&mut out, 0x09, b"pi");
                put(&mut out, 0x80, b"ng");
            }
            // Read as a frame, its second byte announces 84 more.
            Self::Http => out.extend(
                b"HTTP/1.1 502 Bad Gateway\r\nServer: mock\r\nContent-Type: text/plain\r\n\
                  Content-Length: 11\r\n\r\nmaintenance",
            ),
            Self::Interleaved => {
                put(&mut out, 0x01, b"begun, ");
                put(&mut out, 0x81, b"not ended");
            }
            Self::LoneContinuation => put(&mut out, 0x80, b"of nothing"),
            Self::LongPing => put(&mut out, 0x89, &[b'.'; 126]),
            Self::MaskedFrame => out.extend(b"\x81\x83\x01\x02\x03\x04`bc"),
            Self::ReservedBits => put(&mut out, 0xC1, b"odd"),
            Self::ShortClose => put(&mut out, 0x88, b"\x03"),
        }
        out
    }
}
