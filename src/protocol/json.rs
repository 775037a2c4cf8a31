//! The outermost fields of a JSON text, as slices of it: enough to route a message, and no more.
//!
//! - What is inside of a field is skipped: its brackets and strings are matched, the rest is left to
//!   whoever decodes it. So a field that is returned is no proof that it is JSON.
//! - Nothing is copied or allocated. Nothing here panics, recurses, or takes more than one pass.
//! - Brackets are at most [`MAX_DEPTH`] deep in each other, as for `serde_json`.
//! - Of a field that comes twice, each is shown; readers of one should take the first, so that what
//!   is behind it can be left unread.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;

use serde::de::IgnoredAny;

/// How deep brackets may be in each other, with the outermost one.
const MAX_DEPTH: u32 = 128;

/// What was given is not JSON of the kind that is asked for.
#[derive(Debug)]
pub struct InvalidJson(Option<serde_json::Error>);

impl fmt::Display for InvalidJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(e) => write!(f, "not JSON: {e}"),
            None => f.write_str("JSON, but not an object: put it into braces"),
        }
    }
}

impl StdError for InvalidJson {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.as_ref().map(|e| e as _)
    }
}

/// The text, if it is a JSON object as a whole.
pub(crate) fn object(text: String) -> Result<String, InvalidJson> {
    serde_json::from_str::<IgnoredAny>(&text).map_err(|e| InvalidJson(Some(e)))?;
    match Raw::new(&text).kind() {
        Some(Kind::Object) => Ok(text),
        _ => Err(InvalidJson(None)),
    }
}

/// The same, in the one form that does not depend on its white space.
pub(crate) fn compact(text: &str) -> Result<String, InvalidJson> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| InvalidJson(Some(e)))?;
    if value.is_object() { Ok(value.to_string()) } else { Err(InvalidJson(None)) }
}

/// An object with one more field, in front.
pub(crate) fn with_field(object: &str, key: &str, value: &str) -> String {
    let is_empty = Raw::new(object).fields().is_ok_and(|mut fields| fields.next().is_none());
    let rest = object.trim_start().strip_prefix('{').unwrap_or("}");
    format!("{{{}:{value}{}{rest}", quote(key), if is_empty { "" } else { "," })
}

/// A string of JSON.
pub(crate) fn quote(text: &str) -> String {
    // A string can always be written.
    serde_json::to_string(text).unwrap_or_default()
}

/// The text is not what it was read as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

/// One value of a text, without the white space around it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Raw<'a>(&'a str);

/// What a value is, by its first character.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Array,
    /// `true` and `false`.
    Bool,
    Null,
    Number,
    Object,
    String,
}

/// The fields of an object, in order.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a>(Items<'a>);

/// The elements of an array, in order.
#[derive(Clone, Debug)]
pub(crate) struct Elements<'a>(Items<'a>);

impl<'a> Raw<'a> {
    /// The value that is all of `text`. Only its beginning is looked at.
    pub(crate) fn new(text: &'a str) -> Self {
        Self(text.trim_matches(|c| matches!(c, ' ' | '\t' | '\n' | '\r')))
    }

    /// The value as it was written.
    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }

    /// What it is; `None` where it is nothing that JSON has.
    pub(crate) fn kind(self) -> Option<Kind> {
        match self.0.as_bytes().first()? {
            b'"' => Some(Kind::String),
            b'{' => Some(Kind::Object),
            b'[' => Some(Kind::Array),
            b'-' | b'0'..=b'9' => Some(Kind::Number),
            b't' | b'f' => self.bool().map(|_| Kind::Bool),
            b'n' => self.is_null().then_some(Kind::Null),
            _ => None,
        }
    }

    pub(crate) fn is_null(self) -> bool {
        self.0 == "null"
    }

    pub(crate) fn bool(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The number, where it is one without sign, fraction and exponent that fits.
    pub(crate) fn u64(self) -> Option<u64> {
        let digits = self.0.as_bytes();
        let canonical = digits.iter().all(u8::is_ascii_digit)
            && (digits.len() == 1 || digits.first() != Some(&b'0'));
        canonical.then(|| self.0.parse().ok()).flatten()
    }

    /// The string, without a copy where it has no escapes.
    pub(crate) fn string(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if !inner.contains('\\') {
            return Some(Cow::Borrowed(inner)).filter(|inner| !inner.contains('"'));
        }
        serde_json::from_str(self.0).ok().map(Cow::Owned)
    }

    /// The fields of an object.
    pub(crate) fn fields(self) -> Result<Fields<'a>, Malformed> {
        Items::open(self.0, b'{', b'}').map(Fields)
    }

    /// The elements of an array.
    pub(crate) fn elements(self) -> Result<Elements<'a>, Malformed> {
        Items::open(self.0, b'[', b']').map(Elements)
    }

    /// The first field of this key, where the value is an object that is sound up to it.
    pub(crate) fn field(self, key: &str) -> Option<Self> {
        let fields = self.fields().ok()?.map_while(Result::ok);
        fields.into_iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }
}

/// The first fields of these keys; `None` for what there is not. What is behind the last of them is
/// not read.
pub(crate) fn pick<'a, const N: usize>(
    text: &'a str,
    keys: [&str; N],
) -> Result<[Option<Raw<'a>>; N], Malformed> {
    let mut found = [None; N];
    let mut left = N;
    for field in Raw::new(text).fields()? {
        let (key, value) = field?;
        let Some(at) = keys.iter().position(|wanted| *wanted == key) else { continue };
        if found[at].is_none() {
            found[at] = Some(value);
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    Ok(found)
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(Cow<'a, str>, Raw<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(|items| {
            let key = items.string()?;
            let key = Raw(&items.text[key]).string().ok_or(Malformed)?;
            items.space();
            items.expect(b':')?;
            items.space();
            Ok((key, items.value()?))
        })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Raw<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(Items::value)
    }
}

/// Where in a bracket one is.
#[derive(Clone, Debug)]
struct Items<'a> {
    at: usize,
    close: u8,
    /// Nothing comes any more.
    done: bool,
    first: bool,
    text: &'a str,
}

impl<'a> Items<'a> {
    fn open(text: &'a str, open: u8, close: u8) -> Result<Self, Malformed> {
        let mut items = Self { at: 0, close, done: false, first: true, text };
        items.space();
        items.expect(open).map(|()| items)
    }

    fn next<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Option<Result<T, Malformed>> {
        if self.done {
            return None;
        }
        let item = self.more().and_then(|more| if more { read(self).map(Some) } else { Ok(None) });
        self.done = !matches!(item, Ok(Some(_)));
        item.transpose()
    }

    /// Whether there is another item; steps over what is before it.
    fn more(&mut self) -> Result<bool, Malformed> {
        self.space();
        if self.peek() == Some(self.close) {
            self.at += 1;
            self.space();
            return if self.at == self.text.len() { Ok(false) } else { Err(Malformed) };
        }
        if !std::mem::take(&mut self.first) {
            self.expect(b',')?;
            self.space();
        }
        Ok(true)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Steps over a value.
    fn value(&mut self) -> Result<Raw<'a>, Malformed> {
        let start = self.at;
        match self.peek().ok_or(Malformed)? {
            b'"' => {
                self.string()?;
            }
            b'{' | b'[' => self.nested()?,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.scalar(),
            _ => return Err(Malformed),
        }
        Ok(Raw(&self.text[start..self.at]))
    }

    fn scalar(&mut self) {
        let in_scalar =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        while self.peek().is_some_and(in_scalar) {
            self.at += 1;
        }
    }

    /// Steps over a string, and says where it was.
    fn string(&mut self) -> Result<Range<usize>, Malformed> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            match self.peek().ok_or(Malformed)? {
                b'"' => break self.at += 1,
                // What is escaped is one character at least, and a quote or backslash is one byte.
                b'\\' => self.at += 2,
                0x00..0x20 => return Err(Malformed),
                _ => self.at += 1,
            }
        }
        Ok(start..self.at)
    }

    /// Steps over an object or array.
    fn nested(&mut self) -> Result<(), Malformed> {
        // A bit for each bracket that is open: whether it is an object's.
        let (mut open, mut depth) = (0_u128, 1_u32); // The outermost is the caller's.
        loop {
            match self.peek().ok_or(Malformed)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                byte @ (b'{' | b'[') => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(Malformed);
                    }
                    open = open << 1 | u128::from(byte == b'{');
                }
                byte @ (b'}' | b']') => {
                    if (open & 1 == 1) != (byte == b'}') {
                        return Err(Malformed);
                    }
                    open >>= 1;
                    depth -= 1;
                    if depth == 1 {
                        break self.at += 1;
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn fields(text: &str) -> Result<Vec<(String, &str)>, Malformed> {
        let own = |(key, value): (Cow<'_, str>, Raw<'_>)| (key.into_owned(), value.as_str().len());
        let lens: Result<Vec<_>, _> = Raw::new(text).fields()?.map(|f| f.map(own)).collect();
        lens?;
        Raw::new(text).fields()?.map(|f| f.map(|(k, v)| (k.into_owned(), v.as_str()))).collect()
    }

    fn elements(text: &str) -> Result<Vec<&str>, Malformed> {
        Raw::new(text).elements()?.map(|element| element.map(Raw::as_str)).collect()
    }

    #[test]
    fn fields_are_slices_of_the_text() {
        let text = " { \"stream\" : \"a@b\" ,\"data\":{\"x\":[1,{\"}\":\"]\\\"\"}]},\"n\":-1.5e+3,\"\":null}\n";
        let expected = [
            ("stream", "\"a@b\""),
            ("data", "{\"x\":[1,{\"}\":\"]\\\"\"}]}"),
            ("n", "-1.5e+3"),
            ("", "null"),
        ];
        assert_eq!(fields(text).unwrap(), expected.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!(elements("[]"), Ok(vec![]));
        assert_eq!(elements("[ \"3\" , null,{} ,[[]] ]"), Ok(vec!["\"3\"", "null", "{}", "[[]]"]));
        assert_eq!(fields("{}"), Ok(vec![]));
    }

    #[test]
    fn what_is_no_object_or_array_is_refused() {
        for bad in [
            "",
            "{",
            "}",
            "[1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,\"a\":1}",
            "{\"a\":1 \"b\":2}",
            "{a:1}",
            "{\"a\":1}}",
            "{\"a\":1} x",
            "{\"a\":[}]}",
            "{\"a\":\"b}",
            "{\"a\":\"\\\"}",
            "{\"a\":\"\n\"}",
            "{\"a\\x\":1}",
            "{\"a\":é}",
            "{\"a\":[\"]}",
        ] {
            assert_eq!(fields(bad), Err(Malformed), "{bad}");
        }
        for bad in ["[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1]]", "[é]", "[\"\\", "[\"\\\"]"]
        {
            assert_eq!(elements(bad), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn brackets_are_at_most_so_deep_in_each_other() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(elements(&nested(128)).is_ok());
        assert_eq!(elements(&nested(129)), Err(Malformed));
        assert_eq!(elements(&nested(1 << 20)), Err(Malformed));
        assert_eq!(elements(&"[".repeat(1 << 20)), Err(Malformed));
    }

    #[test]
    fn values_are_read_as_what_they_are() {
        assert_eq!(Raw::new(" \"a\" ").string().as_deref(), Some("a"));
        assert_eq!(Raw::new(r#""a\"\u00e9\ud83d\ude00""#).string().as_deref(), Some("a\"é😀"));
        for bad in ["\"", "a", "\"a\"b\"", r#""\ud83d""#, r#""\q""#, "1", ""] {
            assert_eq!(Raw::new(bad).string(), None, "{bad}");
        }
        assert_eq!(Raw::new("18446744073709551615").u64(), Some(u64::MAX));
        for bad in ["18446744073709551616", "01", "-1", "1.0", "1e3", "", "+1", "\"1\""] {
            assert_eq!(Raw::new(bad).u64(), None, "{bad}");
        }
        assert_eq!(Raw::new("true").kind(), Some(Kind::Bool));
        assert_eq!(
            ["null", "nul", "x", "{", "[", "-", "\""].map(|text| Raw::new(text).kind()),
            [
                Some(Kind::Null),
                None,
                None,
                Some(Kind::Object),
                Some(Kind::Array),
                Some(Kind::Number),
                Some(Kind::String),
            ]
        );
    }

    #[test]
    fn the_first_field_of_a_key_counts_and_what_is_behind_the_last_is_not_read() {
        let [a, b] = pick("{\"b\":1,\"a\":2,\"b\":3}", ["a", "b"]).unwrap();
        assert_eq!((a.and_then(Raw::u64), b.and_then(Raw::u64)), (Some(2), Some(1)));
        assert!(pick("{\"a\":1,broken", ["a"]).is_ok());
        assert_eq!(pick("{\"a\":1,broken", ["a", "b"]), Err(Malformed));
        assert_eq!(pick("{\"\\u0061\":1}", ["a"]).unwrap()[0].and_then(Raw::u64), Some(1));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_serde_writes_is_found_again(values in prop::collection::vec((any::<String>(), json()), 0..6), pretty: bool) {
            let write = |value: &Value| if pretty { format!("{value:#}") } else { value.to_string() };
            let object = Value::Object(values.iter().cloned().collect());
            let found: Vec<_> = fields(&write(&object)).unwrap().into_iter()
                .map(|(key, value)| (key, serde_json::from_str::<Value>(value).unwrap())).collect();
            prop_assert_eq!(found, object.as_object().unwrap().clone().into_iter().collect::<Vec<_>>());
            let array: Value = values.into_iter().map(|(_, value)| value).collect();
            let found: Vec<_> = elements(&write(&array)).unwrap().into_iter()
                .map(|value| serde_json::from_str::<Value>(value).unwrap()).collect();
            prop_assert_eq!(&found, array.as_array().unwrap());
        }

        #[test]
        fn any_text_is_read_to_its_end_or_refused(text in r#"[\[\]{}",:\\é a-c0-2\n]{0,64}"#) {
            let (object, array) = (fields(&text), elements(&text));
            // What serde takes is taken.
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert!(!value.is_object() || object.is_ok());
                prop_assert!(!value.is_array() || array.is_ok());
            }
        }
    }
}
