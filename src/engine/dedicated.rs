//! A thread of the engine's own, for who wants one.
//!
//! # Invariants
//!
//! 1. The thread ends when the last [`Hold`] is dropped. The core has one, and each task that the
//!    engine runs there: so sockets are closed in good form after the last owner has gone, and
//!    nothing is left then.
//! 2. Nobody waits for the thread, so the last owner may be dropped anywhere: in a runtime, and on the
//!    thread itself.

use std::convert::Infallible;
use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;

/// Its name, as debuggers and `top` show it.
const NAME: &str = "wsmux";

/// Keeps the thread going.
#[derive(Clone, Debug)]
pub(crate) struct Hold(#[expect(dead_code, reason = "held only")] mpsc::Sender<Infallible>);

/// Starts a thread, which runs what is spawned on the handle.
pub(crate) fn start() -> io::Result<(Handle, Hold)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let own = Own(Some(runtime));
    let (hold, mut held) = mpsc::channel(1);
    thread::Builder::new().name(NAME.into()).spawn(move || {
        if let Some(runtime) = &own.0 {
            let none = runtime.block_on(held.recv());
            debug_assert!(none.is_none(), "nothing can be sent");
        }
    })?;
    Ok((handle, Hold(hold)))
}

/// A runtime that may be dropped anywhere, and waits for no look-up of a name that hangs.
struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}
