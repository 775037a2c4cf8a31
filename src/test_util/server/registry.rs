//! What a server knows of its dials and sockets.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::conn::{Conn, Counter};
use super::io::Glance;
use super::watched::Watched;

/// How many dials are remembered, and how many sockets wait for `accept`.
const KEPT: usize = 65_536;

/// Dials and sockets.
#[derive(Debug)]
pub(super) struct Registry(Watched<Inner>);

#[derive(Debug, Default)]
struct Inner {
    dials: usize,
    dialled: VecDeque<String>,
    next_id: u64,
    open: BTreeMap<u64, Arc<Conn>>,
    tallies: HashMap<String, Tally>,
    waiting: VecDeque<Arc<Conn>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    open: usize,
    max: usize,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self(Watched::new(Inner::default()))
    }

    /// Counts a dial, and gives its number.
    pub(super) fn dial(&self) -> usize {
        self.0.change(|inner| {
            inner.dials += 1;
            inner.dials
        })
    }

    pub(super) fn dialled(&self, target: String) {
        self.0.change(|inner| push_bounded(&mut inner.dialled, target));
    }

    pub(super) fn next_id(&self) -> u64 {
        self.0.change(|inner| {
            inner.next_id += 1;
            inner.next_id
        })
    }

    /// Counts a socket as open, and tells whether it is: a client that has given up meanwhile may
    /// have another by now.
    pub(super) async fn open(&self, conn: &Arc<Conn>, glance: &Glance) -> bool {
        let Tally { open, max } = self.tally(&conn.path);
        if open > 0 && open == max {
            // It would be a new maximum. A client may have dropped a socket just before it dialled
            // this one, and nobody has looked at that socket since.
            for other in self.on(Some(&conn.path)) {
                other.settle().await;
            }
        }
        self.0.change(|inner| {
            if glance.is_gone() {
                return false;
            }
            inner.open.insert(conn.id, Arc::clone(conn));
            let tally = inner.tallies.entry(conn.path.clone()).or_default();
            tally.open += 1;
            tally.max = tally.max.max(tally.open);
            true
        })
    }

    /// Has a socket wait for [`Self::accept`].
    pub(super) fn offer(&self, conn: Arc<Conn>) {
        self.0.change(|inner| push_bounded(&mut inner.waiting, conn));
    }

    pub(super) async fn accept(&self) -> Arc<Conn> {
        self.0.until(|inner| inner.waiting.pop_front()).await
    }

    pub(super) async fn until_dials(&self, count: usize) {
        self.0.until(|inner| (inner.dials >= count).then_some(())).await;
    }

    pub(super) async fn until_sockets(&self, path: Option<&str>, count: usize) {
        let open = |inner: &Inner| match path {
            None => inner.open.len(),
            Some(path) => inner.tallies.get(path).map_or(0, |tally| tally.open),
        };
        self.0.until(|inner| (open(inner) == count).then_some(())).await;
    }

    pub(super) fn dials(&self) -> usize {
        self.0.read(|inner| inner.dials)
    }

    pub(super) fn targets(&self) -> Vec<String> {
        self.0.read(|inner| inner.dialled.iter().cloned().collect())
    }

    pub(super) fn sockets(&self) -> usize {
        self.0.read(|inner| inner.open.len())
    }

    pub(super) fn sockets_on(&self, path: &str) -> usize {
        self.tally(path).open
    }

    pub(super) fn max_sockets_on(&self, path: &str) -> usize {
        self.tally(path).max
    }

    /// The open sockets on one path or on all, in order of opening.
    pub(super) fn on(&self, path: Option<&str>) -> Vec<Arc<Conn>> {
        let wanted = |conn: &&Arc<Conn>| path.is_none_or(|path| conn.path == path);
        self.0.read(|inner| inner.open.values().filter(wanted).cloned().collect())
    }

    fn tally(&self, path: &str) -> Tally {
        self.0.read(|inner| inner.tallies.get(path).copied().unwrap_or_default())
    }
}

impl Counter for Registry {
    fn ended(&self, conn: &Conn) {
        self.0.change(|inner| {
            if inner.open.remove(&conn.id).is_some() {
                let tally = inner.tallies.entry(conn.path.clone()).or_default();
                tally.open -= 1;
            }
        });
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == KEPT {
        queue.pop_front();
    }
    queue.push_back(item);
}
