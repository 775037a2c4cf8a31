//! What the fuzz targets share.

use std::cell::RefCell;
use std::future::{Future, poll_fn};

use tokio::runtime::{Builder, Runtime};
use wsmux::DisconnectReason;
use wsmux::protocol::Request;
use wsmux::transport::{Frame, Frames, Script, Scripts, Socket as _, Transport as _, Tungstenite};

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
