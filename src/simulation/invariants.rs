//! What holds after each step, whatever the program and the faults.

use std::time::Duration;

use tokio::time::Instant;

use super::client::{Checked, Client};
use super::program::NAMES;
use super::server::Sock;
use super::world::{State, number};
use crate::observe::StreamInfo;

/// What may be late by the granularity of timers.
const SLACK: Duration = Duration::from_millis(5);

/// How long a frame may lie there unread.
const UNREAD: Duration = Duration::from_millis(20);

pub(super) fn hold(client: &mut Client) -> Checked {
    client.nobody_is_forgotten()?;
    let (shut_down, swept_at) = (client.shut_down, client.swept_at);
    let Some(manager) = &client.manager else { return Ok(()) };
    let (infos, metrics) = (manager.streams(), manager.metrics());
    let (readers, leases) = client.seats();
    if (metrics.readers, metrics.leases) != (readers as u64, leases as u64) {
        let counted = (metrics.readers, metrics.leases);
        return Err(format!("{counted:?} readers and leases are counted, {readers}, {leases} are"));
    }
    let mut state = client.world.lock();
    state.oracle.nobody_waits_too_long()?;
    for info in &infos {
        is_wanted(&state, info)?;
    }
    is_there(&mut state, &infos, swept_at)?;
    if shut_down && !infos.is_empty() {
        return Err("there are streams after the shutdown".to_owned());
    }
    state
        .socks
        .iter()
        .try_for_each(|(id, sock)| is_read(sock).map_err(|e| format!("sock {id} {e}")))
}

/// A stream that the client has is one that somebody wants, or that lingers.
fn is_wanted(state: &State, info: &StreamInfo) -> Checked {
    let name = number(info.name.as_str()).ok_or("a name that nobody asked for")?;
    let Some(&topic) = state.oracle.current.get(&name) else {
        return Err(format!("{name} is there, and nobody wants it"));
    };
    let topic = &state.oracle.topics[topic];
    let seats = (topic.readers.len(), topic.leases.len());
    if (info.readers, info.leases) != seats {
        let counted = (info.readers, info.leases);
        return Err(format!("{name} counts {counted:?} readers and leases, not {seats:?}"));
    }
    match topic.idle_since {
        Some(since) if since.elapsed() > state.oracle.linger + SLACK => {
            Err(format!("{name} has lingered for {:?}", since.elapsed()))
        }
        _ => Ok(()),
    }
}

/// A stream that somebody wants is there; one that lingers goes in its time.
fn is_there(state: &mut State, infos: &[StreamInfo], swept_at: Option<Instant>) -> Checked {
    let listed = |name: usize| infos.iter().any(|info| info.name.as_str() == NAMES[name]);
    let gone: Vec<_> = state.oracle.current.keys().copied().filter(|name| !listed(*name)).collect();
    for name in gone {
        let topic = &state.oracle.topics[state.oracle.current[&name]];
        if state.oracle.may_have_ended(name) {
            state.oracle.swept(name);
            continue;
        }
        let Some(since) = topic.idle_since else {
            return Err(format!("{name} is gone, and somebody wants it"));
        };
        let was_swept = swept_at.is_some_and(|at| at >= since);
        if since.elapsed() + SLACK < state.oracle.linger && !was_swept {
            return Err(format!("{name} is gone after {:?}", since.elapsed()));
        }
        state.oracle.swept(name);
    }
    Ok(())
}

/// What has come is read, whatever cannot be written.
fn is_read(sock: &Sock) -> Checked {
    let now = Instant::now();
    match sock.queue.front() {
        Some((due, _)) if !sock.lost && *due + UNREAD < now => {
            Err(format!("has brought something {:?} ago, and nobody reads it", now - *due))
        }
        _ => Ok(()),
    }
}
