//! One run, from an empty process to an empty process: streams open, names come and go while there
//! are faults, all is quiet, all leave.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::pending;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use wsmux::protocol::Direct;
use wsmux::test_util::MockExchange;
use wsmux::{Config, Heartbeat, Limiter, Limits, Message, RetryPolicy, WsManager};

use super::faults::{CYCLE, Dealer, QUICK, Trouble};
use super::footprint::{Drift, Footprint};
use super::reader::{Causes, Counts, Order, Reader};
use super::twins::Defect;
use super::venue::Venue;

/// Messages that are kept for a reader: few, so that lagging takes seconds.
pub(crate) const BUFFER: usize = 16;
/// One in so many joins is a second reader's, who stays for `VISIT`.
const VISITORS: u32 = 4;
const VISIT: Duration = Duration::from_secs(1);
/// How many times the streams of a plan are wanted at once in the end: more than rotations make of
/// them.
const CROWD: usize = 3;
/// Bytes that a run may leave more than the one before it, behind itself and in a manager that is
/// idle: each thread of the client keeps a spare read buffer of 64 KiB, or not, and maps have room for
/// twice as many. Nine bytes for each join of ten minutes are more.
const HEAP_SLACK: i64 = 256 * 1024;

/// What a run is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    cycle: &'static [Trouble],
    pub(crate) defect: Option<Defect>,
    faults_per_second: u32,
    joins_per_second: u32,
    /// How long a stream may take to bring something once all is quiet.
    patience: Duration,
    /// Streams that nobody leaves before the end.
    residents: usize,
    seconds: Duration,
    streams: usize,
}

impl Plan {
    pub(crate) fn real(seconds: Duration) -> Self {
        Self {
            cycle: &CYCLE,
            defect: None,
            faults_per_second: 1,
            joins_per_second: 50,
            patience: Duration::from_secs(60),
            residents: 200,
            seconds,
            streams: 1000,
        }
    }

    /// Each fault there is, and as many streams.
    pub(crate) fn warm_up() -> Self {
        let seconds = Duration::from_secs(CYCLE.len() as u64 / 3);
        Self { faults_per_second: 3, ..Self::real(seconds) }
    }

    /// For a twin: few streams, and faults that are over soon.
    pub(crate) fn small(defect: Option<Defect>) -> Self {
        // Whoever lags for seconds must not have a break on top of it.
        let cycle: &[_] = if defect == Some(Defect::Miscounts) { &[Trouble::Lag] } else { &QUICK };
        Self {
            cycle,
            defect,
            faults_per_second: 5,
            patience: Duration::from_secs(8),
            residents: 30,
            streams: 60,
            ..Self::real(Duration::from_secs(2))
        }
    }
}

/// What a run has found and left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) disconnects: BTreeMap<&'static str, u64>,
    /// Bytes of a manager that carries nothing any more.
    pub(crate) idle_heap: usize,
    /// What is there without it.
    pub(crate) left: Footprint,
    pub(crate) most_sockets: u64,
    pub(crate) series: usize,
}

/// What must not be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    Descriptors,
    Ended,
    Heap,
    Lost,
    Miscounted,
    NothingHappened,
    Series,
    Stuck,
    Tasks,
    Twice,
    WithoutCause,
}

/// What is wrong with a run, after another that was like it.
pub(crate) fn judge(before: &Outcome, after: &Outcome) -> Vec<Fault> {
    let (counts, drift) = (&after.counts, Drift::between(before, after));
    let something = [counts.messages, counts.joins, counts.faults, counts.reconnected];
    [
        (Fault::Descriptors, drift.descriptors > 0),
        (Fault::Ended, counts.ended > 0),
        (Fault::Heap, drift.heap > HEAP_SLACK || drift.idle_heap > HEAP_SLACK),
        (Fault::Lost, counts.lost > 0),
        (Fault::Miscounted, counts.miscounted > 0),
        (Fault::NothingHappened, something.contains(&0)),
        (Fault::Series, drift.series > 0),
        (Fault::Stuck, counts.stuck > 0),
        (Fault::Tasks, drift.tasks > 0),
        (Fault::Twice, counts.twice > 0),
        (Fault::WithoutCause, counts.without_cause > 0),
    ]
    .into_iter()
    .filter_map(|(fault, is_so)| is_so.then_some(fault))
    .collect()
}

/// Runs a plan.
pub(crate) fn run(client: &Runtime, plan: &Plan) -> Outcome {
    let venue = Venue::start();
    let _inside = client.enter();
    let manager = manager(&venue.exchange().url(), plan);
    let (counts, leaked) = client.block_on(async {
        let mut session = Session::new(*plan, &manager, &venue);
        session.go().await;
        (session.counts, session.leaked)
    });
    venue.stop();
    let is_idle = || manager.metrics().active_connections == 0 && manager.stream_count() == 0;
    assert!(is_idle(), "sockets that nobody reads");
    let series = manager.prometheus().lines().filter(|line| !line.starts_with('#')).count();
    let metrics = manager.metrics();
    let idle = Footprint::take(client);
    drop(manager);
    let left = Footprint::take(client);
    if let Some(task) = leaked {
        task.abort();
    }
    Outcome {
        counts,
        disconnects: metrics.disconnects_by_reason,
        idle_heap: idle.heap.saturating_sub(left.heap),
        left,
        most_sockets: metrics.active_connections_hwm,
        series,
    }
}

fn manager(base: &str, plan: &Plan) -> WsManager {
    let ms = Duration::from_millis;
    let retry = RetryPolicy {
        base_delay: ms(50),
        max_delay: ms(1000),
        min_delay: ms(10),
        ..RetryPolicy::forever()
    };
    let config = Config::default()
        .buffer(BUFFER)
        .connect_timeout(ms(5000))
        .heartbeat(Heartbeat { interval: ms(2000), timeout: ms(3000) })
        .limits(Limits { max_connections: CROWD * plan.streams, ..Limits::default() })
        .retry(retry);
    let named = if plan.defect == Some(Defect::LeaksSeries) { 100_000 } else { 10 };
    let builder = WsManager::builder(Direct::new(base).unwrap()).config(config).seed(7);
    builder.limiter(Limiter::new()).metrics_per_stream(named).build().unwrap()
}

/// A reader's place, as the session sees it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) causes: Arc<Causes>,
    pub(crate) name: String,
    pub(crate) orders: Sender<Order>,
    read: Arc<AtomicU64>,
}

struct Session<'a> {
    counts: Counts,
    dealer: Dealer,
    exchange: Arc<MockExchange>,
    leaked: Option<AbortHandle>,
    manager: &'a WsManager,
    places: Vec<Place>,
    plan: Plan,
    readers: JoinSet<Counts>,
    rng: StdRng,
    visits: Vec<(Instant, Place)>,
}

impl<'a> Session<'a> {
    fn new(plan: Plan, manager: &'a WsManager, venue: &Venue) -> Self {
        Self {
            counts: Counts::default(),
            dealer: Dealer::new(venue.exchange(), venue.handle(), manager.clone(), plan.cycle),
            exchange: venue.exchange(),
            leaked: None,
            manager,
            places: Vec::new(),
            plan,
            readers: JoinSet::new(),
            rng: StdRng::seed_from_u64(11),
            visits: Vec::new(),
        }
    }

    async fn go(&mut self) {
        while self.places.len() < self.plan.streams {
            let place = self.join(None);
            self.places.push(place);
        }
        self.quiet().await;
        self.trouble().await;
        self.visits.clear();
        self.quiet().await;
        self.places.clear();
        while let Some(counts) = self.readers.join_next().await {
            self.counts += counts.expect("a reader that does not panic");
        }
        self.empty().await;
        self.crowd();
        self.empty().await;
    }

    /// Wants many streams for a moment. A manager keeps room for as many as it once had, and how many
    /// those were is a matter of chance until here.
    fn crowd(&mut self) {
        let count = CROWD * self.plan.streams;
        let names: Vec<_> = (0..count).map(|_| name(&mut self.rng)).collect();
        let wanted = names.iter().map(|name| self.manager.subscribe::<Message>(name).unwrap());
        drop(wanted.collect::<Vec<_>>());
    }

    /// Waits until no socket is open, and none is being closed.
    async fn empty(&self) {
        let start = Instant::now();
        while self.manager.metrics().active_connections > 0 && start.elapsed() < self.plan.patience
        {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Has names come and go, and faults happen, for as long as planned.
    async fn trouble(&mut self) {
        let every = |per_second| {
            let mut every = interval(Duration::from_secs(1) / per_second);
            every.set_missed_tick_behavior(MissedTickBehavior::Burst);
            every
        };
        let mut joins = every(self.plan.joins_per_second);
        let mut faults = every(self.plan.faults_per_second);
        let end = Instant::now() + self.plan.seconds;
        while Instant::now() < end {
            tokio::select! {
                _ = joins.tick() => self.come_and_go(),
                _ = faults.tick() => {
                    self.dealer.deal(&self.places, &mut self.rng).await;
                    self.counts.faults += 1;
                }
            }
        }
    }

    /// One joins, and one leaves.
    fn come_and_go(&mut self) {
        self.leak();
        self.counts.joins += 1;
        let now = Instant::now();
        if self.rng.random_range(0..VISITORS) == 0 {
            let resident = self.rng.random_range(0..self.plan.residents);
            let visitor = self.join(Some(resident));
            self.visits.push((now + VISIT, visitor));
        } else {
            let at = self.rng.random_range(self.plan.residents..self.plan.streams);
            self.places[at] = self.join(None);
        }
        self.visits.retain(|(until, _)| *until > now);
        while let Some(counts) = self.readers.try_join_next() {
            self.counts += counts.expect("a reader that does not panic");
        }
    }

    /// Has somebody read a name that nobody has read yet, or one of the residents'.
    fn join(&mut self, resident: Option<usize>) -> Place {
        let host = resident.map(|at| &self.places[at]);
        let (name, causes) = match host {
            Some(host) => (host.name.clone(), Arc::clone(&host.causes)),
            None => {
                (format!("s{:016x}@trade", self.rng.random::<u64>()), Arc::new(Causes::default()))
            }
        };
        let (orders, inbox) = mpsc::channel(4);
        let read = Arc::new(AtomicU64::new(0));
        let reader = Reader {
            audit: self.exchange.audit(&name),
            breaks_before: causes.breaks.load(Ordering::Relaxed),
            causes: Arc::clone(&causes),
            defect: self.plan.defect,
            exchange: Arc::clone(&self.exchange),
            name: name.clone(),
            orders: inbox,
            owner: resident.is_none(),
            read: Arc::clone(&read),
            stream: self.manager.subscribe(&name).expect("a place for it"),
        };
        self.readers.spawn(reader.run());
        Place { causes, name, orders, read }
    }

    /// Waits until each stream has brought something new.
    async fn quiet(&mut self) {
        let read = |place: &Place| place.read.load(Ordering::Relaxed);
        let before: Vec<_> = self.places.iter().map(read).collect();
        let start = Instant::now();
        let mut stuck = self.places.len();
        while stuck > 0 && start.elapsed() < self.plan.patience {
            sleep(Duration::from_millis(20)).await;
            let pairs = self.places.iter().zip(&before);
            stuck = pairs.filter(|(place, before)| read(place) < **before + 2).count();
        }
        self.counts.stuck += stuck as u64;
    }

    fn leak(&mut self) {
        match self.plan.defect {
            Some(Defect::LeaksDescriptor) if self.counts.joins == 0 => {
                mem::forget(File::open("/proc/self/status").unwrap());
            }
            Some(Defect::LeaksTask) if self.counts.joins == 0 => {
                self.leaked = Some(tokio::spawn(pending::<()>()).abort_handle());
            }
            Some(Defect::LeaksHeap) => mem::forget(Vec::<u8>::with_capacity(8 * 1024)),
            _ => {}
        }
    }
}

/// One that nobody has had before.
fn name(rng: &mut StdRng) -> String {
    format!("s{:016x}@trade", rng.random::<u64>())
}
