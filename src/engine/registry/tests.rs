//! The registry's invariants, after each step of programs made at random.
//!
//! The connections are played: each looks for changes, dials if it may, ends by itself or when it
//! is not wanted.

mod cases;
mod handover;
mod packing;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::config::Limits;
use crate::engine::defect::with;
use crate::observe::Metrics;

const LINGER: Duration = Duration::from_secs(30);
const CAPACITY: usize = 2;
const MAX: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Abandon(usize),
    Finish(usize),
    GiveUp(usize),
    /// A topic goes over to its next source; the registry is told, or is not yet.
    GoOver {
        which: usize,
        told: bool,
    },
    Join {
        name: u8,
        lease: bool,
    },
    /// A connection loses its socket.
    Lose(usize),
    Leave(usize),
    Look(usize),
    Pack,
    Rotate(usize),
    Stay(usize),
    Sweep,
    SweepIdle,
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => any::<usize>().prop_map(Op::Abandon),
        3 => any::<usize>().prop_map(Op::Finish),
        1 => any::<usize>().prop_map(Op::GiveUp),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, told)| Op::GoOver { which, told }),
        6 => (0..8_u8, any::<bool>()).prop_map(|(name, lease)| Op::Join { name, lease }),
        5 => any::<usize>().prop_map(Op::Leave),
        5 => any::<usize>().prop_map(Op::Look),
        1 => any::<usize>().prop_map(Op::Lose),
        2 => Just(Op::Pack),
        2 => any::<usize>().prop_map(Op::Rotate),
        1 => any::<usize>().prop_map(Op::Stay),
        1 => Just(Op::Sweep),
        1 => Just(Op::SweepIdle),
        2 => (1..40_u64).prop_map(Op::Wait),
    ]
}

/// The registry, and what the world around it knows.
struct World {
    capacity: usize,
    /// Connections whose tasks run, with what they carry as far as they have heard.
    links: Vec<(Link, HashMap<StreamName, Arc<Topic>>)>,
    max: usize,
    metrics: Arc<Metrics>,
    now: Instant,
    registry: Registry,
    seats: Vec<(Arc<Topic>, Kind)>,
}

impl World {
    fn new() -> Self {
        Self::with(CAPACITY, MAX)
    }

    fn with(capacity: usize, max: usize) -> Self {
        let limits = Limits { max_connections: max, ..Limits::default() };
        let config = Config::default().limits(limits).linger(LINGER);
        let registry = Registry::new(&config);
        let (links, seats) = (Vec::new(), Vec::new());
        let (metrics, now) = (Arc::default(), Instant::now());
        Self { capacity, links, max, metrics, now, registry, seats }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Abandon(which) => self.abandon(which),
            Op::Finish(which) => self.finish(which),
            Op::GiveUp(which) if !self.links.is_empty() => {
                let id = self.links[which % self.links.len()].0.id;
                while self.registry.give_up_succeeding(id, 1) {}
            }
            Op::GiveUp(_) => {}
            Op::GoOver { which, told } => self.go_over(which, told),
            Op::Join { name, lease } => self.join(name, lease),
            Op::Leave(which) if !self.seats.is_empty() => {
                let (topic, kind) = self.seats.swap_remove(which % self.seats.len());
                self.registry.leave(&topic, kind, self.now);
            }
            Op::Leave(_) => {}
            Op::Look(which) => self.look(which),
            Op::Lose(which) if !self.links.is_empty() => {
                self.registry.opened(self.links[which % self.links.len()].0.id, false);
            }
            Op::Lose(_) => {}
            Op::Pack => self.pack(),
            Op::Rotate(which) => self.rotate(which),
            Op::Stay(which) => {
                if let Some((topic, next)) = self.in_handover(which) {
                    self.registry.stays(&topic, next);
                }
            }
            Op::Sweep => {
                let left = self.left_within(LINGER);
                while self.registry.sweep(self.now) {}
                assert_eq!(self.left_within(Duration::MAX), left, "swept in time, and not before");
            }
            Op::SweepIdle => {
                let left = self.left_within(LINGER / 2);
                while self.registry.sweep_idle(self.now - LINGER / 2) {}
                assert_eq!(self.left_within(Duration::MAX), left, "swept in time, and not before");
            }
            Op::Wait(seconds) => self.now += Duration::from_secs(seconds),
        }
        for (topic, reason) in self.registry.leftovers().done() {
            reason.into_iter().for_each(|reason| topic.close(reason));
        }
        self.check();
    }

    fn join(&mut self, name: u8, lease: bool) {
        let lane = Lane::new(if name < 4 { "low" } else { "high" });
        let name = StreamName::try_from(&*format!("s{name}")).unwrap();
        let kind = if lease { Kind::Lease } else { Kind::Reader };
        let (can_open, capacity, now) = (true, self.capacity, self.now);
        let asked = Asked { can_open, capacity, kind, lane: &lane, name: &name, now };
        let settings = Config::default().linger(LINGER).stream();
        let metrics = Arc::clone(&self.metrics);
        let open = |source| Arc::new(Topic::new(name.clone(), source, settings, metrics));
        match self.registry.join(&asked, open) {
            Ok((topic, link)) => {
                assert!(!topic.is_closed(), "a seat on a closed topic");
                self.seats.push((topic, kind));
                self.links.extend(link.map(|link| (link, HashMap::new())));
            }
            Err(e) => assert_eq!(e, SubscribeError::ConnectionLimit { max: self.max }),
        }
    }

    /// A topic that is being handed over, and its next source.
    fn in_handover(&self, which: usize) -> Option<(Arc<Topic>, ConnectionId)> {
        let entries = self.registry.topics.iter().map(|(_, entry)| entry);
        let all: Vec<_> =
            entries.filter_map(|entry| Some((Arc::clone(&entry.topic), entry.next?))).collect();
        all.get(which % all.len().max(1)).cloned()
    }

    fn go_over(&mut self, which: usize, told: bool) {
        let Some((topic, next)) = self.in_handover(which) else { return };
        topic.leave_to(next, self.now);
        if told {
            self.registry.took_over(&topic);
        }
    }

    /// An open connection has another one take its place.
    fn rotate(&mut self, which: usize) {
        let topics: Vec<_> =
            self.registry.topics.iter().map(|(_, e)| Arc::clone(&e.topic)).collect();
        let Some(topic) = topics.get(which % topics.len().max(1)) else { return };
        let id = self.registry.topics[self.registry.key(topic).unwrap()].connection;
        if !self.registry.ask_to_rotate_of(topic) {
            return;
        }
        let Some((to, link)) = self.registry.successor(id, self.now) else { return };
        let mut from = Some(0);
        while let Some(key) = from {
            from = self.registry.hand_over(id, to, key, 1, self.now);
        }
        self.registry.handed_over(to);
        self.links.extend(link.map(|link| (link, HashMap::new())));
    }

    /// The topics that were left less than so long ago.
    fn left_within(&self, time: Duration) -> Vec<usize> {
        let is_left =
            |entry: &Entry| entry.idle.is_some_and(|(left, _)| self.now - left.at() < time);
        let topics = self.registry.topics.iter();
        topics.filter(|(_, entry)| is_left(entry)).map(|(key, _)| key).collect()
    }

    /// A connection looks at what has changed, and dials if it may.
    fn look(&mut self, which: usize) {
        if self.links.is_empty() {
            return;
        }
        let which = which % self.links.len();
        let (link, carried) = &mut self.links[which];
        let Some(changes) = self.registry.changes(link.id, self.now) else { return };
        for change in changes.names {
            match change.topic {
                Some(topic) => carried.insert(change.name, topic),
                None => carried.remove(&change.name),
            };
        }
        let id = link.id;
        let keys = &self.registry.connections[&id].names;
        let wanted = keys.iter().map(|&key| &self.registry.topics[key].topic);
        let is_known = |topic: &Arc<Topic>| Arc::ptr_eq(&carried[&topic.name], topic);
        assert!(wanted.clone().all(is_known) && carried.len() == wanted.count(), "it has heard");
        if self.dials(id) {
            self.registry.opened(id, true);
        }
    }

    /// Whether connection `id` may dial; if not, it is where it will be told to ask again.
    fn dials(&mut self, id: ConnectionId) -> bool {
        let Registry { connections, lanes, slots, .. } = &self.registry;
        let handle = &connections[&id];
        let waits = lanes[&handle.lane].closing.iter().any(|older| *older < id);
        let is_next = slots.queue.iter().all(|other| *other >= id) && slots.held < self.max;
        let expected = !waits && (handle.may_dial() || is_next);
        assert_eq!(self.registry.may_dial(id), expected, "4. who may dial");
        let Registry { connections, lanes, slots, .. } = &self.registry;
        let handle = &connections[&id];
        assert_eq!(lanes[&handle.lane].blocked.contains(&id), waits);
        assert!(waits || slots.queue.contains(&id) != expected);
        assert!(!expected || handle.may_dial());
        expected
    }

    /// A connection ends by itself.
    fn abandon(&mut self, which: usize) {
        if self.links.is_empty() {
            return;
        }
        let (link, _) = self.links.swap_remove(which % self.links.len());
        self.registry.failed(&link.lane, false, Duration::ZERO, self.now);
        while self.registry.abandon(link.id, 1, &CloseReason::Aborted) {}
        self.registry.finished(link.id, &link.lane);
    }

    /// The task of a connection that is not wanted any more ends.
    fn finish(&mut self, which: usize) {
        let gone = |(link, _): &&(Link, _)| !self.registry.connections.contains_key(&link.id);
        let gone: Vec<_> = self.links.iter().filter(gone).map(|(link, _)| link.id).collect();
        if let Some(&id) = gone.get(which % gone.len().max(1)) {
            let at = self.links.iter().position(|(link, _)| link.id == id).unwrap();
            let (link, _) = self.links.swap_remove(at);
            self.registry.finished(id, &link.lane);
        }
    }

    fn check(&self) {
        let registry = &self.registry;
        assert_eq!(registry.by_name.len(), registry.topics.len());
        for (key, entry) in &registry.topics {
            assert!(registry.is_carried(key), "1. carried by its connection");
            assert!(entry.topic.is_source(entry.connection) || entry.next.is_some());
            let seated = |kind| {
                let seats =
                    self.seats.iter().filter(|(t, k)| Arc::ptr_eq(t, &entry.topic) && *k == kind);
                seats.count()
            };
            let seats = (entry.readers as usize, entry.leases as usize);
            assert_eq!(seats, (seated(Kind::Reader), seated(Kind::Lease)));
            let is_idle = entry.readers + entry.leases == 0;
            assert_eq!(entry.idle.is_some(), is_idle, "3. idle and due");
        }
        let idle = registry.topics.iter().filter(|(_, entry)| entry.idle.is_some()).count();
        assert_eq!((registry.idle.len(), registry.due.len()), (idle, idle), "3. idle and due");
        for (id, handle) in &registry.connections {
            assert!(!handle.names.is_empty(), "1. carries something");
            assert!(handle.names.len() <= self.capacity, "not above its capacity");
            let crossing = &registry.lanes[&handle.lane];
            assert!(!crossing.closing.contains(id), "2. live or closing, not both");
            let predecessor = handle.succeeds.map(|id| &registry.connections[&id]);
            let mine = |key: &&usize| !handle.names.contains(key);
            let reserved = predecessor.map_or(0, |p| p.names.iter().filter(mine).count());
            let has_room = handle.names.len() + reserved < self.capacity;
            let is_roomy = has_room && handle.successor.is_none() && handle.moving.is_none();
            assert_eq!(crossing.roomy.contains(id), is_roomy);
            let pending =
                handle.names.iter().filter(|&&key| registry.topics[key].next == Some(*id)).count();
            assert_eq!(handle.pending as usize, pending);
            if let Some(predecessor) = &handle.succeeds {
                assert_eq!(registry.connections[predecessor].successor, Some(*id));
            }
            if let Some(successor) = &handle.successor {
                assert_eq!(registry.connections[successor].succeeds, Some(*id));
            }
            let spare = handle.names.iter().all(|&key| registry.topics[key].idle.is_some());
            assert_eq!(handle.idle_rank.is_some(), spare, "spare while all are idle");
        }
        self.check_packing();
        let succeeding = registry.connections.values().filter(|h| h.succeeds.is_some()).count();
        assert_eq!(registry.succeeding, succeeding);
        let closing = registry.lanes.values().map(|crossing| crossing.closing.len()).sum::<usize>();
        assert!(registry.counted() <= self.max, "4. connections");
        assert_eq!((registry.ending.len(), registry.running), (closing, self.links.len()));
        let held = registry.connections.values().map(|handle| handle.has_slot);
        let held = held.chain(registry.ending.values().map(|ending| ending.has_slot));
        assert_eq!(registry.slots.held, held.filter(|has_slot| *has_slot).count());
        assert!(registry.slots.held <= self.max + closing, "4. slots");
        let open = registry.connections.values().filter(|handle| handle.is_open).count();
        assert_eq!(registry.open, open);
    }
}

/// Runs a program, and checks that nothing is left once all have gone.
fn run(ops: &[Op]) {
    let mut world = World::new();
    ops.iter().for_each(|op| world.run(op));
    while !world.seats.is_empty() {
        world.run(&Op::Leave(0));
    }
    world.run(&Op::Wait(LINGER.as_secs()));
    world.run(&Op::Sweep);
    for _ in 0..world.links.len() {
        world.run(&Op::Finish(0));
    }
    let Registry { connections, ending, lanes, slots, spare, topics, .. } = &world.registry;
    assert!(topics.is_empty() && connections.is_empty() && ending.is_empty());
    assert_eq!(world.registry.running, 0);
    assert!(lanes.is_empty() && spare.is_empty() && world.registry.packs.is_empty());
    assert!(slots.held == 0 && slots.queue.is_empty());
}

/// Whether every program goes well, with the mistake made.
fn all_goes_well(defect: Option<Defect>) -> bool {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if defect.is_some() {
        // A mistake is looked for until it shows, and need not be made small.
        (config.cases, config.max_shrink_iters) = (50_000, 0);
    }
    let mut runner = TestRunner::new(config);
    let programs = proptest::collection::vec(op(), 1..120);
    let outcome = runner.run(&programs, |ops| {
        with(defect, || run(&ops));
        Ok(())
    });
    with(None, || ()); // A mistake that was noticed ended in a panic.
    if defect.is_none() {
        outcome.as_ref().map_err(ToString::to_string).unwrap();
    }
    outcome.is_ok()
}

#[test]
fn every_invariant_holds_after_each_step() {
    assert!(all_goes_well(None));
}

/// A registry with five streams on three connections.
fn five_streams() -> World {
    let mut world = World::new();
    [0, 1, 2, 4, 5].iter().for_each(|&name| world.join(name, false));
    world.registry.leftovers().done();
    assert_eq!((world.registry.topics.len(), world.links.len()), (5, 3));
    world
}

/// Takes steps from place 0 on, until there is no place to go on from: as many as pieces of `some`
/// places have to be looked at.
fn piece_by_piece(some: usize, mut step: impl FnMut(usize) -> Option<usize>) {
    let mut place = Some(0);
    let mut pieces = 0;
    while let Some(at) = place {
        assert_eq!(at, pieces * some);
        pieces += 1;
        place = step(at);
    }
    assert!((2..=8 / some + 1).contains(&pieces), "{pieces} pieces of {some}");
}

#[test]
fn piece_by_piece_each_stream_is_met_once() {
    for some in 1..5 {
        let World { registry, .. } = five_streams();
        let mut names = Vec::new();
        piece_by_piece(some, |place| {
            let (listed, next) = registry.page(place, some);
            names.extend(listed.into_iter().map(|one| one.topic.name.as_str().to_owned()));
            next
        });
        assert_eq!(names, ["s0", "s1", "s2", "s4", "s5"]);
    }
}

#[test]
fn piece_by_piece_each_connection_is_roused() {
    for some in 1..5 {
        let World { mut registry, .. } = five_streams();
        piece_by_piece(some, |place| registry.rouse(place, some));
        assert_eq!(registry.leftovers().signals.len(), 5, "once for each stream");
    }
}

#[test]
fn piece_by_piece_each_connection_is_asked_to_rotate() {
    for some in 1..5 {
        let World { mut registry, links, .. } = five_streams();
        links.iter().for_each(|(link, _)| registry.opened(link.id, true));
        piece_by_piece(some, |place| registry.ask_all_to_rotate(place, some));
        for (link, _) in &links {
            assert!(registry.changes(link.id, Instant::now()).unwrap().rotate);
        }
    }
}

#[test]
fn piece_by_piece_each_stream_is_shut_down() {
    for some in 1..5 {
        let World { mut registry, .. } = five_streams();
        piece_by_piece(some, |place| registry.shut_down(place, some));
        let ended = registry.leftovers().done();
        assert_eq!(ended.len(), 5);
        assert!(ended.iter().all(|(_, reason)| matches!(reason, Some(CloseReason::Shutdown))));
        assert!(registry.topics.is_empty() && registry.is_shut_down());
    }
}

#[test]
fn a_registry_that_makes_a_mistake_is_found_out() {
    for defect in [Defect::EndIsKept, Defect::LeaveByName, Defect::SitsOnDueTopic] {
        assert!(!all_goes_well(Some(defect)), "{defect:?} went unnoticed");
    }
}
