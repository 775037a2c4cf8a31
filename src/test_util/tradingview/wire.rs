//! Frames as a browser reads and writes them: in UTF-16, unit by unit. Written apart from the client's, so
//! that the two hold each other to account.

use serde_json::{Value, json};

/// The packets of a frame; `None` where it does not come out even.
pub(super) fn unframe(frame: &str) -> Option<Vec<String>> {
    let mark: Vec<u16> = "~m~".encode_utf16().collect();
    let units: Vec<u16> = frame.encode_utf16().collect();
    let (mut rest, mut packets) = (&*units, Vec::new());
    while !rest.is_empty() {
        rest = rest.strip_prefix(&*mark)?;
        let end = rest.windows(mark.len()).position(|window| *window == *mark)?;
        let length: usize = String::from_utf16(&rest[..end]).ok()?.parse().ok()?;
        rest = &rest[end + mark.len()..];
        packets.push(String::from_utf16(rest.get(..length)?).ok()?);
        rest = &rest[length..];
    }
    Some(packets)
}

/// A packet whose length is off by `lie`.
pub(super) fn frame(text: &str, lie: i64) -> String {
    let units = text.encode_utf16().count();
    let units = i64::try_from(units).unwrap_or(i64::MAX).saturating_add(lie).max(0);
    format!("~m~{units}~m~{text}")
}

/// What the server says of something.
pub(super) fn word(method: &str, arguments: &Value) -> String {
    json!({"m": method, "p": arguments}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_are_written_and_lies_are_not() {
        let texts = ["", "é", "🚀", "~m~1~m~a", "~h~1"];
        let all: String = texts.iter().map(|text| frame(text, 0)).collect();
        assert_eq!(unframe(&all).unwrap(), texts);
        for lie in [-1, 1] {
            assert_eq!(unframe(&(frame("🚀", lie) + &all)), None, "{lie}");
        }
    }
}
