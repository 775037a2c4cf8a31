//! Names that say a channel, what it is of, and with which options: `channel:of,key=value`.

use std::collections::BTreeMap;

/// How many options a name has at most. Those of the venues have up to five.
const OPTIONS: usize = 15;

/// What a name says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Spelling<'a> {
    pub(super) channel: &'a str,
    /// What is behind the first colon.
    pub(super) of: Option<&'a str>,
    pub(super) options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Spelling<'a> {
    /// `None` where a part is empty, a key is odd or comes twice, or there are too many.
    pub(super) fn read(name: &'a str) -> Option<Self> {
        let mut parts = name.split(',');
        let head = parts.next()?;
        let (channel, of) = match head.split_once(':') {
            Some((channel, of)) => (channel, Some(of)),
            None => (head, None),
        };
        let mut options = BTreeMap::new();
        for part in parts {
            let (key, value) = part.split_once('=')?;
            let is_key = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let is_full = !key.is_empty() && !value.is_empty();
            if !is_key || !is_full || options.insert(key, value).is_some() {
                return None;
            }
        }
        let is_full = !channel.is_empty() && of.is_none_or(|of| !of.is_empty());
        (is_full && options.len() <= OPTIONS).then_some(Self { channel, of, options })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_a_channel_what_it_is_of_and_options() {
        let read = |name| {
            let Spelling { channel, of, options } = Spelling::read(name)?;
            Some((channel, of, options.into_iter().collect::<Vec<_>>()))
        };
        assert_eq!(read("trade"), Some(("trade", None, vec![])));
        assert_eq!(read("trade:BTC/USD"), Some(("trade", Some("BTC/USD"), vec![])));
        assert_eq!(read("a:b:c"), Some(("a", Some("b:c"), vec![])), "at the first colon");
        let options = vec![("a_1", "x=y"), ("b", "2")];
        assert_eq!(read("x:y,b=2,a_1=x=y"), Some(("x", Some("y"), options)));
        for bad in ["", ":", "a:", ":b", "a,", "a,b", "a,=b", "a,b=", "a,b=1,b=2", "a,é=1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let many: String = (0..16).map(|n| format!(",k{n}=1")).collect();
        assert_eq!(read(&format!("a{many}")), None);
    }
}
