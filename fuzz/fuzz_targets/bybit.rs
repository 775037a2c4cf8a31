//! What Bybit says: a name hears only what comes between its join and its end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::protocol::Bybit;
use wsmux_fuzz::talk;

fuzz_target!(|input: &[u8]| {
    let bybit = Bybit::new("ws://host").unwrap();
    talk(&bybit, &["linear:a", "linear:orderbook.1.b", "linear:c"], input);
});
