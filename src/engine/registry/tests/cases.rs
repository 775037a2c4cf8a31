//! Slots, tasks and what is told of a stream, case by case.

use super::*;
use crate::observe::StreamInfo;
use crate::protocol::DisconnectReason;

impl World {
    fn topic(&self, name: &str) -> Arc<Topic> {
        Arc::clone(self.registry.topic(name).unwrap())
    }

    fn leave(&mut self, name: &str, kind: Kind) {
        let of = |(topic, sits): &(Arc<Topic>, Kind)| topic.name.as_str() == name && *sits == kind;
        let at = self.seats.iter().position(of).unwrap();
        let (topic, kind) = self.seats.swap_remove(at);
        self.registry.leave(&topic, kind, self.now);
    }

    fn info(&self, name: &str) -> StreamInfo {
        self.registry.listed(&self.topic(name)).unwrap().info(self.now)
    }
}

#[test]
fn who_waits_for_a_slot_is_called_when_one_is_free_and_not_before() {
    let mut world = World::new();
    [0, 4, 5, 6, 7].iter().for_each(|&name| world.join(name, false));
    let [low, first, second] = [0, 1, 2].map(|which| world.links[which].0.id);
    assert!([low, first, second].iter().all(|id| world.registry.may_dial(*id)));
    world.registry.ended(&world.topic("s0"), CloseReason::Aborted, world.now);
    world.join(8, false);
    let waiting = Arc::clone(&world.links[3].0.signal);
    assert!(!world.registry.may_dial(world.links[3].0.id), "the one that closes has its slot");
    let is_called = |world: &mut World| {
        let signals = world.registry.leftovers().signals;
        signals.iter().any(|signal| Arc::ptr_eq(signal, &waiting))
    };
    is_called(&mut world); // When it was opened.
    for name in ["s4", "s5"] {
        world.registry.ended(&world.topic(name), CloseReason::Aborted, world.now);
    }
    assert!(!is_called(&mut world), "another closes, and has its slot");
    let lane = Lane::new("low");
    world.registry.finished(low, &lane);
    assert!(is_called(&mut world));
}

#[tokio::test]
async fn a_task_can_be_cut_off_from_when_it_runs_until_it_has_ended() {
    let mut world = World::new();
    world.join(0, false);
    let (link, _) = &world.links[0];
    let task = tokio::spawn(std::future::pending::<()>());
    assert!(world.registry.tasks().is_empty());
    world.registry.running(link.id, task.abort_handle());
    let tasks = world.registry.tasks();
    assert_eq!(tasks.iter().map(AbortHandle::id).collect::<Vec<_>>(), [task.id()]);
    tasks.iter().for_each(AbortHandle::abort);
    while world.registry.abandon(link.id, 1, &CloseReason::Aborted) {}
    assert_eq!(world.registry.tasks().len(), 1, "it has not ended");
    world.registry.finished(link.id, &link.lane);
    assert!(world.registry.tasks().is_empty());
    // A task may end before anybody was told that it runs.
    world.registry.running(link.id, task.abort_handle());
    assert!(world.registry.tasks().is_empty());
    assert!(task.await.unwrap_err().is_cancelled());
}

#[test]
fn only_a_stream_that_is_leased_and_not_read_is_unattended() {
    const SECOND: Duration = Duration::from_secs(1);
    let mut world = World::new();
    world.join(0, false);
    assert_eq!(world.info("s0").unattended_for, None, "read");
    world.join(0, true);
    assert_eq!(world.info("s0").unattended_for, None, "both");
    world.leave("s0", Kind::Reader);
    world.now += SECOND;
    assert_eq!(world.info("s0").unattended_for, Some(SECOND), "leased");
    world.leave("s0", Kind::Lease);
    assert_eq!(world.info("s0").unattended_for, None, "lingering");
}

#[test]
fn a_loss_is_one_of_late_for_less_than_five_minutes() {
    const MINUTES: Duration = Duration::from_secs(300);
    let mut world = World::new();
    world.join(0, false);
    let (topic, source) = (world.topic("s0"), world.links[0].0.id);
    topic.joined(source, world.now, 1);
    topic.break_off(source, world.now, DisconnectReason::Ended, world.now);
    world.now += MINUTES - Duration::from_nanos(1);
    assert_eq!(world.info("s0").lost_lately, 1);
    world.now += Duration::from_nanos(1);
    assert_eq!(world.info("s0").lost_lately, 0);
}
