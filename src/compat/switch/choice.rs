//! What `USE_NEW_WS_MANAGER` says.

use std::ffi::OsStr;

/// Which streams begin on the new source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Choice {
    All,
    None,
    /// These names alone.
    Names(Vec<String>),
}

impl Choice {
    pub(super) fn of(value: Option<&OsStr>) -> Self {
        let Some(value) = value else { return Self::None };
        let Some(text) = value.to_str() else {
            tracing::warn!("USE_NEW_WS_MANAGER is not UTF-8, and says nothing");
            return Self::None;
        };
        match text.trim().to_ascii_lowercase().as_str() {
            "1" | "on" | "true" | "yes" => Self::All,
            "" | "0" | "false" | "no" | "off" => Self::None,
            _ => {
                let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
                Self::Names(names.map(str::to_owned).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_moves_all_or_none_and_anything_else_is_a_list_of_names() {
        let choice = |value: &str| Choice::of(Some(OsStr::new(value)));
        for yes in ["1", "true", "yes", "on", " TRUE ", "On"] {
            assert_eq!(choice(yes), Choice::All, "{yes}");
        }
        for no in ["", " ", "0", "false", "no", "OFF"] {
            assert_eq!(choice(no), Choice::None, "{no}");
        }
        assert_eq!(Choice::of(None), Choice::None);
        let names = |names: &[&str]| Choice::Names(names.iter().map(ToString::to_string).collect());
        assert_eq!(choice("btcusdt@trade"), names(&["btcusdt@trade"]));
        assert_eq!(choice(" a, B ,,c,"), names(&["a", "B", "c"]));
        assert_eq!(choice("ture"), names(&["ture"]), "a typo moves nothing that exists");
        assert_eq!(choice(","), names(&[]));
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_no_text_says_nothing() {
        use std::os::unix::ffi::OsStrExt as _;
        assert_eq!(Choice::of(Some(OsStr::from_bytes(b"\xff"))), Choice::None);
    }
}
