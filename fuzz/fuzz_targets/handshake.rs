//! What a server answers to the opening handshake, and the first that follows it.
//!
//! `{accept}` in it is what accepts the handshake. However it is cut into reads, the same comes of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::transport::Script;
use wsmux_fuzz::{parts, read, run};

fuzz_target!(|input: &[u8]| {
    let Some((pieces, bytes)) = parts(input) else { return };
    let whole = run(read(Script::new(bytes)));
    let in_pieces = run(read(Script::new(bytes).pieces(pieces)));
    assert_eq!(whole, in_pieces, "in pieces");
});
