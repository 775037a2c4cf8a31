//! The table of rules: for each kind something that fires, something just below that does not, and
//! thresholds that let it pass. Rules that differ in any of it are rejected.

use std::sync::Arc;

use tokio::time::Instant;

use super::*;
use crate::config::Config;
use crate::error::CloseReason;
use crate::name::StreamName;
use crate::observe::{ConnectionId, Latency, Status};
use crate::protocol::{DisconnectReason, Lane};
use crate::transport::TransportError;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// What is observed, to be made worse.
struct World {
    activity: Activity,
    ended: Vec<Ended>,
    max_connections: usize,
    neighbours: Vec<(String, usize)>,
    now: Instant,
    shut_down: bool,
    streams: Vec<StreamInfo>,
}

impl World {
    /// One stream that is read and well, and one that lingers and is of no interest.
    fn well() -> Self {
        let lingering = StreamInfo {
            down_for: Some(SECOND * 1000),
            lost_lately: 16,
            readers: 0,
            ..info("lingering", 2)
        };
        Self {
            activity: Activity { messages: 1000, ..Activity::default() },
            ended: Vec::new(),
            max_connections: 512,
            neighbours: Vec::new(),
            now: Instant::now() + SECOND * 10_000,
            shut_down: false,
            streams: vec![info("x", 1), lingering],
        }
    }

    fn x(&mut self) -> &mut StreamInfo {
        &mut self.streams[0]
    }

    fn connections(&mut self, n: usize, max: usize) {
        self.streams = (1..=n).map(|i| info(&format!("s{i}"), i as u64)).collect();
        self.max_connections = max;
    }

    fn ended(&mut self, name: &str, ago: Duration, reason: CloseReason) {
        self.ended.push(Ended { at: self.now - ago, name: named(name), reason });
    }

    fn observed(&self) -> Observed<'_> {
        Observed {
            activity: self.activity,
            ended: self.ended.clone(),
            max_connections: self.max_connections,
            neighbours: self.neighbours.clone(),
            now: self.now,
            shut_down: self.shut_down,
            streams: &self.streams,
            uptime: SECOND * 10_000,
        }
    }
}

fn named(name: &str) -> StreamName {
    StreamName::try_from(name).unwrap()
}

fn refused() -> Arc<TransportError> {
    Arc::new(TransportError::new(DisconnectReason::Dns))
}

fn info(name: &str, connection: u64) -> StreamInfo {
    StreamInfo {
        attempt: 1,
        base: 0,
        bytes: 0,
        config: Config::default().stream(),
        connection: ConnectionId::nth(connection),
        down_for: None,
        gaps: 0,
        lag: 0,
        lagged: 0,
        last_error: None,
        last_message: None,
        lane: Lane::new(name),
        latency: None,
        leases: 0,
        lost_lately: 0,
        messages: 0,
        name: named(name),
        quiet: false,
        readers: 1,
        silent_for: Some(Duration::ZERO),
        status: Status::Open,
        unattended_for: None,
        unread_for: None,
        uptime: Some(SECOND),
    }
}

fn down(info: &mut StreamInfo, down_for: Duration) {
    let error = refused();
    info.down_for = Some(down_for);
    info.last_error = Some(Arc::clone(&error));
    info.status = Status::BackingOff { attempt: 3, delay: SECOND, error };
}

fn latency(count: u64, p50: Duration, p99: Duration) -> Option<Latency> {
    Some(Latency { count, p50, p99, max: p99, ..Latency::default() })
}

type Make = fn(&mut World);

/// What is sick, how bad that is and what it concerns; what is nearly so; and thresholds that let
/// the sick one pass, where the rule has one.
struct Case {
    kind: FindingKind,
    severity: Severity,
    concerns: Option<&'static str>,
    sick: Make,
    well: Make,
    lenient: Option<fn(Thresholds) -> Thresholds>,
}

fn case(kind: FindingKind, sick: Make, well: Make) -> Case {
    Case { kind, severity: Severity::Warn, concerns: None, sick, well, lenient: None }
}

impl Case {
    fn fails(self) -> Self {
        Self { severity: Severity::Fail, ..self }
    }

    fn of_x(self) -> Self {
        Self { concerns: Some("x"), ..self }
    }

    fn unless(self, lenient: fn(Thresholds) -> Thresholds) -> Self {
        Self { lenient: Some(lenient), ..self }
    }
}

fn of_manager() -> Vec<Case> {
    use FindingKind::*;
    vec![
        case(ShutDown, |w| w.shut_down = true, |_| {}).fails(),
        case(
            SubscriptionsRefused,
            |w| w.activity.refused.minute = 1,
            |w| {
                w.activity.refused.five_minutes = 1;
            },
        )
        .fails(),
        case(
            Exhausted,
            |w| w.activity.exhausted.minute = 1,
            |w| {
                w.activity.exhausted.five_minutes = 1;
            },
        )
        .fails(),
        case(TooManyConnections, |w| w.connections(101, 512), |w| w.connections(100, 512))
            .unless(|t| t.connections(200)),
        case(TooManyConnections, |w| w.connections(19, 20), |w| w.connections(18, 20))
            .unless(|t| t.connections_share(f64::NAN)),
        case(TooManyConnections, |w| w.connections(10, 10), |w| w.connections(9, 9))
            .unless(|t| t.connections_share(1.0)),
        case(HighRetryRate, |w| w.activity.retries.minute = 31, |w| w.activity.retries.minute = 30)
            .unless(|t| t.retries(1.0)),
        case(HighLagRate, |w| w.activity.lagged.minute = 7, |w| w.activity.lagged.minute = 6)
            .unless(|t| t.lagged(f64::INFINITY)),
        case(
            UnroutableMessages,
            |w| w.activity.unroutable.minute = 61,
            |w| {
                w.activity.unroutable.minute = 60;
            },
        )
        .unless(|t| t.unroutable(2.0)),
        case(
            HighDecodeErrorRate,
            |w| w.activity.decode_errors.five_minutes = 11,
            |w| {
                w.activity.decode_errors.five_minutes = 10;
            },
        )
        .unless(|t| t.decode_errors(0.1)),
        // All of a slow feed; and a word or two of a quiet one.
        case(
            HighDecodeErrorRate,
            |w| (w.activity.decode_errors.five_minutes, w.activity.messages) = (5, 5),
            |w| (w.activity.decode_errors.five_minutes, w.activity.messages) = (4, 4),
        )
        .unless(|t| t.decode_errors(1.0)),
        case(DuplicateManagers, |w| w.neighbours = vec![("h:80".into(), 1)], |_| {}),
    ]
}

/// One that lingers is missed by nobody, and one that is down is another finding.
fn away() -> [Case; 2] {
    use FindingKind::FailedOver;
    [
        case(FailedOver, |w| w.x().base = 1, |w| w.streams[1].base = 1)
            .unless(|t| t.failed_over(1)),
        case(
            FailedOver,
            |w| w.x().base = 2,
            |w| {
                w.x().base = 2;
                down(w.x(), SECOND);
            },
        )
        .unless(|t| t.failed_over(usize::MAX)),
    ]
}

fn of_streams() -> Vec<Case> {
    use FindingKind::*;
    vec![
        case(StreamDown, |w| down(w.x(), 10 * SECOND + MS), |w| down(w.x(), 10 * SECOND))
            .unless(|t| t.down_warn(SECOND * 20)),
        case(StreamDown, |w| down(w.x(), 60 * SECOND + MS), |w| down(w.x(), SECOND))
            .fails()
            .unless(|t| t.down_warn(Duration::MAX).down_fail(Duration::MAX)),
        case(FrequentReconnects, |w| w.x().lost_lately = 4, |w| w.x().lost_lately = 3)
            .unless(|t| t.reconnects(4)),
        case(
            ReaderStalled,
            |w| w.x().unread_for = Some(31 * SECOND),
            |w| w.x().unread_for = Some(30 * SECOND),
        )
        .unless(|t| t.unread_for(SECOND * 60)),
        case(ReaderBehind, |w| w.x().lag = 820, |w| w.x().lag = 819).unless(|t| t.lag(1.0)),
        // A small buffer is there to be overrun, but not by more than it holds.
        case(
            ReaderBehind,
            |w| (w.x().config.buffer, w.x().lag) = (4, 5),
            |w| (w.x().config.buffer, w.x().lag) = (4, 4),
        )
        .unless(|t| t.lag(f64::NAN)),
        case(
            StreamQuiet,
            |w| (w.x().quiet, w.x().silent_for) = (true, Some(120 * SECOND)),
            |w| w.x().silent_for = Some(119 * SECOND),
        ),
        case(
            HighLatency,
            |w| w.x().latency = latency(100, MS, SECOND + MS),
            |w| w.x().latency = latency(100, MS, SECOND),
        )
        .unless(|t| t.latency(SECOND * 2)),
        // A few old messages among few are no rule.
        case(
            HighLatency,
            |w| w.x().latency = latency(3, SECOND + MS, 9 * SECOND),
            |w| w.x().latency = latency(3, MS, 9 * SECOND),
        )
        .unless(|t| t.latency(Duration::MAX)),
        case(
            LeaseWithoutReaders,
            |w| {
                (w.x().readers, w.x().leases) = (0, 1);
                w.x().unattended_for = Some(601 * SECOND);
            },
            |w| {
                (w.x().readers, w.x().leases) = (0, 1);
                w.x().unattended_for = Some(600 * SECOND);
            },
        )
        .unless(|t| t.leased_for(SECOND * 3600)),
    ]
    .into_iter()
    .map(Case::of_x)
    .chain(ends())
    .collect()
}

fn exhausted() -> CloseReason {
    CloseReason::RetriesExhausted { attempts: 11, last: refused() }
}

fn ends() -> Vec<Case> {
    use FindingKind::StreamEnded;
    vec![
        case(
            StreamEnded,
            |w| w.ended("gone", 300 * SECOND, exhausted()),
            |w| {
                w.ended("gone", 301 * SECOND, exhausted());
            },
        )
        .fails()
        .unless(|t| t.ended_within(SECOND)),
        // Opened again; and opened again in vain.
        case(
            StreamEnded,
            |w| w.ended("gone", SECOND, exhausted()),
            |w| {
                w.ended("x", SECOND, exhausted());
            },
        )
        .fails(),
        case(StreamEnded, |w| w.ended("gone", SECOND, rejected()), |_| {}),
    ]
    .into_iter()
    .map(|case| Case { concerns: Some("gone"), ..case })
    .collect()
}

fn rejected() -> CloseReason {
    CloseReason::Rejected { reason: "no such name".into() }
}

type Rules<'a> = &'a dyn Fn(&Observed<'_>, &Thresholds) -> Vec<Finding>;

/// Whether `rules` say what the table does.
fn agrees(rules: Rules<'_>) -> Result<(), String> {
    for (row, case) in of_manager().into_iter().chain(away()).chain(of_streams()).enumerate() {
        let Case { kind, severity, concerns, sick, well, lenient } = case;
        let say = |make: Make, thresholds: &Thresholds| {
            let mut world = World::well();
            make(&mut world);
            rules(&world.observed(), thresholds)
        };
        let fault = |what: &str, found: &[Finding]| {
            Err(format!("row {row}, {}: {what}: {found:?}", kind.label()))
        };
        let defaults = Thresholds::default();
        let found = say(sick, &defaults);
        let [one] = &found[..] else { return fault("not one finding", &found) };
        if (one.kind, one.severity) != (kind, severity) {
            return fault("another finding", &found);
        }
        if one.stream.as_ref().map(StreamName::as_str) != concerns {
            return fault("of another stream", &found);
        }
        let found = say(well, &defaults);
        if !found.is_empty() {
            return fault("found where all is well", &found);
        }
        let found = lenient.map(|lenient| say(sick, &lenient(defaults))).unwrap_or_default();
        if !found.is_empty() {
            return fault("found below the threshold", &found);
        }
    }
    Ok(())
}

#[test]
fn each_rule_fires_at_its_threshold_and_not_below() {
    assert_eq!(agrees(&findings), Ok(()));
    let kinds = of_manager().into_iter().chain(away()).chain(of_streams()).map(|case| case.kind);
    let kinds: std::collections::BTreeSet<_> = kinds.collect();
    assert_eq!(kinds.len(), FindingKind::ALL.len(), "a kind has no row");
}

#[test]
fn rules_that_are_broken_are_rejected() {
    assert!(agrees(&|_, _| Vec::new()).is_err(), "all is always well");
    for &kind in FindingKind::ALL {
        let blind = |observed: &Observed<'_>, thresholds: &Thresholds| {
            let mut found = findings(observed, thresholds);
            found.retain(|finding| finding.kind != kind);
            found
        };
        assert!(agrees(&blind).is_err(), "blind to {}", kind.label());
    }
    let harmless = |observed: &Observed<'_>, thresholds: &Thresholds| {
        let found = findings(observed, thresholds).into_iter();
        found.map(|finding| Finding { severity: Severity::Warn, ..finding }).collect()
    };
    assert!(agrees(&harmless).is_err(), "nothing ever fails");
    assert!(agrees(&|observed, _| findings(observed, &Thresholds::default())).is_err());
    let nameless = |observed: &Observed<'_>, thresholds: &Thresholds| {
        let found = findings(observed, thresholds).into_iter();
        found.map(|finding| Finding { stream: None, ..finding }).collect()
    };
    assert!(agrees(&nameless).is_err(), "no stream is named");
    let nervous = |observed: &Observed<'_>, thresholds: &Thresholds| {
        findings(observed, &thresholds.clone().down_warn(SECOND * 9))
    };
    assert!(agrees(&nervous).is_err(), "fires too early");
}

#[test]
fn every_finding_says_what_to_do_and_labels_differ() {
    let labels: std::collections::BTreeSet<_> =
        FindingKind::ALL.iter().map(|kind| kind.label()).collect();
    assert_eq!(labels.len(), FindingKind::ALL.len());
    for kind in FindingKind::ALL {
        assert!(kind.advice().ends_with('.'), "{}", kind.label());
        assert!(kind.label().chars().all(|c| c == '_' || c.is_ascii_lowercase()));
    }
    let mut world = World::well();
    down(world.x(), 12 * SECOND);
    let found = findings(&world.observed(), &Thresholds::default());
    assert_eq!(
        found[0].to_string(),
        "warn: x: down for 12 s, above 10 s: waiting 1.0s before attempt 3: the host's name cannot \
         be resolved. Check the host, the network and the venue's status page; it is retried \
         meanwhile."
    );
}

#[test]
fn ten_thousand_streams_in_trouble_are_few_findings_the_worst_and_a_count() {
    let mut world = World::well();
    world.streams = (0..10_000).map(|i| info(&format!("s{i}"), 1)).collect();
    for (i, info) in world.streams.iter_mut().enumerate() {
        down(info, (20 + i as u32) * SECOND);
    }
    let observed = world.observed();
    let health = Health::new(&observed, findings(&observed, &Thresholds::default()));
    assert_eq!(health.findings.len(), Health::PER_KIND);
    assert_eq!(health.findings[0].stream, Some(named("s9999")));
    assert_eq!(health.left_out[&FindingKind::StreamDown], 10_000 - Health::PER_KIND);
    assert_eq!((health.status, health.open_streams), (HealthStatus::Fail, 0));
    assert!(health.to_json().len() < 10_000, "{}", health.to_json().len());
    let printed = Diagnosis::new(health, world.streams.clone()).to_string();
    assert!(printed.lines().count() < 160, "{}", printed.lines().count());
    assert!(printed.contains("and 9950 more streams"), "{printed}");
}

#[test]
fn what_fails_comes_before_what_warns() {
    let mut world = World::well();
    down(world.x(), 70 * SECOND);
    world.activity.retries.minute = 100;
    let observed = world.observed();
    let health = Health::new(&observed, findings(&observed, &Thresholds::default()));
    let kinds: Vec<_> = health.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::StreamDown, FindingKind::HighRetryRate]);
}

#[test]
fn the_json_is_that_of_the_draft() {
    let mut world = World::well();
    down(world.x(), 12 * SECOND);
    let observed = world.observed();
    let health = Health::new(&observed, findings(&observed, &Thresholds::default()));
    let json: serde_json::Value = serde_json::from_str(&health.to_json()).unwrap();
    assert_eq!(json["status"], "warn");
    assert_eq!(json["checks"]["manager:connections"][0]["observedValue"], 2);
    assert_eq!(json["checks"]["manager:uptime"][0]["observedUnit"], "s");
    let check = &json["checks"]["finding:stream_down"][0];
    assert_eq!((&check["componentId"], &check["status"]), (&"x".into(), &"warn".into()));
    assert_eq!((&check["observedValue"], &check["observedUnit"]), (&12.0.into(), &"s".into()));
    assert!(check["output"].as_str().unwrap().contains("above 10 s"), "{check}");
    for (key, checks) in json["checks"].as_object().unwrap() {
        assert_eq!(key.matches(':').count(), 1, "{key}");
        assert!(checks.as_array().is_some_and(|checks| !checks.is_empty()));
    }
    assert!(json["notes"].is_null());
}

#[test]
fn what_a_server_says_cannot_move_the_cursor() {
    let mut world = World::well();
    let words = "\x1b[2J\nfake: line".repeat(10_000);
    let reason = CloseReason::Rejected { reason: words.into() };
    world.ended("na\u{202e}me", SECOND, reason);
    let observed = world.observed();
    let health = Health::new(&observed, findings(&observed, &Thresholds::default()));
    let printed = Diagnosis::new(health.clone(), world.streams.clone()).to_string();
    assert!(health.findings[0].summary().chars().count() < 300);
    for text in [printed, health.to_string(), health.findings[0].to_string()] {
        assert!(!text.contains(['\x1b', '\u{202e}']) && !text.contains("\nfake"), "{text}");
    }
}

#[test]
fn only_changes_are_told() {
    let look = |known: &mut Known, make: Make| {
        let mut world = World::well();
        make(&mut world);
        known.change(&findings(&world.observed(), &Thresholds::default()))
    };
    let mut known = Known::default();
    assert!(look(&mut known, |_| {}).is_none(), "nothing is wrong");
    let change = look(&mut known, |w| down(w.x(), 12 * SECOND)).unwrap();
    assert_eq!((change.appeared.len(), change.resolved.len()), (1, 0));
    assert_eq!(change.status, HealthStatus::Warn);
    assert!(look(&mut known, |w| down(w.x(), 40 * SECOND)).is_none(), "it only lasts");
    let change = look(&mut known, |w| down(w.x(), 70 * SECOND)).unwrap();
    assert_eq!((change.appeared[0].severity, change.status), (Severity::Fail, HealthStatus::Fail));
    let change = look(&mut known, |_| {}).unwrap();
    assert_eq!(change.resolved, [(FindingKind::StreamDown, Some(named("x")))]);
    assert_eq!((change.appeared.len(), change.status), (0, HealthStatus::Pass));
    assert!(look(&mut known, |_| {}).is_none());
}

#[test]
fn changes_of_ten_thousand_streams_are_told_in_few_and_none_is_told_twice() {
    let sick = |downs: std::ops::Range<u32>| {
        let mut world = World::well();
        world.streams = downs.clone().map(|i| info(&format!("s{i:05}"), 1)).collect();
        for (i, info) in downs.zip(&mut world.streams) {
            down(info, (20 + i) * MS * 1000);
        }
        let thresholds = Thresholds::default().down_fail(Duration::MAX);
        findings(&world.observed(), &thresholds)
    };
    let mut known = Known::default();
    let change = known.change(&sick(0..10_000)).unwrap();
    assert_eq!((change.appeared.len(), change.appeared_more), (16, 9984));
    assert!(known.change(&sick(0..10_000)).is_none());
    let change = known.change(&sick(0..9_999)).unwrap();
    assert_eq!((change.appeared.len(), change.resolved.len()), (0, 1), "others move up unseen");
    let change = known.change(&sick(0..0)).unwrap();
    assert_eq!((change.resolved.len(), change.resolved_more), (16, 9983));
}

#[test]
fn the_table_shows_findings_and_streams() {
    let mut world = World::well();
    down(world.x(), 12 * SECOND);
    let observed = world.observed();
    let health = Health::new(&observed, findings(&observed, &Thresholds::default()));
    let printed = Diagnosis::new(health, world.streams.clone()).to_string();
    let expected = "\
warn: 1 of 2 streams open, connections: 2, up for 2.8 h

      FINDING      STREAM  FIGURE  THRESHOLD
warn  stream_down  x       12 s    10 s
      down for 12 s, above 10 s: waiting 1.0s before attempt 3: the host's name cannot be resolved
      Check the host, the network and the venue's status page; it is retried meanwhile.

STREAM     STATUS       READERS  LEASES  MESSAGES  LAG  LAGGED  GAPS  SILENT  UPTIME  P99
x          backing off  1        0       0         0    0       0     0 s     1.0s    -
lingering  open         0        0       0         0    0       0     0 s     1.0s    -
";
    assert_eq!(printed, expected);
}
