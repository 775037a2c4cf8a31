//! Scripts of node that need packages of npm.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::process::Command;

use crate::program::{Program, installed};

/// The folder that npm's packages are in, if node and `package` are there.
pub(crate) fn package(package: &str) -> Option<PathBuf> {
    let installed = installed(&["node"])?;
    if !installed.join("node_modules").join(package).is_dir() {
        crate::skipped(&format!("node has no `{package}`"));
        return None;
    }
    Some(installed)
}

/// A script below `tests/real` that needs `needed`, with `args`.
pub(crate) fn script(script: &str, needed: &str, args: &[&str]) -> Option<Program> {
    static COPIES: AtomicU32 = AtomicU32::new(0);
    let installed = package(needed)?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real").join(script);
    // A copy of it, as node looks for packages beside it. Another test may be about to read it: it is
    // there as a whole, or not at all.
    let copy = installed.join(script.replace('/', "-"));
    let part = copy.with_extension(COPIES.fetch_add(1, Relaxed).to_string());
    std::fs::copy(&source, &part).unwrap();
    std::fs::rename(&part, &copy).unwrap();
    let mut command = Command::new("node");
    command.arg(copy).args(args);
    Some(Program::start(command))
}
