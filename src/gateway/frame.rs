//! Frames, as a server sends and reads them (RFC 6455, section 5). No I/O.
//!
//! A server's frames are not masked, so a written frame is the same for every client. They tell their
//! own length, so a queue of them can be cut between two frames without any other record.

use bytes::{BufMut as _, Bytes, BytesMut};

pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xa;

/// The longest payload of a control frame (section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

/// Appends the header of a whole message of `len` bytes.
#[expect(clippy::cast_possible_truncation, reason = "each is looked at before")]
pub(super) fn put_header(out: &mut BytesMut, opcode: u8, len: usize) {
    out.put_u8(0x80 | opcode);
    match len {
        0..=125 => out.put_u8(len as u8),
        126..=0xffff => {
            out.put_u8(126);
            out.put_u16(len as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(len as u64);
        }
    }
}

/// A message as a frame of its own.
pub(super) fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    put_header(&mut out, opcode, payload.len());
    out.put_slice(payload);
    out.freeze()
}

/// A close frame. A reason that is too long is cut.
pub(super) fn close(code: Option<u16>, reason: &str) -> Bytes {
    let Some(code) = code else { return frame(CLOSE, &[]) };
    let mut end = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = Vec::with_capacity(2 + end);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    frame(CLOSE, &payload)
}

/// The length of the first of the frames that a server has written; `None` where there is none.
#[expect(clippy::cast_possible_truncation, reason = "it is in memory as a whole")]
pub(super) fn len(frames: &[u8]) -> Option<usize> {
    match *frames.get(1)? {
        126 => frames.get(2..4).map(|len| 4 + usize::from(u16::from_be_bytes([len[0], len[1]]))),
        127 => {
            let len: [u8; 8] = frames.get(2..10)?.try_into().ok()?;
            Some(10 + u64::from_be_bytes(len) as usize)
        }
        len => Some(2 + usize::from(len)),
    }
}

/// How many frames there are.
pub(super) fn count(mut frames: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(rest) = len(frames).and_then(|len| frames.get(len..)) {
        count += 1;
        frames = rest;
    }
    count
}

/// What a client sent.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Incoming {
    Binary(Vec<u8>),
    /// A code and a reason that are valid, if there are any.
    Close(Option<u16>),
    Ping(Vec<u8>),
    Pong,
    Text(String),
}

/// A client broke the rules, and is to be closed with `code`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Violation {
    pub(super) code: u16,
    pub(super) why: &'static str,
}

const fn protocol(why: &'static str) -> Violation {
    Violation { code: 1002, why }
}

const NO_TEXT: Violation = Violation { code: 1007, why: "not UTF-8" };
const TOO_LONG: Violation = Violation { code: 1009, why: "message too long" };

/// Reads a client's frames, in whatever pieces they come. Holds nothing between messages, and at most
/// two messages' worth within one.
#[derive(Debug)]
pub(super) struct Decoder {
    /// What came and is no whole frame yet.
    buffer: Vec<u8>,
    max_message: usize,
    message: Option<Assembled>,
    /// How much of `buffer` has been read.
    read: usize,
}

/// The fragments of a message, so far.
#[derive(Debug)]
struct Assembled {
    /// How much of a text is known to be UTF-8.
    checked: usize,
    data: Vec<u8>,
    is_text: bool,
}

struct Header {
    fin: bool,
    len: usize,
    mask: [u8; 4],
    opcode: u8,
    size: usize,
}

impl Decoder {
    pub(super) fn new(max_message: usize) -> Self {
        Self { buffer: Vec::new(), max_message, message: None, read: 0 }
    }

    /// Takes what came.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message or control frame; `None` where more has to come.
    pub(super) fn next(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            let Some(header) = self.header()? else {
                self.compact();
                return Ok(None);
            };
            let start = self.read + header.size;
            let Some(payload) = self.buffer.get_mut(start..start + header.len) else {
                self.compact();
                return Ok(None);
            };
            unmask(payload, header.mask);
            self.read = start + header.len;
            let payload = start..self.read;
            if header.opcode >= CLOSE {
                return control(header.opcode, &self.buffer[payload]).map(Some);
            }
            if let Some(message) = self.fragment(&header, payload)? {
                return Ok(Some(message));
            }
        }
    }

    /// Whether a frame has begun that is not whole yet.
    pub(super) fn is_in_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether a message has begun that has more frames to come.
    pub(super) fn is_in_message(&self) -> bool {
        self.message.is_some()
    }

    /// How much is kept for what is not whole yet, in bytes.
    #[cfg(any(fuzzing, test))]
    pub(super) fn held(&self) -> usize {
        self.buffer.len() + self.message.as_ref().map_or(0, |message| message.data.len())
    }

    fn compact(&mut self) {
        if self.read == self.buffer.len() {
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..self.read);
        }
        self.read = 0;
    }

    /// The header of the next frame, judged before any of its payload is waited for.
    fn header(&self) -> Result<Option<Header>, Violation> {
        let bytes = &self.buffer[self.read..];
        let &[first, second, ..] = bytes else { return Ok(None) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(protocol("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(protocol("frames of clients are masked"));
        }
        let short = second & 0x7f;
        self.judge(opcode, fin, short)?;
        let (len, at) = match short {
            126 => match bytes.get(2..4) {
                Some(len) => (u64::from(u16::from_be_bytes([len[0], len[1]])), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|len| <[u8; 8]>::try_from(len).ok()) {
                Some(len) => (u64::from_be_bytes(len), 10),
                None => return Ok(None),
            },
            len => (u64::from(len), 2),
        };
        if (at == 4 && len < 126) || (at == 10 && (len <= 0xffff || len >> 63 == 1)) {
            return Err(protocol("a length is in the wrong form"));
        }
        let before = self.message.as_ref().map_or(0, |message| message.data.len());
        let len = usize::try_from(len).map_err(|_| TOO_LONG)?;
        if opcode < CLOSE && before.saturating_add(len) > self.max_message {
            return Err(TOO_LONG);
        }
        let mask = bytes.get(at..at + 4).and_then(|mask| mask.try_into().ok());
        Ok(mask.map(|mask| Header { fin, len, mask, opcode, size: at + 4 }))
    }

    /// Whether a frame may come here.
    fn judge(&self, opcode: u8, fin: bool, short: u8) -> Result<(), Violation> {
        match opcode {
            0 if self.message.is_none() => Err(protocol("nothing to continue")),
            TEXT | BINARY if self.message.is_some() => Err(protocol("a message in another")),
            0 | TEXT | BINARY => Ok(()),
            CLOSE | PING | PONG if !fin => Err(protocol("a control frame in pieces")),
            CLOSE | PING | PONG if short > 125 => Err(protocol("a control frame too long")),
            CLOSE | PING | PONG => Ok(()),
            _ => Err(protocol("an unknown opcode")),
        }
    }

    fn fragment(
        &mut self,
        header: &Header,
        payload: std::ops::Range<usize>,
    ) -> Result<Option<Incoming>, Violation> {
        let is_text = header.opcode == TEXT;
        let message =
            self.message.get_or_insert_with(|| Assembled { checked: 0, data: Vec::new(), is_text });
        message.data.extend_from_slice(&self.buffer[payload]);
        if message.is_text {
            message.check()?;
        }
        if !header.fin {
            return Ok(None);
        }
        self.message.take().map(Assembled::finish).transpose()
    }
}

impl Assembled {
    /// Looks whether what came so far may be the beginning of a text, so that one that is none is
    /// refused before its end.
    fn check(&mut self) -> Result<(), Violation> {
        match std::str::from_utf8(&self.data[self.checked..]) {
            Ok(_) => self.checked = self.data.len(),
            Err(e) if e.error_len().is_some() => return Err(NO_TEXT),
            Err(e) => self.checked += e.valid_up_to(),
        }
        Ok(())
    }

    fn finish(self) -> Result<Incoming, Violation> {
        if self.is_text {
            String::from_utf8(self.data).map(Incoming::Text).map_err(|_| NO_TEXT)
        } else {
            Ok(Incoming::Binary(self.data))
        }
    }
}

fn control(opcode: u8, payload: &[u8]) -> Result<Incoming, Violation> {
    match (opcode, payload) {
        (PING, _) => Ok(Incoming::Ping(payload.to_vec())),
        (PONG, _) => Ok(Incoming::Pong),
        (_, []) => Ok(Incoming::Close(None)),
        (_, [_]) => Err(protocol("half a close code")),
        (_, [high, low, reason @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_close_with(code) {
                return Err(protocol("a close code that is none"));
            }
            std::str::from_utf8(reason).map_err(|_| NO_TEXT)?;
            Ok(Incoming::Close(Some(code)))
        }
    }
}

/// RFC 6455, section 7.4, and IANA's registry of close codes (1012 to 1014).
fn may_close_with(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for chunk in payload.chunks_mut(4) {
        for (byte, key) in chunk.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A client's frame.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_header(&mut out, 0, payload.len());
        out[0] = first;
        out[1] |= 0x80;
        out.extend_from_slice(&[1, 2, 3, 4]);
        let at = out.len();
        out.extend_from_slice(payload);
        unmask(&mut out[at..], [1, 2, 3, 4]);
        out.to_vec()
    }

    /// What comes of `bytes`, as a whole and byte by byte, which is the same.
    fn read(bytes: &[u8]) -> Result<Vec<Incoming>, Violation> {
        let mut decoder = Decoder::new(70_000);
        decoder.feed(bytes);
        let whole = drain(&mut decoder);
        let mut decoder = Decoder::new(70_000);
        let mut pieces = Ok(Vec::new());
        for byte in bytes {
            decoder.feed(&[*byte]);
            match drain(&mut decoder) {
                Ok(more) => pieces.as_mut().unwrap().extend(more),
                Err(e) => {
                    pieces = Err(e);
                    break;
                }
            }
        }
        assert_eq!(whole, pieces);
        whole
    }

    fn drain(decoder: &mut Decoder) -> Result<Vec<Incoming>, Violation> {
        let mut all = Vec::new();
        while let Some(incoming) = decoder.next()? {
            all.push(incoming);
        }
        Ok(all)
    }

    #[test]
    fn messages_of_every_length_come_out_as_they_went_in() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let text = "x".repeat(len);
            assert_eq!(read(&masked(0x81, text.as_bytes())), Ok(vec![Incoming::Text(text)]));
        }
        let written = frame(BINARY, &[7; 70_000]);
        assert_eq!(len(&written), Some(written.len()));
        assert_eq!(count(&[frame(TEXT, b"a"), frame(TEXT, &[b'b'; 300]), written].concat()), 3);
    }

    #[test]
    fn fragments_are_put_together_around_control_frames() {
        let mut bytes = masked(0x01, "gr\u{fc}".as_bytes()[..3].as_ref());
        bytes.extend(masked(0x89, b"?"));
        bytes.extend(masked(0x00, &"\u{fc}".as_bytes()[1..]));
        bytes.extend(masked(0x80, b"n"));
        let expected = [Incoming::Ping(b"?".to_vec()), Incoming::Text("gr\u{fc}n".into())];
        assert_eq!(read(&bytes), Ok(expected.into()));
    }

    #[test]
    fn what_the_rules_forbid_is_refused_with_its_code() {
        let mut unmasked = masked(0x81, b"");
        unmasked[1] &= 0x7f;
        for (code, bytes) in [
            (1002, masked(0xc1, b"")),
            (1002, unmasked),
            (1002, masked(0x83, b"")),
            (1002, masked(0x8b, b"")),
            (1002, masked(0x80, b"")),
            (1002, [masked(0x01, b"a"), masked(0x81, b"b")].concat()),
            (1002, masked(0x09, b"")),
            (1002, masked(0x89, &[0; 126])),
            (1002, vec![0x81, 0xfe, 0, 125]),
            (1002, vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            (1002, vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            (1002, masked(0x88, &[3])),
            (1002, masked(0x88, &1005_u16.to_be_bytes())),
            (1002, masked(0x88, &2999_u16.to_be_bytes())),
            (1002, masked(0x88, &5000_u16.to_be_bytes())),
            (1007, masked(0x88, &[3, 232, 0xff])),
            (1007, masked(0x81, &[0xff])),
            (1007, masked(0x81, &"\u{fc}".as_bytes()[..1])),
            (1009, vec![0x81, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x71]),
            (1009, [masked(0x01, &[b'a'; 60_000]), masked(0x80, &[b'b'; 20_000])].concat()),
        ] {
            assert_eq!(read(&bytes).map_err(|e| e.code), Err(code), "{bytes:?}");
        }
    }

    /// A frame that a client might send, rightly or not.
    fn some_frame() -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop_oneof![
            8 => prop::sample::select(vec![0x00, 0x80, 0x01, 0x81, 0x02, 0x82, 0x89, 0x8a]),
            1 => prop::sample::select(vec![0x88, 0x08, 0xc1, 0x83]),
        ];
        let payload = prop_oneof![
            4 => "[a-z\u{fc}\u{1f980}]{0,40}".prop_map(String::into_bytes),
            2 => prop::collection::vec(any::<u8>(), 0..40),
            1 => (120..140_usize).prop_map(|len| vec![b'x'; len]),
        ];
        (opcode, payload).prop_map(|(first, payload)| masked(first, &payload))
    }

    /// What comes of `bytes` in pieces that are `cuts` long, one after the other and again, and the most
    /// that was held.
    fn in_pieces(
        mut bytes: &[u8],
        cuts: &[usize],
        feed: impl Fn(&mut Decoder, &[u8]),
    ) -> (Vec<Incoming>, Option<Violation>, usize) {
        let (mut decoder, mut all, mut held) = (Decoder::new(200), Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            let (piece, rest) = bytes.split_at((*cut).min(bytes.len()));
            bytes = rest;
            feed(&mut decoder, piece);
            loop {
                match decoder.next() {
                    Ok(Some(incoming)) => all.push(incoming),
                    Ok(None) => break,
                    Err(violation) => return (all, Some(violation), held),
                }
            }
            held = held.max(decoder.held());
            if bytes.is_empty() {
                break;
            }
        }
        (all, None, held)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn however_the_bytes_are_cut_the_same_is_read_of_them(
            frames in prop::collection::vec(some_frame(), 0..12),
            cuts in prop::collection::vec(1..50_usize, 1..6),
        ) {
            let bytes = frames.concat();
            let whole = in_pieces(&bytes, &[usize::MAX], Decoder::feed);
            let cut = in_pieces(&bytes, &cuts, Decoder::feed);
            prop_assert_eq!((&whole.0, &whole.1), (&cut.0, &cut.1));
            // A message of 200 bytes at most, and a frame of as many with its head.
            prop_assert!(whole.2 <= 200 + 214 && cut.2 <= 200 + 214, "held {} {}", whole.2, cut.2);
        }
    }

    #[test]
    fn a_decoder_that_forgets_a_byte_between_two_pieces_is_found_out() {
        let bytes = [masked(0x01, b"abc"), masked(0x80, b"def"), masked(0x89, b"?")].concat();
        let whole = in_pieces(&bytes, &[usize::MAX], Decoder::feed);
        let forgets = |decoder: &mut Decoder, piece: &[u8]| decoder.feed(&piece[..piece.len() - 1]);
        for cut in 1..bytes.len() {
            let cut = in_pieces(&bytes, &[cut], forgets);
            assert_ne!((&cut.0, &cut.1), (&whole.0, &whole.1));
        }
    }

    #[test]
    fn a_text_that_is_none_is_refused_before_its_end() {
        assert_eq!(read(&masked(0x01, &[b'a', 0xff])), Err(NO_TEXT));
    }

    #[test]
    fn nothing_is_held_between_messages() {
        let mut decoder = Decoder::new(1000);
        decoder.feed(&masked(0x81, &[b'a'; 500]));
        drain(&mut decoder).unwrap();
        assert_eq!((decoder.buffer.capacity(), decoder.message.is_none()), (0, true));
    }

    #[test]
    fn a_close_frame_bears_a_code_and_as_much_of_the_reason_as_fits() {
        assert_eq!(&*close(None, "unheard"), [0x88, 0]);
        assert_eq!(&*close(Some(1000), "bye"), [0x88, 5, 3, 232, b'b', b'y', b'e']);
        let long = close(Some(1000), &"\u{fc}".repeat(100));
        assert_eq!((long.len(), std::str::from_utf8(&long[4..]).is_ok()), (126, true));
        assert_eq!(read(&masked(0x88, &[3, 232])), Ok(vec![Incoming::Close(Some(1000))]));
    }
}
