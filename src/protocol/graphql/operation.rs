//! An operation, as a server is asked for it.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::protocol::json::{InvalidJson, object, quote};

/// What names stand for.
#[derive(Clone, Default)]
pub(super) struct Defined {
    /// The payload of each name's `subscribe`.
    pub(super) by_name: HashMap<String, String>,
    /// Whether other names are documents.
    pub(super) documents: bool,
}

impl Defined {
    /// The payload of a name's `subscribe`.
    pub(super) fn payload(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.by_name.get(name) {
            Some(payload) => Some(Cow::Borrowed(payload)),
            None if self.documents && is_subscription(name) => {
                Some(Cow::Owned(Operation::new(name).payload()))
            }
            None => None,
        }
    }
}

/// Whether a document begins with a subscription: where another operation follows, servers refuse it, as
/// nothing says which of them is meant.
fn is_subscription(document: &str) -> bool {
    let rest = document.strip_prefix("subscription");
    rest.is_some_and(|rest| rest.starts_with([' ', '{', '(', '@']))
}

/// A GraphQL operation: a document, and what goes with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operation {
    extensions: Option<String>,
    name: Option<String>,
    query: String,
    variables: Option<String>,
}

impl Operation {
    /// The only operation of a document. It is not checked here: the server refuses what it cannot
    /// read.
    #[must_use]
    pub fn new(document: impl Into<String>) -> Self {
        Self { extensions: None, name: None, query: document.into(), variables: None }
    }

    /// Which operation of the document, where it has several.
    #[must_use]
    pub fn operation_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The values of its variables: a JSON object.
    ///
    /// # Errors
    ///
    /// When `json` is not an object.
    pub fn variables(mut self, json: impl Into<String>) -> Result<Self, InvalidJson> {
        self.variables = Some(object(json.into())?);
        Ok(self)
    }

    /// What the server understands beside GraphQL: a JSON object.
    ///
    /// # Errors
    ///
    /// When `json` is not an object.
    pub fn extensions(mut self, json: impl Into<String>) -> Result<Self, InvalidJson> {
        self.extensions = Some(object(json.into())?);
        Ok(self)
    }

    /// The payload of `subscribe`.
    pub(super) fn payload(self) -> String {
        let mut payload = format!(r#"{{"query":{}"#, quote(&self.query));
        let name = self.name.as_ref().map(|name| quote(name));
        for (key, value) in [
            ("operationName", &name),
            ("variables", &self.variables),
            ("extensions", &self.extensions),
        ] {
            if let Some(value) = value {
                payload += &format!(r#","{key}":{value}"#);
            }
        }
        payload + "}"
    }
}
