//! For programs that come from another client: callbacks, and moving over at run time.

mod callbacks;
mod source;
mod switch;

pub use callbacks::CallbackGuard;
pub use source::Source;
pub use switch::{MoveError, NameReport, Side, SideReport, Switch, SwitchReport, Switched};
