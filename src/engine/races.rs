//! The engine's races, explored by shuttle on the engine's own code.
//!
//! What is real here: the registry under its lock, seats, topics, subscriptions, signals, and the
//! guard that ends a connection's task. What is played: the task itself, reduced to what it says to
//! the registry and the topic. Each check has a broken twin, which it must reject.

use std::env;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use shuttle::future::block_on;
use shuttle::thread;
use tokio::time::Instant;

use super::connection::task::{End, Running};
use super::core::{Core, Parts};
use super::defect::{Defect, with};
use super::flight::SingleFlight;
use super::limiter::Limiter;
use super::outgoing::{Outgoing, Post, Taken, Waiting};
use super::registry::{Kind, Link};
use super::seat::Seat;
use super::sync::{Following, Signal, Watch};
use super::topic::{Next, Reader, Topic};
use crate::config::{Config, StreamConfig};
use crate::error::{CloseReason, SubscribeError};
use crate::message::Message;
use crate::name::StreamName;
use crate::observe::{ConnectionId, Metrics};
use crate::protocol::{Direct, DisconnectReason, Request, Response};
use crate::stream::{Streams, Subscription};
use crate::transport::{BoxSocket, DynTransport, TransportError};

/// Runs `check` under many schedules: at random, and by chosen preemptions.
fn explore(check: impl Fn() + Clone + Send + Sync + 'static) {
    let iterations = env::var("WSMUX_SHUTTLE_ITERATIONS").map_or(1000, |n| n.parse().unwrap());
    shuttle::check_random(check.clone(), iterations);
    shuttle::check_pct(check, iterations, 3);
}

/// Explores the check as it is, and each of its broken twins, which must fail.
pub(in crate::engine) fn explore_with_twins(
    twins: &[Defect],
    check: impl Fn() + Clone + Send + Sync + 'static,
) {
    explore(check.clone());
    for &defect in twins {
        let check = check.clone();
        let twin = || with(Some(defect), || explore(check));
        assert!(catch_unwind(AssertUnwindSafe(twin)).is_err(), "{defect:?} went unnoticed");
        with(None, || ());
    }
}

struct NoTransport;

impl DynTransport for NoTransport {
    fn connect<'a>(
        &'a self,
        _: &'a Request,
    ) -> futures::future::BoxFuture<'a, Result<(BoxSocket, Response), TransportError>> {
        Box::pin(async { Err(TransportError::new(DisconnectReason::Ended)) })
    }
}

/// A manager's core, and what the played server sees of it.
#[derive(Clone)]
struct Stage {
    core: Arc<Core>,
    sockets: Arc<Sockets>,
}

/// Sockets to the one name that is played with.
#[derive(Default)]
struct Sockets {
    most: AtomicUsize,
    open: AtomicUsize,
}

impl Sockets {
    fn open(&self) {
        self.most.fetch_max(self.open.fetch_add(1, SeqCst) + 1, SeqCst);
    }

    fn close(&self) {
        self.open.fetch_sub(1, SeqCst);
    }
}

impl Stage {
    fn new(linger: Duration) -> Self {
        let parts = Parts {
            config: Config::default().linger(linger),
            credentials: None,
            hold: None,
            limiter: Limiter::new(),
            metrics: Metrics::default(),
            protocol: Arc::new(Direct::new("ws://test").unwrap()),
            runtime: None,
            seed: 0,
            streams: std::collections::HashMap::new(),
            transport: Arc::new(NoTransport),
            wall: SystemTime::now,
        };
        Self { core: Core::new(parts), sockets: Arc::default() }
    }

    /// Subscribes, and runs the connection if it is new; `lives` says after how many turns it ends
    /// by itself.
    fn subscribe(&self, lives: Option<u32>) -> Result<(Seat, Reader), SubscribeError> {
        let name = StreamName::try_from("x").unwrap();
        let (seat, link) = Seat::take(&self.core, &name, Kind::Reader, true)?;
        let reader = seat.read();
        if let Some(link) = link {
            let (core, sockets) = (Arc::downgrade(&self.core), Arc::clone(&self.sockets));
            let running = Running::new(&self.core, &link);
            thread::spawn(move || play_connection(&core, &link, running, &sockets, lives));
        }
        Ok((seat, reader))
    }

    fn is_empty(&self) -> bool {
        self.core.stream_count() == 0
    }
}

/// What a connection's task does, without a socket.
fn play_connection(
    core: &Weak<Core>,
    link: &Link,
    mut running: Running,
    sockets: &Sockets,
    lives: Option<u32>,
) {
    let changes = || core.upgrade().and_then(|core| core.changes(link.id));
    let wait = || block_on(poll_fn(|cx| link.signal.poll_take(cx)));
    let mut unused = || {
        let (floor, reason) = (Duration::ZERO, CloseReason::Unused);
        running.end(End { floor, host: None, reason, was_stable: false });
    };
    let mut topics = Vec::new();
    loop {
        match changes() {
            Some(changes) => topics.extend(changes.names.into_iter().filter_map(|c| c.topic)),
            None => return unused(),
        }
        if core.upgrade().is_some_and(|core| core.may_dial(link.id)) {
            break;
        }
        wait();
    }
    sockets.open();
    topics.drain(..).for_each(|topic| publish(&topic));
    for turn in 0.. {
        if lives == Some(turn) {
            sockets.close();
            return; // As a task does that panics, or whose runtime goes away.
        }
        wait();
        match changes() {
            Some(changes) => {
                changes.names.into_iter().filter_map(|c| c.topic).for_each(|topic| publish(&topic));
            }
            None => break,
        }
    }
    thread::yield_now(); // The close handshake.
    sockets.close();
    unused();
}

fn publish(topic: &Arc<Topic>) {
    topic.brought(vec!["hello".into()]);
}

fn next(reader: &mut Reader) -> Option<Next> {
    block_on(poll_fn(|cx| reader.poll_next(cx)))
}

#[test]
fn a_name_left_and_wanted_at_once_has_one_live_socket() {
    explore_with_twins(&[Defect::SocketOverlaps, Defect::SignalIsLost], || {
        let stage = Stage::new(Duration::ZERO);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let stage = stage.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let (seat, reader) = stage.subscribe(None).unwrap();
                        assert!(!seat.topic().is_closed(), "a seat on a dead socket");
                        drop((reader, seat));
                    }
                })
            })
            .collect();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert!(stage.is_empty());
        let mut overall = Following::new(&stage.core.overall);
        let overall = block_on(poll_fn(|cx| overall.poll_changed(cx)));
        assert_eq!(overall, Some(crate::Overall::Disconnected));
        block_on(stage.core.all_finished()); // Every task hears that it is not wanted.
        assert!(stage.sockets.most.load(SeqCst) <= 1, "a second socket");
    });
}

#[test]
fn a_first_subscription_is_served() {
    explore_with_twins(&[Defect::ParkInTwoSteps], || {
        let stage = Stage::new(Duration::ZERO);
        let (seat, reader) = stage.subscribe(None).unwrap();
        // One for the connection to serve; what is read is what came after the second joined.
        let mut subscription = Subscription::<Message>::new(seat);
        drop(reader);
        let topic = Arc::clone(&stage.core.topic("x").unwrap());
        let later = thread::spawn(move || publish(&topic));
        assert_eq!(block_on(subscription.recv()).unwrap().unwrap(), "hello".into());
        later.join().unwrap();
        drop(subscription);
        assert!(stage.is_empty());
        block_on(stage.core.all_finished());
    });
}

#[test]
fn a_late_leave_does_not_touch_the_successor() {
    explore_with_twins(&[Defect::LeaveByName], || {
        let stage = Stage::new(Duration::ZERO);
        let (old, reader) = stage.subscribe(Some(0)).unwrap();
        while !old.topic().is_closed() {
            thread::yield_now();
        }
        let leaving = thread::spawn(move || drop((reader, old)));
        let (new, _reader) = stage.subscribe(None).unwrap();
        leaving.join().unwrap();
        let info = stage.core.info(new.topic()).expect("the successor is still there");
        assert_eq!(info.readers, 1);
    });
}

#[test]
fn a_reader_that_joins_as_the_connection_ends_hears_of_the_end() {
    explore_with_twins(&[Defect::EndIsKept], || {
        let stage = Stage::new(Duration::ZERO);
        let (_first, mut first) = stage.subscribe(Some(1)).unwrap();
        let joining = {
            let stage = stage.clone();
            thread::spawn(move || stage.subscribe(Some(0)).unwrap())
        };
        let (_second, mut second) = joining.join().unwrap();
        for reader in [&mut first, &mut second] {
            // Nobody knocks any more: a connection that waits for its next turn ends now.
            while let Some(next) = next(reader) {
                if let Next::Message = next {
                    reader.take(|_| ());
                }
                stage.core.sweep(Instant::now());
            }
        }
    });
}

#[test]
fn shutting_down_leaves_nobody_in_and_nobody_waiting() {
    explore_with_twins(&[Defect::OpenAfterShutdown], || {
        let stage = Stage::new(Duration::ZERO);
        let joining = {
            let stage = stage.clone();
            thread::spawn(move || match stage.subscribe(None) {
                Ok((_seat, mut reader)) => loop {
                    match next(&mut reader) {
                        Some(Next::Closed(reason)) => {
                            assert!(matches!(*reason, CloseReason::Shutdown));
                            break;
                        }
                        Some(Next::Message) => {
                            reader.take(|_| ());
                        }
                        other => panic!("{other:?}"),
                    }
                },
                Err(e) => assert_eq!(e, SubscribeError::Shutdown),
            })
        };
        stage.core.close_all();
        joining.join().unwrap();
        block_on(stage.core.all_finished());
        assert!(stage.is_empty());
    });
}

#[test]
fn a_sweep_and_a_reader_never_share_a_closed_topic() {
    explore_with_twins(&[Defect::SitsOnDueTopic], || {
        let stage = Stage::new(Duration::from_nanos(1));
        drop(stage.subscribe(None).unwrap());
        let sweeping = {
            let core = Arc::clone(&stage.core);
            thread::spawn(move || core.sweep(Instant::now() + Duration::from_secs(1)))
        };
        let (seat, _reader) = stage.subscribe(None).unwrap();
        sweeping.join().unwrap();
        assert!(!seat.topic().is_closed());
        assert_eq!(stage.core.info(seat.topic()).map(|info| info.readers), Some(1));
    });
}

#[test]
fn readers_get_every_message_or_a_gap_and_then_the_end() {
    explore_with_twins(&[Defect::ParkInTwoSteps], || {
        let settings = StreamConfig { buffer: 2, ..Config::default().stream() };
        let name = StreamName::try_from("x").unwrap();
        let topic = Arc::new(Topic::new(
            name,
            ConnectionId::nth(1),
            settings,
            Arc::new(Metrics::default()),
        ));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mut reader = topic.read();
                thread::spawn(move || {
                    let mut expected = 0;
                    loop {
                        match next(&mut reader).expect("the end comes before nothing") {
                            Next::Message => {
                                let seq = reader.take(|entry| entry.seq());
                                assert_eq!(seq, Some(expected));
                                expected += 1;
                            }
                            Next::Gap(gap) => match *gap {
                                crate::Gap::Lagged { missed } => expected += missed,
                                gap => panic!("{gap:?}"),
                            },
                            Next::Closed(_) => break,
                        }
                    }
                    assert_eq!(expected, 5);
                    assert!(next(&mut reader).is_none());
                })
            })
            .collect();
        for messages in [1, 2, 2] {
            topic.brought(vec![Message::from("m"); messages]);
        }
        topic.close(CloseReason::Shutdown);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn a_reader_that_joins_gets_the_latest_message_once_and_what_comes_after_it() {
    explore_with_twins(&[Defect::ReplayInTwoSteps], || {
        let settings = Config::default().replay_latest(true).stream();
        let name = StreamName::try_from("x").unwrap();
        let topic = Arc::new(Topic::new(
            name,
            ConnectionId::nth(1),
            settings,
            Arc::new(Metrics::default()),
        ));
        let publishing = {
            let topic = Arc::clone(&topic);
            thread::spawn(move || {
                (0..3).for_each(|_| publish(&topic));
                topic.close(CloseReason::Shutdown);
            })
        };
        let mut reader = topic.read();
        let mut seen = Vec::new();
        while let Some(Next::Message) = next(&mut reader) {
            seen.extend(reader.take(|entry| (entry.seq(), entry.is_replayed())));
        }
        let (first, replayed) = seen[0];
        assert!(replayed || first == 0, "it was there from the start, or is told what was");
        let expected = (first..3).map(|seq| (seq, replayed && seq == first));
        assert!(seen.iter().copied().eq(expected), "{seen:?}");
        publishing.join().unwrap();
    });
}

#[test]
fn what_comes_for_a_member_wakes_its_set() {
    explore_with_twins(&[Defect::ServeInTwoSteps], || {
        let stage = Stage::new(Duration::ZERO);
        let mut streams = Streams::<Message>::new(&stage.core);
        let (seat, reader) = stage.subscribe(None).unwrap();
        streams.add(Subscription::new(seat)); // After what the connection publishes, or before.
        drop(reader);
        let topic = stage.core.topic("x").unwrap();
        let later = thread::spawn(move || publish(&topic));
        let (name, item) = block_on(streams.recv()).unwrap();
        assert_eq!((name.as_str(), item.unwrap()), ("x", "hello".into()));
        later.join().unwrap();
        drop(streams);
        block_on(stage.core.all_finished());
    });
}

/// Two messages that are sent on a stream which is joined on the connection of `post`.
fn two_sent(post: &Arc<Post>) -> [Waiting; 2] {
    let outgoing = Outgoing::new(StreamName::try_from("x").unwrap(), 2);
    outgoing.serve(post);
    ["1", "2"].map(|text| outgoing.send(text.into()).unwrap())
}

/// The next message, and whether it is the first of the two.
fn taken(post: &Arc<Post>) -> (Taken, bool) {
    let taken = block_on(poll_fn(|cx| post.poll_take(usize::MAX, cx))).expect("there is room");
    let is_first = *taken.message().unwrap() == "1".into();
    (taken, is_first)
}

#[test]
fn a_message_is_withdrawn_or_written_and_never_both() {
    explore_with_twins(&[Defect::WithdrawInTwoSteps], || {
        let post = Arc::default();
        let [mut first, _last] = two_sent(&post);
        let withdrawing = thread::spawn(move || {
            let withdrawn = first.withdraw();
            (withdrawn, withdrawn || block_on(poll_fn(|cx| first.poll_outcome(cx))).is_ok())
        });
        let mut written = false;
        loop {
            let (mut taken, is_first) = taken(&post);
            taken.start();
            taken.settle(Ok(()));
            if !is_first {
                break;
            }
            written = true;
        }
        let (withdrawn, told) = withdrawing.join().unwrap();
        assert!(withdrawn != written, "withdrawn: {withdrawn}, written: {written}");
        assert!(told, "who sent what was written is told so");
    });
}

#[test]
fn a_message_whose_sender_has_gone_does_not_come_back() {
    explore_with_twins(&[Defect::ForsakenIsKept], || {
        let post = Arc::default();
        let [first, _last] = two_sent(&post);
        let gone = Arc::new(AtomicUsize::new(0));
        let leaving = {
            let gone = Arc::clone(&gone);
            thread::spawn(move || {
                drop(first);
                gone.store(1, SeqCst);
            })
        };
        for turn in 0.. {
            let had_gone = gone.load(SeqCst) == 1;
            let (taken, is_first) = taken(&post);
            if !is_first {
                break;
            }
            assert!(!had_gone, "it is taken after its sender has gone");
            if turn == 1 {
                taken.settle(Ok(())); // Before, the socket was lost, and it went back.
            }
        }
        leaving.join().unwrap();
    });
}

#[test]
fn who_leaves_a_shared_call_leaves_it_to_the_others() {
    explore_with_twins(&[Defect::LeavesCallAlone], || {
        let (flight, may_end) = (Arc::new(SingleFlight::new()), Arc::new(Watch::new(false)));
        let call = {
            let may_end = Arc::clone(&may_end);
            move || {
                let mut may_end = Following::new(&may_end);
                let ended = async move {
                    while poll_fn(|cx| may_end.poll_changed(cx)).await == Some(false) {}
                    7
                };
                ended.boxed()
            }
        };
        let mut leaving = flight.join(call.clone());
        let leaving = thread::spawn(move || {
            let once = |cx: &mut Context<'_>| Poll::Ready(leaving.poll_unpin(cx).is_ready());
            block_on(poll_fn(once));
            drop(leaving);
        });
        let waiting = thread::spawn(move || block_on(flight.join(call)));
        may_end.update(|may_end| !std::mem::replace(may_end, true));
        leaving.join().unwrap();
        assert_eq!(waiting.join().unwrap(), 7);
    });
}

#[test]
fn a_signal_is_not_lost() {
    explore_with_twins(&[Defect::SignalIsLost], || {
        let signal = Arc::new(Signal::default());
        let setter = Arc::clone(&signal);
        thread::spawn(move || setter.set());
        block_on(poll_fn(|cx| signal.poll_take(cx)));
    });
}
