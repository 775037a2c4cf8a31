//! `wsmux doctor`: prints what the library's doctor finds.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::builder::styling::{AnsiColor, Style};
use wsmux::doctor::{Diagnosis, DoctorOptions, Finding, Outcome, Step, StepKind};

use crate::args::Doctor;
use crate::endpoint::{headers, transport};
use crate::exit::{ERROR, Exit, Failure};

pub(crate) async fn run(args: Doctor) -> Result<Exit, Failure> {
    let mut options = DoctorOptions::default()
        .timeout(args.timeout)
        .listen(args.listen)
        .transport(transport(&args.target)?);
    for (name, value) in headers(&args.target)? {
        options = options.header(name, value);
    }
    let diagnosis = wsmux::doctor(&args.target.url, &args.name, options).await;
    let diagnosis = diagnosis.map_err(Failure::usage)?;
    let printed = if args.json {
        serde_json::to_string_pretty(&diagnosis)
            .map_err(io::Error::other)
            .and_then(|json| writeln!(io::stdout(), "{json}"))
    } else {
        anstream::stdout().write_all(text(&diagnosis).as_bytes())
    };
    match printed {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("cannot write the diagnosis", &e))
        }
        _ => Ok(exit(&diagnosis)),
    }
}

fn exit(diagnosis: &Diagnosis) -> Exit {
    match (diagnosis.failed(), diagnosis.outcome()) {
        (
            Some(Step {
                kind: StepKind::Dns | StepKind::Tcp | StepKind::Proxy | StepKind::Tls,
                ..
            }),
            _,
        ) => Exit::Unreachable,
        (
            Some(Step {
                kind: StepKind::Handshake, finding: Finding::Failed { error, .. }, ..
            }),
            _,
        ) => Exit::before_open(error.reason()),
        (Some(_), _) => Exit::Lost,
        (None, Outcome::Warning) => Exit::Warned,
        (None, _) => Exit::Done,
    }
}

/// As the diagnosis prints itself, with colours.
fn text(diagnosis: &Diagnosis) -> String {
    let mut text = format!("{}\n", diagnosis.url);
    for step in &diagnosis.steps {
        let style = style(step.outcome);
        let _ = writeln!(text, "{style}{:<4}{style:#}  {step}", step.outcome);
    }
    let style = style(diagnosis.outcome());
    let _ = writeln!(text, "{style}{}{style:#}", diagnosis.verdict());
    text
}

fn style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Failed => ERROR,
        Outcome::Passed => AnsiColor::Green.on_default(),
        Outcome::Warning => AnsiColor::Yellow.on_default().bold(),
        _ => Style::new().dimmed(),
    }
}
