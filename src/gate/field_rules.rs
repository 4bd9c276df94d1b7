//! Header fields that an operator takes out of messages and puts into them. Pure.
//!
//! What may be named is the config's to say: nothing here looks at framing, hosts or the gate's own fields.

use crate::config;
use crate::gate::buffer::WriteBuffer;
use crate::gate::http1::head::ResponseHead;
use crate::gate::transform::fields;

/// Rules for one direction, never empty.
#[derive(Debug, PartialEq, Eq)]
pub struct FieldRules {
    dropped: Box<[Box<str>]>,
    added: Box<[(Box<str>, Box<str>)]>,
    /// What is added, as an HTTP/1.1 head has it.
    lines: Box<[u8]>,
}

impl FieldRules {
    /// `None` where everything passes as it is.
    #[must_use]
    pub fn new(from: &config::FieldRules) -> Option<Self> {
        let lines: String = from.added.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        (!from.is_empty()).then(|| Self {
            dropped: from.dropped.iter().map(|name| name.as_str().into()).collect(),
            added: from
                .added
                .iter()
                .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
                .collect(),
            lines: lines.into_bytes().into(),
        })
    }

    /// Whether a field of that name is taken out.
    #[must_use]
    pub fn drops(&self, name: &[u8]) -> bool {
        self.dropped.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Writes what is added to a request.
    pub fn put(&self, out: &mut WriteBuffer) {
        out.put(&self.lines);
    }

    /// Changes a response's head.
    pub fn apply(&self, head: &mut ResponseHead) {
        if !self.dropped.is_empty() {
            let text = &head.text;
            head.fields.retain(|field| !self.drops(field.name.of(text)));
        }
        for (name, value) in &self.added {
            fields::append(head, name, value.as_bytes());
        }
    }
}
