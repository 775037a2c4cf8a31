//! A thread that writes: what stands still when the terminal does.
//!
//! It is no task: a write that blocks must hold up neither the sockets nor the end of the program,
//! and a runtime waits for its blocking tasks.

use std::io::{self, Write};
use std::thread;

use tokio::sync::{mpsc, oneshot};

/// What is written at once.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) stderr: Vec<u8>,
    pub(super) stdout: Vec<u8>,
}

impl Chunk {
    pub(super) fn is_empty(&self) -> bool {
        self.stdout.is_empty() && self.stderr.is_empty()
    }
}

/// The way to the thread.
pub(super) struct Writer {
    /// Room for one chunk beside the one that is being written.
    pub(super) chunks: mpsc::Sender<Chunk>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Writer {
    pub(super) fn start() -> io::Result<Self> {
        let (chunks, taken) = mpsc::channel(1);
        let (report, done) = oneshot::channel();
        thread::Builder::new().name("output".into()).spawn(move || {
            let result = write(taken, io::stdout(), anstream::stderr());
            // Where nobody waits for it, nobody wants to know.
            let _ = report.send(result);
        })?;
        Ok(Self { chunks, done })
    }

    /// Waits until all is written, or writing has failed.
    pub(super) async fn finish(self) -> io::Result<()> {
        drop(self.chunks);
        self.done.await.unwrap_or(Ok(()))
    }
}

fn write(
    mut chunks: mpsc::Receiver<Chunk>,
    mut stdout: impl Write,
    mut stderr: impl Write,
) -> io::Result<()> {
    while let Some(chunk) = chunks.blocking_recv() {
        // Whether anybody reads the notices is not what this is about.
        let _ = stderr.write_all(&chunk.stderr);
        stdout.write_all(&chunk.stdout)?;
        stdout.flush()?;
    }
    Ok(())
}

/// Says `text` on stderr, unless that stands still.
pub(crate) async fn say(text: String) {
    let (report, done) = oneshot::channel();
    let said = thread::Builder::new().spawn(move || {
        let _ = anstream::stderr().write_all(text.as_bytes());
        let _ = report.send(());
    });
    if said.is_ok() {
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), done).await;
    }
}
