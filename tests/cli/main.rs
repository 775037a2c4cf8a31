//! The program as a shell sees it: the real binary against servers on loopback sockets.
//!
//! Nothing sleeps here: every wait is for an event, and what never comes fails its test.

mod batch;
mod behind;
mod bench;
mod descriptors;
mod doctor;
mod ends;
mod keys;
mod names;
mod proxy;
mod recording;
mod secrets;
mod serve;
mod tail;
mod tiers;

// What needs no other program's feed.
mod manual;
mod mock;

use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use wsmux::test_util::{MockServer, Peer};

/// What never comes fails a test, instead of stopping it.
async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it never came")
}

/// What a run of the program came to.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stderr: String,
    stdout: Vec<u8>,
}

impl Ran {
    fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    fn json_lines(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Everything that somebody could see of it.
    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned() + &self.stderr
    }
}

fn command(arguments: &[&str]) -> Command {
    command_by(Command::new(env!("CARGO_BIN_EXE_wsmux")), arguments)
}

/// By another program that runs it.
fn command_by(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments).kill_on_drop(true).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM"] {
        command.env_remove(variable);
    }
    command
}

/// Runs the program to its end.
async fn run(arguments: &[&str]) -> Ran {
    Running::start(arguments).end().await
}

/// The program while it runs.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(command(arguments))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        within(self.stdout.read_line(&mut line)).await.unwrap();
        assert!(line.ends_with('\n'), "the end: {line:?}");
        line
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits for its end, and gives what was not read.
    async fn end(self) -> Ran {
        let Self { mut child, mut stdout } = self;
        let mut stderr = child.stderr.take().unwrap();
        let (mut out, mut err) = (Vec::new(), String::new());
        let reading = async {
            let (out, err) =
                tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_string(&mut err));
            (out.unwrap(), err.unwrap())
        };
        within(reading).await;
        let code = within(child.wait()).await.unwrap().code();
        Ran { code, stderr: err, stdout: out }
    }
}

/// A server whose sockets all have this done to them.
async fn serving<F: Future<Output = ()> + Send + 'static>(
    script: impl Fn(Peer) -> F + Send + Sync + 'static,
) -> MockServer {
    MockServer::builder().route("/", script).start().await.unwrap()
}
