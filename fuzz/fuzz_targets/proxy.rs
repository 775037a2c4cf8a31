//! What a proxy answers, over HTTP or SOCKS5 and with credentials or without, and what comes through
//! it. However it is cut into reads, the same comes of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::transport::{Proxy, Script, Tungstenite};
use wsmux_fuzz::{parts, read_by, run};

const PROXIES: [&str; 4] =
    ["http://proxy", "http://user:word@proxy", "socks5h://proxy", "socks5h://user:word@proxy"];

fuzz_target!(|input: &[u8]| {
    let Some((which, input)) = input.split_first() else { return };
    let Some((pieces, bytes)) = parts(input) else { return };
    let proxy = Proxy::new(PROXIES[usize::from(*which) % PROXIES.len()]).unwrap();
    let through = Tungstenite::new().proxy(proxy);
    let whole = run(read_by(through.clone(), Script::new(bytes)));
    let in_pieces = run(read_by(through, Script::new(bytes).pieces(pieces)));
    assert_eq!(whole, in_pieces, "in pieces");
});
