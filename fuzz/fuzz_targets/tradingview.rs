//! What a chart socket says: frames as they come, and packets that are framed as they should be. A name
//! hears only what comes between its join and its end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::protocol::TradingView;
use wsmux_fuzz::talk_about;

const HELLO: &str = r#"{"session_id":"x"}"#;

fuzz_target!(|input: &[u8]| {
    let venue = TradingView::new("ws://host").unwrap();
    let ask = r#"{"symbol":"A","resolution":"1"}"#;
    talk_about(&venue, &["a", "b"], ask, input);
    // Each line is a packet; a line of one letter stays what it is.
    let framed = std::iter::once(HELLO.as_bytes()).chain(input.split(|byte| *byte == b'\n'));
    let framed: Vec<_> = framed.map(frame).collect();
    talk_about(&venue, &["a", "b"], ask, &framed.join(&b'\n'));
});

fn frame(line: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(line) {
        Ok(text) if text.len() != 1 => {
            format!("~m~{}~m~{text}", text.encode_utf16().count()).into_bytes()
        }
        _ => line.to_vec(),
    }
}
