//! What clients that never read cost those that do.
//!
//! Two gateways of the same settings, and as many clients of `/ws` at each. At one of them one client in a
//! hundred reads nothing, from the start on, and its queue is full: what it misses is counted by the gateway
//! before anything is measured. In each round first the one and then the other is measured at 20 messages a
//! second. The figure is the median of the rounds' `p99 with / p99 without`, of those who read.
//!
//! With `WSMUX_LOAD_ONLY=twin` the one is a server that waits for each client a little: the figure then has
//! to be far above what it is for the gateway, or it says nothing.

use std::time::Duration;

use crate::maker::{Crowd, Kind, resident_kb};
use crate::server::Slow;
use crate::{Server, median};

/// At most so many clients, as what the kernel keeps for those that are stuck has to be filled up first.
pub(crate) const CLIENTS: usize = 1000;
/// The same of the twin, which waits for each of them again and again.
pub(crate) const TWIN: usize = 200;
/// One client in so many is stuck.
const IN: usize = 100;
const ROUNDS: usize = 5;
/// How long one of them is measured in a round.
const MEASURED: Duration = Duration::from_millis(1500);
/// What each that is stuck has to miss, so that its queue has been full.
const MISSED: u64 = 20;
/// Messages until then, in bursts.
const BURST: u64 = 64;
const BURSTS: usize = 400;

/// Prints `gateway_stuck_client_p99`.
pub(crate) async fn compare(clients: usize, is_twin: bool) {
    let stuck = (clients / IN).max(1);
    let slow = if is_twin { Slow::WaitedFor } else { Slow::Queued };
    let mut without = side(clients, 0, Slow::Queued).await;
    let mut with = side(clients, stuck, slow).await;
    let before = resident_kb(&with.0);
    fill(&mut with, stuck).await;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let kb = (resident_kb(&with.0) - before) / stuck as f64;

    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut p99 = [Duration::ZERO; 2];
        for (p99, (server, crowd)) in p99.iter_mut().zip([&mut without, &mut with]) {
            *p99 = crowd.low(server, MEASURED).await.1;
        }
        rounds.push(p99.map(|p99| p99.as_secs_f64()));
    }
    let [none, some] = [0, 1].map(|side| median(rounds.iter().map(|round| round[side])) * 1000.0);
    println!(
        "# stuck: {stuck} of {clients} clients never read and hold {kb:.0} KB each; the others' p99 is \
         {some:.1} ms, and {none:.1} ms where there are none"
    );
    let ratio = median(rounds.iter().map(|[none, some]| some / none));
    let name = if is_twin { "twin_stuck_client_p99" } else { "gateway_stuck_client_p99" };
    println!("ratio {name} {ratio:.3}");
}

async fn side(clients: usize, stuck: usize, slow: Slow) -> (Server, Crowd) {
    let server = crate::gateway(slow);
    let crowd = Crowd::gather_with(clients, stuck, Kind::Words, &server).await;
    (server, crowd)
}

/// Publishes until those that are stuck have full queues.
async fn fill((server, crowd): &mut (Server, Crowd), stuck: usize) {
    for _ in 0..BURSTS {
        crowd.publish_and_wait(server, BURST).await;
        if server.missed() >= MISSED * stuck as u64 {
            return;
        }
    }
    panic!("nobody is stuck");
}
