//! Where servers of channels differ: Phoenix itself, and Supabase.

use super::want::Want;
use crate::config::Secret;
use crate::name::InvalidName;
use crate::protocol::json::Raw;

/// What a kind of server understands.
pub(super) trait Dialect: Send + Sync + 'static {
    /// The topic of a name, and what the name takes of it.
    fn place(&self, name: &str) -> Result<(String, Want), InvalidName>;

    /// The payload of a channel's join.
    fn join(&self, topic: &str, token: Option<&Secret>) -> String;

    /// The ids of a channel's bindings, in the order of the join, from the server's response to it.
    /// `None` where it should have them and has not.
    fn bindings(&self, topic: &str, response: Option<Raw<'_>>) -> Option<Vec<u64>> {
        let _ = (topic, response);
        Some(Vec::new())
    }

    /// Event and payload that hand over a fresh token; `None` where only a new socket does.
    fn fresh_token(&self, token: Option<&Secret>) -> Option<(&'static str, String)> {
        let _ = token;
        None
    }

    /// What it means that the server refuses a channel with these words.
    fn refusal(&self, reason: &str) -> Refusal {
        let _ = reason;
        Refusal::ForGood
    }

    /// Whether `system` is the server's own word about a channel.
    fn says_system(&self) -> bool {
        false
    }
}

/// What it means that a channel is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// Another time it may be granted.
    Again,
    ForGood,
    /// The token is not good, for this channel and for all others.
    NewToken,
}
