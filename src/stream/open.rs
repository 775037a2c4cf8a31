//! From a name to a seat, and a connection where one is needed.

use std::sync::Arc;

use crate::engine::connection::task;
use crate::engine::core::Core;
use crate::engine::registry::Kind;
use crate::engine::seat::Seat;
use crate::error::SubscribeError;
use crate::name::StreamName;

/// Takes a seat on `name`, and runs its connection if that is new.
pub(crate) fn open<S>(
    core: &Arc<Core>,
    name: &str,
    kind: Kind,
    take: impl FnOnce(Seat) -> S,
) -> Result<S, SubscribeError> {
    let name = StreamName::try_from(name)?;
    let runtime = core.runtime();
    let (seat, link) = Seat::take(core, &name, kind, runtime.is_some())?;
    // Made before anything else can fail: from here on the seat is given back on drop.
    let seated = take(seat);
    if let (Some(link), Some(runtime)) = (link, runtime) {
        task::spawn(core, &runtime, link, None);
    }
    Ok(seated)
}
