//! The gateway's fan-out beside node's `ws` and nats-server: one name, thousands of clients.
//!
//! ```text
//! scripts/load
//! ```
//!
//! The server has one core, the maker of the load another. What counts is the server's CPU time per
//! delivery, as the kernel tells it, so a noisy machine matters less. Unix only.
//!
//! - *low*: 20 messages a second, each a write of its own for each client.
//! - *saturated*: 32 messages at once, and the next 32 when all clients have them all.
//! - *round*: how long a message takes to the 99th of a hundred clients, by the time that the writes of
//!   one round take.
//!
//! Lines of figures are `ratio NAME VALUE`; those that begin with `#` are for people.

mod maker;
mod server;

use std::env;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use maker::{Crowd, Figures, Kind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Set for the process that is the gateway.
const SERVE: &str = "WSMUX_LOAD_SERVE";
/// The folder in which npm has put `ws`.
const NODE: &str = "WSMUX_LOAD_NODE";
/// How many clients.
const CLIENTS: &str = "WSMUX_LOAD_CLIENTS";

fn main() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if env::var_os(SERVE).is_some() {
        return server::serve();
    }
    let clients = env::var(CLIENTS).ok().and_then(|text| text.parse().ok()).unwrap_or(5000);
    // `cargo bench` and `cargo test` pass options; this has none.
    let ours = measure("gateway", clients, Kind::Gateway, &mut gateway());
    let node = node().map(|mut child| measure("node", clients, Kind::Node, &mut child));
    let nats = nats().map(|mut child| measure("nats", clients, Kind::Nats, &mut child));
    println!("ratio gateway_p99_round {:.3}", ours.p99.as_secs_f64() / ours.round(clients));
    println!("ratio gateway_kb_per_idle_client {:.3}", ours.idle_kb);
    for (name, theirs) in [("node", node), ("nats", nats)] {
        let Some(theirs) = theirs else { continue };
        println!("ratio gateway_low_vs_{name} {:.3}", ours.low_us / theirs.low_us);
        println!(
            "ratio gateway_saturated_vs_{name} {:.4}",
            ours.saturated_us / theirs.saturated_us
        );
    }
}

fn measure(name: &str, clients: usize, kind: Kind, child: &mut Server) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let figures = runtime.block_on(async {
        let mut crowd = Crowd::gather(clients, kind, child).await;
        crowd.measure(child).await
    });
    println!(
        "# {name}: {clients} clients, {:.2} us of CPU per delivery at 20/s (p99 {:.1} ms), {:.3} us \
         saturated ({:.0} deliveries/s), {:.2} KB per idle client",
        figures.low_us,
        figures.p99.as_secs_f64() * 1000.0,
        figures.saturated_us,
        figures.rate,
        figures.idle_kb,
    );
    let _ = child.0.kill();
    let _ = child.0.wait();
    figures
}

/// A server, which ends with this.
struct Server(Child, u16);

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
    use std::io::{BufRead as _, BufReader};
    let mut child = command.spawn().ok()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    Some(Server(child, line.trim().parse().ok()?))
}

fn gateway() -> Server {
    let mut command = on_a_core_of_its_own(env::current_exe().unwrap().as_os_str());
    command.env(SERVE, "1");
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
            return Some(Server(child, 24280));
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    None
}
