//! The task of a socket: it reads, writes and ends as is wanted.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::{mpsc, watch};

use super::conn::{Conn, Control, Ending, Probe, Queues, Reading, Stop};
use super::inbound::Inbound;
use super::io::{Io, Watch, finish_io};
use super::outbound::Outbound;

/// The work of a socket.
#[derive(Debug)]
pub(super) struct Work {
    counted: Counted,
    inbound: Inbound,
    outbound: Outbound,
    probes: Probes,
}

impl Work {
    pub(super) fn new(conn: &Arc<Conn>, early: BytesMut, queues: Queues) -> Self {
        let Queues { outgoing, probes } = queues;
        Self {
            counted: Counted(Arc::clone(conn)),
            inbound: Inbound::new(early),
            outbound: Outbound::new(outgoing),
            probes: Probes { current: None, queue: probes },
        }
    }

    /// Does the work until the socket has ended.
    pub(super) async fn run(mut self, mut io: Box<dyn Io>) {
        let conn = Arc::clone(&self.counted.0);
        let mut control = conn.control.subscribe();
        loop {
            let now = *control.borrow_and_update();
            let stop = match now.end {
                Some(ending) => Stop::Ending(ending),
                None => self.step(&conn, &mut io, now.reading, &mut control).await,
            };
            match stop {
                Stop::Changed => continue,
                Stop::Ending(ending) => break finish(self, io, ending).await,
                Stop::Gone if now.reading == Reading::Live => {
                    break finish(self, io, Ending::Fin).await;
                }
                Stop::Gone => break outlast(self, io, control).await,
            }
        }
    }

    async fn step(
        &mut self,
        conn: &Conn,
        io: &mut Box<dyn Io>,
        reading: Reading,
        control: &mut watch::Receiver<Control>,
    ) -> Stop {
        let reads = matches!(reading, Reading::Live | Reading::HoldsClose);
        let writes = reading != Reading::HalfOpen;
        if !writes {
            self.outbound.close();
        }
        let watch = (!reads).then(|| Watch::new(io.tcp()));
        let (mut read, mut write) = tokio::io::split(io);
        tokio::select! {
            biased;
            stop = self.inbound.run(&mut read, conn), if reads => stop,
            () = gone(watch.as_ref()) => Stop::Gone,
            _ = control.changed() => Stop::Changed,
            ending = self.outbound.run(&mut write, conn), if writes => Stop::Ending(ending),
            // Last, so that a probe is answered when there is nothing left to see.
            never = self.probes.answer(watch.as_ref()) => match never {},
        }
    }
}

async fn gone(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.gone().await,
        None => pending().await,
    }
}

/// Those who ask whether all was seen.
#[derive(Debug)]
struct Probes {
    current: Option<Probe>,
    queue: mpsc::Receiver<Probe>,
}

impl Probes {
    /// Answers forever. May be cancelled and called again.
    async fn answer(&mut self, watch: Option<&Watch>) -> Infallible {
        loop {
            if self.current.is_none() {
                self.current = self.queue.recv().await;
            }
            if self.current.is_none() {
                return pending().await;
            }
            if let Some(watch) = watch {
                watch.awake().await;
            }
            // What the client did before the question shows when the task looks again.
            tokio::task::yield_now().await;
            if let Some(probe) = self.current.take() {
                // The one who asked may have given up.
                let _ = probe.send(());
            }
        }
    }
}

/// Ends a socket.
async fn finish(work: Work, io: Box<dyn Io>, ending: Ending) {
    // What waits for it learns of the end at once.
    drop(work);
    finish_io(io, ending).await;
}

/// Keeps a stream whose client is gone, as was promised.
async fn outlast(work: Work, io: Box<dyn Io>, mut control: watch::Receiver<Control>) {
    drop(work);
    // It fails only where the last peer is gone; then the server's end is what remains.
    if control.wait_for(|control| control.end.is_some()).await.is_err() {
        pending::<()>().await;
    }
    drop(io);
}

/// Ends the counting with the task, however that ends.
#[derive(Debug)]
struct Counted(Arc<Conn>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.gone();
    }
}
