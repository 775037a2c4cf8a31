use std::pin::pin;

use futures::FutureExt as _;
use tokio::task::yield_now;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Waits for a turn at `host`.
async fn admit(limiter: &Limiter, host: &str, max: usize) -> Permit {
    permit(limiter.queue(host.to_owned(), max, false)).await
}

async fn permit(mut turn: Turn) -> Permit {
    loop {
        if let Ok(permit) = turn.next().await {
            return permit;
        }
    }
}

fn hosts(limiter: &Limiter) -> usize {
    limiter.0.lock().hosts.len()
}

#[tokio::test(start_paused = true)]
async fn handshakes_are_bounded_per_host_and_first_come_first_served() {
    let limiter = Limiter::with_rate(DialRate::UNLIMITED);
    let first = admit(&limiter, "a", 1).await;
    let mut second = Box::pin(admit(&limiter, "a", 1));
    let mut third = Box::pin(admit(&limiter, "a", 1));
    assert!(second.as_mut().now_or_never().is_none());
    assert!(third.as_mut().now_or_never().is_none());
    assert!(admit(&limiter, "b", 1).now_or_never().is_some(), "another host");
    drop(first);
    assert!(third.as_mut().now_or_never().is_none(), "not its turn");
    let second = second.await;
    drop((second, third));
    assert_eq!(hosts(&limiter), 0, "nothing is kept of hosts that nobody dials");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_goes_away_passes_its_turn_on() {
    let limiter = Limiter::new();
    let first = admit(&limiter, "a", 1).await;
    let mut second = Box::pin(admit(&limiter, "a", 1));
    assert!(second.as_mut().now_or_never().is_none());
    let third = tokio::spawn({
        let limiter = limiter.clone();
        async move { admit(&limiter, "a", 1).await }
    });
    yield_now().await;
    drop(first);
    drop(second);
    drop(third.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_for_everybody_and_is_never_shortened() {
    let limiter = Limiter::new();
    let start = Instant::now();
    limiter.pause("a", MINUTE);
    limiter.pause("a", SECOND);
    let clone = limiter.clone();
    tokio::join!(admit(&limiter, "a", 1).map(drop), admit(&clone, "a", 1).map(drop));
    assert_eq!(start.elapsed(), MINUTE);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_begins_meanwhile_holds_for_who_waits() {
    let limiter = Limiter::new();
    let held = admit(&limiter, "a", 1).await;
    let waiting = tokio::spawn({
        let limiter = limiter.clone();
        async move { admit(&limiter, "a", 1).await }
    });
    yield_now().await;
    limiter.pause("a", 5 * SECOND);
    let start = Instant::now();
    drop(held);
    drop(waiting.await.unwrap());
    assert_eq!(start.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn no_window_has_more_starts_than_its_rate_whatever_handshakes_take() {
    let rate = DialRate::new(7, 10 * SECOND);
    let limiter = Limiter::with_rate(rate);
    let start = Instant::now();
    let dials = (0..50_u64).map(|i| {
        let limiter = limiter.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(137 * (i % 9))).await;
            let permit = admit(&limiter, "a", 4).await;
            let began = start.elapsed();
            tokio::time::sleep(Duration::from_millis(431 * (i % 5))).await;
            drop(permit);
            (began, start.elapsed())
        })
    });
    let mut dials: Vec<_> = futures::future::try_join_all(dials).await.unwrap();
    dials.sort_unstable();
    for (earlier, later) in dials.iter().zip(&dials[7..]) {
        assert!(later.0 - earlier.0 >= rate.window(), "{earlier:?} {later:?}");
    }
    // The server saw each somewhere between its start and its end.
    let mut ends: Vec<_> = dials.iter().map(|dial| dial.1).collect();
    ends.sort_unstable();
    for (ended, (began, _)) in ends.iter().zip(&dials[7..]) {
        assert!(*began - *ended >= rate.window());
    }
    let (last, _) = dials[49];
    assert!(last <= 7 * (rate.window() + 2 * SECOND), "it is used up: {last:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_its_place_and_before_when_it_will_not_be() {
    let limiter = Limiter::with_rate(DialRate::new(1, 10 * SECOND));
    let start = Instant::now();
    drop(admit(&limiter, "a", 1).await);
    let mut turns: Vec<_> = (0..3).map(|_| limiter.queue("a".into(), 1, false)).collect();
    let mut third = turns.pop().unwrap();
    let mut said = Vec::new();
    let served = tokio::spawn(async move {
        for turn in turns {
            drop(permit(turn).await);
        }
    });
    let permit = loop {
        match third.next().await {
            Ok(permit) => break permit,
            Err(Waiting { position, until }) => {
                said.push((position, until.map(|until| (until - start).as_secs())));
            }
        }
    };
    assert_eq!(start.elapsed(), 30 * SECOND);
    assert_eq!(said, [(3, Some(30)), (2, Some(30)), (1, Some(30))]);
    drop(permit);
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rate_holds_at_once_also_for_who_waits() {
    let limiter = Limiter::with_rate(DialRate::new(1, 10 * MINUTE));
    drop(admit(&limiter, "a:1", 1).await);
    let mut turn = pin!(admit(&limiter, "a:1", 1));
    assert!(turn.as_mut().now_or_never().is_none());
    limiter.set_rate("b", DialRate::UNLIMITED);
    assert!(turn.as_mut().now_or_never().is_none());
    let (start, slow) = (Instant::now(), DialRate::new(2, MINUTE));
    let (permit, ()) = tokio::join!(turn, async { limiter.set_rate("A", slow) });
    assert_eq!(start.elapsed(), Duration::ZERO);
    drop(permit);
    drop(admit(&limiter, "a:1", 1).await);
    assert_eq!(start.elapsed(), MINUTE);
}

#[test]
fn a_host_has_the_rate_of_its_port_of_its_name_of_all_or_of_its_venue() {
    let [one, two, three] = [1, 2, 3].map(|n| DialRate::new(n, SECOND));
    let limiter = Limiter::new();
    limiter.set_rate("A.example", one);
    limiter.set_rate("a.example:81", two);
    limiter.set_rate("[::1]", one);
    for (host, rate) in [
        ("a.example:80", one),
        ("a.example:81", two),
        ("[::1]:80", one),
        ("[::2]:80", DialRate::default()),
        ("[::2]", DialRate::default()),
        ("ws.kraken.com:443", DialRate::KRAKEN),
        ("ws.kraken.com", DialRate::KRAKEN),
    ] {
        assert_eq!(limiter.rate(host), rate, "{host}");
    }
    assert_eq!(Limiter::with_rate(three).rate("ws.kraken.com:443"), three);
}

#[tokio::test(start_paused = true)]
async fn nobody_dials_any_host_for_a_second_when_the_process_has_run_out_of_something() {
    let limiter = Limiter::new();
    let start = Instant::now();
    assert!(limiter.exhausted(false), "news");
    assert!(!limiter.exhausted(false), "known");
    tokio::join!(admit(&limiter, "a", 1).map(drop), admit(&limiter, "b", 1).map(drop));
    assert_eq!(start.elapsed(), EXHAUSTED);
    assert!(limiter.exhausted(false), "news again");
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_reached_nobody_is_given_back() {
    let limiter = Limiter::with_rate(DialRate::new(1, MINUTE));
    let start = Instant::now();
    admit(&limiter, "a", 1).await.withdraw();
    drop(admit(&limiter, "a", 1).await);
    assert_eq!(start.elapsed(), Duration::ZERO);
    drop(admit(&limiter, "a", 1).await);
    assert_eq!(start.elapsed(), MINUTE);
}

#[tokio::test(start_paused = true)]
async fn hosts_that_nobody_dials_any_more_are_forgotten_now_and_then() {
    let limiter = Limiter::new();
    for i in 0..10_000 {
        drop(admit(&limiter, &format!("host{i}"), 1).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(hosts(&limiter) < 100, "{}", hosts(&limiter));
}
