//! After a failover: streams and requests go home to the first base, by themselves and without loss.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{self, Instant};
use wsmux::protocol::Failover;
use wsmux::requests::{PoolConfig, RequestPool};
use wsmux::test_util::memory::{self, MemoryServer, Peer};
use wsmux::transport::Frame;
use wsmux::{
    Config, Event, Figure, FindingKind, HandoverReason, Limiter, Message, RetryPolicy, StreamError,
    Subscription, WsManager,
};

use crate::asker::Asker;
use crate::failover::{accepted, base, refused, regions};
use crate::{DAY, MINUTE, MS, SECOND, config, settle};

/// When somebody dialled Tokyo.
type Dials = Arc<Mutex<Vec<Duration>>>;

/// What becomes of a socket to Tokyo that is dialled so long after the start: it is refused, or lives for so
/// long.
type Fate = fn(Duration) -> Option<Duration>;

/// A manager of three regions that have one feed: each stream's messages are how often `beat` has passed since
/// the start, each at its time, wherever it comes from. All but Tokyo always work.
fn world(beat: Duration, fate: Fate) -> (WsManager, Dials) {
    let mut config: Config = config();
    config.retry = RetryPolicy::forever();
    config.limits.max_connections = 2000;
    let (transport, server) = memory::pair();
    let builder = WsManager::builder(regions()).config(config).transport(transport).seed(7);
    let dials = Dials::default();
    tokio::spawn(serve(server, beat, fate, Arc::clone(&dials)));
    (builder.limiter(Limiter::new()).build().unwrap(), dials)
}

async fn serve(mut server: MemoryServer, beat: Duration, fate: Fate, dials: Dials) {
    let start = Instant::now();
    loop {
        let dial = server.dial().await;
        let at = start.elapsed();
        let lives = match dial.request().url().host() {
            "tokyo" => {
                dials.lock().unwrap().push(at);
                fate(at)
            }
            _ => Some(DAY),
        };
        match lives {
            Some(lives) => drop(tokio::spawn(feed(dial.accept(), start, beat, lives))),
            None => drop(dial.refuse(io::Error::from(io::ErrorKind::ConnectionRefused))),
        }
    }
}

async fn feed(mut peer: Peer, start: Instant, beat: Duration, lives: Duration) {
    let end = Instant::now() + lives;
    let mut next = u32::try_from(start.elapsed().as_millis() / beat.as_millis()).unwrap() + 1;
    loop {
        tokio::select! {
            biased;
            frame = peer.recv() => match frame {
                Some(Frame::Ping(payload)) => peer.answer(payload),
                Some(_) => {}
                None => return,
            },
            () = time::sleep_until(end) => return,
            () = time::sleep_until(start + next * beat) => {
                peer.send(next.to_string());
                next += 1;
            }
        }
    }
}

/// What a reader got until a beat.
#[derive(Debug, Default)]
struct Read {
    gaps: usize,
    /// Beats that are not the one after the other: missed, or come again.
    wrong: Vec<(u64, u64)>,
}

async fn read_to(mut stream: Subscription<Message>, last: u64) -> (Subscription<Message>, Read) {
    let (mut read, mut before) = (Read::default(), None);
    while before < Some(last) {
        match stream.recv().await {
            Some(Ok(message)) => {
                let beat = message.as_text().unwrap().parse().unwrap();
                read.wrong.extend(before.filter(|before| before + 1 != beat).map(|b| (b, beat)));
                before = Some(beat);
            }
            Some(Err(StreamError::Gap(_))) => read.gaps += 1,
            other => panic!("{other:?}"),
        }
    }
    (stream, read)
}

async fn subscribed(manager: &WsManager, streams: usize) -> Vec<Subscription<Message>> {
    let names = (0..streams).map(|n| format!("n{n}"));
    let mut streams: Vec<_> = names.map(|name| manager.subscribe(name).unwrap()).collect();
    join_all(streams.iter_mut().map(Subscription::ready))
        .await
        .into_iter()
        .for_each(|ready| ready.unwrap());
    streams
}

/// Has them all read until a beat.
async fn all_read(
    streams: Vec<Subscription<Message>>,
    last: u64,
) -> (Vec<Subscription<Message>>, Vec<Read>) {
    let reading = streams.into_iter().map(|stream| tokio::spawn(read_to(stream, last)));
    join_all(reading).await.into_iter().map(Result::unwrap).unzip()
}

fn away(manager: &WsManager) -> Option<Figure> {
    let mut found = manager.health().findings.into_iter();
    Some(found.find(|finding| finding.kind == FindingKind::FailedOver)?.figure)
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_home_by_itself_and_loses_nothing() {
    let (manager, dials) = world(SECOND, |at| (at > SECOND).then_some(DAY));
    let mut events = manager.events();
    let streams = subscribed(&manager, 1).await;
    assert_eq!((base(&streams[0]), away(&manager)), (1, Some(Figure::Count(1))));
    let (streams, read) = all_read(streams, 120).await;
    assert_eq!((read[0].gaps, &*read[0].wrong), (0, &[][..]));
    assert_eq!((base(&streams[0]), away(&manager)), (0, None));
    let at = dials.lock().unwrap().clone();
    assert!(at.len() == 2 && (30..=75).contains(&at[1].as_secs()), "{at:?}");
    let begun = std::iter::from_fn(|| events.next().now_or_never().flatten())
        .filter(|event| {
            matches!(
                event,
                Event::HandingOver { reason: HandoverReason::Home, successor: Some(_), .. }
            )
        })
        .count();
    let metrics = manager.metrics();
    assert_eq!(
        (begun, metrics.handovers, metrics.handovers_by_reason),
        (1, 1, [("home", 1)].into())
    );
    assert_eq!(metrics.disconnects, 0);
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_home_a_stream_stays_and_looks_ever_more_rarely() {
    let (manager, dials) = world(10 * SECOND, |_| None);
    let streams = subscribed(&manager, 1).await;
    let (streams, read) = all_read(streams, 360).await;
    assert_eq!((read[0].gaps, &*read[0].wrong, base(&streams[0])), (0, &[][..], 1));
    let at = dials.lock().unwrap().clone();
    let waits: Vec<_> = at.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
    for (wait, least) in waits.iter().zip([30, 60, 120, 240].into_iter().chain([300; 20])) {
        assert!((least..=least + 61).contains(wait), "{waits:?}");
    }
    assert!((11..=15).contains(&at.len()), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_streams_go_home_one_first_and_then_spread_and_lose_nothing() {
    let (manager, dials) = world(SECOND, |at| (at > MINUTE).then_some(DAY));
    let streams = subscribed(&manager, 1000).await;
    assert!(streams.iter().all(|stream| base(stream) > 0));
    let (streams, read) = all_read(streams, 200).await;
    let lost: Vec<_> = read.iter().filter(|read| read.gaps > 0 || !read.wrong.is_empty()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(streams.iter().all(|stream| base(stream) == 0), "all are at home");
    assert_eq!(away(&manager), None);

    // After the first seconds, in which nobody knew.
    let at: Vec<_> =
        dials.lock().unwrap().iter().map(Duration::as_secs).filter(|at| *at > 20).collect();
    let first = *at.iter().find(|at| **at > 60).unwrap();
    let before = at.iter().filter(|at| **at < first + 10).count();
    assert!(before <= 3, "one at a time, while nobody knows: {:?}", &at[..before.min(20)]);
    let mut each_second = BTreeMap::new();
    at.iter().for_each(|at| *each_second.entry(*at).or_insert(0) += 1);
    assert!(each_second.values().all(|dials| *dials <= 100), "{each_second:?}");
    assert!(at.len() <= 1000 + before, "nobody goes twice: {}", at.len());
}

#[tokio::test(start_paused = true)]
async fn feeds_that_are_silent_most_of_the_time_go_home_and_nobody_is_told() {
    let (manager, _dials) = world(5 * SECOND, |at| (at > MINUTE).then_some(DAY));
    let streams = subscribed(&manager, 300).await;
    let (streams, read) = all_read(streams, 50).await;
    let torn = read.iter().filter(|read| read.gaps > 0 || !read.wrong.is_empty()).count();
    assert_eq!(torn, 0, "of {}", read.len());
    assert!(streams.iter().all(|stream| base(stream) == 0), "all are at home");
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_accepts_and_dies_again_costs_one_stream_its_way_at_a_time() {
    let (manager, dials) = world(SECOND, |at| (at > SECOND).then_some(5 * SECOND));
    let streams = subscribed(&manager, 50).await;
    let dialled = dials.lock().unwrap().len();
    let (streams, read) = all_read(streams, 600).await;
    let tries = dials.lock().unwrap().len() - dialled;
    let gaps: usize = read.iter().map(|read| read.gaps).sum();
    assert!((3..=8).contains(&tries) && gaps <= tries, "{gaps} gaps, {tries} tries");
    assert!(read.iter().flat_map(|read| &read.wrong).count() <= gaps, "what is missing is told");
    assert!(streams.iter().all(|stream| base(stream) > 0));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_flaps_is_gone_home_to_more_and_more_rarely() {
    // It works for 40 s of each minute, which is long enough to be believed.
    let (manager, _dials) = world(10 * SECOND, |at| {
        let second = at.as_secs() % 60;
        (at > MINUTE && second < 40).then(|| Duration::from_secs(40 - second))
    });
    let streams = subscribed(&manager, 20).await;
    let (_streams, read) = all_read(streams, 720).await;
    let most = read.iter().map(|read| read.gaps).max().unwrap();
    assert!((1..=36).contains(&most), "{most} gaps in 120 minutes, each with an outage");
}

/// The next line of a client whose pings are answered.
async fn line(peer: &mut Peer) -> String {
    loop {
        match peer.recv().await.unwrap() {
            Frame::Data(message) => return message.as_text().unwrap().to_owned(),
            Frame::Ping(payload) => peer.answer(payload),
            _ => {}
        }
    }
}

fn answer(peer: &Peer, asked: &str, words: &str) {
    let number = asked.strip_prefix('?').unwrap().split(' ').next().unwrap();
    peer.send(format!("={number} {words}"));
}

#[tokio::test(start_paused = true)]
async fn a_pool_goes_home_and_what_was_asked_before_is_answered_where_it_was_asked() {
    let (transport, mut server) = memory::pair();
    let protocol = Failover::new(Asker::new("ws://tokyo")).or(Asker::new("ws://london"));
    let pool = RequestPool::builder(protocol, "x")
        .config(PoolConfig { connections: 1, ..PoolConfig::default() })
        .manager(|manager| manager.transport(transport).limiter(Limiter::new()).seed(7))
        .build()
        .unwrap();
    let ask = |body: &'static str| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.request(body).await.unwrap().message().cloned() })
    };
    let first = ask("first");
    assert_eq!(refused(&mut server).await, "tokyo");
    let (mut london, host) = accepted(&mut server).await;
    assert_eq!(host, "london");
    let asked = line(&mut london).await;
    answer(&london, &asked, "1");
    assert_eq!(first.await.unwrap(), Some("1".into()));

    let home = tokio::select! {
        biased;
        dial = server.dial() => dial,
        _ = line(&mut london) => panic!("nobody asks"),
    };
    assert_eq!(home.request().url().host(), "tokyo");
    let second = ask("second");
    let asked = line(&mut london).await;
    let mut tokyo = home.accept();
    for _ in 0..20 {
        for peer in [&mut london, &mut tokyo] {
            let _ = time::timeout(250 * MS, line(peer)).await;
        }
    }
    let third = ask("third");
    let asked_at_home = line(&mut tokyo).await;
    answer(&tokyo, &asked_at_home, "3");
    assert_eq!(third.await.unwrap(), Some("3".into()), "who asks now asks there");
    assert!(!second.is_finished());
    answer(&london, &asked, "2");
    assert_eq!(second.await.unwrap(), Some("2".into()));
    settle().await;
    london.closed().await;
}
