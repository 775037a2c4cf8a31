//! What Binance's WebSocket API answers: whatever it is, it is for what was asked, or for nobody.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::protocol::BinanceApi;
use wsmux_fuzz::talk;

fuzz_target!(|input: &[u8]| {
    talk(&BinanceApi::spot(), &["api"], input);
    talk(&BinanceApi::usd_m().whole(), &["api"], input);
});
