//! The time that a message says it is from.

use serde_json::Value;

/// Where it stands: keys, one below the other; a number is a place in an array.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Field(Vec<String>);

pub(crate) fn field(text: &str) -> Result<Field, &'static str> {
    let keys: Vec<_> = text.split('.').map(ToOwned::to_owned).collect();
    if keys.iter().any(String::is_empty) {
        return Err("write the keys down to the field, such as `E` or `data.0.ts`");
    }
    Ok(Field(keys))
}

impl Field {
    /// Microseconds since 1970, or `None` where there is no such time. A number, or a string of one; its
    /// size tells its unit, which is right for the years from 1973 to 5138.
    pub(super) fn read(&self, message: &[u8]) -> Option<i64> {
        let json: Value = serde_json::from_slice(message).ok()?;
        let value = self.0.iter().try_fold(&json, |value, key| match value {
            Value::Array(all) => all.get(key.parse::<usize>().ok()?),
            Value::Object(all) => all.get(key),
            _ => None,
        })?;
        match value {
            Value::Number(number) => match number.as_i64() {
                Some(number) => micros(number),
                None => seconds(number.as_f64()?),
            },
            Value::String(text) => match text.parse() {
                Ok(number) => micros(number),
                Err(_) => seconds(text.parse().ok()?),
            },
            _ => None,
        }
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

fn micros(number: i64) -> Option<i64> {
    match number {
        ..=0 => None,
        1..100_000_000_000 => Some(number * 1_000_000),
        100_000_000_000..100_000_000_000_000 => Some(number * 1000),
        100_000_000_000_000..100_000_000_000_000_000 => Some(number),
        _ => Some(number / 1000),
    }
}

/// Seconds with a fraction, which no other unit has.
#[expect(clippy::cast_possible_truncation, reason = "in bounds")]
fn seconds(number: f64) -> Option<i64> {
    (1.0..1e11).contains(&number).then_some((number * 1e6) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_number_tells_its_unit() {
        const AT: i64 = 1_700_000_000_123_456;
        let read = |json: &str| field("t").unwrap().read(json.as_bytes());
        assert_eq!(read(r#"{"t":1700000000}"#), Some(1_700_000_000_000_000));
        assert_eq!(read(r#"{"t":1700000000123}"#), Some(1_700_000_000_123_000));
        assert_eq!(read(r#"{"t":1700000000123456}"#), Some(AT));
        assert_eq!(read(r#"{"t":1700000000123456789}"#), Some(AT));
        assert_eq!(read(r#"{"t":"1700000000123"}"#), Some(1_700_000_000_123_000));
        assert_eq!(read(r#"{"t":"1700000000.5"}"#), Some(1_700_000_000_500_000));
        for none in [
            r#"{"t":0}"#,
            r#"{"t":-5}"#,
            r#"{"t":1e300}"#,
            r#"{"t":18446744073709551615}"#,
            r#"{"t":"NaN"}"#,
            r#"{"t":"now"}"#,
            r#"{"t":null}"#,
            r#"{"u":1}"#,
            "[1]",
            "not JSON",
            "",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn a_field_is_found_below_others_and_in_arrays() {
        let read = |path: &str| {
            let json = br#"{"data":[{"ts":"1700000000000"},{"ts":1}],"a.b":1}"#;
            field(path).unwrap().read(json)
        };
        assert_eq!(read("data.0.ts"), Some(1_700_000_000_000_000));
        for none in ["data.2.ts", "data.ts", "data.0.ts.x", "data", "a.b", "data.-1.ts"] {
            assert_eq!(read(none), None, "{none}");
        }
        assert!(field("").is_err() && field("a..b").is_err());
    }
}
