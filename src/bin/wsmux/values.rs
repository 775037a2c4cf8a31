//! What arguments mean.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use wsmux::RetryPolicy;
use wsmux::test_util::After;

/// How often a lost socket is dialled again: never gives up without a number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Retry(Option<u32>);

impl Retry {
    pub(crate) fn policy(self) -> RetryPolicy {
        RetryPolicy { max_attempts: self.0, ..RetryPolicy::default() }
    }

    pub(crate) fn is_never(self) -> bool {
        self.0 == Some(0)
    }
}

pub(crate) fn retry(text: &str) -> Result<Retry, &'static str> {
    match text {
        "forever" => Ok(Retry(None)),
        "never" => Ok(Retry(Some(0))),
        times => match times.parse() {
            Ok(times) => Ok(Retry(Some(times))),
            Err(_) => Err("write `forever`, `never` or a number of times"),
        },
    }
}

/// Where to listen.
pub(crate) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "write an IP address and a port, such as `127.0.0.1:8080`")
}

/// A time between lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rate {
    pub(crate) every: Duration,
}

pub(crate) fn rate(text: &str) -> Result<Rate, &'static str> {
    const WRONG: &str = "write how many a second, such as `5` or `0.5`";
    let per_second: f64 = text.parse().map_err(|_| WRONG)?;
    if !(0.001..=1e6).contains(&per_second) {
        return Err("write how many a second, from 0.001 to 1000000");
    }
    Ok(Rate { every: Duration::from_secs_f64(per_second.recip()) })
}

/// How fast a recording is played: without a number, as fast as it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed(pub(crate) Option<f64>);

pub(crate) fn speed(text: &str) -> Result<Speed, &'static str> {
    const WRONG: &str = "write `max`, or how many times faster, from 0.001 to 1000000";
    if text == "max" {
        return Ok(Speed(None));
    }
    let times: f64 = text.parse().map_err(|_| WRONG)?;
    if (0.001..=1e6).contains(&times) { Ok(Speed(Some(times))) } else { Err(WRONG) }
}

/// A number and its unit; seconds without one.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "write a time, such as `250ms`, `10s`, `5m` or `1h`";
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(WRONG),
    };
    let number: f64 = number.parse().map_err(|_| WRONG)?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(Duration::ZERO) => Err("it must be longer than nothing"),
        Ok(duration) => Ok(duration),
        Err(_) => Err(WRONG),
    }
}

/// A number of messages, or a time with its unit.
pub(crate) fn when(text: &str) -> Result<After, &'static str> {
    const WRONG: &str = "write a number of messages, such as `100`, or a time, such as `5s`";
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let messages = text.parse().ok().filter(|messages| *messages > 0);
        return messages.map(After::Messages).ok_or(WRONG);
    }
    duration(text).map(After::Time).map_err(|_| WRONG)
}

/// `Name: value`. What is wrong is told without the text, which may be a secret.
pub(crate) fn header(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (name, value) = text.split_once(':').ok_or("a header is written `Name: value`")?;
    let name = name.trim().parse().map_err(|_| "the header's name is not valid")?;
    let mut value =
        HeaderValue::from_str(value.trim()).map_err(|_| "the header's value cannot be sent")?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let ms = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("10"), Ok(10_000));
        assert_eq!(ms("1.5s"), Ok(1500));
        assert_eq!(ms("2m"), Ok(120_000));
        assert_eq!(ms("1h"), Ok(3_600_000));
        for wrong in ["", "s", "-1s", "1x", "1 s", "1e9s", "..", "0", "0ms", "NaN", "inf"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration(&"9".repeat(400)).is_err());
    }

    #[test]
    fn retries_and_rates_are_read() {
        assert_eq!(retry("forever").unwrap().policy(), RetryPolicy::forever());
        assert!(retry("never").unwrap().is_never() && retry("0").unwrap().is_never());
        assert_eq!(retry("3").unwrap().policy().max_attempts, Some(3));
        assert!(retry("often").is_err() && retry("-1").is_err());
        assert_eq!(rate("4").unwrap().every, Duration::from_millis(250));
        assert_eq!(rate("0.5").unwrap().every, Duration::from_secs(2));
        for wrong in ["0", "-1", "NaN", "inf", "x", "1e9"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_number_is_of_messages_and_a_unit_makes_it_a_time() {
        assert_eq!(when("100"), Ok(After::Messages(100)));
        assert_eq!(when("1.5s"), Ok(After::Time(Duration::from_millis(1500))));
        for wrong in ["", "0", "0s", "-1", "s", "1x", "99999999999999999999"] {
            assert!(when(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn speeds_are_read() {
        assert_eq!((speed("max"), speed("10")), (Ok(Speed(None)), Ok(Speed(Some(10.0)))));
        for wrong in ["0", "-1", "NaN", "inf", "x", "1e9", ""] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_is_kept_from_prints() {
        let (name, value) = header("Authorization:  Bearer a:b ").unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("authorization", &b"Bearer a:b"[..]));
        assert!(value.is_sensitive());
        for wrong in ["x", ": y", "a b: c", "x: a\nb"] {
            assert!(header(wrong).is_err(), "{wrong:?}");
        }
    }
}
