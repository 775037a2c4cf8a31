//! What clients may take of the gateway before they are known, and of each other.
//!
//! All of it is decided before a connection is upgraded, as an ordinary response, and given back by
//! guards: a place that is taken is dropped with whatever it was taken for.

mod address;
mod descriptors;
mod origin;
mod pace;
mod places;

pub use self::address::{Addresses, Network};
pub use self::descriptors::Descriptors;
pub use self::origin::{InvalidOrigin, Origins};
pub(super) use self::pace::Pace;
pub(super) use self::places::{Place, Places};
