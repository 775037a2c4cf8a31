//! Health as an aligned table of plain text.
//!
//! What a peer or a user may have put in (names, a server's words) is escaped, and cut.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use super::escape::cut;
use super::finding::LONGEST_CAUSE;
use super::{Diagnosis, Figure, FindingKind};
use crate::name::StreamName;
use crate::observe::{Status, StreamInfo};

/// Characters of a cell; more are cut.
const WIDEST: usize = 48;

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { health, streams } = self;
        writeln!(
            f,
            "{}: {} of {} streams open, connections: {}, up for {}",
            health.status,
            health.open_streams,
            health.streams,
            health.connections,
            Figure::Duration(health.uptime),
        )?;
        if !health.findings.is_empty() {
            let mut table = Table::new(&["", "FINDING", "STREAM", "FIGURE", "THRESHOLD"]);
            for finding in &health.findings {
                table.row([
                    finding.severity.to_string(),
                    finding.kind.label().to_owned(),
                    finding.stream.as_ref().map_or("-".into(), |name| cut(name.as_str(), WIDEST)),
                    finding.figure.to_string(),
                    finding.threshold.to_string(),
                ]);
                table.note(finding.summary());
                table.note(finding.advice().to_owned());
            }
            write!(f, "\n{table}")?;
        }
        for (kind, count) in &health.left_out {
            writeln!(f, "and {count} more: {}", kind.label())?;
        }
        let down = health.findings.iter().filter(|found| found.kind == FindingKind::StreamDown);
        write_streams(streams, &down.filter_map(|found| found.stream.as_ref()).collect(), f)
    }
}

/// The streams: those that are not open first, then by name. Why one is down is not said again of
/// those that were `told` of.
fn write_streams(
    streams: &[StreamInfo],
    told: &HashSet<&StreamName>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    if streams.is_empty() {
        return Ok(());
    }
    let mut sorted: Vec<_> = streams.iter().collect();
    sorted.sort_unstable_by_key(|info| (info.status.is_open(), &info.name));
    let mut table = Table::new(&[
        "STREAM", "STATUS", "READERS", "LEASES", "MESSAGES", "LAG", "LAGGED", "GAPS", "SILENT",
        "UPTIME", "P99",
    ]);
    for info in sorted.iter().take(Diagnosis::STREAMS) {
        let time =
            |time: Option<Duration>| time.map_or("-".into(), |t| Figure::Duration(t).to_string());
        table.row([
            cut(info.name.as_str(), WIDEST),
            word(&info.status).to_owned(),
            info.readers.to_string(),
            info.leases.to_string(),
            info.messages.to_string(),
            info.lag.to_string(),
            info.lagged.to_string(),
            info.gaps.to_string(),
            time(info.silent_for),
            time(info.uptime),
            time(info.latency.map(|latency| latency.p99)),
        ]);
        let why = why_not(info).filter(|_| !told.contains(&info.name));
        why.into_iter().for_each(|why| table.note(why));
    }
    write!(f, "\n{table}")?;
    match streams.len().checked_sub(Diagnosis::STREAMS) {
        Some(more @ 1..) => writeln!(f, "and {more} more streams"),
        _ => Ok(()),
    }
}

/// Why a stream is not open, where that is known.
fn why_not(info: &StreamInfo) -> Option<String> {
    let why = match &info.status {
        Status::Open => return None,
        Status::BackingOff { .. } | Status::Closed(_) => info.status.to_string(),
        Status::Connecting { .. } | Status::Joining => info.last_error.as_ref()?.to_string(),
        Status::Waiting { .. } => match &info.last_error {
            Some(error) => format!("{}, after: {error}", info.status),
            None => info.status.to_string(),
        },
    };
    Some(cut(&why, LONGEST_CAUSE))
}

fn word(status: &Status) -> &'static str {
    match status {
        Status::BackingOff { .. } => "backing off",
        Status::Closed(_) => "closed",
        Status::Connecting { .. } => "connecting",
        Status::Joining => "joining",
        Status::Open => "open",
        Status::Waiting { .. } => "waiting",
    }
}

/// Rows of cells, each column as wide as its widest cell, and notes under a row.
struct Table {
    lines: Vec<Line>,
    widths: Vec<usize>,
}

enum Line {
    Note(String),
    Row(Vec<String>),
}

impl Table {
    fn new(head: &[&str]) -> Self {
        let mut table = Self { lines: Vec::new(), widths: vec![0; head.len()] };
        table.row(head.iter().map(|&cell| cell.to_owned()));
        table
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<_> = cells.into_iter().collect();
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count());
        }
        self.lines.push(Line::Row(cells));
    }

    fn note(&mut self, note: String) {
        self.lines.push(Line::Note(note));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            match line {
                Line::Note(note) => writeln!(f, "      {note}")?,
                Line::Row(cells) => {
                    let padded = cells.iter().zip(&self.widths);
                    let row: String =
                        padded.map(|(cell, width)| format!("{cell:<width$}  ")).collect();
                    writeln!(f, "{}", row.trim_end())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_notes_are_not_cut() {
        let mut table = Table::new(&["A", "B"]);
        table.row(["éé".into(), "1".into()]);
        table.note("a note".into());
        table.row(["x".into(), String::new()]);
        assert_eq!(table.to_string(), "A   B\néé  1\n      a note\nx\n");
    }
}
