//! Packets: how a text is put into a frame, and several of them into one.
//!
//! - A packet is `~m~`, a length, `~m~`, and a text of so many UTF-16 code units: the length is what a
//!   browser calls one, so a character beyond the Basic Multilingual Plane counts twice. A text may have
//!   `~m~` in it, so packets are told apart by their lengths alone.
//! - A frame has whole packets. One whose lengths do not come out even is read up to there, and is a
//!   fault; it is never guessed where the next packet begins.
//! - Nothing is copied, and each byte is looked at a bounded number of times.
//!
//! Source: what open-source clients of TradingView's chart socket say and read. Frames that they recorded
//! come out even in UTF-16 units, and in nothing else.

const MARK: &str = "~m~";
const BEAT: &str = "~h~";
/// Digits that a length may have. A message of this crate's has at most 16 MiB by default.
const DIGITS: usize = 9;

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// It ends within a character.
    Cut,
    /// No packet begins where the one before it ends.
    Head,
    /// It is longer than the frame.
    Short,
}

impl Fault {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Cut => "the length of a packet ends within a character",
            Self::Head => "no packet begins where the one before it ends",
            Self::Short => "a packet is shorter than it says",
        }
    }
}

/// The packets of a frame, in order. Nothing follows a fault.
#[derive(Clone, Debug)]
pub(super) struct Packets<'a>(&'a str);

pub(super) fn packets(frame: &str) -> Packets<'_> {
    Packets(frame)
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<&'a str, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let frame = std::mem::take(&mut self.0);
        if frame.is_empty() {
            return None;
        }
        let packet = split(frame);
        Some(packet.map(|(packet, rest)| {
            self.0 = rest;
            packet
        }))
    }
}

/// The first packet of a frame, and the rest.
fn split(frame: &str) -> Result<(&str, &str), Fault> {
    let head = frame.strip_prefix(MARK).ok_or(Fault::Head)?;
    let digits = head.bytes().take(DIGITS + 1).take_while(u8::is_ascii_digit).count();
    let (length, rest) = head.split_at(digits);
    let text = rest.strip_prefix(MARK).ok_or(Fault::Head)?;
    let is_canonical = digits <= DIGITS && (digits == 1 || !length.starts_with('0'));
    let units = length.parse().ok().filter(|_| is_canonical).ok_or(Fault::Head)?;
    Ok(text.split_at(bytes_of(text, units)?))
}

/// How many bytes of `text` the first `units` are.
fn bytes_of(text: &str, units: usize) -> Result<usize, Fault> {
    // What is ASCII has as many bytes as units, and is most of what comes.
    if text.as_bytes().get(..units).is_some_and(<[u8]>::is_ascii) {
        return Ok(units);
    }
    let mut left = units;
    for (at, c) in text.char_indices() {
        if left == 0 {
            return Ok(at);
        }
        left = left.checked_sub(c.len_utf16()).ok_or(Fault::Cut)?;
    }
    if left == 0 { Ok(text.len()) } else { Err(Fault::Short) }
}

/// A frame of one packet.
pub(super) fn write(text: &str) -> String {
    let units: usize = text.chars().map(char::len_utf16).sum();
    format!("{MARK}{units}{MARK}{text}")
}

/// Whether a packet is a heartbeat, which wants itself back.
pub(super) fn is_heartbeat(packet: &str) -> bool {
    let number = packet.strip_prefix(BEAT).unwrap_or_default();
    (1..=20).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(frame: &str) -> (Vec<&str>, Option<Fault>) {
        let (mut texts, mut fault) = (Vec::new(), None);
        for packet in packets(frame) {
            assert_eq!(fault, None, "something follows a fault");
            match packet {
                Ok(text) => texts.push(text),
                Err(e) => fault = Some(e),
            }
        }
        (texts, fault)
    }

    #[test]
    fn lengths_count_as_a_browser_does() {
        for (text, units) in [("", 0), ("a", 1), ("é", 1), ("漢", 1), ("🚀", 2), ("~m~3~m~", 7)]
        {
            assert_eq!(write(text), format!("~m~{units}~m~{text}"));
            assert_eq!(all(&write(text)), (vec![text], None));
        }
        assert_eq!(all("~m~2~m~🚀~m~1~m~é~m~4~m~~h~1"), (vec!["🚀", "é", "~h~1"], None));
    }

    #[test]
    fn a_length_that_lies_is_a_fault_and_what_is_before_it_is_read() {
        for (frame, fault) in [
            ("~m~3~m~ab", Fault::Short),
            ("~m~3~m~🚀", Fault::Short),
            ("~m~1~m~🚀", Fault::Cut),
            ("~m~2~m~é", Fault::Short),
            ("~m~999999999~m~ab", Fault::Short),
            ("~m~1234567890~m~ab", Fault::Head),
            ("~m~99999999999999999999~m~ab", Fault::Head),
            ("~m~01~m~a", Fault::Head),
            ("~m~+1~m~a", Fault::Head),
            ("~m~-1~m~a", Fault::Head),
            ("~m~٣~m~abc", Fault::Head),
            ("~m~~m~a", Fault::Head),
            ("~m~1", Fault::Head),
            ("~m~", Fault::Head),
            ("~", Fault::Head),
            ("{}", Fault::Head),
        ] {
            assert_eq!(all(frame), (vec![], Some(fault)), "{frame}");
            let behind = format!("~m~4~m~~h~1{frame}");
            assert_eq!(all(&behind), (vec!["~h~1"], Some(fault)), "{frame}");
            assert!(!fault.words().is_empty());
        }
        for (frame, read) in [("~m~1~m~ab", "a"), ("~m~2~m~é~m~1~m~a", "é~"), ("~m~2~m~🚀a", "🚀")]
        {
            assert_eq!(
                all(frame),
                (vec![read], Some(Fault::Head)),
                "too short: what follows shows"
            );
        }
    }

    #[test]
    fn a_heartbeat_is_a_number_and_nothing_else() {
        assert!(["~h~0", "~h~18446744073709551615"].iter().all(|beat| is_heartbeat(beat)));
        for other in
            ["~h~", "~h~x", "~h~1 ", "~h~-1", "~m~1", "{}", "~h~٣", "~h~123456789012345678901"]
        {
            assert!(!is_heartbeat(other), "{other}");
        }
    }

    /// Texts in which framing may go wrong: marks, digits, and characters of one to four bytes.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["\\PC{0,20}", "(~m~|~h~|[0-9]|é|漢|🚀|a){0,12}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_again_however_many_there_are(texts in prop::collection::vec(text(), 0..8)) {
            let frame: String = texts.iter().map(|text| write(text)).collect();
            let (read, fault) = all(&frame);
            prop_assert_eq!((read, fault), (texts.iter().map(String::as_str).collect(), None));
        }

        /// A frame that ends too soon is read up to the packet that is not whole, and never further.
        #[test]
        fn a_frame_that_is_split_anywhere_is_read_up_to_there(texts in prop::collection::vec(text(), 1..6), at in any::<prop::sample::Index>()) {
            let frames: Vec<_> = texts.iter().map(|text| write(text)).collect();
            let frame = frames.concat();
            let ends: Vec<_> = frame.char_indices().map(|(at, _)| at).collect();
            let at = ends[at.index(ends.len())];
            let whole = frames.iter().scan(0, |end, one| { *end += one.len(); Some(*end) }).filter(|end| *end <= at);
            let (whole, is_even) = whole.fold((0, at == 0), |(n, _), end| (n + 1, end == at));
            let (read, fault) = all(&frame[..at]);
            prop_assert_eq!(read, texts[..whole].iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(fault.is_none(), is_even);
        }

        #[test]
        fn whatever_comes_is_read_without_a_panic_and_in_order(frame in text()) {
            let (read, fault) = all(&frame);
            let again: String = read.iter().map(|text| write(text)).collect();
            prop_assert!(frame.starts_with(&again));
            prop_assert_eq!(fault.is_none(), frame == again);
        }
    }
}
