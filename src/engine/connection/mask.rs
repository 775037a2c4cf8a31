//! What a server says, without the secrets that were sent to it.
//!
//! Servers quote what they refuse ("invalid token …"), in close frames and messages, and their words
//! go into logs and errors.

use data_encoding::BASE64;
use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::config::Secret;
use crate::engine::small::Seldom;
use crate::message::Message;
use crate::protocol::{DisconnectReason, Request};

const MASKED: &str = "***";

/// Shorter words are no secrets, and many a sentence has them in it.
const SHORTEST: usize = 4;

/// A secret that a server cut off is masked if it left as much as this of it.
const PREFIX: usize = 8;

/// Parts of the names of headers and parameters whose values are secrets.
const NAMES: &[&str] = &["auth", "key", "pass", "secret", "sign", "token"];

/// The secrets of one request.
#[derive(Default)]
pub(super) struct Mask {
    /// The longest first: one may be part of another.
    secrets: Seldom<String>,
}

impl Mask {
    pub(super) fn of(request: &Request, token: Option<&Secret>) -> Self {
        let mut mask = Self::default();
        for (name, value) in request.headers() {
            if let (true, Ok(value)) = (is_secret(name), value.to_str()) {
                for word in value.split([' ', ';']) {
                    let cookie = word.split_once('=').filter(|_| *name == COOKIE);
                    mask.add(cookie.map_or(word, |(_, value)| value));
                }
                mask.add_user_info(value);
            }
        }
        for parameter in request.url().query().unwrap_or_default().split('&') {
            if let Some((name, value)) = parameter.split_once('=') {
                if NAMES.iter().any(|part| name.to_ascii_lowercase().contains(part)) {
                    mask.add(value);
                    mask.add(&percent_decode_str(value).decode_utf8_lossy());
                }
            }
        }
        if let Some(token) = token {
            mask.add_token(token);
        }
        mask
    }

    pub(super) fn add_token(&mut self, token: &Secret) {
        self.add(token.expose());
        self.add(&utf8_percent_encode(token.expose(), NON_ALPHANUMERIC).to_string());
    }

    /// User name and password, as RFC 7617 has them in a header.
    fn add_user_info(&mut self, value: &str) {
        let Some(encoded) = value.strip_prefix("Basic ") else { return };
        let Ok(decoded) = BASE64.decode(encoded.as_bytes()) else { return };
        let decoded = String::from_utf8_lossy(&decoded);
        self.add(&decoded);
        self.add(decoded.split_once(':').map_or("", |(_, password)| password));
    }

    fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST && !self.secrets.iter().any(|known| known == secret) {
            self.secrets.push(secret.to_owned());
            self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }

    /// `reason` without secrets in the server's words.
    pub(super) fn apply_to(&self, reason: DisconnectReason) -> DisconnectReason {
        match reason {
            DisconnectReason::Closed { code, reason } => {
                DisconnectReason::Closed { code, reason: self.apply(&reason).into() }
            }
            reason => reason,
        }
    }

    /// `words` without secrets. What is binary stays binary, and is the same where it has none in it.
    pub(super) fn apply_to_message(&self, words: Message) -> Message {
        match words {
            Message::Text(text) => self.apply(&text).into(),
            Message::Binary(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let masked = self.apply(&text);
                Message::Binary(if masked == text { bytes } else { masked.into() })
            }
        }
    }

    /// `text` with no secret in it, and none at its end that was cut off.
    pub(super) fn apply(&self, text: &str) -> String {
        let masked = self.secrets.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) {
                text.replace(secret.as_str(), MASKED)
            } else {
                text
            }
        });
        let cut = self.secrets.iter().find_map(|secret| {
            let ends = (PREFIX..secret.len()).rev().filter(|len| secret.is_char_boundary(*len));
            ends.map(|len| &secret[..len]).find(|start| masked.ends_with(start))
        });
        match cut.and_then(|start| masked.strip_suffix(start)) {
            Some(rest) => format!("{rest}{MASKED}"),
            None => masked,
        }
    }
}

fn is_secret(name: &HeaderName) -> bool {
    *name == AUTHORIZATION
        || *name == COOKIE
        || NAMES.iter().any(|part| name.as_str().contains(part))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn mask() -> Mask {
        let url = "wss://ann:canary-password@host/ws?stream=btcusdt@trade&api_key=canary%2Bquery";
        let request = Request::new(url)
            .unwrap()
            .header(HeaderName::from_static("x-api-key"), HeaderValue::from_static("canary-header"))
            .header(COOKIE, HeaderValue::from_static("id=canary-cookie; lang=en"));
        Mask::of(&request, Some(&"canary+token/of=the-day".into()))
    }

    #[test]
    fn a_servers_words_keep_no_secret_that_was_sent_to_it() {
        for words in [
            "invalid token canary+token/of=the-day",
            "invalid token canary%2Btoken%2Fof%3Dthe%2Dday!",
            "canary-header and canary+query, canary%2Bquery; canary-cookie",
            "who is ann:canary-password, or canary-password, YW5uOmNhbmFyeS1wYXNzd29yZA==?",
            "cut off: canary+token/of=",
            "cut off: canary-h",
        ] {
            let masked = mask().apply(words);
            assert!(!masked.contains("canary") && !masked.contains("YW5u"), "{masked}");
            assert!(masked.contains(MASKED));
        }
    }

    #[test]
    fn a_binary_answer_keeps_no_secret_and_one_without_stays_as_it_is() {
        let masked = mask()
            .apply_to_message(Message::Binary(b"\x01\xff no: canary-header".as_slice().into()));
        let Message::Binary(masked) = masked else { panic!("{masked:?}") };
        assert!(masked.ends_with(b" no: ***") && masked.starts_with(b"\x01"), "{masked:?}");
        let harmless = Message::Binary(b"\x01\xff no".as_slice().into());
        assert_eq!(mask().apply_to_message(harmless.clone()), harmless);
    }

    #[test]
    fn words_without_a_secret_stay_as_they_are() {
        for words in ["", "stream btcusdt@trade is unknown to ann", "the key of lang=en", "canary"]
        {
            assert_eq!(mask().apply(words), words);
        }
        assert_eq!(Mask::default().apply("invalid token"), "invalid token");
    }
}
