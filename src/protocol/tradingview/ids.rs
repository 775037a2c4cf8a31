//! The sessions of a socket, which the client gives names: three letters that say the kind, six that
//! are the socket's own, drawn at random, and a number that rises.
//!
//! So it can be told of any name, without a memory, whether this socket ever gave it.

use crate::protocol::Cx;
use crate::protocol::json::quote;

const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// What a session is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Chart,
    Quote,
}

/// Whose a session is, by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whose {
    Ours(Kind, u64),
    /// The name has the form of one, and was not given on this socket.
    Strange,
    /// It is not the name of a session.
    Nobodys,
}

#[derive(Debug, Default)]
pub(super) struct Ids {
    base: String,
    last: u64,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Chart => "cs_",
            Self::Quote => "qs_",
        }
    }
}

impl Ids {
    /// Draws what is the socket's own. Before the first name.
    pub(super) fn draw(&mut self, cx: &mut Cx<'_>) {
        let mut bytes = [0; 6];
        cx.random(&mut bytes);
        self.base = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 36)])).collect();
    }

    /// A new session.
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The name of a session, as JSON.
    pub(super) fn write(&self, kind: Kind, number: u64) -> String {
        quote(&self.name(kind, number))
    }

    fn name(&self, kind: Kind, number: u64) -> String {
        let (mut digits, mut left) = (Vec::new(), number);
        while left > 0 {
            digits.push(char::from(LETTERS[(left % 36) as usize]));
            left /= 36;
        }
        let digits: String = digits.iter().rev().collect();
        format!("{}{}{digits:0>6}", kind.prefix(), self.base)
    }

    pub(super) fn read(&self, name: &str) -> Whose {
        for kind in [Kind::Chart, Kind::Quote] {
            let Some(rest) = name.strip_prefix(kind.prefix()) else { continue };
            let number = rest.strip_prefix(&*self.base);
            let number = number.and_then(|digits| u64::from_str_radix(digits, 36).ok());
            let given = number.filter(|number| (1..=self.last).contains(number));
            return match given.filter(|number| self.name(kind, *number) == name) {
                Some(number) => Whose::Ours(kind, number),
                None => Whose::Strange,
            };
        }
        Whose::Nobodys
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::protocol::Transcript;

    #[test]
    fn a_name_is_known_to_be_the_sockets_own_and_no_other_is() {
        let (mut ids, mut said) = (Ids::default(), Transcript::default());
        ids.draw(&mut said.cx(Instant::now()));
        let numbers: Vec<_> = (0..1300).map(|_| ids.next()).collect();
        for number in numbers {
            let name = ids.name(Kind::Chart, number);
            assert_eq!(name.len(), 15, "the kind and twelve letters");
            assert_eq!(ids.read(&name), Whose::Ours(Kind::Chart, number));
        }
        let (name, base) = (ids.name(Kind::Quote, 37), ids.base.clone());
        assert_eq!(
            (&*name, ids.read(&name)),
            (&*format!("qs_{base}000011"), Whose::Ours(Kind::Quote, 37))
        );
        for strange in [
            ids.name(Kind::Chart, 0),
            ids.name(Kind::Chart, 1301),
            format!("qs_{base}11"),
            format!("qs_{base}+00011"),
            format!("qs_{base}zzzzzzzzzzzzzzzzzz"),
            format!("cs_{base}00000A"),
            "cs_".into(),
            "cs_HkkyfdFBmlYf".into(),
            "qs_éééé".into(),
        ] {
            assert_eq!(ids.read(&strange), Whose::Strange, "{strange}");
        }
        for nobodys in ["", "cs", "ps_1", "wrong data"] {
            assert_eq!(ids.read(nobodys), Whose::Nobodys, "{nobodys}");
        }
    }
}
