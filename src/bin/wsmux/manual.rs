//! `wsmux completions` and `wsmux man`: the command line for a shell and for `man`, from the definition
//! that reads it. Nothing has to be kept in step.

use std::io::{self, Write as _};

use clap::CommandFactory as _;

use crate::args::{Args, Completions, Man};
use crate::exit::{Exit, Failure};

/// Prints what the shell reads.
pub(crate) fn completions(args: &Completions) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "wsmux", &mut text);
    print(&text)
}

/// Prints a page, or writes all of them.
pub(crate) fn man(args: &Man) -> Result<Exit, Failure> {
    if let Some(dir) = &args.dir {
        return match clap_mangen::generate_to(Args::command(), dir) {
            Ok(()) => Ok(Exit::Done),
            Err(e) => Err(Failure::io("--dir: cannot write the pages", &e)),
        };
    }
    let text = page(args.command.as_deref());
    print(&text.map_err(|e| Failure::io("cannot write the page", &e))?)
}

/// The page of a command, or of the program.
fn page(of: Option<&str>) -> io::Result<Vec<u8>> {
    let mut program = Args::command().disable_help_subcommand(true);
    program.build();
    let command = of.and_then(|name| program.find_subcommand(name)).unwrap_or(&program);
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    Ok(text)
}

/// The names of the commands, for the argument that takes one.
pub(crate) fn command(name: &str) -> Result<String, &'static str> {
    match Args::command().find_subcommand(name) {
        Some(_) => Ok(name.to_owned()),
        None => Err("`wsmux help` lists the commands"),
    }
}

fn print(text: &[u8]) -> Result<Exit, Failure> {
    match io::stdout().write_all(text) {
        // A reader that has gone does not want it.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::io("cannot write", &e)),
        _ => Ok(Exit::Done),
    }
}
