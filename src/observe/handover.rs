//! Why another socket takes over.

/// Why the streams of an open socket go over to another one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum HandoverReason {
    /// It is as old as a socket [may be](field@crate::Config::max_age).
    Age,
    /// Its server [has said](crate::protocol::Cx::reconnect) that it goes.
    Announced,
    /// The program [asked](crate::WsManager::reconnect) for it.
    Asked,
    /// It leads to a base that was dialled since an earlier one [failed](crate::protocol::Failover), and
    /// that one may be dialled again.
    Home,
    /// The streams of its lane take fewer sockets than they have.
    Packing,
    /// A fresh token has come, which only another socket can bring to the server.
    Token,
}

impl HandoverReason {
    /// What [`label`](Self::label) says, for each of them.
    pub(crate) const LABELS: &[&str] = &["age", "announced", "asked", "home", "packing", "token"];

    /// A short name, for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Announced => "announced",
            Self::Asked => "asked",
            Self::Home => "home",
            Self::Packing => "packing",
            Self::Token => "token",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HandoverReason::{self, Age, Announced, Asked, Home, Packing, Token};

    #[test]
    fn each_reason_is_counted_by_its_label() {
        let all = [Age, Announced, Asked, Home, Packing, Token];
        assert_eq!(all.map(HandoverReason::label), HandoverReason::LABELS);
    }
}
