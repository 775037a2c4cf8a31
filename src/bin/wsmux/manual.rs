//! `wsmux completions` and `wsmux man`: the command line for a shell and for `man`, from the definition
//! that reads it. Nothing has to be kept in step.

use std::io::{self, Write as _};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::args::{self, Args, Completions};
use crate::exit::{Exit, Failure};

/// Prints what the shell reads.
pub(crate) fn completions(args: &Completions) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "wsmux", &mut text);
    print(&text)
}

/// Prints a page, or writes all of them.
pub(crate) fn man(args: &args::Man) -> Result<Exit, Failure> {
    if let Some(dir) = &args.dir {
        return match write_all(dir) {
            Ok(()) => Ok(Exit::Done),
            Err(e) => Err(Failure::io(&format!("--dir: cannot write into {}", dir.display()), &e)),
        };
    }
    let text = page(args.command.as_deref());
    print(&text.map_err(|e| Failure::io("cannot write the page", &e))?)
}

/// The program as it has its commands: without `help`, whose page would say nothing.
fn program() -> Command {
    let mut program = Args::command().disable_help_subcommand(true);
    program.build();
    program
}

fn write_all(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let program = program();
    for command in program.get_subcommands().chain([&program]) {
        let name = Man::new(command.clone()).get_filename();
        std::fs::write(dir.join(name), render(command)?)?;
    }
    Ok(())
}

/// The page of a command, or of the program.
fn page(of: Option<&str>) -> io::Result<Vec<u8>> {
    let program = program();
    render(of.and_then(|name| program.find_subcommand(name)).unwrap_or(&program))
}

fn render(command: &Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let source = format!("wsmux {}", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).source(source).render(&mut text)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    Ok(as_written(&text).into_bytes())
}

/// A page whose last section, of examples and exit codes, keeps its lines as they are written: `man` would
/// fill them up.
fn as_written(page: &str) -> String {
    const EXTRA: &str = "\n.SH EXTRA\n";
    let Some((before, after)) = page.split_once(EXTRA) else { return page.to_owned() };
    let (extra, rest) = after.split_at(after.find("\n.SH ").map_or(after.len(), |at| at + 1));
    format!("{before}\n.SH EXAMPLES AND EXIT CODES\n.nf\n{extra}.fi\n{rest}")
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
