//! What is kept over a restart: the names that clients read, so that they are open when these come back.
//!
//! Not where they were. What a venue sends while nobody listens is lost, so one who comes back with a place
//! from before has missed something, whatever is kept: the places of another life are unknown to a gateway,
//! which tells of a gap for each.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use wsmux::gateway::Gateway;
use wsmux::{Lease, Text};

use crate::exit::Failure;

/// Longest file, in bytes, and most names.
const LONGEST: u64 = 4 << 20;
const MOST: usize = 10_000;

/// How often it is written. What is lost with a crash is as old.
const EVERY: Duration = Duration::from_secs(10);

/// For how long names are held open for those who come back: browsers do within seconds.
const HELD: Duration = Duration::from_secs(60);

/// How long the start waits for them.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct State {
    names: Vec<String>,
    version: u32,
}

/// Writes the state, while it is there.
pub(super) struct Keeper {
    path: PathBuf,
    tasks: [JoinHandle<()>; 2],
}

impl Keeper {
    /// Opens what was open, at the pace at which anything is opened, and waits for it a while.
    pub(super) async fn start(path: PathBuf, gateway: &Gateway) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let state = read(&path).map_err(|e| {
            Failure::io(&format!("--state: cannot read {shown}"), &e)
                .hint("remove the file to begin without it")
        })?;
        let leases = reopen(&state, gateway).await;
        let held = tokio::spawn(async move {
            sleep(HELD).await;
            drop(leases);
        });
        let written = tokio::spawn(write_often(path.clone(), gateway.clone()));
        Ok(Self { path, tasks: [held, written] })
    }

    pub(super) async fn save(&self, gateway: &Gateway) {
        write(self.path.clone(), gateway).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn reopen(state: &State, gateway: &Gateway) -> Vec<Lease> {
    let manager = gateway.manager();
    let names = state.names.iter().take(MOST);
    // One that is refused now is opened when somebody asks for it.
    let leases: Vec<_> = names.clone().filter_map(|name| manager.keep_warm(name).ok()).collect();
    let until = Instant::now() + PATIENCE;
    for name in names {
        let Ok(mut reader) = manager.subscribe::<Text>(name) else { continue };
        if timeout_at(until, reader.ready()).await.is_err() {
            break;
        }
    }
    leases
}

async fn write_often(path: PathBuf, gateway: Gateway) {
    loop {
        sleep(EVERY).await;
        write(path.clone(), &gateway).await;
    }
}

/// Writes what is read now. Where that fails, it is told, and what was written before is still there.
async fn write(path: PathBuf, gateway: &Gateway) {
    let stats = gateway.stats();
    let names = stats.names.iter().take(MOST).map(|name| name.name.to_string()).collect();
    let state = State { names, version: 1 };
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || replace(&path, &state)).await;
    if let Ok(Err(e)) = written {
        Failure::io(&format!("--state: cannot write {shown}"), &e).told();
    }
}

/// All of it or none: a new file takes the place of the old one.
fn replace(path: &Path, state: &State) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let text = serde_json::to_vec(state)?;
    let mut file = std::fs::File::create(&beside)?;
    io::Write::write_all(&mut file, &text)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

fn read(path: &Path) -> io::Result<State> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(e) => return Err(e),
        Ok(about) if about.len() > LONGEST => return Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => {}
    }
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_told() {
        let path = std::env::temp_dir().join(format!("wsmux-state-{}", std::process::id()));
        assert_eq!(read(&path).unwrap(), State::default(), "there is none at first");
        let state = State { names: vec!["a".into(), "b".into()], version: 1 };
        replace(&path, &state).unwrap();
        replace(&path, &state).unwrap();
        assert_eq!(read(&path).unwrap(), state);
        for damaged in ["", "{", "[]", r#"{"names":[1],"version":1}"#] {
            std::fs::write(&path, damaged).unwrap();
            assert!(read(&path).is_err(), "{damaged}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
