//! What the fuzz targets share.

use std::cell::RefCell;
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use wsmux::protocol::{Dial, Protocol, Request, RequestId, Transcript, Utterance};
use wsmux::transport::{Frame, Frames, Script, Scripts, Socket as _, Transport as _, Tungstenite};
use wsmux::{DisconnectReason, Message, StreamName};

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(runtime());
}

/// The largest message: small, so that a fuzzer finds its bound.
pub const MAX_MESSAGE: usize = 1000;

/// A runtime whose clock jumps over every wait.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Runs `future` to its end, all on one runtime.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with_borrow(|runtime| runtime.block_on(future))
}

/// The parts of an input: how it is cut into pieces, and what is said.
pub fn parts(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = input.split_first()?;
    rest.split_at_checked(usize::from(*count % 16))
}

/// A session of `protocol` that joins `names`, asks something, and hears the lines of `input`: as text,
/// or as binary where one is not UTF-8. A line of one letter leaves or joins a name, or lets time pass.
///
/// No name hears anything before it is joined, or after it was left, refused or ended, none is joined
/// twice, and what time does is done once.
pub fn talk(protocol: &impl Protocol, names: &[&str], input: &[u8]) {
    talk_about(protocol, names, r#"{"method":"m","query":"q"}"#, input);
}

/// The same, where what is asked is `body`.
pub fn talk_about(protocol: &impl Protocol, names: &[&str], body: &str, input: &[u8]) {
    let names: Vec<_> = names.iter().map(|name| StreamName::try_from(*name).unwrap()).collect();
    let lane = protocol.lane(&names[0]).unwrap();
    let (mut session, mut now) = (protocol.session(&Dial::first(&lane, &names)), Instant::now());
    let (mut said, mut open) = (Transcript::default(), HashSet::new());
    session.open(&mut said.cx(now));
    session.join(&names, &mut said.cx(now));
    let _ = session.request(RequestId(7), body.into(), &mut said.cx(now));
    if !check(&mut said, &mut open) {
        return;
    }
    for line in input.split(|byte| *byte == b'\n') {
        match *line {
            [b'l'] => {
                open.remove(names[0].as_str());
                session.leave(&names[..1], &mut said.cx(now));
            }
            [b'j'] if !open.contains(names[0].as_str()) => {
                session.join(&names[..1], &mut said.cx(now));
            }
            [b't'] => {
                now = session.deadline().unwrap_or(now + Duration::from_secs(1));
                session.tick(&mut said.cx(now));
                let later = session.deadline().is_none_or(|due| due > now);
                assert!(later, "a deadline that has passed is moved");
            }
            _ => {
                let message = match std::str::from_utf8(line) {
                    Ok(text) => Message::text(text),
                    Err(_) => Message::binary(line.to_vec()),
                };
                session.receive(&message, &mut said.cx(now));
            }
        }
        if !check(&mut said, &mut open) {
            return;
        }
    }
}

/// Whether the socket goes on after what was said.
fn check(said: &mut Transcript, open: &mut HashSet<String>) -> bool {
    for said in said.take() {
        match said {
            Utterance::Joined(name) => assert!(open.insert(name), "joined twice"),
            Utterance::Data(Some(name), _)
            | Utterance::Marked(Some(name), ..)
            | Utterance::Gap(Some(name), _) => assert!(open.contains(&name), "{name} is not open"),
            Utterance::Data(None, _) => assert!(open.len() < 2, "one name's is another's"),
            Utterance::Ended(name) | Utterance::Rejected(name, _) => drop(open.remove(&name)),
            Utterance::Reply(id, ..)
            | Utterance::ReplyFailed(id, _)
            | Utterance::ReplyUnknown(id) => assert_eq!(id.0, 7),
            Utterance::Failed(_, why) => {
                assert!(!why.is_empty());
                return false;
            }
            Utterance::Alive
            | Utterance::Gap(None, _)
            | Utterance::Pause(_)
            | Utterance::Push(_)
            | Utterance::Ready
            | Utterance::Reconnect(_)
            | Utterance::Unroutable(_) => {}
            other => panic!("{other:?}"),
        }
    }
    true
}

/// All that a socket reads of `script`, and how it ends.
pub async fn read(script: Script) -> (Vec<Frame>, DisconnectReason) {
    read_by(Tungstenite::new().no_proxy(), script).await
}

/// The same, by a transport with other settings.
pub async fn read_by(transport: Tungstenite, script: Script) -> (Vec<Frame>, DisconnectReason) {
    let scripts = Scripts::new(transport.max_message(MAX_MESSAGE), [script]);
    let request = Request::new("ws://host/ws").unwrap();
    let mut socket = match scripts.connect(&request).await {
        Ok((socket, _)) => socket,
        Err(e) => return (Vec::new(), e.reason().clone()),
    };
    let (mut all, mut frames) = (Vec::new(), Frames::with_budget(128, 64 << 10));
    loop {
        let read = poll_fn(|cx| socket.poll_read(cx, &mut frames)).await;
        all.extend(frames.drain());
        if let Err(e) = read {
            let reason = e.reason().clone();
            assert!(!e.to_string().contains('\n'), "an error is one line");
            let _ = poll_fn(|cx| socket.poll_close(cx)).await;
            return (all, reason);
        }
        if let Err(e) = poll_fn(|cx| socket.poll_flush(cx)).await {
            return (all, e.reason().clone());
        }
    }
}
