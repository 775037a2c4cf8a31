//! Servers that count aloud, in the tests' own scripts: on node's `ws`, and on Python's `websockets`.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tokio::process::Command;
use wsmux::protocol::DisconnectReason;
use wsmux::{Config, WsManager};

use crate::program::{Program, free_port, installed, until_no_connections};
use crate::stories::{Server, stories};
use crate::{SECOND, builder, direct};

/// A script and what runs it.
#[derive(Debug)]
pub(crate) struct Numbers {
    command: Vec<PathBuf>,
    port: u16,
    program: Option<Program>,
}

impl Numbers {
    /// On node's `ws`.
    pub(crate) async fn node() -> Option<Self> {
        let installed = installed(&["node"])?;
        if !installed.join("node_modules/ws").is_dir() {
            crate::skipped("node has no `ws`");
            return None;
        }
        // A copy of the script, as node looks for `ws` beside it.
        Some(Self::start(vec!["node".into(), installed.join("numbers.mjs")]).await)
    }

    /// On Python's `websockets`.
    pub(crate) async fn python() -> Option<Self> {
        let installed = installed(&[])?;
        let python = installed.join("python/bin/python");
        if !python.is_file() {
            crate::skipped("Python has no `websockets`");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/servers/numbers.py");
        Some(Self::start(vec![python, script]).await)
    }

    async fn start(command: Vec<PathBuf>) -> Self {
        let mut numbers = Self { command, port: free_port(), program: None };
        numbers.up().await;
        numbers
    }

    /// Puts `prefix` before the command from the next start on.
    pub(crate) async fn restart_by(&mut self, prefix: &[&str]) {
        self.down(Signal::TERM).await;
        self.command.splice(0..0, prefix.iter().map(PathBuf::from));
        self.up().await;
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) async fn up(&mut self) {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).arg(self.port.to_string());
        let mut program = Program::start(command);
        program.says("listening").await;
        self.program = Some(program);
    }

    pub(crate) async fn down(&mut self, signal: Signal) {
        self.program.take().expect("it is up").end(signal).await;
    }

    pub(crate) fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("it is up")
    }

    /// Waits until the server says that it has so many sockets.
    pub(crate) async fn until_sockets(&mut self, count: usize) {
        while self.program().says("sockets ").await != format!("sockets {count}") {}
    }
}

impl Server for Numbers {
    fn manager(&self, config: Config) -> WsManager {
        builder(direct(self.port), config).build().unwrap()
    }

    async fn restart(&mut self, signal: Signal) {
        self.down(signal).await;
        self.up().await;
    }

    fn signal(&mut self, signal: Signal) {
        self.program().signal_all(signal);
    }

    async fn until_used(&mut self) {
        self.until_sockets(1).await;
    }

    async fn until_unused(&mut self) {
        self.until_sockets(0).await;
        until_no_connections(self.port).await;
    }
}

stories!(ws, Numbers::node(), DisconnectReason::closed(Some(1012), "restart"));
stories!(websockets, Numbers::python(), DisconnectReason::closed(Some(1001), ""));

#[tokio::test]
async fn with_the_defaults_a_frozen_server_is_found_dead_in_30_s() {
    let Some(server) = Numbers::node().await else { return };
    let config = Config::default();
    assert_eq!(config.heartbeat.interval + config.heartbeat.timeout, 30 * SECOND);
    crate::stories::frozen(server, config).await;
}
