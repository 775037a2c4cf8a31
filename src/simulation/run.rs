//! One run: a program from its first step until nothing is left.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::{self, Instant};

use super::client::{Checked, Client, patience};
use super::oracle::End;
use super::program::{Op, Program};
use super::world::World;
use crate::engine::defect::{self, Defect};

/// What came of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What was broken, if anything was.
    pub(super) broken: Option<String>,
    /// What happened, line by line, if it was to be told.
    pub(super) story: Vec<String>,
}

/// How often to look whether all have been served.
const LOOK: Duration = Duration::from_millis(500);

/// Longer than anything is on its way to the server.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Time for what is to happen at once.
const MOMENT: Duration = Duration::from_millis(1);

pub(super) fn run(program: &Program, defect: Option<Defect>, tells: bool) -> Outcome {
    let program = Arc::new(program.clone());
    let runtime = new_runtime();
    let world = {
        let _entered = runtime.enter();
        World::new(Arc::clone(&program), tells)
    };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        defect::with(defect, || drive(&program, &world, runtime))
    }));
    let checked = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("a panic: {}", text.unwrap_or_default()))
    });
    let mut state = world.lock();
    state.check(checked);
    Outcome { broken: state.broken.clone(), story: state.story.take().unwrap_or_default() }
}

fn drive(program: &Arc<Program>, world: &World, mut runtime: Runtime) -> Checked {
    // Dropped only if all went well: where it has just panicked, it would panic again.
    let mut client = {
        let _entered = runtime.enter();
        ManuallyDrop::new(Client::new(program, world))
    };
    let mut steps = program.steps.iter();
    loop {
        let more = runtime.block_on(unconstrained(take_steps(&mut client, &mut steps)))?;
        if !more {
            break;
        }
        runtime = next_runtime(runtime, &mut client);
    }
    runtime.block_on(unconstrained(finish(&mut client, program)))?;
    let handle = runtime.handle().clone();
    let _entered = handle.enter();
    drop((ManuallyDrop::into_inner(client), runtime));
    Ok(())
}

/// A reader's turn must not end because this one future does the work of many tasks.
fn unconstrained<F: Future>(future: F) -> impl Future<Output = F::Output> {
    tokio::task::coop::unconstrained(future)
}

/// Takes steps, up to one that ends the runtime. Returns whether there was such a one.
async fn take_steps(
    client: &mut Client,
    steps: &mut std::slice::Iter<'_, super::program::Step>,
) -> Result<bool, String> {
    for step in steps {
        if !step.after.is_zero() {
            client.go_on(Instant::now() + step.after).await?;
            client.check()?;
        }
        if matches!(step.op, Op::NewRuntime) {
            return Ok(true);
        }
        client.call(&step.op)?;
        client.check()?;
    }
    Ok(false)
}

/// The runtime goes, and all its tasks with it. The next one goes on at the same moment, but for
/// what is left of a millisecond: timers tick by whole ones, counted from their runtime's start.
fn next_runtime(old: Runtime, client: &mut Client) -> Runtime {
    let handle = old.handle().clone();
    let now = {
        let _entered = handle.enter();
        let mut state = client.world.lock();
        state.note(|| "program: the runtime goes".to_owned());
        state.oracle.all_end(End::Aborted);
        drop(state);
        client.senders.take_back(None); // Whoever waits goes with it.
        drop(old);
        Instant::now()
    };
    let new = new_runtime();
    new.block_on(async {
        let late = now.saturating_duration_since(Instant::now()).as_nanos();
        time::advance(Duration::from_millis(late.div_ceil(1_000_000) as u64)).await;
        client.world.lock().skip(Instant::now() - now);
    });
    new
}

/// A reader that has got neither a message nor its end since the faults were over.
fn hungry(client: &Client) -> Option<usize> {
    let state = client.world.lock();
    let mut readers = state.oracle.readers.iter();
    readers.find(|(_, reading)| !reading.is_fed).map(|(number, _)| *number)
}

fn new_runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// The faults are over: everybody is served again. Then all leave, and nothing is left.
async fn finish(client: &mut Client, program: &Program) -> Checked {
    client.go_on(Instant::now() + MOMENT).await?;
    client.check()?;
    client.world.lock().heal();
    client.hurry();
    let (healed_at, patience) = (Instant::now(), patience(program));
    while let Some(hungry) = hungry(client) {
        if healed_at.elapsed() > patience {
            return Err(format!("reader {hungry} has got nothing in {patience:?}"));
        }
        client.go_on(Instant::now() + LOOK).await?;
        client.check()?;
    }
    client.let_go(program.seed % 2 == 0);
    let config = &program.config;
    let leave = config.linger + config.close_timeout + Duration::from_millis(20);
    client.go_on(Instant::now() + leave).await?;
    client.check()?;
    if let Some(manager) = &client.manager {
        let (count, open) = (manager.stream_count(), manager.metrics().active_connections);
        if count + open as usize > 0 {
            return Err(format!("{count} streams and {open} sockets are left"));
        }
    }
    client.manager = None;
    client.go_on(Instant::now() + if program.sends { ON_ITS_WAY } else { MOMENT }).await?;
    client.world.lock().oracle.all_are_told()?;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let state = client.world.lock();
    let (socks, dials) = (state.socks.len(), state.oracle.in_flight.len());
    if tasks + socks + dials > 0 {
        return Err(format!("{tasks} tasks, {socks} sockets and {dials} dials are left"));
    }
    Ok(())
}
