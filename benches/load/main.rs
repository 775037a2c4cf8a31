//! The gateway's fan-out beside node's `ws` and nats-server: one name, thousands of clients.
//!
//! ```text
//! scripts/load
//! ```
//!
//! The servers have one core, of which only one is at work at a time; the maker of the load has another.
//! Five rounds, each of which measures all of them; a ratio is the median of the rounds'. What counts is the server's CPU time per
//! delivery, as the kernel tells it, so a noisy machine matters less. Unix only.
//!
//! - *low*: 20 messages a second, each a write of its own for each client.
//! - *saturated*: a burst of messages at once, and the next when all clients have it all. Bursts grow from
//!   32 to 256 for as long as that makes a delivery cheaper, for each server by itself.
//! - *round*: how long a message takes to the 99th of a hundred clients, by the time that the writes of
//!   one round take.
//! - *stuck*: what clients that never read cost the others; see `stuck.rs`.
//!
//! Lines of figures are `ratio NAME VALUE`; those that begin with `#` are for people.

mod maker;
mod server;
mod stuck;

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use maker::{Crowd, Figures, Kind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server::Slow;

/// How often all are measured, in turn.
const ROUNDS: usize = 5;
/// Set for the process that is the gateway.
const SERVE: &str = "WSMUX_LOAD_SERVE";
/// The folder in which npm has put `ws`.
const NODE: &str = "WSMUX_LOAD_NODE";
/// The only measurement that is asked for: `fanout`, `stuck` or `twin`.
const ONLY: &str = "WSMUX_LOAD_ONLY";
/// How many clients.
const CLIENTS: &str = "WSMUX_LOAD_CLIENTS";

fn main() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Ok(slow) = env::var(SERVE) {
        return server::serve(Slow::named(&slow));
    }
    let clients = env::var(CLIENTS).ok().and_then(|text| text.parse().ok()).unwrap_or(5000);
    let only = env::var(ONLY).ok();
    // `cargo bench` and `cargo test` pass options; this has none.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match only.as_deref() {
            None => {
                fan_out(clients).await;
                stuck::compare(clients.min(stuck::CLIENTS), false).await;
            }
            Some("fanout") => fan_out(clients).await,
            Some("stuck") => stuck::compare(clients.min(stuck::CLIENTS), false).await,
            Some("twin") => stuck::compare(clients.min(stuck::TWIN), true).await,
            Some(other) => panic!("{ONLY} is not {other}"),
        }
    });
}

/// All servers beside each other.
async fn fan_out(clients: usize) {
    let mut sides = Vec::new();
    let servers = [
        ("gateway", Kind::Gateway, Some(gateway(Slow::Never))),
        ("node", Kind::Node, node()),
        ("nats", Kind::Nats, nats()),
    ];
    for (name, kind, server) in servers {
        let Some(server) = server else { continue };
        let crowd = Crowd::gather(clients, kind, &server).await;
        sides.push(Side { crowd, name, rounds: Vec::new(), server });
    }
    for _ in 0..ROUNDS {
        for side in &mut sides {
            side.rounds.push(side.crowd.measure(&mut side.server).await);
        }
    }
    sides.iter().for_each(|side| side.tell(clients));
    compare(clients, &sides);
}

/// A server with its crowd, and what has come of each round.
struct Side {
    crowd: Crowd,
    name: &'static str,
    rounds: Vec<Figures>,
    server: Server,
}

impl Side {
    fn median(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }

    fn tell(&self, clients: usize) {
        println!(
            "# {}: {clients} clients, {:.2} us of CPU per delivery at 20/s (p99 {:.1} ms), {:.3} us \
             saturated ({:.0} deliveries/s by bursts of {}, p99 {:.0} ms), {:.2} KB per idle client",
            self.name,
            self.median(|round| round.low_us),
            self.median(|round| round.p99.as_secs_f64()) * 1000.0,
            self.median(|round| round.saturated.us),
            self.median(|round| round.saturated.rate),
            self.crowd.burst(),
            self.median(|round| round.saturated.p99.as_secs_f64()) * 1000.0,
            self.crowd.idle_kb,
        );
    }
}

/// Prints the medians of the rounds' ratios.
fn compare(clients: usize, sides: &[Side]) {
    let Some((ours, others)) = sides.split_first() else { return };
    let round = ours.median(|figures| figures.p99.as_secs_f64() / figures.round(clients));
    println!("ratio gateway_p99_round {round:.3}");
    println!("ratio gateway_kb_per_idle_client {:.3}", ours.crowd.idle_kb);
    for theirs in others {
        let against = |of: fn(&Figures) -> f64| {
            median(
                ours.rounds.iter().zip(&theirs.rounds).map(|(ours, theirs)| of(ours) / of(theirs)),
            )
        };
        println!("ratio gateway_low_vs_{} {:.3}", theirs.name, against(|round| round.low_us));
        let saturated = against(|round| round.saturated.us);
        println!("ratio gateway_saturated_vs_{} {saturated:.4}", theirs.name);
    }
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// A server, which ends with this: its process, its port, and where it answers what it is asked.
struct Server(Child, u16, Option<BufReader<ChildStdout>>);

impl Server {
    /// How many messages its clients have missed.
    fn missed(&mut self) -> u64 {
        writeln!(self.0.stdin.as_mut().unwrap(), "missed").unwrap();
        let mut line = String::new();
        self.2.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// On the first core. The maker of the load is put on the second by `scripts/load`.
fn on_a_core_of_its_own(program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn spawned(mut command: Command) -> Option<Server> {
    let mut child = command.spawn().ok()?;
    let mut line = String::new();
    let mut answers = BufReader::new(child.stdout.take()?);
    answers.read_line(&mut line).ok()?;
    Some(Server(child, line.trim().parse().ok()?, Some(answers)))
}

fn gateway(slow: Slow) -> Server {
    let mut command = on_a_core_of_its_own(env::current_exe().unwrap().as_os_str());
    command.env(SERVE, slow.name());
    spawned(command).expect("a gateway")
}

fn node() -> Option<Server> {
    let mut command = on_a_core_of_its_own("node".as_ref());
    command.arg("-e").arg(include_str!("node.js")).current_dir(env::var_os(NODE)?);
    spawned(command)
}

fn nats() -> Option<Server> {
    let folder = env::temp_dir().join(format!("wsmux-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).ok()?;
    let config = folder.join("nats.conf");
    let text = "listen: 127.0.0.1:24222\nmax_connections: 100000\n\
                websocket { listen: \"127.0.0.1:24280\", no_tls: true, compression: false }\n";
    std::fs::write(&config, text).ok()?;
    let mut command = on_a_core_of_its_own("nats-server".as_ref());
    command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().ok()?;
    // It says nothing that can be waited for but that it listens.
    for _ in 0..100 {
        if std::net::TcpStream::connect("127.0.0.1:24280").is_ok() {
            return Some(Server(child, 24280, None));
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    None
}
