//! Names by pattern.

use std::fmt;

/// Names of a kind: `*` stands for any text, also none, and everything else for itself.
///
/// ```
/// use wsmux::gateway::tiers::Pattern;
///
/// let trades = Pattern::new("*@trade");
/// assert!(trades.matches("btcusdt@trade"));
/// assert!(!trades.matches("btcusdt@depth"));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern(Box<[String]>);

impl Pattern {
    /// The pattern that reads like this. Each text is one.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut parts: Vec<String> = text.split('*').map(Into::into).collect();
        // `**` is `*`.
        let last = parts.len() - 1;
        let mut index = 0;
        parts.retain(|part| {
            index += 1;
            !part.is_empty() || index == 1 || index == last + 1
        });
        Self(parts.into())
    }

    /// Whether a name is of the kind. Takes time in proportion to the name and the pattern, whatever they
    /// are: each part is found once, the left-most way.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let [first, rest @ ..] = &*self.0 else { return name.is_empty() };
        let [middle @ .., last] = rest else { return name == first };
        let Some(mut left) = name.strip_prefix(first.as_str()) else { return false };
        for part in middle {
            let Some((_, after)) = left.split_once(part.as_str()) else { return false };
            left = after;
        }
        left.ends_with(last.as_str())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("*"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a pattern means, by trying everything.
    fn model(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => (0..=name.len()).any(|skipped| model(rest, &name[skipped..])),
            [first, rest @ ..] => name.first() == Some(first) && model(rest, &name[1..]),
        }
    }

    #[test]
    fn a_star_is_any_text_and_everything_else_is_itself() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("*", "x", true),
            ("", "", true),
            ("", "x", false),
            ("a*b", "ab", true),
            ("a*a", "a", false),
            ("*a*", "bab", true),
            ("a.c", "abc", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), fits, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_trying_everything_matches(
            pattern in "[ab*]{0,8}",
            name in "[ab*]{0,10}",
        ) {
            let fits = Pattern::new(&pattern).matches(&name);
            prop_assert_eq!(fits, model(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
