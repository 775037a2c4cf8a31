//! Who else in this process has sockets to the same base URL.
//!
//! Two managers to one base are mostly a mistake: sockets are shared within a manager only. Each
//! open socket of a real network is written down here, by its manager and a keyed hash of what it
//! was dialled with. Names do not tell bases apart; credentials do, be they in the query or in a
//! header, so two accounts of one venue are no duplicates. Nothing that is secret is kept.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::{Arc, LazyLock};

use super::sync::Mutex;
use crate::protocol::Request;

/// The open sockets of the process, by base.
#[derive(Clone, Debug, Default)]
pub(crate) struct Neighbours(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    bases: Mutex<HashMap<u64, Base>>,
    hash: RandomState,
}

#[derive(Debug)]
struct Base {
    /// Host and port.
    host: String,
    /// How many sockets each manager has.
    sockets: BTreeMap<ManagerId, usize>,
}

/// Tells the managers of a process apart: the address of what all of one manager share, which
/// lives as long as its sockets do.
pub(crate) type ManagerId = usize;

impl Neighbours {
    pub(crate) fn process_wide() -> Self {
        static PROCESS: LazyLock<Neighbours> = LazyLock::new(Neighbours::default);
        PROCESS.clone()
    }

    /// Writes down a socket that `manager` has opened with `request`, for as long as the guard is
    /// kept.
    pub(crate) fn enter(&self, manager: ManagerId, request: &Request) -> Present {
        let key = self.key(request);
        let host = || request.url().origin();
        let mut bases = self.0.bases.lock();
        let base =
            bases.entry(key).or_insert_with(|| Base { host: host(), sockets: BTreeMap::new() });
        *base.sockets.entry(manager).or_default() += 1;
        Present { key, manager, neighbours: self.clone() }
    }

    /// Hosts to which `manager` has sockets under a base that others have too, and how many other
    /// managers that are.
    pub(crate) fn of(&self, manager: ManagerId) -> Vec<(String, usize)> {
        let bases = self.0.bases.lock();
        let shared = bases.values().filter(|base| base.sockets.len() > 1);
        let ours = shared.filter(|base| base.sockets.contains_key(&manager));
        let mut hosts: Vec<_> =
            ours.map(|base| (base.host.clone(), base.sockets.len() - 1)).collect();
        hosts.sort_unstable();
        hosts
    }

    fn key(&self, request: &Request) -> u64 {
        let base = request.base();
        let mut hasher = self.0.hash.build_hasher();
        (base.is_secure(), base.origin(), base.target()).hash(&mut hasher);
        for (name, value) in request.headers() {
            (name.as_str(), value.as_bytes()).hash(&mut hasher);
        }
        request.subprotocols().hash(&mut hasher);
        hasher.finish()
    }
}

/// A socket that is open.
#[derive(Debug)]
pub(crate) struct Present {
    key: u64,
    manager: ManagerId,
    neighbours: Neighbours,
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut bases = self.neighbours.0.bases.lock();
        let Some(base) = bases.get_mut(&self.key) else { return };
        if let Some(sockets) = base.sockets.get_mut(&self.manager) {
            *sockets -= 1;
            if *sockets == 0 {
                base.sockets.remove(&self.manager);
            }
        }
        if base.sockets.is_empty() {
            bases.remove(&self.key);
        }
    }
}

#[cfg(all(test, not(wsmux_shuttle)))]
mod tests {
    use http::HeaderValue;
    use http::header::COOKIE;

    use super::*;
    use crate::name::StreamName;
    use crate::protocol::{Dial, Direct, Protocol as _};

    fn dialled(base: &str, name: &str) -> Request {
        let direct = Direct::new(base).unwrap();
        let names = [StreamName::try_from(name).unwrap()];
        let lane = direct.lane(&names[0]).unwrap();
        direct.request(&Dial::first(&lane, &names)).unwrap()
    }

    /// Whether a manager with a socket by `one` and another with one by `other` are neighbours.
    fn are_neighbours(one: &Request, other: &Request) -> bool {
        let neighbours = Neighbours::default();
        let _sockets = (neighbours.enter(1, one), neighbours.enter(2, other));
        let (of_one, of_other) = (neighbours.of(1), neighbours.of(2));
        assert_eq!(of_one, of_other);
        assert!(of_one.is_empty() || of_one == [("h:80".to_owned(), 1)], "{of_one:?}");
        !of_one.is_empty()
    }

    #[test]
    fn two_managers_to_one_base_are_neighbours_whatever_their_names() {
        for base in ["ws://h/ws", "ws://h/{name}/feed", "ws://h/ws?stream={name}"] {
            assert!(are_neighbours(&dialled(base, "a"), &dialled(base, "a")), "{base}");
            assert!(are_neighbours(&dialled(base, "a"), &dialled(base, "b")), "{base}");
        }
        let all = Request::new("ws://h/stream").unwrap();
        assert!(are_neighbours(&all, &all));
    }

    #[test]
    fn other_bases_and_other_credentials_are_no_neighbours() {
        let ours = dialled("ws://h/ws?key=1", "a");
        for base in ["ws://h/ws?key=2", "ws://h/ws", "ws://u:p@h/ws?key=1", "ws://h/spot?key=1"] {
            assert!(!are_neighbours(&ours, &dialled(base, "a")), "{base}");
        }
        for other in ["ws://i/ws?key=1", "wss://h:80/ws?key=1", "ws://h:81/ws?key=1"] {
            let neighbours = Neighbours::default();
            let other = dialled(other, "a");
            let _sockets = (neighbours.enter(1, &ours), neighbours.enter(2, &other));
            assert!(neighbours.of(1).is_empty(), "{other:?}");
        }
        let cookie = |value| ours.clone().header(COOKIE, HeaderValue::from_static(value));
        assert!(!are_neighbours(&cookie("x"), &cookie("y")));
        assert!(!are_neighbours(&ours, &ours.clone().subprotocol("v2")));
    }

    #[test]
    fn a_manager_is_no_neighbour_of_its_own_and_a_closed_socket_is_forgotten() {
        let neighbours = Neighbours::default();
        let request = dialled("ws://h/ws", "a");
        let (first, second) = (neighbours.enter(1, &request), neighbours.enter(1, &request));
        assert!(neighbours.of(1).is_empty());
        let other = neighbours.enter(2, &request);
        drop(first);
        assert_eq!(neighbours.of(1).len(), 1);
        drop(second);
        assert!(neighbours.of(1).is_empty() && neighbours.of(2).is_empty());
        drop(other);
        assert!(neighbours.0.bases.lock().is_empty());
    }

    #[test]
    fn what_is_kept_shows_no_secret() {
        let neighbours = Neighbours::default();
        let request = dialled("ws://canary:canary@h/canary?token=canary", "canary");
        let _socket = neighbours.enter(1, &request);
        assert!(!format!("{neighbours:?}").contains("canary"));
    }
}
