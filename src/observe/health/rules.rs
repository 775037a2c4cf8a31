//! From what was observed to findings. Each rule is a function of its own, and has a case that
//! fires and one that does not in the table of its tests.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cause, Figure, Finding, FindingKind, Severity, Thresholds};
use crate::error::CloseReason;
use crate::name::StreamName;
use crate::observe::window::float;
use crate::observe::{Activity, StreamInfo};

/// What the rules look at.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) activity: Activity,
    /// Streams that ended by themselves, the oldest first.
    pub(crate) ended: Vec<Ended>,
    pub(crate) max_connections: usize,
    /// Hosts to which this manager has sockets under a base URL that others have too, and how many
    /// other managers that are.
    pub(crate) neighbours: Vec<(String, usize)>,
    pub(crate) now: Instant,
    pub(crate) shut_down: bool,
    pub(crate) streams: &'a [StreamInfo],
    pub(crate) uptime: Duration,
}

/// A stream that ended by itself.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) at: Instant,
    pub(crate) name: StreamName,
    pub(crate) reason: CloseReason,
}

impl Observed<'_> {
    /// Connections that carry streams: each carries at least one.
    pub(super) fn connections(&self) -> usize {
        self.streams.iter().map(|info| info.connection).collect::<HashSet<_>>().len()
    }
}

/// A limit of fewer connections is meant to be used up.
const SMALL_LIMIT: usize = 10;

/// Fewer messages behind is what a burst does, and a smaller buffer is meant to be overrun.
const FEW_BEHIND: usize = 16;

/// Fewer messages that cannot be read are an occasional word of the server.
const FEW_ERRORS: u64 = 5;

/// Of fewer messages, the 99th percentile is the largest.
const FEW_LATENCIES: u64 = 100;

/// What is wrong, the worst first.
pub(crate) fn findings(observed: &Observed<'_>, thresholds: &Thresholds) -> Vec<Finding> {
    let mut found = of_manager(observed, thresholds);
    // A stream that only lingers is missed by nobody.
    let wanted = observed.streams.iter().filter(|info| info.readers + info.leases > 0);
    found.extend(wanted.flat_map(|info| of_stream(info, thresholds)));
    found.extend(ended(observed, thresholds));
    found.sort_unstable_by(Finding::by_urgency);
    found
}

fn of_manager(observed: &Observed<'_>, thresholds: &Thresholds) -> Vec<Finding> {
    let Activity {
        decode_errors, exhausted, lagged, messages, refused, retries, unroutable, ..
    } = observed.activity;
    let rate = |kind, rate, most| above(kind, Figure::PerSecond(rate), Figure::PerSecond(most));
    let found = [
        observed.shut_down.then(|| finding(FindingKind::ShutDown, COUNT_1, COUNT_0)).map(failing),
        above(FindingKind::SubscriptionsRefused, Figure::Count(refused.minute), COUNT_0)
            .map(failing),
        above(FindingKind::Exhausted, Figure::Count(exhausted.minute), COUNT_0).map(failing),
        too_many_connections(observed, thresholds),
        failed_over(observed, thresholds),
        rate(FindingKind::HighRetryRate, retries.per_second(), thresholds.retries),
        rate(FindingKind::HighLagRate, lagged.per_second(), thresholds.lagged),
        rate(FindingKind::UnroutableMessages, unroutable.per_second(), thresholds.unroutable),
        unreadable(decode_errors.five_minutes, messages, thresholds),
    ];
    let duplicates = observed.neighbours.iter().filter_map(|(host, managers)| {
        let found = above(FindingKind::DuplicateManagers, count(*managers), COUNT_0)?;
        Some(Finding { cause: Some(Cause::Host(host.clone())), ..found })
    });
    found.into_iter().flatten().chain(duplicates).collect()
}

fn too_many_connections(observed: &Observed<'_>, thresholds: &Thresholds) -> Option<Finding> {
    let max = observed.max_connections;
    let near = match max {
        SMALL_LIMIT.. => whole(thresholds.connections_share * float(max as u64)),
        _ => u64::MAX,
    };
    let most = near.min(thresholds.connections as u64);
    above(FindingKind::TooManyConnections, count(observed.connections()), Figure::Count(most))
}

fn failed_over(observed: &Observed<'_>, thresholds: &Thresholds) -> Option<Finding> {
    let is_away = |info: &&StreamInfo| {
        info.base > 0 && info.status.is_open() && info.readers + info.leases > 0
    };
    let away = observed.streams.iter().filter(is_away).count();
    above(FindingKind::FailedOver, count(away), count(thresholds.failed_over))
}

fn unreadable(errors: u64, messages: u64, thresholds: &Thresholds) -> Option<Finding> {
    // With several readers there may be more errors than messages.
    let share = (float(errors) / float(messages.max(1))).min(1.0);
    above(
        FindingKind::HighDecodeErrorRate,
        Figure::Share(share),
        Figure::Share(thresholds.decode_errors),
    )
    .filter(|_| errors >= FEW_ERRORS)
}

fn of_stream<'a>(
    info: &'a StreamInfo,
    thresholds: &Thresholds,
) -> impl Iterator<Item = Finding> + use<'a> {
    let longer = |kind, time: Option<Duration>, most| {
        above(kind, Figure::Duration(time?), Figure::Duration(most))
    };
    let found = [
        down(info, thresholds),
        above(
            FindingKind::FrequentReconnects,
            count(info.lost_lately),
            count(thresholds.reconnects),
        ),
        longer(FindingKind::ReaderStalled, info.unread_for, thresholds.unread_for),
        behind(info, thresholds),
        quiet(info),
        slow(info, thresholds),
        longer(FindingKind::LeaseWithoutReaders, info.unattended_for, thresholds.leased_for),
    ];
    let named = |found| Finding { stream: Some(info.name.clone()), ..found };
    found.into_iter().flatten().map(named)
}

fn down(info: &StreamInfo, thresholds: &Thresholds) -> Option<Finding> {
    let down_for = Figure::Duration(info.down_for?);
    let above = |most| above(FindingKind::StreamDown, down_for, Figure::Duration(most));
    let found = above(thresholds.down_fail).map(failing).or_else(|| above(thresholds.down_warn))?;
    let cause = Cause::Down { error: info.last_error.clone(), status: info.status.clone() };
    Some(Finding { cause: Some(cause), ..found })
}

fn behind(info: &StreamInfo, thresholds: &Thresholds) -> Option<Finding> {
    let few = info.config.buffer.min(FEW_BEHIND) as u64;
    let most = whole(thresholds.lag * float(info.config.buffer as u64)).max(few);
    above(FindingKind::ReaderBehind, Figure::Count(info.lag), Figure::Count(most))
}

fn quiet(info: &StreamInfo) -> Option<Finding> {
    let figure = Figure::Duration(info.silent_for.filter(|_| info.quiet)?);
    let threshold = Figure::Duration(info.config.quiet_after);
    Some(finding(FindingKind::StreamQuiet, figure, threshold))
}

fn slow(info: &StreamInfo, thresholds: &Thresholds) -> Option<Finding> {
    let latency = info.latency?;
    let typical = if latency.count < FEW_LATENCIES { latency.p50 } else { latency.p99 };
    let threshold = Figure::Duration(thresholds.latency);
    above(FindingKind::HighLatency, Figure::Duration(typical), threshold)
}

/// The streams that ended lately and were not opened again.
fn ended<'a>(
    observed: &'a Observed<'_>,
    thresholds: &'a Thresholds,
) -> impl Iterator<Item = Finding> + use<'a> {
    let open: HashSet<&StreamName> = if observed.ended.is_empty() {
        HashSet::new()
    } else {
        let open = observed.streams.iter().filter(|info| info.status.is_open());
        open.map(|info| &info.name).collect()
    };
    let mut told = HashSet::new();
    let latest_first = observed.ended.iter().rev();
    latest_first.filter_map(move |Ended { at, name, reason }| {
        let ago = observed.now.saturating_duration_since(*at);
        if ago > thresholds.ended_within || open.contains(name) || !told.insert(name) {
            return None;
        }
        let threshold = Figure::Duration(thresholds.ended_within);
        let found = finding(FindingKind::StreamEnded, Figure::Duration(ago), threshold);
        let cause = Some(Cause::Closed(reason.clone()));
        let found = Finding { cause, stream: Some(name.clone()), ..found };
        // A name that is refused is mostly one that is wrong; all else is the connection's.
        Some(if matches!(reason, CloseReason::Rejected { .. }) { found } else { failing(found) })
    })
}

const COUNT_0: Figure = Figure::Count(0);
const COUNT_1: Figure = Figure::Count(1);

fn count(n: usize) -> Figure {
    Figure::Count(n as u64)
}

/// A threshold of things that are counted. What is no number is never reached.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
fn whole(most: f64) -> u64 {
    if most.is_nan() { u64::MAX } else { most as u64 }
}

fn above(kind: FindingKind, figure: Figure, threshold: Figure) -> Option<Finding> {
    figure.exceeds(threshold).then(|| finding(kind, figure, threshold))
}

fn finding(kind: FindingKind, figure: Figure, threshold: Figure) -> Finding {
    Finding { cause: None, figure, kind, severity: Severity::Warn, stream: None, threshold }
}

fn failing(found: Finding) -> Finding {
    Finding { severity: Severity::Fail, ..found }
}
