//! What a server of JSON-RPC says, to both ways of subscribing: a name hears only what comes between
//! its join and its end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::protocol::{Deribit, JsonRpc};
use wsmux_fuzz::talk;

fuzz_target!(|input: &[u8]| {
    talk(&JsonRpc::new("ws://host").unwrap(), &["newHeads", "logs {}", "x 1"], input);
    talk(&Deribit::new("ws://host").unwrap(), &["a", "b", "book.c"], input);
});
