//! What Coinbase says: a name hears only what comes between its join and its end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::protocol::CoinbaseAdvanced;
use wsmux_fuzz::talk;

fuzz_target!(|input: &[u8]| {
    let coinbase = CoinbaseAdvanced::new("ws://host").unwrap();
    talk(&coinbase, &["ticker:a", "level2:a", "ticker:b"], input);
});
