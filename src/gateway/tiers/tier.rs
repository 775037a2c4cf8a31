//! One tier.

use std::sync::Arc;
use std::time::Duration;

use super::pattern::Pattern;

/// What a user of a tier gets. By default everything, within the gateway's own limits.
///
/// ```
/// use std::time::Duration;
/// use wsmux::gateway::tiers::{Pattern, Tier};
///
/// let free = Tier {
///     connections: 2,
///     delay: Duration::from_secs(15),
///     patterns: vec![Pattern::new("*@trade")],
///     ..Tier::new("free")
/// };
/// assert!(free.allows("btcusdt@trade") && !free.allows("btcusdt@depth"));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tier {
    /// Connections of one user at once. Default 100.
    pub connections: usize,
    /// How much later than others its users are sent messages. Default zero.
    pub delay: Duration,
    /// Messages that each connection may send per second, with a burst of as many; and batches
    /// (`POST /batch`) that one user may post, or one address of whoever is anonymous. Default 20: a page that
    /// subscribes to a screenful one by one is well below.
    pub messages_per_second: u32,
    /// What it is called. A label in metrics.
    pub name: Arc<str>,
    /// Names that one connection may read at once. Default: as many as the gateway allows.
    pub names: usize,
    /// Distinct names that one user may read at once on all connections; one address, of whoever is anonymous. A name
    /// that is read on several counts once, and a request for a snapshot does not count. Where it becomes less, what
    /// is read stays. Default: no limit of its own.
    pub names_per_user: usize,
    /// Which names its users may read. Default: all.
    pub patterns: Vec<Pattern>,
}

impl Tier {
    /// The tier of that name, with defaults.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            connections: 100,
            delay: Duration::ZERO,
            messages_per_second: 20,
            name: name.into(),
            names: usize::MAX,
            names_per_user: usize::MAX,
            patterns: vec![Pattern::new("*")],
        }
    }

    /// Whether its users may read a name.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name))
    }
}
