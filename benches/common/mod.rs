//! What the benchmarks share: the server, the clocks, the rounds and their medians.
//!
//! Machines are noisy and differ, so only ratios are reported: the two sides of one take turns in
//! the same run, and the median of the rounds counts. Unix only.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod cpus;
pub(crate) mod server;

use std::env;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{self, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use self::server::{Feed, Server};

/// Rounds of one comparison: at least `MIN`, then until `MAX` or the time is up.
const MIN_ROUNDS: usize = 5;
const MAX_ROUNDS: usize = 11;
const TIME: Duration = Duration::from_secs(10);

/// The longest that one side of one round may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What something took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// CPU time of this process, the kernel's work for it included.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

/// Runs from its creation.
pub(crate) struct Clock {
    cpu: Duration,
    wall: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { cpu: cpu(), wall: Instant::now() }
    }

    pub(crate) fn stop(self) -> Cost {
        Cost { cpu: cpu().saturating_sub(self.cpu), wall: self.wall.elapsed() }
    }
}

fn cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

/// One thread, or `workers` of them.
pub(crate) fn runtime(workers: Option<usize>) -> Runtime {
    let mut builder = match workers {
        Some(workers) => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
        None => Builder::new_current_thread(),
    };
    builder.enable_all().build().unwrap()
}

/// Runs `task` as a task of `runtime`, for some seconds at most.
pub(crate) fn run<T: Send + 'static>(
    runtime: &Runtime,
    task: impl Future<Output = T> + Send + 'static,
) -> T {
    runtime.block_on(async {
        time::timeout(TIMEOUT, tokio::spawn(task)).await.expect("done in time").unwrap()
    })
}

/// Where to connect, for the side without this crate.
#[derive(Clone, Debug)]
pub(crate) struct Bare {
    address: (&'static str, u16),
    url: String,
}

impl Bare {
    pub(crate) fn new(server: &Server, feed: Feed) -> Self {
        Self { address: server.address(), url: format!("{}/feed", server.base(feed)) }
    }

    pub(crate) async fn connect(&self, config: WebSocketConfig) -> WebSocketStream<TcpStream> {
        let request = self.url.as_str().into_client_request().unwrap();
        let tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        client_async_with_config(request, tcp, Some(config)).await.unwrap().0
    }
}

/// Compares the CPU time of two sides over `units` units of work each, and prints
/// `ratio <name> <value>`: ours over the other.
///
/// With `ours` or `bare` among the arguments only that side runs, for a profiler.
pub(crate) fn compare(
    name: &str,
    units: u64,
    mut ours: impl FnMut() -> Cost,
    mut bare: impl FnMut() -> Cost,
) {
    if !is_wanted(name) {
        return;
    }
    let only = |side: &str| env::args().any(|arg| arg == side);
    if only("ours") || only("bare") {
        for _ in 0..MIN_ROUNDS {
            let cost = if only("ours") { ours() } else { bare() };
            println!("# {name}: {:.1} ns, {}", nanos(cost, units), busy(&[cost]));
        }
        return;
    }
    // The first of each pays for cold caches, and for the pages that later ones find mapped.
    ours();
    bare();
    let (mut ours_costs, mut bare_costs) = (Vec::new(), Vec::new());
    let started = Instant::now();
    while ours_costs.len() < MIN_ROUNDS
        || (ours_costs.len() < MAX_ROUNDS && started.elapsed() < TIME)
    {
        // Each side goes first every other round.
        if ours_costs.len() % 2 == 0 {
            ours_costs.push(ours());
            bare_costs.push(bare());
        } else {
            bare_costs.push(bare());
            ours_costs.push(ours());
        }
    }
    let each = |costs: &[Cost]| spread(costs.iter().map(|cost| nanos(*cost, units)));
    println!("# {name}: ours {} ns, {}", each(&ours_costs), busy(&ours_costs));
    println!("# {name}: bare {} ns, {}", each(&bare_costs), busy(&bare_costs));
    let ratios = || {
        let pairs = ours_costs.iter().zip(&bare_costs);
        pairs.map(|(ours, bare)| ours.cpu.as_secs_f64() / bare.cpu.as_secs_f64())
    };
    println!("# {name}: {} in {} rounds", spread(ratios()), ours_costs.len());
    println!("ratio {name} {:.3}", median(ratios()));
}

/// Whether the arguments name this comparison, or none.
fn is_wanted(name: &str) -> bool {
    let mut names = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-') && !matches!(&**arg, "ours" | "bare"))
        .peekable();
    names.peek().is_none() || names.any(|wanted| wanted == name)
}

#[expect(clippy::cast_precision_loss, reason = "a mean for people")]
fn nanos(cost: Cost, units: u64) -> f64 {
    cost.cpu.as_nanos() as f64 / units as f64
}

/// How much of the time the client was at work: near 100 %, the server was no bottleneck.
fn busy(costs: &[Cost]) -> String {
    let shares = costs.iter().map(|cost| 100.0 * cost.cpu.as_secs_f64() / cost.wall.as_secs_f64());
    format!("{:.0} % busy", median(shares))
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// The median with the extremes.
pub(crate) fn spread(values: impl Iterator<Item = f64>) -> String {
    let values: Vec<_> = values.collect();
    let (least, most) =
        values.iter().fold((f64::MAX, f64::MIN), |(l, m), v| (l.min(*v), m.max(*v)));
    format!("{:.2} ({least:.2} to {most:.2})", median(values.into_iter()))
}
