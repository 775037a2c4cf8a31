//! What Kraken says: a name hears only what comes between its join and its end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::protocol::KrakenV2;
use wsmux_fuzz::talk;

fuzz_target!(|input: &[u8]| {
    talk(&KrakenV2::new("ws://host").unwrap(), &["trade:a", "book:a", "trade:b"], input);
});
