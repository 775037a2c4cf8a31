//! The decoder against tungstenite's own: of the same bytes, however cut, both make the same frames,
//! or refuse the same.

use std::io::{self, Cursor, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message as Wire};

use super::*;

const MAX: usize = SMALL + 100;

/// How reading ends, where it does not just stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    NotUtf8,
    TooLarge,
    Violation,
}

/// Frames, in order, and how it ended.
type Outcome = (Vec<Frame>, Option<End>);

/// What the decoder makes of `bytes` that come in `pieces`, with room for `room` frames at a time.
fn ours(decoder: &mut Decoder, pieces: &[&[u8]], room: usize) -> Outcome {
    let (mut all, mut rest) = (Vec::new(), Vec::new());
    for piece in pieces {
        rest.extend_from_slice(piece);
        loop {
            let mut frames = Frames::with_budget(room, 1 << 20);
            let decoded = step(decoder, &mut rest, &mut frames);
            all.extend(frames.drain());
            match decoded {
                Err(fault) => return (all, Some(end(&fault))),
                Ok(0) => break,
                Ok(_) => {}
            }
        }
    }
    (all, None)
}

/// Decodes some of `rest`, and returns how much. Nothing is left to be decoded where that is 0.
fn step(decoder: &mut Decoder, rest: &mut Vec<u8>, frames: &mut Frames) -> Result<usize, Fault> {
    let texts = decoder.texts(rest, frames)?;
    if texts > 0 {
        rest.drain(..texts);
        return Ok(texts);
    }
    let (room, payload) = frames.room();
    let (count, whole) = Decoder::whole(rest, room, payload);
    let bytes: Vec<u8> = rest.drain(..whole).collect();
    decoder.decode(bytes.into(), count, frames)?;
    if whole == 0 {
        decoder.await_frame(rest)?;
    }
    Ok(whole)
}

fn end(fault: &Fault) -> End {
    match fault {
        Fault::NotUtf8 => End::NotUtf8,
        Fault::TooLarge { .. } => End::TooLarge,
        Fault::Violation(_) => End::Violation,
        Fault::Flood(_) => panic!("no flood in so few bytes"),
    }
}

/// What tungstenite makes of `bytes`.
fn theirs(bytes: &[u8]) -> Outcome {
    struct Stream<'a>(Cursor<&'a [u8]>);
    impl Read for Stream<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buf)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                read => Ok(read),
            }
        }
    }
    impl Write for Stream<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let config = WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
    let mut context = WebSocketContext::new(Role::Client, Some(config));
    let mut stream = Stream(Cursor::new(bytes));
    let mut frames = Vec::new();
    loop {
        let end = match context.read(&mut stream) {
            Ok(message) => {
                frames.push(frame(message));
                continue;
            }
            Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => None,
            Err(Error::Utf8(_)) => Some(End::NotUtf8),
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Some(End::TooLarge),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => None,
            Err(Error::Protocol(_)) => Some(End::Violation),
            Err(e) => panic!("{e}"),
        };
        return (frames, end);
    }
}

fn frame(message: Wire) -> Frame {
    match message {
        Wire::Text(text) => Frame::Data(Message::text(text.as_str())),
        Wire::Binary(bytes) => Frame::Data(bytes.into()),
        Wire::Ping(payload) => Frame::Ping(payload),
        Wire::Pong(payload) => Frame::Pong(payload),
        Wire::Close(close) => {
            Frame::Close(close.map(|c| (c.code.into(), Text::from(c.reason.as_str()))))
        }
        Wire::Frame(_) => unreachable!("never read"),
    }
}

/// A frame that may or may not be one that a server sends.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        6 => Just(0x81), 3 => Just(0x82), 3 => Just(0x01), 2 => Just(0x02), 3 => Just(0x00),
        3 => Just(0x80), 2 => Just(0x89), 1 => Just(0x8a), 1 => Just(0x88), 1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        4 => vec(any::<char>(), 0..60).prop_map(|text| text.iter().collect::<String>().into()),
        1 => vec(any::<u8>(), 0..40),
        1 => (0..350_usize).prop_map(|len| vec![b'x'; len]),
        1 => (SMALL - 9..MAX + 9).prop_map(|len| vec![b'x'; len]),
        1 => (900..5100_u16).prop_map(|code| code.to_be_bytes().to_vec()),
    ];
    (first, payload, prop_oneof![30 => Just(false), 1 => Just(true)], 0..20_u8).prop_map(
        |(first, payload, masked, long)| {
            let mut bytes = vec![first];
            let mask = if masked { 0x80 } else { 0 };
            match payload.len() {
                len if len > 125 || long == 0 => {
                    bytes.push(mask | 126);
                    bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
                }
                len if long == 1 => {
                    bytes.push(mask | 127);
                    bytes.extend((len as u64).to_be_bytes());
                }
                len => bytes.push(mask | u8::try_from(len).unwrap()),
            }
            bytes.extend(vec![0; if masked { 4 } else { 0 }]);
            bytes.extend(payload);
            bytes
        },
    )
}

/// Frames, and where they are cut: letters among it.
fn any_bytes() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let frames = vec(any_frame(), 0..12).prop_map(|frames| frames.concat());
    // One text in fragments, cut anywhere.
    let text = (vec(any::<char>(), 1..40), vec(0..160_usize, 0..4)).prop_map(|(text, mut cuts)| {
        let bytes = text.iter().collect::<String>().into_bytes();
        cuts.iter_mut().for_each(|cut| *cut %= bytes.len());
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let last = parts.len() - 1;
        let fragment = |(at, part): (usize, &&[u8])| {
            let first = u8::from(at == 0) | if at == last { 0x80 } else { 0 };
            [&[first, 126][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat()
        };
        parts.iter().enumerate().flat_map(fragment).collect::<Vec<u8>>()
    });
    (prop_oneof![3 => frames, 1 => text], vec(1..60_usize, 1..8))
}

fn cut<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    for len in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, more) = rest.split_at((*len).min(rest.len()));
        pieces.push(piece);
        rest = more;
    }
    pieces
}

/// Whether both have read the same. A frame that is not whole may be refused by its head, which
/// tungstenite looks at later.
fn agree(ours: &Outcome, theirs: &Outcome) -> bool {
    ours.0 == theirs.0 && (ours.1 == theirs.1 || theirs.1.is_none() && ours.1.is_some())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_same_comes_of_the_same_bytes_however_cut_as_with_tungstenite(
        (bytes, lengths) in any_bytes(), room in 1..9_usize,
    ) {
        let theirs = theirs(&bytes);
        let whole = ours(&mut Decoder::new(MAX), &[&bytes], 128);
        prop_assert!(agree(&whole, &theirs), "ours {whole:?}\ntheirs {theirs:?}\nof {bytes:x?}");
        let pieces = cut(&bytes, &lengths);
        prop_assert_eq!(ours(&mut Decoder::new(MAX), &pieces, room), whole, "in {:?}", pieces);
    }
}

#[test]
fn what_ends_whole_is_refused_as_tungstenite_refuses_it() {
    let text = |first: u8, payload: &[u8]| [&[first, payload.len() as u8][..], payload].concat();
    let cases: [(&[Vec<u8>], Option<End>); 14] = [
        (&[text(0x81, b"one"), text(0x82, b"two")], None),
        (&[text(0x81, b"\xff")], Some(End::NotUtf8)),
        (&[text(0x01, b"\xce"), text(0x00, b"\xba"), text(0x80, b"")], None),
        (&[text(0x01, b"\xce"), text(0x80, b"")], Some(End::NotUtf8)),
        (&[text(0x01, b"\xce"), text(0x00, b"x"), text(0x80, b"")], Some(End::NotUtf8)),
        (&[text(0x01, b"a"), text(0x89, b"ping"), text(0x80, b"b")], None),
        (&[text(0x01, b"a"), text(0x81, b"b")], Some(End::Violation)),
        (&[text(0x80, b"a")], Some(End::Violation)),
        (&[text(0x88, b"\x03")], Some(End::Violation)),
        (&[text(0x88, b"\x03\xe8bye"), text(0x81, b"late")], Some(End::Violation)),
        (&[text(0x88, b"\x03\xed")], None),
        (&[text(0x88, b"\x03\xe8\xff")], Some(End::NotUtf8)),
        (
            &[text(0x02, &[0; 100]), text(0x00, &[0; 120]).repeat(9), text(0x80, &[0; 120])],
            Some(End::TooLarge),
        ),
        (&[text(0x91, b"")], Some(End::Violation)),
    ];
    for (frames, end) in cases {
        let bytes = frames.concat();
        let read = ours(&mut Decoder::new(MAX), &[&bytes], 128);
        assert_eq!((&read, read.1), (&theirs(&bytes), end), "{bytes:x?}");
    }
}

#[test]
fn a_decoder_that_takes_one_byte_more_or_begins_anew_is_found_out() {
    let len = u16::try_from(MAX + 1).unwrap();
    let large = [&[0x82, 126][..], &len.to_be_bytes(), &[0; MAX + 1]].concat();
    assert!(!agree(&ours(&mut Decoder::new(MAX + 1), &[&large], 128), &theirs(&large)));
    let two = [&[0x01, 1, b'a'][..], &[0x80, 1, b'b']].concat();
    let forgetful = |bytes: &[u8]| {
        let mut all = (Vec::new(), None);
        for part in bytes.chunks(3) {
            let (frames, end) = ours(&mut Decoder::new(MAX), &[part], 128);
            all.0.extend(frames);
            all.1 = all.1.or(end);
        }
        all
    };
    assert!(!agree(&forgetful(&two), &theirs(&two)));
}

#[test]
fn a_binary_message_shares_the_bytes_that_it_came_in() {
    let bytes = Bytes::from([&[0x82, 3][..], b"one", &[0x82, 3], b"two"].concat());
    let mut frames = Frames::with_budget(9, 1 << 20);
    Decoder::new(MAX).decode(bytes.clone(), 2, &mut frames).unwrap();
    for frame in frames.drain() {
        let Frame::Data(message) = frame else { panic!("{frame:?}") };
        assert!(bytes.as_ptr_range().contains(&message.as_bytes().as_ptr()));
    }
}

#[test]
fn small_texts_come_together_and_end_with_the_budget_or_with_what_is_none() {
    let text = [0x81, 2, b'h', b'i'];
    let ping = [0x89, 0];
    let bytes = [&text[..], &text, &text, &ping, &text].concat();
    let taken = |frames: usize, payload: usize| {
        let mut frames = Frames::with_budget(frames, payload);
        let taken = Decoder::new(MAX).texts(&mut bytes.clone(), &mut frames).unwrap();
        assert_eq!(taken, frames.len() * text.len());
        frames.len()
    };
    assert_eq!(taken(99, 99), 3);
    assert_eq!(taken(2, 99), 2);
    assert_eq!(taken(99, 3), 2, "the last one may bring more");
    assert_eq!(Decoder::whole(&bytes[12..], 9, 9), (1, ping.len()), "texts follow");
}

#[test]
fn an_endless_row_of_empty_fragments_is_a_flood_however_it_is_cut() {
    let bytes = [&[0x81, 1, b'x', 0x01, 0][..], &[0x00, 0].repeat(2000)].concat();
    for piece in [1, 7, 4096, bytes.len()] {
        let mut decoder = Decoder::new(MAX);
        let (mut rest, mut frames) = (Vec::new(), Frames::with_budget(9999, 1 << 20));
        let flooded = bytes.chunks(piece).find_map(|piece| {
            rest.extend_from_slice(piece);
            loop {
                match step(&mut decoder, &mut rest, &mut frames) {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(fault) => return Some(fault),
                }
            }
        });
        assert!(matches!(flooded, Some(Fault::Flood(_))), "in pieces of {piece}");
        assert_eq!(frames.drain().count(), 1, "what came before it is read");
    }
}

#[test]
fn what_is_unfinished_is_the_same_until_it_ends() {
    let (mut decoder, mut rest) = (Decoder::new(MAX), Vec::new());
    let mut after = |piece: &[u8]| {
        rest.extend_from_slice(piece);
        let mut frames = Frames::with_budget(99, 1 << 20);
        while step(&mut decoder, &mut rest, &mut frames).unwrap() > 0 {}
        decoder.unfinished(!rest.is_empty())
    };
    assert_eq!(after(&[0x81, 1, b'x']), None);
    assert_eq!(after(&[0x89, 0]), None);
    let message = after(&[0x01]);
    assert!(message.is_some());
    assert_eq!(after(&[5, b'h']), message);
    assert_eq!(after(b"ello"), message, "more fragments are to come");
    assert_eq!(after(&[0x89, 0]), message, "a ping within it is part of it");
    assert_eq!(after(&[0x00]), message);
    assert_eq!(after(&[0]), message);
    assert_eq!(after(&[0x80, 2, b'!']), message);
    let next = after(&[b'!', 0x81]);
    assert!(next.is_some() && next != message, "it ended, and another began");
    assert_eq!(after(&[0]), None);
}
