//! The whole client against servers that others wrote, and a suite that examines clients.
//!
//! `scripts/real` and `scripts/autobahn` install what these tests need and run them. Without it each
//! says that it is skipped, and the scripts count it as such.

mod autobahn;

use std::io::Write as _;

/// Says that a test is skipped, also where the output of a test that passes is not shown.
fn skipped(test: &str, why: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "SKIPPED {test}: {why}").unwrap();
}
