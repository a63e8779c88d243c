//! `momentlog.text/1`: a text in another language than JSON, as a whole.

use serde::Serialize;

use super::{DomainDoc, MomentDoc};

/// A text, or the file that it was written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TextDoc {
    schema: &'static str,
    domain: Option<DomainDoc>,
    /// `snapshot`, `checkpoint` or `backup`, if it is about one.
    kind: Option<&'static str>,
    moment: Option<MomentDoc>,
    #[serde(rename = "type")]
    language: &'static str,
    path: Option<String>,
    text: Option<String>,
}

impl TextDoc {
    /// Returns the document of a text in `xml`, `html` or `svg`, or of plain `text`, about nothing yet.
    pub fn of(language: &'static str, text: &str) -> TextDoc {
        TextDoc {
            schema: "momentlog.text/1",
            domain: None,
            kind: None,
            moment: None,
            language,
            path: None,
            text: Some(text.to_owned()),
        }
    }

    /// Says which domain it is about.
    #[must_use]
    pub fn of_domain(self, domain: DomainDoc) -> TextDoc {
        TextDoc {
            domain: Some(domain),
            ..self
        }
    }

    /// Says what it is about: `snapshot`, `checkpoint` or `backup`, and which moment.
    #[must_use]
    pub fn of_kind(self, kind: &'static str, moment: Option<MomentDoc>) -> TextDoc {
        TextDoc {
            kind: Some(kind),
            moment,
            ..self
        }
    }

    /// Names the file that it was written to, in place of the text.
    #[must_use]
    pub fn in_file(self, path: &str) -> TextDoc {
        TextDoc {
            path: Some(path.to_owned()),
            text: None,
            ..self
        }
    }
}
