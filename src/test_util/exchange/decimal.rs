//! Prices and quantities, with eight decimals.

use std::fmt;

/// One.
pub(super) const UNIT: u64 = 100_000_000;

/// A number in units of 10^-8.
#[derive(Clone, Copy)]
pub(super) struct Decimal(pub(super) u64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08}", self.0 / UNIT, self.0 % UNIT)
    }
}
