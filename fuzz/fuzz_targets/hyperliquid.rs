//! What Hyperliquid says: a name hears only what comes between its join and its end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::protocol::Hyperliquid;
use wsmux_fuzz::talk;

fuzz_target!(|input: &[u8]| {
    let hyperliquid = Hyperliquid::new("ws://host").unwrap();
    talk(&hyperliquid, &["trades:a", "candle:a,interval=1m", "allMids"], input);
});
