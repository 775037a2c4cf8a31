//! Frames, as a server sends them after a good handshake, through the transport to a session.
//!
//! However they are cut into reads, the same comes of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tokio::time::Instant;
use wsmux::DisconnectReason;
use wsmux::protocol::{Dial, Direct, Protocol as _, Transcript, Utterance};
use wsmux::transport::{Frame, Script};
use wsmux_fuzz::{MAX_MESSAGE, parts, read, run};

fuzz_target!(|input: &[u8]| {
    let Some((pieces, bytes)) = parts(input) else { return };
    let (frames, reason) = run(read(Script::frames(bytes)));
    let in_pieces = run(read(Script::frames(bytes).pieces(pieces)));
    assert_eq!((&frames, &reason), (&in_pieces.0, &in_pieces.1), "in pieces");
    assert!(
        matches!(
            reason,
            DisconnectReason::Ended
                | DisconnectReason::Flood
                | DisconnectReason::MessageTooLarge
                | DisconnectReason::ProtocolViolation
        ),
        "{reason:?}"
    );
    run(async { converse(frames) });
});

fn converse(frames: Vec<Frame>) {
    let direct = Direct::new("ws://host/ws").unwrap();
    let names = ["name".try_into().unwrap()];
    let lane = direct.lane(&names[0]).unwrap();
    let mut session = direct.session(&Dial::first(&lane, &names));
    let mut said = Transcript::default();
    session.open(&mut said.cx(Instant::now()));
    assert_eq!(said.take(), [Utterance::Ready]);
    for frame in frames {
        match frame {
            Frame::Data(message) => {
                assert!(message.len() <= MAX_MESSAGE);
                session.receive(&message, &mut said.cx(Instant::now()));
                assert_eq!(said.take(), [Utterance::Data(None, message)]);
            }
            Frame::Ping(payload) | Frame::Pong(payload) => assert!(payload.len() <= 125),
            Frame::Close(Some((_, reason))) => assert!(reason.len() <= 123),
            _ => {}
        }
    }
}
