//! Tasks that end with their server.

use std::future::Future;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Ends all tasks of its [`Tasks`] when it is dropped.
#[derive(Debug)]
pub(crate) struct Lifetime(#[expect(dead_code, reason = "held for its drop")] watch::Sender<()>);

/// Starts tasks.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(watch::Receiver<()>);

impl Lifetime {
    pub(crate) fn new() -> (Self, Tasks) {
        let (sender, receiver) = watch::channel(());
        (Self(sender), Tasks(receiver))
    }
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let mut over = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                // Nothing is ever sent: this is the sender's drop.
                _ = over.changed() => {}
                () = task => {}
            }
        })
    }
}
