//! What a name says: a category, which is a path of the venue's, and a topic.

/// The categories of public streams, each with a path of its own.
const CATEGORIES: &[&str] = &["inverse", "linear", "option", "spot", "spread"];
/// The streams of an account.
pub(super) const PRIVATE: &str = "private";

/// The category and the topic of a name.
pub(super) fn split(name: &str) -> Option<(&str, &str)> {
    let (category, topic) = name.split_once(':')?;
    let is_known = category == PRIVATE || CATEGORIES.contains(&category);
    (is_known && !topic.is_empty()).then_some((category, topic))
}
