//! Text that moves no cursor and starts no line, whoever wrote it.

use std::borrow::Cow;

/// `text` on one line, with what is not to be seen made visible.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1;
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_plain(c) { safe.push(c) } else { safe.extend(c.escape_debug()) }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_is_made_visible_and_words_stay() {
        assert_eq!(escaped("btcusdt@trade 'x' \"y\" \\ ü 漢"), "btcusdt@trade 'x' \"y\" \\ ü 漢");
        assert_eq!(escaped("a\x1b[2J\r\nb\u{202e}c\u{200b}"), r"a\u{1b}[2J\r\nb\u{202e}c\u{200b}");
    }
}
