//! What a name says: where its stream is, and how its messages are numbered.

use super::market::Market;
use super::sequence::Rule;
use crate::name::InvalidName;

/// So that a name fits into any message, with much to spare.
const MAX_LEN: usize = 512;

/// Where the stream of this name is; refuses what the server would confirm and never serve.
pub(super) fn path(name: &str, market: Market) -> Result<&'static str, InvalidName> {
    let unsupported = |why| Err(InvalidName::Unsupported { why });
    let symbol =
        if name.starts_with('!') { "" } else { name.split('@').next().unwrap_or_default() };
    if !name.starts_with('!') && !name.contains('@') {
        return unsupported("a name is `<symbol>@<stream>` or begins with a `!`");
    }
    if symbol.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return unsupported("symbols are in small letters: the server is silent on others");
    }
    if name.contains(['/', '"', '\\']) || name.len() > MAX_LEN {
        return unsupported("it has a `/`, a quote or a backslash, or more than 512 bytes");
    }
    if name == SHUTDOWN {
        return unsupported("it is a notice, which the client minds by itself");
    }
    let first = kind(name).split('@').next().unwrap_or_default();
    let is_public = first == "trade"
        || first == "bookTicker"
        || first.starts_with("depth")
        || first.starts_with("rpiDepth");
    Ok(match market {
        Market::Spot => "/stream",
        Market::UsdM if is_public => "/public/stream",
        Market::UsdM => "/market/stream",
    })
}

/// The name under which the server says that it goes.
pub(super) const SHUTDOWN: &str = "!serverShutdown";

/// How messages of this name are numbered.
pub(super) fn rule(name: &str, market: Market) -> Rule {
    if name.starts_with('!') {
        return Rule::None;
    }
    let kind = kind(name).split('@').next().unwrap_or_default();
    match (kind, market) {
        ("depth", Market::Spot) => Rule::Range,
        ("depth", Market::UsdM) => Rule::Chain,
        ("trade", Market::Spot) => Rule::Each("t"),
        ("aggTrade", Market::Spot) => Rule::Each("a"),
        ("depth5" | "depth10" | "depth20", _) => Rule::Whole,
        _ => Rule::None,
    }
}

/// What is behind the symbol.
fn kind(name: &str) -> &str {
    match name.strip_prefix('!') {
        Some(kind) => kind,
        None => name.split_once('@').map_or("", |(_, kind)| kind),
    }
}
