//! Recorded and replayed: what a reader of a replay gets is what a reader got on the day.

mod crash;
mod replays;
mod speeds;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Builder;
use wsmux::record::Replay;
use wsmux::{Config, FromMessage, Gap, Message, StreamError, Subscription, WsManager};

use crate::config;

/// A file that is gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wsmux-{}-{next}.rec", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a reader gets, comparable.
#[derive(Clone, Debug, PartialEq)]
enum Got {
    Closed(String),
    Gap(Gap),
    Message(Message),
}

fn got(item: Result<Message, StreamError>) -> Got {
    match item {
        Ok(message) => Got::Message(message),
        Err(StreamError::Gap(gap)) => Got::Gap(gap),
        Err(StreamError::Closed(reason)) if Replay::is_end(&reason) => Got::Closed("end".into()),
        Err(StreamError::Closed(reason)) => Got::Closed(reason.to_string()),
        Err(other) => panic!("{other:?}"),
    }
}

/// Everything up to the end.
async fn all(mut stream: Subscription<Message>) -> Vec<Got> {
    let mut all = Vec::new();
    while let Some(item) = stream.recv().await {
        all.push(got(item));
    }
    all
}

fn replaying(replay: Replay, config: Config) -> WsManager {
    WsManager::builder(replay.protocol()).config(config).transport(replay).build().unwrap()
}

fn subscribed<T: FromMessage>(manager: &WsManager, name: &str) -> Subscription<T> {
    manager.subscribe(name).unwrap()
}

fn paused<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

/// One that keeps little: half a dozen messages.
fn small() -> Config {
    config().buffer(6)
}
