use ::metrics::{Counter, Gauge, GaugeFn, Histogram, KeyName, Metadata, NoopRecorder, Unit};

use super::*;

#[test]
fn each_gauge_has_its_place() {
    for (place, level) in Level::ALL.into_iter().enumerate() {
        assert_eq!(level as usize, place, "{level:?}");
    }
}

#[test]
fn managers_of_one_label_are_added_up_and_forgotten_with_the_last() {
    let label = SharedString::const_str("added up");
    let (one, other) = (Levels::new(&label), Levels::new(&label));
    one.shift(Level::Active, 2);
    other.shift(Level::Active, 1);
    one.shift(Level::Active, -1);
    assert_eq!((one.get(Level::Active), one.hwm()), (1, 2));
    assert_eq!((total(&one, Level::Active), one.group.hwm(&one.values)), (2, 3));
    one.set(Level::Lag, 5, &NoopRecorder);
    other.set(Level::Lag, 7, &NoopRecorder);
    assert_eq!(total(&one, Level::Lag), 7, "of lags the largest");
    drop(other);
    assert_eq!((total(&one, Level::Active), total(&one, Level::Lag)), (1, 5));
    drop(one);
    let new = Levels::new(&label);
    assert_eq!(new.group.hwm(&new.values), 0);
    assert_eq!(lock(&new.group.members).len(), 1);
}

#[test]
fn the_mark_of_managers_of_one_label_does_not_fall_with_the_one_that_set_it() {
    let label = SharedString::const_str("mark");
    let (one, other) = (Levels::new(&label), Levels::new(&label));
    one.shift(Level::Active, 1);
    other.shift(Level::Active, 2);
    drop(other);
    one.shift(Level::Active, 1);
    assert_eq!((one.hwm(), one.group.hwm(&one.values)), (2, 3));
}

#[test]
fn managers_of_one_label_that_tell_different_recorders_are_not_added_up() {
    let label = SharedString::const_str("apart");
    let (one, other) = (Levels::new(&label), Levels::new(&label));
    let recorder = Last::default();
    assert!(one.is_new_to(&recorder) && !one.is_new_to(&recorder));
    one.change(Level::Active, 1, &recorder);
    other.change(Level::Active, 2, &NoopRecorder);
    assert_eq!((total(&one, Level::Active), total(&other, Level::Active)), (1, 2));
    assert!(other.is_new_to(&recorder));
    other.change(Level::Active, 2, &recorder);
    assert_eq!((total(&one, Level::Active), one.group.hwm(&one.values)), (5, 5));
}

fn total(levels: &Levels, level: Level) -> u64 {
    levels.group.total(&levels.values, level)
}

#[test]
fn what_belongs_together_and_is_half_done_is_no_huge_number() {
    let levels = Levels::new(&SharedString::const_str("half done"));
    levels.shift(Level::Connecting, -1);
    assert_eq!((levels.get(Level::Connecting), total(&levels, Level::Connecting)), (0, 0));
    levels.shift(Level::Connecting, 1);
    assert_eq!(levels.get(Level::Connecting), 0);
}

/// A recorder that keeps what a gauge was told last, and that is overtaken once: what `overtake`
/// does comes in before what it was about to keep.
#[derive(Clone, Default)]
struct Last(Arc<Kept>);

#[derive(Default)]
struct Kept {
    overtake: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    value: AtomicU64,
}

impl GaugeFn for Kept {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        let overtake = lock(&self.overtake).take();
        overtake.into_iter().for_each(|overtake| overtake());
        self.value.store(value.to_bits(), SeqCst);
    }
}

impl Recorder for Last {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::clone(&self.0))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// What a recorder was told last, and what is, where a change is overtaken by another.
fn overtaken(change: fn(&Levels, &Last)) -> (f64, u64) {
    let levels = Arc::new(Levels::new(&SharedString::const_str("overtaken")));
    let last = Last::default();
    let other = (Arc::clone(&levels), last.clone());
    let overtake = move || change(&other.0, &other.1);
    *lock(&last.0.overtake) = Some(Box::new(overtake));
    change(&levels, &last);
    (f64::from_bits(last.0.value.load(SeqCst)), levels.get(Level::Readers))
}

#[test]
fn what_is_told_last_is_what_is() {
    let (told, is) = overtaken(|levels, last| levels.change(Level::Readers, 1, last));
    assert_eq!((told, is), (2.0, 2));
}

#[test]
fn telling_without_looking_again_is_noticed() {
    let (told, is) = overtaken(|levels, last| {
        levels.shift(Level::Readers, 1);
        let gauge = last.register_gauge(&levels.keys[0], &METADATA);
        gauge.set(float(levels.get(Level::Readers)));
    });
    assert_eq!((told, is), (1.0, 2), "the stale value stands");
}
