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

/// `text` escaped, and no longer than `most` characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    let text = escaped(text);
    if text.chars().nth(most).is_none() {
        return text.into_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_is_made_visible_and_words_stay() {
        assert_eq!(escaped("btcusdt@trade 'x' \"y\" \\ ü 漢"), "btcusdt@trade 'x' \"y\" \\ ü 漢");
        assert_eq!(escaped("a\x1b[2J\r\nb\u{202e}c\u{200b}"), r"a\u{1b}[2J\r\nb\u{202e}c\u{200b}");
    }

    #[test]
    fn what_is_long_is_cut() {
        assert_eq!(cut("xxx", 3), "xxx");
        assert_eq!(cut(&"é".repeat(4096), 3), "éé…");
        assert_eq!(cut("a\n\n", 4), r"a\n…");
    }
}
