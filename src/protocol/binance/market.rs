//! The venue's markets.

/// Which of the venue's markets. Each numbers its streams in its own way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Market {
    Spot,
    UsdM,
}
