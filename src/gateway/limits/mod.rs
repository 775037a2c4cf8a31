//! What clients may take of the gateway before they are known, and of each other.
//!
//! Connections are decided on before one is upgraded, as an ordinary response; names and batches as they are asked
//! for. All is given back by guards: a place that is taken is dropped with whatever it was taken for.

mod accounts;
mod address;
mod descriptors;
mod origin;
mod pace;
mod places;

pub(super) use self::accounts::{Account, Accounts, Owner};
pub use self::address::{Addresses, Network};
pub use self::descriptors::Descriptors;
pub use self::origin::{InvalidOrigin, Origins};
pub(super) use self::pace::Pace;
pub(super) use self::places::{Place, Places};
