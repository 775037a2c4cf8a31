//! The same feed, read by this crate and by others: CPU time per message, both in one run.
//!
//! ```text
//! scripts/bench peers
//! ```
//!
//! By itself, and with names of figures behind a `--`, `cargo bench` runs it too; it wants to be told
//! `--ignore-rust-version`, as a peer declares a newer compiler than it needs.
//!
//! - `loops`: libraries of frames, whose bare loop is the least that reading can cost with them.
//! - `callbacks`: clients that open a socket, keep it, and call the program with each message.
//! - `notifications`: a client that shares subscriptions, of one protocol.
//!
//! A peer is used as its documentation shows it, where it shows several ways by the fastest, and it has
//! to check what we check: a text is UTF-8. All have one thread, pinned to one CPU, and the server is
//! a process on another.
//!
//! A package of its own, as what the peers need must not get into the library's lock file.

mod callbacks;
#[path = "../common/mod.rs"]
mod common;
mod loops;
mod notifications;
mod rpc_server;
mod turns;

use self::common::cpus::pinned;
use self::common::server::{Server, serve_if_asked};
use self::rpc_server::RpcServer;

/// Bytes of a message.
const BYTES: usize = 170;

fn main() {
    serve_if_asked();
    rpc_server::serve_if_asked();
    let server = Server::start();
    let rpc = RpcServer::start();
    // Calibrates a clock, as its documentation wants it done before there is a runtime.
    sockudo_ws::init_clock();
    pinned(|| {
        loops::compare(&server);
        callbacks::compare(&server);
        notifications::compare(&rpc);
    });
}
