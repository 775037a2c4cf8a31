//! `wsmux serve` as a process, for clients and proxies that others wrote.

use std::ffi::OsStr;

use tokio::process::Command;

use crate::program::{Folder, Program, installed};

/// What the gateway wants to be shown, where it has a key.
pub(crate) const KEY: &str = "a-key-that-is-long-enough-0123456789";

/// The program, once it is ready.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Host and port.
    pub(crate) at: String,
    _folder: Folder,
    _program: Program,
}

impl Gateway {
    /// Over an exchange of its own.
    pub(crate) async fn demo() -> Option<Self> {
        Self::start("", ["--demo"]).await
    }

    /// Over the streams at `upstream`, by this configuration.
    pub(crate) async fn over(upstream: &str, config: &str) -> Option<Self> {
        Self::start(config, ["--upstream", upstream]).await
    }

    async fn start(
        config: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Option<Self> {
        installed(&[])?;
        let Some(wsmux) = option_env!("CARGO_BIN_EXE_wsmux") else {
            crate::skipped("is built without the feature `cli`");
            return None;
        };
        let folder = Folder::new();
        let mut command = Command::new(wsmux);
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]);
        command.arg(folder.write("serve.toml", config).unwrap()).args(arguments).env("ANN", KEY);
        let mut program = Program::start(command);
        let line = program.says("clients http://").await;
        program.says("ready").await;
        let at = line.trim_start_matches("clients http://").to_owned();
        Some(Self { at, _folder: folder, _program: program })
    }
}
