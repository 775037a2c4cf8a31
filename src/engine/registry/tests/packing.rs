//! Names that come and go take no more connections than they have to.

use super::*;

/// Names per connection.
const EACH: usize = 8;

impl World {
    /// What is retired is known to be, and what is on its way is counted.
    pub(super) fn check_packing(&self) {
        let Registry { connections, lanes, topics, .. } = &self.registry;
        for (id, handle) in connections {
            let Some(moving) = &handle.moving else { continue };
            let keys = handle.names.iter().map(|&key| &topics[key]);
            let count = keys.filter(|e| e.connection == *id && e.next.is_some()).count();
            assert_eq!(moving.topics, count, "5. on their way");
            let packing = lanes[&handle.lane].packing.as_ref().unwrap();
            assert_eq!(packing.retired, Some(*id), "5. retired");
        }
        for (lane, crossing) in lanes {
            let of_lane = |entry: &Entry| connections[&entry.connection].lane == *lane;
            let names = topics.iter().filter(|(_, entry)| of_lane(entry)).count();
            assert_eq!(crossing.names, names, "counted by lane");
        }
    }

    /// Does what the sweeper does.
    pub(super) fn pack(&mut self) {
        while let Some(id) = self.registry.retire(self.now) {
            let mut from = Some(0);
            while let Some(key) = from {
                from = self.registry.spread(id, key, 3, self.now);
            }
        }
    }

    /// Each connection does what it has to, and all streams that are to go over do: for so long.
    fn settle(&mut self, seconds: u64) {
        let step = if seconds > 100 { 10 } else { 1 };
        for _ in 0..seconds / step {
            self.run(&Op::Wait(step));
            (0..self.links.len()).for_each(|which| self.look(which));
            self.pack();
            self.try_again();
            while self.in_handover(0).is_some() {
                self.go_over(0, true);
            }
            while self
                .links
                .iter()
                .any(|(link, _)| !self.registry.connections.contains_key(&link.id))
            {
                self.run(&Op::Finish(0));
            }
        }
    }

    /// Connections with a successor hand over to it what has stayed, as they do after a while.
    fn try_again(&mut self) {
        let all = self.registry.connections.iter();
        let pairs: Vec<_> = all.filter_map(|(id, handle)| Some((*id, handle.successor?))).collect();
        for (id, to) in pairs {
            self.registry.hand_over(id, to, 0, usize::MAX, self.now);
        }
    }

    /// How many connections a lane has, and how many its names fill.
    fn connections(&self, lane: &str) -> (usize, usize) {
        let crossing = self.registry.lanes.get(&Lane::new(lane));
        crossing.map_or((0, 0), |crossing| (crossing.live, crossing.names.div_ceil(EACH)))
    }

    fn join_all(&mut self, names: std::ops::Range<u8>) {
        names.for_each(|name| self.run(&Op::Join { name, lease: false }));
        self.settle(1);
    }

    /// Gives back the seats of these names.
    fn leave_all(&mut self, names: impl IntoIterator<Item = u8>) {
        for name in names {
            let name = format!("s{name}");
            let at = self.seats.iter().position(|(topic, _)| topic.name.as_str() == name).unwrap();
            self.run(&Op::Leave(at));
        }
        self.run(&Op::Wait(LINGER.as_secs()));
        self.run(&Op::Sweep);
    }
}

/// Four connections of eight names each, of the lane `high`.
fn four() -> World {
    let mut world = World::with(EACH, 64);
    world.join_all(4..36);
    assert_eq!(world.connections("high"), (4, 4));
    world
}

#[test]
fn one_connection_more_than_is_needed_stays_and_two_become_one() {
    let mut world = four();
    // Two names go from each: 24 are left, which fill three.
    world.leave_all((4..36).filter(|name| name % 8 < 2));
    world.settle(60);
    assert_eq!(world.connections("high"), (4, 3));
    world.leave_all([6, 14, 22, 30, 7, 15, 23, 31]);
    assert_eq!(world.connections("high"), (4, 2));
    world.settle(9);
    assert_eq!(world.connections("high"), (4, 2), "nothing hurries");
    world.settle(3);
    assert_eq!(world.connections("high"), (3, 2));
    world.settle(60);
    assert_eq!(world.connections("high"), (3, 2));
}

#[test]
fn names_that_go_all_at_once_do_not_move_before() {
    let mut world = four();
    world.leave_all(4..35);
    world.settle(60);
    assert_eq!(world.connections("high"), (1, 1));
    assert_eq!(world.registry.next_id.get(), 5);
}

#[test]
fn connections_that_give_up_nothing_get_their_names_back_and_are_tried_later_and_later() {
    let mut world = four();
    world.leave_all((4..36).filter(|name| name % 8 < 4));
    let mut tries = Vec::new();
    for second in 0..400 {
        world.run(&Op::Wait(1));
        (0..world.links.len()).for_each(|which| world.run(&Op::Look(which)));
        world.run(&Op::Pack);
        if world.in_handover(0).is_some() {
            tries.push(second);
            while world.in_handover(0).is_some() {
                world.run(&Op::Stay(0));
            }
        }
    }
    assert_eq!(world.connections("high"), (4, 2));
    let waits: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.len() >= 3 && waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    world.settle(700);
    assert_eq!(world.connections("high"), (3, 2), "and in the end it goes");
}

#[test]
fn a_connection_that_is_on_its_way_out_is_given_nothing_and_takes_nobodys_place() {
    let mut world = four();
    world.leave_all((4..36).filter(|name| name % 8 < 4));
    world.run(&Op::Pack);
    world.run(&Op::Wait(SECONDS));
    world.run(&Op::Pack);
    let mut all = world.registry.connections.iter();
    let retired = *all.find(|(_, handle)| handle.moving.is_some()).unwrap().0;
    assert!(world.registry.has_successor(retired), "its peer is to prove what it has brought");
    assert!(world.registry.successor(retired, world.now).is_none());
    assert!(world.registry.changes(retired, world.now).unwrap().parts);
    world.run(&Op::Join { name: 40, lease: false });
    let joined = world.registry.topic("s40").unwrap();
    assert!(!joined.is_source(retired));
}

/// Longer than a lane has to have too many connections.
const SECONDS: u64 = 11;

/// Names come and go in any order, with connections that are lost, end and are replaced. In the end
/// there is one connection more than is needed, at most, and nothing moves any more.
fn churn(ops: &[Op]) {
    let mut world = World::with(EACH, 64);
    for chunk in ops.chunks(20) {
        chunk.iter().for_each(|op| world.run(op));
        world.settle(1);
    }
    world.run(&Op::Wait(LINGER.as_secs()));
    world.run(&Op::Sweep);
    world.settle(1500);
    for lane in ["low", "high"] {
        let (live, needed) = world.connections(lane);
        assert!(live <= needed + 1, "{live} connections, {needed} needed");
    }
    let before = world.registry.next_id;
    world.settle(120);
    assert!(world.in_handover(0).is_none() && world.registry.next_id == before, "at rest");
}

fn comes_and_goes() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => any::<u8>().prop_map(|name| Op::Join { name, lease: false }),
        20 => any::<usize>().prop_map(Op::Leave),
        1 => any::<usize>().prop_map(Op::Rotate),
        1 => any::<usize>().prop_map(Op::Stay),
        1 => any::<usize>().prop_map(Op::Abandon),
        1 => any::<usize>().prop_map(Op::Lose),
        1 => Just(Op::SweepIdle),
    ]
}

fn ends_well(defect: Option<Defect>) -> bool {
    // A mistake is looked for until it shows, and need not be made small.
    let (cases, max_shrink_iters) = if defect.is_some() { (10_000, 0) } else { (16, 256) };
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(
        &proptest::collection::vec(comes_and_goes(), 200..600),
        |ops| {
            with(defect, || churn(&ops));
            Ok(())
        },
    );
    with(None, || ());
    if defect.is_none() {
        outcome.as_ref().map_err(ToString::to_string).unwrap();
    }
    outcome.is_ok()
}

#[test]
fn names_that_come_and_go_in_any_order_end_on_as_few_connections_as_can_be_and_one() {
    assert!(ends_well(None));
}

#[test]
fn names_that_never_move_are_found_out() {
    assert!(!ends_well(Some(Defect::NamesNeverMove)));
}
