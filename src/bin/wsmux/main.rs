//! `wsmux`: streams by name, from a shell.
//!
//! Uses the library's public API only. What the program prints: data on stdout, everything else on
//! stderr; what it ends with is in [`exit`].
//!
//! - What a server sends is never written to a terminal as it is, unless `--format raw` asks for it.
//! - No secret is printed: no query, no user-info, no value of a header, also where arguments are
//!   wrong.
//! - A terminal or a pipe that stands still holds up neither the sockets nor Ctrl-C.

mod args;
mod bench;
mod doctor;
mod endpoint;
mod exit;
mod logs;
mod manual;
mod mock;
mod progress;
mod record;
mod replay;
mod serve;
mod signals;
mod tail;
mod values;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::runtime::Builder;

use args::{Args, Command};
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => return args::refused(&e).into(),
    };
    args.color.write_global();
    logs::start(args.verbose, matches!(args.command, Command::Serve(_)));
    let runtime = match Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return Failure::io("cannot start", &e).told().into(),
    };
    let result = runtime.block_on(async {
        match args.command {
            Command::Tail(tail) => tail::run(tail).await,
            Command::Record(record) => record::run(record).await,
            Command::Replay(replay) => replay::run(replay).await,
            Command::Doctor(doctor) => doctor::run(doctor).await,
            Command::Serve(serve) => serve::run(serve).await,
            Command::Mock(mock) => mock::run(mock).await,
            Command::Completions(completions) => manual::completions(&completions),
            Command::Man(man) => manual::man(&man),
            Command::Bench(bench) => bench::run(bench).await,
        }
    });
    // Whatever still runs must not hold up the end.
    runtime.shutdown_background();
    result.unwrap_or_else(Failure::told).into()
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
