//! Messages that readers who keep up lose to lag while the socket never runs dry, with the default
//! settings: counted by the readers, on one thread and on two workers.
//!
//! ```text
//! cargo bench --bench lost
//! ```
//!
//! The server has a CPU of its own where there are several. What the kernel does to two workers that
//! share CPUs with it is in the figure.

mod common;

use tokio_tungstenite::tungstenite::Message as Wire;
use wsmux::Message;

use self::common::bare::Bare;
use self::common::cpus::pinned;
use self::common::rounds::{is_wanted, tell_absolute};
use self::common::server::{Feed, Server, serve_if_asked};
use self::common::{ours, pipeline, run, runtime};

const NAME: &str = "lost_at_saturation";
const ROUNDS: usize = 5;

fn main() {
    serve_if_asked();
    if !is_wanted(NAME) {
        return;
    }
    let server = Server::start();
    let mut lost = vec![0; ROUNDS];
    for workers in [None, Some(2)] {
        for size in [(1, 1_000_000), (10, 400_000), (100, 40_000)] {
            let (mut ours, mut bare) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let (o, b) = match workers {
                    None => pinned(|| once(&server, size, None)),
                    Some(_) => once(&server, size, workers),
                };
                ours.push(o);
                bare.push(b);
            }
            lost.iter_mut().zip(&ours).for_each(|(lost, more)| *lost += more);
            let on = workers.map_or("one thread".to_owned(), |n| format!("{n} workers"));
            println!(
                "# {NAME}: {} readers of {} messages on {on}: ours {ours:?}, bare {bare:?}",
                size.0, size.1
            );
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let lost: Vec<_> = lost.into_iter().map(|lost| lost as f64).collect();
    tell_absolute(NAME, "messages", &lost);
}

/// What was lost by ours, and by a bare loop that yields.
fn once(server: &Server, size: (u64, u64), workers: Option<usize>) -> (u64, u64) {
    let feed = Feed::Flood { bytes: 170, count: size.1 };
    let manager = ours::manager(server, feed);
    let ours = run(&runtime(workers), pipeline::ours(manager, size, |_: Message| {}));
    let bare = pipeline::bare(Bare::new(server, feed), size, |_: Wire| {});
    (ours.missed, run(&runtime(workers), bare).missed)
}
