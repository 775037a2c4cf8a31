//! What OKX says: a name hears only what comes between its join and its end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::protocol::Okx;
use wsmux_fuzz::talk;

fuzz_target!(|input: &[u8]| {
    talk(&Okx::new("ws://host").unwrap(), &["a", "books:b", "c,k=v"], input);
});
