//! What is kept over a restart: the names that clients read, so that they are open when these come back, and
//! how far the ids of events have come.
//!
//! What a venue sends while nobody listens is lost, so one who comes back with an id from before has missed
//! something, whatever is kept: it is told of a gap. What is kept of ids is that none is given again, by which
//! one could take another event for the one that it has seen.
//!
//! That holds wherever a life ends. What is written is [`ROOM`] beyond what was given, and a life that goes on
//! after another has its own room written before it gives the first. One that cannot write goes on after
//! nobody: its ids are of an epoch of their own.
//!
//! Two lives at a time would give the same ids, so a life holds a lock, and none begins beside it. It is the system's
//! (`flock`) on a file beside the state, which is replaced and so cannot be locked itself: it ends with the
//! process, however that ends. Where the system has none, it is the operator's to start one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use wsmux::gateway::{Gateway, Positions};
use wsmux::{Lease, Text};

use crate::exit::{Exit, Failure};

/// Longest file, in bytes, and most names.
const LONGEST: u64 = 4 << 20;
const MOST: usize = 10_000;

/// What is written. One that is higher is of a later version of the program, and is not guessed at.
const VERSION: u32 = 2;

/// For how many ids there is room between two writes: at a million events per second for half a year, so also
/// where the disk is full for a while. There is room for half a million restarts, and then comes another
/// epoch.
const ROOM: u64 = 1 << 44;

/// How often it is written. What is lost of the names with a crash is as old.
const EVERY: Duration = Duration::from_secs(10);

/// For how long names are held open for those who come back: browsers do within seconds.
const HELD: Duration = Duration::from_secs(60);

/// How long the start waits for them.
const PATIENCE: Duration = Duration::from_secs(10);

/// Clients are served whatever becomes of the file.
const UNKEPT: &str = "it serves all the same, and keeps nothing over a restart: is the directory there, \
    and may this user write into it?";

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct State {
    names: Vec<String>,
    /// Absent in the first version.
    positions: Option<String>,
    version: u32,
}

/// What is known of the life before.
#[derive(Debug)]
pub(super) struct Kept {
    lock: Option<File>,
    names: Vec<String>,
    path: PathBuf,
    positions: Option<Positions>,
}

impl Kept {
    /// Reads what there is, and makes room for a life that goes on after it.
    pub(super) fn open(path: PathBuf) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let lock = match lock(&path) {
            Ok(lock) => Some(lock),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(Failure::new(Exit::Lost, format!("--state: {shown} is in use"))
                    .hint("another process has it: end that one first, or name another file"));
            }
            Err(e) => {
                Failure::io(&format!("--state: cannot lock {shown}"), &e).hint(UNKEPT).told();
                None
            }
        };
        let (state, mut positions) = read(&path).map_err(|e| {
            Failure::io(&format!("--state: cannot read {shown}"), &e)
                .hint("remove the file to begin without it")
        })?;
        if lock.is_none() {
            // Whoever else is there may give them.
            positions = None;
        }
        if let Some(after) = positions {
            let room = State { positions: Some(after.later(ROOM).to_string()), ..state.clone() };
            if let Err(e) = replace(&path, &room) {
                Failure::io(&format!("--state: cannot write {shown}"), &e).hint(UNKEPT).told();
                positions = None;
            }
        }
        Ok(Self { lock, names: state.names, path, positions })
    }

    /// What a gateway's ids come after.
    pub(super) fn positions(&self) -> Option<Positions> {
        self.positions
    }
}

/// The names that are held for who comes back.
type Held = Arc<Mutex<Vec<String>>>;

/// Writes the state, while it is there.
pub(super) struct Keeper {
    held: Held,
    _lock: Option<File>,
    path: PathBuf,
    tasks: [JoinHandle<()>; 2],
}

impl Keeper {
    /// Opens what was open, at the pace at which anything is opened, and waits for it a while.
    pub(super) async fn start(kept: Kept, gateway: &Gateway) -> Self {
        let leases = reopen(&kept.names, gateway).await;
        let held: Held = Arc::new(Mutex::new(kept.names));
        let holds = Arc::clone(&held);
        let until = tokio::spawn(async move {
            sleep(HELD).await;
            drop(leases);
            holds.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        let path = kept.path;
        let written = tokio::spawn(write_often(path.clone(), gateway.clone(), Arc::clone(&held)));
        Self { held, _lock: kept.lock, path, tasks: [until, written] }
    }

    pub(super) async fn save(&self, gateway: &Gateway) {
        write(self.path.clone(), gateway, &self.held).await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn reopen(names: &[String], gateway: &Gateway) -> Vec<Lease> {
    let manager = gateway.manager();
    let names = names.iter().take(MOST);
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

async fn write_often(path: PathBuf, gateway: Gateway, held: Held) {
    loop {
        sleep(EVERY).await;
        write(path.clone(), &gateway, &held).await;
    }
}

/// Writes what is read now, or held for who has read it. Where that fails, it is told, and what was written
/// before is still there.
async fn write(path: PathBuf, gateway: &Gateway, held: &Held) {
    let stats = gateway.stats();
    let held = held.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let read = stats.names.iter().map(|name| name.name.to_string());
    let positions = gateway.positions().later(ROOM).to_string();
    let state = State { names: names(read, held), positions: Some(positions), version: VERSION };
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || replace(&path, &state)).await;
    if let Ok(Err(e)) = written {
        Failure::io(&format!("--state: cannot write {shown}"), &e).hint(UNKEPT).told();
    }
}

/// Those that are read come first, where there are too many.
fn names(read: impl Iterator<Item = String>, held: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    read.chain(held).filter(|name| seen.insert(name.clone())).take(MOST).collect()
}

/// Keeps others from the file until what is returned is dropped; `WouldBlock` where another has it.
fn lock(path: &Path) -> io::Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&beside)?;
    #[cfg(unix)]
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// All of it or none, also where the machine stops: a new file takes the place of the old one.
fn replace(path: &Path, state: &State) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let text = serde_json::to_vec(state)?;
    let mut file = File::create(&beside)?;
    io::Write::write_all(&mut file, &text)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    settle(path)
}

/// Has the file's new place be there after a power cut.
#[cfg(unix)]
fn settle(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn settle(_: &Path) -> io::Result<()> {
    Ok(())
}

fn read(path: &Path) -> io::Result<(State, Option<Positions>)> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(e) => return Err(e),
        Ok(about) if about.len() > LONGEST => return Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => {}
    }
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let state: State = serde_json::from_slice(&std::fs::read(path)?)?;
    if state.version > VERSION {
        return Err(invalid(format!("version {} is not known here", state.version)));
    }
    let positions = state.positions.as_deref().map(str::parse).transpose();
    let positions =
        positions.map_err(|e: wsmux::gateway::InvalidPositions| invalid(e.to_string()))?;
    Ok((state, positions))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of one test, which goes with it.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(test: &str) -> Self {
            let name = format!("wsmux-state-{}-{test}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
            let mut beside = self.0.clone().into_os_string();
            beside.push(".lock");
            let _ = std::fs::remove_file(beside);
        }
    }

    fn state(positions: &str) -> State {
        let names = vec!["a".into(), "b".into()];
        State { names, positions: Some(positions.to_owned()), version: VERSION }
    }

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_or_torn_is_told() {
        let file = Temporary::new("read");
        assert_eq!(read(&file.0).unwrap(), (State::default(), None), "there is none at first");
        let state = state("5eed-7");
        replace(&file.0, &state).unwrap();
        replace(&file.0, &state).unwrap();
        assert_eq!(read(&file.0).unwrap(), (state, "5eed-7".parse().ok()));
        let whole = std::fs::read(&file.0).unwrap();
        for at in 0..whole.len() {
            std::fs::write(&file.0, &whole[..at]).unwrap();
            assert!(read(&file.0).is_err(), "torn at {at}");
            assert!(Kept::open(file.0.clone()).is_err());
            assert_eq!(std::fs::read(&file.0).unwrap(), whole[..at], "it is left as it was");
        }
        for damaged in [
            "[]",
            r#"{"names":[1],"version":1}"#,
            r#"{"names":[],"positions":"5eed","version":2}"#,
            r#"{"names":[],"positions":"5eed-7","version":3}"#,
        ] {
            std::fs::write(&file.0, damaged).unwrap();
            assert!(read(&file.0).is_err(), "{damaged}");
        }
    }

    #[test]
    fn what_the_first_version_wrote_has_names_and_no_positions() {
        let file = Temporary::new("first");
        std::fs::write(&file.0, r#"{"names":["a"],"version":1}"#).unwrap();
        let kept = Kept::open(file.0.clone()).unwrap();
        assert_eq!((kept.names.len(), kept.positions()), (1, None));
    }

    #[test]
    fn where_no_room_can_be_made_a_life_goes_on_after_nobody() {
        let file = Temporary::new("room");
        replace(&file.0, &state("5eed-7")).unwrap();
        let mut beside = file.0.clone().into_os_string();
        beside.push(".new");
        // What cannot be written over, whoever runs this.
        std::fs::create_dir(&beside).unwrap();
        let kept = Kept::open(file.0.clone()).unwrap();
        std::fs::remove_dir(&beside).unwrap();
        assert_eq!((kept.names.len(), kept.positions()), (2, None));
        drop(kept);
        let kept = Kept::open(file.0.clone()).unwrap();
        assert_eq!(kept.positions(), "5eed-7".parse().ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_one_life_at_a_time_and_one_that_cannot_lock_it_goes_on_after_nobody() {
        let file = Temporary::new("lock");
        replace(&file.0, &state("5eed-7")).unwrap();
        let first = Kept::open(file.0.clone()).unwrap();
        replace(&file.0, &state("5eed-8")).unwrap();
        let refused = Kept::open(file.0.clone()).unwrap_err().text();
        assert!(refused.contains("is in use"), "{refused}");
        assert_eq!(read(&file.0).unwrap().0, state("5eed-8"), "it is left as it was");
        drop(first);
        assert_eq!(Kept::open(file.0.clone()).unwrap().positions(), "5eed-8".parse().ok());
        let mut beside = file.0.clone().into_os_string();
        beside.push(".lock");
        std::fs::remove_file(&beside).unwrap();
        // What cannot be opened, whoever runs this.
        std::fs::create_dir(&beside).unwrap();
        let kept = Kept::open(file.0.clone()).unwrap();
        std::fs::remove_dir(&beside).unwrap();
        assert_eq!((kept.names.len(), kept.positions()), (2, None));
    }

    /// What a life writes, and what a broken one does not.
    #[derive(Clone, Copy, PartialEq)]
    enum Life {
        Right,
        /// Writes what was given, and no room.
        Exact,
        /// Writes nothing before it gives.
        Unannounced,
    }

    /// Three lives, of which each gives ids after its last write and then crashes; the second and the third
    /// before they have written at all. The first and the last number of each.
    fn lives(life: Life) -> Vec<(u64, u64)> {
        let file = Temporary::new(&format!("lives-{}", life as u8));
        let number = |positions: Positions| -> u64 {
            positions.to_string().split_once('-').unwrap().1.parse().unwrap()
        };
        let room = if life == Life::Exact { 0 } else { ROOM };
        let start: Positions = "5eed-0".parse().unwrap();
        replace(&file.0, &state(&start.later(5 + room).to_string())).unwrap();
        let mut all = vec![(1, 9)];
        for given in [3, 4] {
            let before = std::fs::read(&file.0).unwrap();
            let kept = Kept::open(file.0.clone()).unwrap();
            if life == Life::Unannounced {
                std::fs::write(&file.0, before).unwrap();
            }
            let after = number(kept.positions().unwrap());
            all.push((after + 1, after + given));
        }
        all
    }

    fn are_apart(lives: &[(u64, u64)]) -> bool {
        lives.is_sorted_by(|one, next| one.1 < next.0)
    }

    #[test]
    fn no_id_is_given_twice_wherever_lives_end() {
        assert!(are_apart(&lives(Life::Right)));
    }

    #[test]
    fn a_life_that_leaves_no_room_or_announces_none_gives_ids_again() {
        assert!(!are_apart(&lives(Life::Exact)));
        assert!(!are_apart(&lives(Life::Unannounced)));
    }

    #[test]
    fn names_that_are_held_are_kept_beside_those_that_are_read() {
        let read = ["b", "c"].map(str::to_owned).into_iter();
        assert_eq!(names(read, vec!["a".to_owned(), "b".to_owned()]), ["b", "c", "a"]);
        let many = (0..2 * MOST).map(|n| n.to_string());
        assert_eq!(names(many, vec!["a".to_owned()]).len(), MOST);
    }
}
