//! What members yield together, against a naive model, and what it costs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::SystemTime;

use futures::future::BoxFuture;
use futures::task::{ArcWake, waker};
use proptest::prelude::*;

use super::*;
use crate::config::{Config, Limits};
use crate::engine::core::Parts;
use crate::engine::limiter::Limiter;
use crate::engine::seat::Seat;
use crate::engine::topic::Topic;
use crate::error::{CloseReason, Gap};
use crate::message::Message;
use crate::observe::Metrics;
use crate::protocol::{Direct, DisconnectReason, Request, Response};
use crate::transport::{BoxSocket, DynTransport, TransportError};

/// Connections are not run here: a test publishes for them.
struct NoTransport;

impl DynTransport for NoTransport {
    fn connect<'a>(
        &'a self,
        _: &'a Request,
    ) -> BoxFuture<'a, Result<(BoxSocket, Response), TransportError>> {
        Box::pin(async { Err(TransportError::new(DisconnectReason::Ended)) })
    }
}

fn core() -> Arc<Core> {
    let limits = Limits { max_connections: usize::MAX, ..Limits::default() };
    Core::new(Parts {
        credentials: None,
        config: Config::default().limits(limits),
        hold: None,
        limiter: Limiter::new(),
        metrics: Metrics::default(),
        protocol: Arc::new(Direct::new("ws://test").unwrap()),
        runtime: None,
        seed: 0,
        streams: HashMap::new(),
        transport: Arc::new(NoTransport),
        wall: SystemTime::now,
    })
}

fn subscription(core: &Arc<Core>, name: &str) -> Subscription<Message> {
    let name = StreamName::try_from(name).unwrap();
    Subscription::new(Seat::take(core, &name, Kind::Reader, true).unwrap().0)
}

fn publish(core: &Core, name: &str, messages: Vec<Message>) {
    core.topic(name).unwrap().brought(messages);
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl ArcWake for Wakes {
    fn wake_by_ref(wakes: &Arc<Self>) {
        wakes.0.fetch_add(1, SeqCst);
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Add(u8),
    Close(u8),
    Publish(u8, usize),
    Recv(usize),
    RecvMany(usize),
    Remove(u8),
    Skip(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let name = || 0..6_u8;
    prop_oneof![
        3 => name().prop_map(Op::Add),
        1 => name().prop_map(Op::Close),
        5 => (name(), 1..99_usize).prop_map(|(name, most)| Op::Publish(name, most)),
        5 => (1..99_usize).prop_map(Op::Recv),
        2 => (0..99_usize).prop_map(Op::RecvMany),
        1 => name().prop_map(Op::Remove),
        1 => name().prop_map(Op::Skip),
    ]
}

#[derive(Debug, Default)]
struct Owing {
    items: VecDeque<String>,
    /// Most others there were meanwhile.
    others: usize,
    /// Items of others since the first of these could have come.
    passed_over: usize,
}

/// What the set owes, name by name.
struct Model {
    core: Arc<Core>,
    /// What was published or done, to tell items apart.
    count: usize,
    members: BTreeMap<String, Owing>,
    /// How often the task had been woken when the set had nothing for it.
    parked: Option<usize>,
    streams: Streams<Message>,
    wakes: Arc<Wakes>,
}

impl Model {
    fn new() -> Self {
        let core = core();
        let streams = Streams::new(&core);
        let (members, wakes) = (BTreeMap::new(), Arc::default());
        Self { core, count: 0, members, parked: None, streams, wakes }
    }

    fn apply(&mut self, op: Op) {
        self.count += 1;
        match op {
            Op::Add(name) => self.add(&name.to_string()),
            Op::Close(name) => self.on(name, "closed", |core, topic, _| {
                core.end_topic(topic, CloseReason::Shutdown);
            }),
            Op::Publish(name, most) => {
                for _ in 0..most {
                    self.count += 1;
                    let text = self.count.to_string();
                    self.on(name, &text, |core, topic, text| {
                        publish(core, topic.name.as_str(), vec![text.into()]);
                    });
                }
            }
            Op::Recv(most) => (0..most).for_each(|_| _ = self.recv()),
            Op::RecvMany(limit) => self.recv_many(limit),
            Op::Remove(name) => self.remove(&name.to_string()),
            Op::Skip(name) => {
                let missed = self.count as u64;
                self.on(name, &format!("gap {missed}"), |_, topic, _| topic.missed(missed));
            }
        }
        self.check();
    }

    fn add(&mut self, name: &str) {
        if self.core.topic(name).is_none() && self.members.contains_key(name) {
            return; // It has ended, which the set has yet to say.
        }
        let replaced = self.streams.add(subscription(&self.core, name));
        let owed = self.members.insert(name.into(), Owing::default());
        assert_eq!(replaced.is_some(), owed.is_some());
        drop(replaced);
        self.expect_woken();
    }

    /// Does something to a member's stream, which owes an item for it.
    fn on(&mut self, name: u8, owed: &str, act: impl Fn(&Arc<Core>, &Arc<Topic>, &str)) {
        let name = name.to_string();
        let (Some(topic), Some(member)) = (self.core.topic(&name), self.members.get_mut(&name))
        else {
            return;
        };
        act(&self.core, &topic, owed);
        member.items.push_back(owed.into());
        self.expect_woken();
    }

    fn expect_woken(&mut self) {
        if let Some(before) = self.parked.take() {
            assert_eq!(self.wakes.0.load(SeqCst), before + 1, "woken once");
        }
    }

    fn remove(&mut self, name: &str) {
        let removed = self.streams.remove(name);
        let owed = self.members.remove(name);
        assert_eq!(removed.is_some(), owed.is_some());
        let (Some(mut removed), Some(owed)) = (removed, owed) else { return };
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        for owed in owed.items {
            match removed.poll_recv(&mut cx) {
                Poll::Ready(Some(item)) => assert_eq!(shown(&item), owed, "what was not read"),
                other => panic!("{other:?} for {owed}"),
            }
        }
    }

    fn recv(&mut self) -> bool {
        let waker = waker(Arc::clone(&self.wakes));
        match self.streams.poll_recv(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                assert!(!self.members.is_empty());
                assert!(self.members.values().all(|member| member.items.is_empty()));
                self.parked = Some(self.wakes.0.load(SeqCst));
                return false;
            }
            Poll::Ready(None) => {
                assert!(self.members.is_empty());
                return false;
            }
            Poll::Ready(Some((name, item))) => self.yielded(&name, &item),
        }
        true
    }

    fn recv_many(&mut self, limit: usize) {
        let waker = waker(Arc::clone(&self.wakes));
        let mut cx = Context::from_waker(&waker);
        let mut items = Vec::new();
        let owed: usize = self.members.values().map(|member| member.items.len()).sum();
        match many::poll_recv_many(&mut self.streams, &mut cx, &mut items, limit) {
            Poll::Ready(taken) => {
                assert_eq!((taken, taken), (items.len(), owed.min(limit)));
                assert!(taken > 0 || limit == 0 || self.members.is_empty());
            }
            Poll::Pending => {
                assert!(owed == 0 && items.is_empty() && limit > 0);
                self.parked = Some(self.wakes.0.load(SeqCst));
            }
        }
        items.iter().for_each(|(name, item)| self.yielded(name, item));
    }

    fn yielded(&mut self, name: &StreamName, item: &Result<Message, StreamError>) {
        let count = self.members.len();
        for (other, member) in &mut self.members {
            if other == name.as_str() || member.items.is_empty() {
                (member.passed_over, member.others) = (0, 0);
                continue;
            }
            member.passed_over += 1;
            member.others = member.others.max(count - 1);
            let bound = member.others * RUN as usize;
            assert!(member.passed_over <= bound, "{other} is kept waiting by {name}");
        }
        let member = self.members.get_mut(name.as_str()).expect("of a member");
        assert_eq!(Some(shown(item)), member.items.pop_front());
        if matches!(item, Err(StreamError::Closed(_))) {
            self.members.remove(name.as_str());
        }
    }

    fn check(&self) {
        assert_eq!(self.streams.len(), self.members.len());
        assert_eq!(self.streams.is_terminated(), self.members.is_empty());
        let mut names: Vec<_> = self.streams.names().map(StreamName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, self.members.keys().collect::<Vec<_>>());
        for name in names {
            assert!(self.streams.contains(name));
            assert_eq!(self.streams.get(name).unwrap().name().as_str(), name);
        }
    }
}

fn shown(item: &Result<Message, StreamError>) -> String {
    match item {
        Ok(message) => message.as_text().unwrap().to_owned(),
        Err(StreamError::Closed(_)) => "closed".to_owned(),
        Err(StreamError::Gap(Gap::Sequence { missed: Some(missed) })) => format!("gap {missed}"),
        Err(other) => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn members_yield_all_of_theirs_in_order_and_in_turn(
        ops in proptest::collection::vec(op(), 0..80),
    ) {
        let mut model = Model::new();
        ops.into_iter().for_each(|op| model.apply(op));
        while model.recv() {}
        prop_assert!(model.members.values().all(|member| member.items.is_empty()));
    }
}

#[test]
fn a_message_costs_the_same_with_ten_thousand_quiet_members() {
    let polls_of = |quiet: usize| {
        let core = core();
        let mut streams = Streams::new(&core);
        streams.extend((0..quiet).map(|n| subscription(&core, &n.to_string())));
        streams.add(subscription(&core, "busy"));
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        assert!(streams.poll_recv(&mut cx).is_pending());
        assert_eq!(streams.polls, quiet + 1, "once each, as they are new");
        streams.polls = 0;
        for _ in 0..1000 {
            publish(&core, "busy", vec!["m".into()]);
            assert!(streams.poll_recv(&mut cx).is_ready());
            assert!(streams.poll_recv(&mut cx).is_pending());
        }
        streams.polls
    };
    assert_eq!((polls_of(0), polls_of(10_000)), (2000, 2000));
}

#[test]
fn what_leaves_takes_its_memory_along_and_its_late_wakers_do_nothing() {
    let core = core();
    let mut streams = Streams::new(&core);
    let mut cx = Context::from_waker(futures::task::noop_waker_ref());
    for round in 0..1000 {
        let name = round.to_string();
        streams.add(subscription(&core, &name));
        if round % 2 == 0 {
            assert!(streams.poll_recv(&mut cx).is_pending());
        }
        let left = streams.remove(&name).unwrap();
        // It is woken as a member once more, if it had parked as one.
        streams.add(subscription(&core, "other"));
        publish(&core, &name, vec!["m".into()]);
        assert!(streams.poll_recv(&mut cx).is_pending(), "not of ours");
        drop((left, streams.remove("other")));
        assert!(streams.members.capacity() <= 4 && streams.by_name.capacity() <= 4);
    }
    assert_eq!(core.stream_count(), 0);
    assert!(matches!(streams.poll_recv(&mut cx), Poll::Ready(None)));
}

#[tokio::test]
async fn a_set_that_always_has_something_lets_other_tasks_run() {
    let core = core();
    let mut streams = Streams::new(&core);
    let names: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    streams.extend(names.iter().map(|name| subscription(&core, name)));
    names.iter().for_each(|name| publish(&core, name, vec!["m".into()]));
    let mut items = Vec::new();
    let mut turns = 0;
    let taken = poll_fn(|cx| {
        turns += 1;
        while items.len() < 1000 {
            ready!(many::poll_recv_many(&mut streams, cx, &mut items, usize::MAX));
        }
        Poll::Ready(items.len())
    });
    assert_eq!(taken.await, 1000);
    assert!(turns >= 1000 / 128, "{turns} turns: the runtime is not asked for its leave");
    assert!(streams.polls <= 2 * 1000 + turns, "{} looks: it goes on in vain", streams.polls);
}
