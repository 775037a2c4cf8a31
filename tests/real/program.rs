//! Programs that a test starts, watches by their lines, and ends.
//!
//! Each has a process group of its own, which is killed when it is dropped: no test leaves one
//! behind, whatever it started in turn. Nothing else is ever signalled.

use std::env;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::{fs, io, process};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::within;

/// Where `scripts/real` put what it installed.
const INSTALLED: &str = "WSMUX_REAL";

/// The folder of what `scripts/real` installed, if all of `programs` are there.
pub(crate) fn installed(programs: &[&str]) -> Option<PathBuf> {
    let Some(folder) = env::var_os(INSTALLED) else {
        crate::skipped("is run by scripts/real");
        return None;
    };
    let path = env::var_os("PATH").unwrap_or_default();
    for program in programs {
        if !env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
            crate::skipped(&format!("there is no {program}"));
            return None;
        }
    }
    Some(folder.into())
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    /// What it said, for a test that fails.
    said: Vec<String>,
}

impl Program {
    pub(crate) fn start(command: Command) -> Self {
        Self::spawn(command, Stdio::null())
    }

    /// With an input in which nothing comes and that does not end, as of a person who only looks.
    pub(crate) fn watched(command: Command) -> Self {
        Self::spawn(command, Stdio::piped())
    }

    fn spawn(mut command: Command, input: Stdio) -> Self {
        command.process_group(0).kill_on_drop(true).stdin(input);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (sender, lines) = mpsc::unbounded_channel();
        forward(child.stdout.take().unwrap(), sender.clone());
        forward(child.stderr.take().unwrap(), sender);
        Self { child, lines, said: Vec::new() }
    }

    /// The first line not seen yet that holds `part`.
    pub(crate) async fn says(&mut self, part: &str) -> String {
        loop {
            let line = within(self.lines.recv()).await;
            let Some(line) = line else { panic!("it ended without `{part}`: {:#?}", self.said) };
            self.said.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Signals its main process.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Signals it and all that it started.
    pub(crate) fn signal_all(&self, signal: Signal) {
        kill_process_group(self.pid(), signal).unwrap();
    }

    /// Ends it by `signal`, and waits until it has ended.
    pub(crate) async fn end(mut self, signal: Signal) {
        if signal == Signal::KILL {
            self.signal_all(signal)
        } else {
            self.signal(signal)
        }
        within(self.child.wait()).await.unwrap();
    }

    fn pid(&self) -> Pid {
        let pid = self.child.id().expect("it was not waited for");
        Pid::from_raw(pid.try_into().unwrap()).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Without an id it has ended, and the id may be another's by now.
        if self.child.id().is_some() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
        }
        while let Ok(line) = self.lines.try_recv() {
            self.said.push(line);
        }
        if std::thread::panicking() {
            let last = self.said.len().saturating_sub(50);
            println!("a program of this test said last: {:#?}", &self.said[last..]);
        }
    }
}

fn forward(from: impl AsyncRead + Send + Unpin + 'static, to: mpsc::UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if to.send(line).is_err() {
                return;
            }
        }
    });
}

/// A port that nobody listens on, below those that the kernel gives to clients: a server that is
/// restarted finds it free.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = u16::try_from(process::id() % 1000).unwrap() * 10;
        let port = 20_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Open TCP connections of this host that `port` is the local end of.
pub(crate) fn connections(port: u16) -> usize {
    // Established, and closed by the other side alone.
    sockets(port, &["01", "08"])
}

/// TCP sockets of this host that `port` is the local end of, in one of these states.
fn sockets(port: u16, states: &[&str]) -> usize {
    let text = fs::read_to_string("/proc/net/tcp").unwrap()
        + &fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    // A line is `sl local:port remote:port state …`, in hexadecimal.
    let is_one = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next()?.rsplit_once(':')?.1;
        Some(u16::from_str_radix(local, 16) == Ok(port) && states.contains(&words.nth(1)?))
    };
    text.lines().filter(|line| is_one(line) == Some(true)).count()
}

/// Waits until somebody listens on `port`: for a program that does not say so.
pub(crate) async fn until_listening(port: u16) {
    within(async {
        while sockets(port, &["0A"]) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Waits until nobody is connected to `port` any more.
pub(crate) async fn until_no_connections(port: u16) {
    within(async {
        while connections(port) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A folder of a test's own, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("real-{}-{count}", process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
