//! What a server of Binance's combined streams says: a name hears only what comes between its join and
//! its end, whatever is in the frames that the scanner of JSON has to take apart.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::protocol::BinanceCombined;
use wsmux_fuzz::talk;

fuzz_target!(|input: &[u8]| {
    let names = ["a@trade", "b@depth", "c@kline_1m"];
    talk(&BinanceCombined::spot(), &names, input);
    talk(&BinanceCombined::usd_m(), &["b@depth", "b@depth5", "b@trade"], input);
});
