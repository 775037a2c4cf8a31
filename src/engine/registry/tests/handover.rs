//! How one connection takes the place of another, case by case.

use super::*;

/// Two streams on one connection, which is open.
struct Pair {
    id: ConnectionId,
    topics: [Arc<Topic>; 2],
    world: World,
}

impl Pair {
    fn new() -> Self {
        let mut world = World::new();
        (0..2).for_each(|name| world.join(name, false));
        let topics = ["s0", "s1"].map(|name| Arc::clone(world.registry.topic(name).unwrap()));
        let id = world.links[0].0.id;
        world.registry.opened(id, true);
        assert!(topics.iter().all(|topic| topic.is_source(id)));
        Self { id, topics, world }
    }

    /// A successor, which is open and to take over both.
    fn successor(&mut self) -> ConnectionId {
        let Self { id, world, .. } = self;
        let (to, link) = world.registry.successor(*id, world.now).unwrap();
        world.links.extend(link.map(|link| (link, HashMap::new())));
        assert_eq!(world.registry.hand_over(*id, to, 0, 2, world.now), Some(2));
        assert_eq!(world.registry.hand_over(*id, to, 2, 2, world.now), None);
        world.registry.handed_over(to);
        world.registry.opened(to, true);
        world.check();
        to
    }

    /// A stream goes over, and the registry is told.
    fn goes_over(&mut self, which: usize, to: ConnectionId) {
        self.topics[which].leave_to(to, self.world.now);
        self.world.registry.took_over(&self.topics[which]);
        self.world.check();
    }

    /// Whose each stream is, and whose it is to be.
    fn carriers(&self) -> [(ConnectionId, Option<ConnectionId>); 2] {
        [0, 1].map(|which| {
            let registry = &self.world.registry;
            let entry = &registry.topics[registry.key(&self.topics[which]).unwrap()];
            assert!(entry.next.is_none_or(|to| self.topics[which].is_next(to)));
            (entry.connection, entry.next)
        })
    }

    /// Whether connection `id` is wanted.
    fn is_wanted(&mut self, id: ConnectionId) -> bool {
        self.world.registry.changes(id, self.world.now).is_some()
    }
}

#[test]
fn only_an_open_connection_that_takes_nobodys_place_is_asked_to_rotate() {
    let mut pair = Pair::new();
    let id = pair.id;
    let asked = |pair: &mut Pair, id| {
        let is_asked = pair.world.registry.ask_to_rotate_of(&pair.topics[0]);
        let changes = pair.world.registry.changes(id, pair.world.now).unwrap();
        (is_asked, changes.rotate)
    };
    pair.world.registry.opened(id, false);
    assert_eq!(asked(&mut pair, id), (false, false), "it has no socket");
    pair.world.registry.opened(id, true);
    assert_eq!(asked(&mut pair, id), (true, true));
    let to = pair.successor();
    assert_eq!(asked(&mut pair, id), (true, false), "it has been");
    pair.goes_over(0, to);
    assert_eq!(asked(&mut pair, to), (false, false), "it has yet to take the other stream over");
    pair.goes_over(1, to);
    assert_eq!(asked(&mut pair, to), (true, true));
}

#[test]
fn neither_who_takes_anothers_place_nor_who_is_ending_is_succeeded() {
    let mut pair = Pair::new();
    let to = pair.successor();
    let World { registry, now, .. } = &mut pair.world;
    assert!(registry.successor(to, *now).is_none(), "one after the other");
    assert!(matches!(registry.successor(pair.id, *now), Some((again, None)) if again == to));

    let Pair { id, mut world, .. } = Pair::new();
    assert!(world.registry.abandon(id, 0, &CloseReason::Aborted), "it has ended");
    assert!(world.registry.successor(id, world.now).is_none());

    let Pair { id, mut world, .. } = Pair::new();
    assert_eq!(world.registry.shut_down(0, 1), Some(1), "one stream has yet to be closed");
    assert!(world.registry.successor(id, world.now).is_none());
}

#[test]
fn who_succeeds_whom_is_known_until_they_part() {
    let mut pair = Pair::new();
    let id = pair.id;
    let roles =
        |pair: &Pair, id| (pair.world.registry.has_successor(id), pair.world.registry.succeeds(id));
    assert_eq!(roles(&pair, id), (false, false));
    let to = pair.successor();
    assert_eq!((roles(&pair, id), roles(&pair, to)), ((true, false), (false, true)));
    pair.goes_over(0, to);
    assert_eq!((roles(&pair, id), roles(&pair, to)), ((true, false), (false, true)));
    pair.goes_over(1, to);
    assert_eq!((roles(&pair, id), roles(&pair, to)), ((false, false), (false, false)));
}

#[test]
fn piece_by_piece_each_stream_is_handed_over() {
    for some in 1..4 {
        let mut pair = Pair::new();
        let (to, _link) = pair.world.registry.successor(pair.id, pair.world.now).unwrap();
        let mut from = Some(0);
        while let Some(key) = from {
            from = pair.world.registry.hand_over(pair.id, to, key, some, pair.world.now);
        }
        assert_eq!(pair.carriers(), [(pair.id, Some(to)); 2], "pieces of {some}");
    }
}

#[test]
fn a_successor_whose_predecessor_has_gone_before_it_was_given_anything_is_let_go() {
    let mut pair = Pair::new();
    let (to, link) = pair.world.registry.successor(pair.id, pair.world.now).unwrap();
    pair.world.links.extend(link.map(|link| (link, HashMap::new())));
    for topic in &pair.topics {
        pair.world.registry.ended(topic, CloseReason::Aborted, pair.world.now);
    }
    assert!(!pair.is_wanted(pair.id));
    assert_eq!(pair.world.registry.hand_over(pair.id, to, 0, 2, pair.world.now), None);
    pair.world.registry.handed_over(to);
    assert!(!pair.is_wanted(to));
    pair.world.check();
}

#[test]
fn a_stream_that_stays_is_its_old_connections_alone() {
    let mut pair = Pair::new();
    let (id, to) = (pair.id, pair.successor());
    pair.world.registry.stays(&pair.topics[0], id);
    assert_eq!(pair.carriers(), [(id, Some(to)); 2], "that one is not the next");
    pair.world.registry.stays(&pair.topics[0], to);
    assert_eq!(pair.carriers(), [(id, None), (id, Some(to))]);
    assert!(!pair.topics[0].is_next(to));
    pair.world.check();
    pair.world.registry.stays(&pair.topics[1], to);
    assert_eq!(pair.carriers(), [(id, None); 2]);
    assert!(!pair.is_wanted(to), "there is nothing left for it");
    pair.world.check();
}

#[test]
fn a_successor_that_fails_is_given_up_unless_something_has_gone_over_to_it() {
    let give_up = |pair: &mut Pair, id| while pair.world.registry.give_up_succeeding(id, 1) {};
    let mut pair = Pair::new();
    let (id, to) = (pair.id, pair.successor());
    give_up(&mut pair, id);
    assert_eq!(pair.carriers(), [(id, Some(to)); 2], "it succeeds nobody");
    give_up(&mut pair, to);
    assert_eq!(pair.carriers(), [(id, None); 2]);
    assert!(!pair.is_wanted(to));
    pair.world.check();

    let mut pair = Pair::new();
    let (id, to) = (pair.id, pair.successor());
    pair.goes_over(0, to);
    give_up(&mut pair, to);
    assert_eq!(pair.carriers(), [(to, None), (id, Some(to))]);
    pair.world.check();
}

#[test]
fn a_successor_that_ends_takes_along_only_what_has_gone_over_to_it() {
    let mut pair = Pair::new();
    let (id, to) = (pair.id, pair.successor());
    pair.goes_over(0, to);
    pair.world.registry.leftovers();
    while pair.world.registry.abandon(to, 1, &CloseReason::Aborted) {}
    let ended = pair.world.registry.leftovers().done();
    let [(topic, Some(CloseReason::Aborted))] = &ended[..] else { panic!("{ended:?}") };
    assert!(Arc::ptr_eq(topic, &pair.topics[0]));
    assert!(pair.topics[1].is_source(id) && !pair.topics[1].is_next(to));
    assert!(pair.is_wanted(id) && !pair.is_wanted(to));
}
