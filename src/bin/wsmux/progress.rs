//! A line on stderr that tells how far it came: on a terminal, and nowhere else.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often it is drawn, at most.
const PER_SECOND: u8 = 10;

/// What has no end: a sign of life, and a message.
pub(crate) fn endless() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target(true));
    bar.set_style(style("{spinner} {elapsed_precise} {msg}"));
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}

/// What ends after so many steps. Where the output is on the terminal too, it is the progress.
pub(crate) fn bounded(steps: u64) -> ProgressBar {
    let shown = !std::io::stdout().is_terminal();
    let bar = ProgressBar::with_draw_target(Some(steps), target(shown));
    bar.set_style(style("{elapsed_precise} {wide_bar} {percent}% {msg} (left: {eta})"));
    bar
}

fn target(shown: bool) -> ProgressDrawTarget {
    if shown && std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(PER_SECOND)
    } else {
        ProgressDrawTarget::hidden()
    }
}

fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Has `bar` tell of something else, if anybody sees it.
pub(crate) fn tell<T: Into<Cow<'static, str>>>(bar: &ProgressBar, text: impl FnOnce() -> T) {
    if !bar.is_hidden() {
        bar.set_message(text());
    }
}
