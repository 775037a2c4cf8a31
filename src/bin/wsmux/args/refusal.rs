//! What is said where the command line makes no sense. It repeats no secret.

use std::ffi::OsString;
use std::io::Write as _;

use clap::error::ErrorKind;

use crate::exit::{Exit, Failure};

/// Tells what is wrong with the arguments, or what was asked for. What may be secret in them is not
/// repeated.
pub(crate) fn refused(e: &clap::Error) -> Exit {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let has_url = arguments.first().is_some_and(|first| is_secret(&first.to_string_lossy()));
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has gone does not want it.
            let _ = e.print();
            Exit::Done
        }
        ErrorKind::InvalidSubcommand if has_url => {
            Failure::usage("what is to be done with this URL?")
                .hint("`wsmux tail <URL> <NAME>` prints a stream, `wsmux doctor` examines it")
                .told()
        }
        _ => {
            let text = redacted(e.render().ansi().to_string(), &arguments);
            let _ = anstream::stderr().write_all(text.as_bytes());
            Exit::Usage
        }
    }
}

/// `text` without the arguments that may hold a secret.
fn redacted(text: String, arguments: &[OsString]) -> String {
    let mut secrets: Vec<String> = Vec::new();
    for argument in arguments.iter().map(|argument| argument.to_string_lossy()) {
        let value = argument.split_once('=').filter(|_| argument.starts_with('-'));
        let parts = [Some(&*argument), value.map(|(_, value)| value)];
        secrets.extend(parts.into_iter().flatten().filter(|part| is_secret(part)).map(Into::into));
    }
    // The longest first, as one may be a part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.iter().fold(text, |text, secret| text.replace(&**secret, "***"))
}

/// A URL or a header.
fn is_secret(argument: &str) -> bool {
    !argument.starts_with("--") && argument.contains(':')
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Args;

    #[test]
    fn a_mistake_repeats_no_secret() {
        for arguments in [
            &["doctor", "ws://h/?canary", "x", "ws://u:canary@h/"][..],
            &["tail", "--rate", "ws://u:canary@h/"],
            &["tail", "--rate=ws://u:canary@h/", "x"],
            &["tail", "--format", "X-Key: canary"],
            &["doctor", "ws://h", "x", "Authorization: canary"],
        ] {
            let e = Args::try_parse_from([&["wsmux"], arguments].concat()).unwrap_err();
            let all: Vec<_> = arguments.iter().map(OsString::from).collect();
            let text = redacted(e.render().to_string(), &all);
            assert!(e.render().to_string().contains("canary"), "it would be shown: {text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
