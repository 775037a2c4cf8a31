use futures::future::{BoxFuture, join_all};
use tokio::sync::Semaphore;
use tokio::time::advance;

use super::*;
use crate::gateway::defect::{Defect, are_found};
use crate::gateway::tiers::{MemoryTiers, TierError, TiersByUser};

const TTL: Duration = Duration::from_secs(60);

/// A source that counts what it is asked, and fails or waits where it is told to.
#[derive(Clone, Default)]
struct Source {
    asked: Arc<Mutex<Vec<usize>>>,
    fails: Arc<Mutex<bool>>,
    gate: Option<Arc<Semaphore>>,
    known: MemoryTiers,
}

impl TierSource for Source {
    fn look_up<'a>(
        &'a self,
        users: &'a [Arc<str>],
    ) -> BoxFuture<'a, Result<TiersByUser, TierError>> {
        Box::pin(async move {
            lock(&self.asked).push(users.len());
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            if *lock(&self.fails) {
                return Err(TierError::new("down"));
            }
            self.known.look_up(users).await
        })
    }
}

fn builder() -> TiersBuilder {
    Tiers::builder(Tier::new("lowest")).tier(Tier::new("gold")).tier(Tier::new("free")).ttl(TTL)
}

fn tiers(source: &Source) -> Tiers {
    builder().source(source.clone()).build()
}

fn user(name: &str) -> Identity {
    Identity::new(name).unwrap()
}

/// Lets the task that refreshes have its turn.
async fn pass(time: Duration) {
    tokio::task::yield_now().await;
    advance(time).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_is_of_the_tier_that_the_source_tells_and_else_of_the_lowest() {
    let source =
        Source { known: MemoryTiers::new([("ann", "gold"), ("bob", "gone")]), ..Source::default() };
    let tiers = tiers(&source);
    assert_eq!(&*tiers.member(&user("ann")).await.tier().name, "gold");
    assert_eq!(&*tiers.member(&user("bob")).await.tier().name, "lowest", "no such tier");
    assert_eq!(&*tiers.member(&user("eve")).await.tier().name, "lowest", "unknown");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_users_are_asked_for_in_batches_and_once_they_are_there_nobody_is_asked() {
    let source = Source { gate: Some(Arc::new(Semaphore::new(0))), ..Source::default() };
    let tiers = tiers(&source);
    let users: Vec<_> = (0..10_000).map(|n| user(&n.to_string())).collect();
    let coming = join_all(users.iter().map(|user| tiers.member(user)));
    let opening = async { source.gate.as_ref().unwrap().add_permits(Semaphore::MAX_PERMITS) };
    let (members, ()) = tokio::join!(coming, opening);
    let asked = lock(&source.asked).clone();
    assert_eq!(asked.iter().sum::<usize>(), 10_000, "each once");
    assert_eq!(asked.len(), 21, "the first alone, then all who came meanwhile: {asked:?}");
    for member in &members {
        assert!(member.tier().allows("btcusdt@trade") && member.version() > 0);
    }
    let again = join_all(users.iter().map(|user| tiers.member(user))).await;
    assert_eq!(again.len(), 10_000);
    assert_eq!(lock(&source.asked).len(), 21, "what is known is in memory");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_source_takes_effect_within_the_ttl_and_changes_the_version() {
    let source = Source { known: MemoryTiers::new([("ann", "gold")]), ..Source::default() };
    let tiers = tiers(&source);
    let ann = tiers.member(&user("ann")).await;
    let before = ann.version();
    pass(TTL).await;
    assert_eq!(ann.version(), before, "nothing has changed");
    source.known.set("ann", "free");
    pass(TTL).await;
    assert_eq!(&*ann.tier().name, "free");
    assert_ne!(ann.version(), before);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_has_gone_is_not_kept_and_not_asked_for() {
    let source = Source::default();
    let tiers = tiers(&source);
    let (ann, again) = (tiers.member(&user("ann")).await, tiers.member(&user("ann")).await);
    assert!(Arc::ptr_eq(&ann, &again), "one user, however many connections");
    drop(ann);
    assert_eq!(tiers.users().values().sum::<usize>(), 1);
    drop(again);
    assert!(lock(&tiers.0.members).is_empty());
    lock(&source.asked).clear();
    pass(TTL).await;
    assert_eq!(*lock(&source.asked), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn while_the_source_fails_who_is_there_stays_what_it_is_and_not_for_ever() {
    let source = Source { known: MemoryTiers::new([("ann", "gold")]), ..Source::default() };
    let tiers = builder().source(source.clone()).stale_for(TTL * 3).build();
    let ann = tiers.member(&user("ann")).await;
    *lock(&source.fails) = true;
    pass(TTL).await;
    assert_eq!(&*ann.tier().name, "gold");
    let new = tiers.member(&user("new")).await;
    assert_eq!(&*new.tier().name, "lowest");
    for _ in 0..5 {
        pass(TTL / 2).await;
    }
    assert_eq!(&*ann.tier().name, "lowest");
    *lock(&source.fails) = false;
    pass(TTL).await;
    assert_eq!(&*ann.tier().name, "gold", "it answers again");
    assert!(tiers.failures() >= 5, "{}", tiers.failures());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_lets_users_in_after_its_time() {
    let source = Source { gate: Some(Arc::new(Semaphore::new(0))), ..Source::default() };
    let tiers = tiers(&source);
    let before = Instant::now();
    assert_eq!(&*tiers.member(&user("ann")).await.tier().name, "lowest");
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn many_who_come_while_the_source_hangs_wait_for_it_twice_at_most() {
    let source = Source { gate: Some(Arc::new(Semaphore::new(0))), ..Source::default() };
    let tiers = tiers(&source);
    let before = Instant::now();
    let users: Vec<_> = (0..400).map(|n| user(&n.to_string())).collect();
    join_all(users.iter().map(|user| tiers.member(user))).await;
    assert_eq!(before.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn one_who_goes_while_it_asks_leaves_nobody_waiting() {
    let source = Source {
        gate: Some(Arc::new(Semaphore::new(0))),
        known: MemoryTiers::new([("bob", "gold")]),
        ..Source::default()
    };
    let tiers = tiers(&source);
    let (ann, bob) = (user("ann"), user("bob"));
    let mut first = Box::pin(tiers.member(&ann));
    assert!(futures::poll!(&mut first).is_pending());
    let mut second = Box::pin(tiers.member(&bob));
    assert!(futures::poll!(&mut second).is_pending());
    drop(first);
    source.gate.as_ref().unwrap().add_permits(1);
    assert_eq!(&*second.await.tier().name, "gold");
    assert!(lock(&tiers.0.waiting).len() <= 1);
}

#[tokio::test(start_paused = true)]
async fn one_who_goes_while_it_asks_for_others_leaves_them_to_ask() {
    let source = Source {
        gate: Some(Arc::new(Semaphore::new(0))),
        known: MemoryTiers::new([("bob", "gold")]),
        ..Source::default()
    };
    let tiers = tiers(&source);
    let (eve, ann, bob) = (user("eve"), user("ann"), user("bob"));
    let mut asking = Box::pin(tiers.member(&eve));
    let (mut next, mut last) = (Box::pin(tiers.member(&ann)), Box::pin(tiers.member(&bob)));
    for one in [&mut asking, &mut next, &mut last] {
        assert!(futures::poll!(one).is_pending());
    }
    source.gate.as_ref().unwrap().add_permits(1);
    asking.await;
    assert!(futures::poll!(&mut next).is_pending());
    assert_eq!(*lock(&source.asked), [1, 2], "she asks for both");
    drop(next);
    source.gate.as_ref().unwrap().add_permits(1);
    assert_eq!(&*last.await.tier().name, "gold");
    assert_eq!(*lock(&source.asked), [1, 2, 1]);
}

#[test]
fn a_board_that_trusts_or_fears_its_source_too_much_is_found_out() {
    let fails = while_the_source_fails_who_is_there_stays_what_it_is_and_not_for_ever;
    are_found(&[
        (Defect::StaleForEver, fails),
        (Defect::FailureDemotes, fails),
        (
            Defect::EachIsAskedForAlone,
            many_who_come_while_the_source_hangs_wait_for_it_twice_at_most,
        ),
        (Defect::TurnIsTrusted, one_who_goes_while_it_asks_for_others_leaves_them_to_ask),
        (
            Defect::TierIsKept,
            a_change_of_the_source_takes_effect_within_the_ttl_and_changes_the_version,
        ),
    ]);
}

#[tokio::test(start_paused = true)]
async fn without_a_source_the_newest_proof_says_it() {
    let tiers = builder().build();
    let ann = tiers.member(&user("ann").of_tier(Some("gold"))).await;
    assert_eq!(&*ann.tier().name, "gold");
    let again = tiers.member(&user("ann").of_tier(Some("free"))).await;
    assert_eq!((&*ann.tier().name, &*again.tier().name), ("free", "free"));
    assert_eq!(tiers.look_ups(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_task_that_refreshes_ends_with_the_tiers() {
    let source = Source::default();
    let tiers = tiers(&source);
    let ann = tiers.member(&user("ann")).await;
    drop(tiers);
    drop(ann);
    pass(TTL).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn other_tiers_hold_for_who_is_connected_at_once() {
    let tiers = builder().build();
    let ann = tiers.member(&user("ann").of_tier(Some("gold"))).await;
    let bob = tiers.member(&user("bob").of_tier(Some("free"))).await;
    let before = ann.version();
    let anonymous = tiers.anonymous();
    tiers.replace(
        Tier { names: 3, ..Tier::new("lowest") },
        [Tier { names: 7, ..Tier::new("gold") }],
    );
    assert_eq!(ann.tier().names, 7);
    assert_ne!(ann.version(), before);
    assert_eq!(&*bob.tier().name, "lowest", "there is no `free` any more");
    assert_eq!(anonymous.tier().names, 3);
}
