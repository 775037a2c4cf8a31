//! What a topic tells of itself, and what its readers hold of it, case by case.

use super::*;
use crate::batch::RUN;
use crate::engine::topic::ring::MAX_LOSSES;

const SECOND: Duration = Duration::from_secs(1);

fn topic(buffer: usize) -> Arc<Topic> {
    Model::new(settings(buffer, usize::MAX)).topic
}

/// So many messages come, of two bytes each.
fn publish(topic: &Topic, count: usize, now: Instant) {
    let messages = std::iter::repeat_n(Message::text("ab"), count);
    topic.publish(FROM, parcel(messages), now, &mut Woken::new());
}

fn loses(topic: &Topic, since: Instant) {
    topic.break_off(FROM, since, DisconnectReason::Ended, since);
}

/// What `reader` comes to, if it is there.
fn next(reader: &mut Reader) -> Option<Next> {
    reader.next_now(&mut Context::from_waker(futures::task::noop_waker_ref()))
}

fn lagged(reader: &mut Reader) -> u64 {
    let Some(Next::Gap(gap)) = next(reader) else { panic!("no gap") };
    let Gap::Lagged { missed } = *gap else { panic!("{gap:?}") };
    missed
}

fn take(reader: &mut Reader) -> Option<u64> {
    assert!(matches!(next(reader), Some(Next::Message)));
    reader.take(|entry| entry.seq())
}

#[test]
fn what_came_and_what_was_not_read_in_time_is_counted() {
    let (topic, now) = (topic(4), Instant::now());
    let mut reader = topic.read();
    publish(&topic, 6, now);
    let Seen { facts, last_message, .. } = topic.look();
    assert_eq!((facts.messages, facts.bytes, last_message), (6, 12, Some(now)));
    assert_eq!((topic.look().lag, facts.lagged), (6, 0), "nobody has noticed");
    assert_eq!((lagged(&mut reader), topic.look().facts.lagged), (2, 2));
    publish(&topic, 3, now + SECOND);
    assert_eq!((lagged(&mut reader), topic.look().facts.lagged), (3, 5));
    let Seen { facts, last_message, .. } = topic.look();
    assert_eq!((facts.messages, facts.bytes, last_message), (9, 18, Some(now + SECOND)));
}

#[test]
fn the_latest_losses_are_remembered_and_no_more_of_them() {
    let (topic, now) = (topic(4), Instant::now());
    let at: Vec<_> = (0..).take(MAX_LOSSES + 3).map(|n| now + SECOND * n).collect();
    for (n, since) in at.iter().enumerate() {
        loses(&topic, *since);
        let first = (n + 1).saturating_sub(MAX_LOSSES);
        assert!(topic.look().facts.losses().eq(at[first..=n].iter().copied()));
    }
}

#[test]
fn a_stream_is_down_until_it_is_joined_and_from_its_first_loss_on() {
    let (topic, now) = (topic(4), Instant::now());
    let facts = topic.look().facts;
    assert_eq!(topic.look().down_since, Some(facts.opened_at.at()));
    topic.joined(FROM, now, 1);
    assert_eq!(topic.look().down_since, None);
    loses(&topic, now + SECOND);
    loses(&topic, now + SECOND * 2);
    assert_eq!(topic.look().down_since, Some(now + SECOND));
    topic.joined(FROM, now + SECOND * 3, 2);
    assert_eq!(topic.look().down_since, None);
}

#[test]
fn what_is_unread_is_as_old_as_the_oldest_message_that_a_reader_has_yet_to_take() {
    let (topic, now) = (topic(4), Instant::now());
    publish(&topic, 1, now);
    assert_eq!(topic.look().unread_since, None, "nobody reads");
    let mut readers = [topic.read(), topic.read()];
    assert_eq!(topic.look().unread_since, None, "it was before them");
    publish(&topic, 1, now + SECOND);
    publish(&topic, 1, now + SECOND * 2);
    take(&mut readers[0]);
    take(&mut readers[0]);
    assert_eq!(topic.look().unread_since, Some(now + SECOND));
    take(&mut readers[1]);
    assert_eq!(topic.look().unread_since, Some(now + SECOND * 2));
    take(&mut readers[1]);
    assert_eq!(topic.look().unread_since, None);
}

#[test]
fn from_a_few_messages_on_a_reader_counts_its_copies_by_itself() {
    for (count, by_itself) in [(1, false), (RUN - 1, false), (RUN, true), (RUN + 1, true)] {
        let topic = topic(64);
        let mut reader = topic.read();
        publish(&topic, count, Instant::now());
        assert!(matches!(next(&mut reader), Some(Next::Message)));
        let _copy = reader.take(|entry| entry.to_message());
        assert_eq!(reader.walk.run.get().is_some(), by_itself, "{count}");
    }
}

#[test]
fn what_is_left_of_a_batch_stays_in_hand_and_what_is_taken_whole_is_let_go() {
    let topic = topic(4);
    let mut reader = topic.read();
    publish(&topic, 4, Instant::now());
    let take = |reader: &mut Reader, limit| {
        assert!(matches!(next(reader), Some(Next::Message)));
        let mut taken = reader.take_many(limit).unwrap();
        std::iter::from_fn(|| taken.read(|entry| entry.seq())).collect::<Vec<_>>()
    };
    assert_eq!(take(&mut reader, 3), [0, 1, 2]);
    publish(&topic, 4, Instant::now());
    assert_eq!(take(&mut reader, 3), [3], "it has left the ring");
    assert!(reader.walk.batch.is_none());
    assert_eq!(take(&mut reader, usize::MAX), [4, 5, 6, 7]);
    assert!(reader.walk.batch.is_none());
}

#[test]
fn a_reader_knows_when_its_message_came_and_whether_it_has_met_the_end() {
    let (topic, now) = (topic(4), Instant::now());
    let mut reader = topic.read();
    assert_eq!(reader.received_at(), None);
    publish(&topic, 1, now);
    take(&mut reader);
    assert_eq!(reader.received_at(), Some(now));
    topic.close(CloseReason::Shutdown);
    assert!(!reader.is_ended(), "it has yet to come to it");
    let Some(Next::Closed(reason)) = next(&mut reader) else { panic!("no end") };
    assert!(matches!(*reason, CloseReason::Shutdown));
    assert!(reader.is_ended());
}
