//! What a QMP server says, in one line.

use std::fmt;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The version of a QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuVersion {
    /// The 7 of 7.2.22.
    pub major: u32,
    /// The 2 of 7.2.22.
    pub minor: u32,
    /// The 22 of 7.2.22.
    pub micro: u32,
    /// What its distributor calls it; may be empty.
    pub package: String,
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QemuVersion {
            major,
            minor,
            micro,
            package,
        } = self;
        write!(f, "{major}.{minor}.{micro}")?;
        match package.as_str() {
            "" => Ok(()),
            package => write!(f, " ({package})"),
        }
    }
}

/// One message.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    Greeting(QemuVersion),
    Answer {
        id: u64,
        outcome: Result<Value, ErrorAnswer>,
    },
    /// An answer that is not to a request of this client, and what is wrong with it as one.
    Stray(String),
    Event,
    /// What later versions may say.
    Other,
}

/// What is said of a request that is refused.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct ErrorAnswer {
    pub(super) class: String,
    pub(super) desc: String,
}

impl Message {
    /// Reads one line. The error says what is wrong with it.
    pub(super) fn parse(line: &[u8]) -> Result<Message, String> {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let outcome = match (line.greeting, line.returned, line.error) {
            (Some(greeting), None, None) => return Ok(Message::Greeting(greeting.version.into())),
            (None, Some(returned), None) => Ok(returned),
            (None, None, Some(error)) => Err(error),
            (None, None, None) if line.event.is_some() => return Ok(Message::Event),
            (None, None, None) => return Ok(Message::Other),
            _ => return Err("it is more than one of greeting, result and error".into()),
        };
        let stray = match (line.id, outcome) {
            (Some(id), outcome) => match id.as_u64() {
                Some(id) => return Ok(Message::Answer { id, outcome }),
                None => "its id is no number of a request".into(),
            },
            (None, Ok(_)) => "it has no id".into(),
            // The request could not be read, so its id could not either.
            (None, Err(error)) => format!("it is an error without an id: {}", error.desc),
        };
        Ok(Message::Stray(stray))
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<GreetingLine>,
    #[serde(rename = "return", default, deserialize_with = "there")]
    returned: Option<Value>,
    error: Option<ErrorAnswer>,
    event: Option<IgnoredAny>,
    id: Option<Value>,
}

/// A null that is there is a value.
fn there<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(field).map(Some)
}

#[derive(Deserialize)]
struct GreetingLine {
    version: VersionLine,
}

#[derive(Deserialize)]
struct VersionLine {
    qemu: NumbersLine,
    #[serde(default)]
    package: String,
}

#[derive(Deserialize)]
struct NumbersLine {
    major: u32,
    minor: u32,
    micro: u32,
}

impl From<VersionLine> for QemuVersion {
    fn from(VersionLine { qemu, package }: VersionLine) -> QemuVersion {
        QemuVersion {
            major: qemu.major,
            minor: qemu.minor,
            micro: qemu.micro,
            package,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn parse(line: &str) -> Message {
        Message::parse(line.as_bytes()).unwrap()
    }

    #[track_caller]
    fn refuses(line: &str, why: &str) {
        assert_eq!(Message::parse(line.as_bytes()), Err(why.to_owned()));
    }

    #[test]
    fn a_greeting_tells_the_version() {
        let line = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2"},
            "capabilities": ["oob"]}}"#;
        let Message::Greeting(version) = parse(line) else {
            panic!("it is a greeting");
        };
        assert_eq!(version.to_string(), "7.2.22 (Debian 1:7.2)");
        let line = r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}}}}"#;
        let Message::Greeting(version) = parse(line) else {
            panic!("it is a greeting");
        };
        assert_eq!(version.to_string(), "10.0.0");
    }

    #[test]
    fn an_answer_has_a_result_or_an_error() {
        assert_eq!(
            parse(r#"{"return": {"a": 1}, "id": 7, "new": {}}"#),
            Message::Answer {
                id: 7,
                outcome: Ok(json!({"a": 1}))
            }
        );
        assert_eq!(
            parse(r#"{"return": null, "id": 7}"#),
            Message::Answer {
                id: 7,
                outcome: Ok(Value::Null)
            }
        );
        assert_eq!(
            parse(r#"{"id": 8, "error": {"class": "GenericError", "desc": "no"}}"#),
            Message::Answer {
                id: 8,
                outcome: Err(ErrorAnswer {
                    class: "GenericError".into(),
                    desc: "no".into()
                })
            }
        );
    }

    #[test]
    fn what_is_neither_is_passed_over() {
        assert_eq!(
            parse(r#"{"event": "STOP", "data": {"id": "x"}, "id": "y"}"#),
            Message::Event
        );
        assert_eq!(parse("{}"), Message::Other);
    }

    #[test]
    fn an_answer_without_a_number_is_stray() {
        for (line, why) in [
            (r#"{"return": {}}"#, "it has no id"),
            (
                r#"{"return": {}, "id": -1}"#,
                "its id is no number of a request",
            ),
            (
                r#"{"return": {}, "id": "1"}"#,
                "its id is no number of a request",
            ),
            (
                r#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#,
                "it is an error without an id: JSON parse error",
            ),
        ] {
            assert_eq!(parse(line), Message::Stray(why.into()));
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        refuses(
            r#"{"return": {}, "error": {"class": "", "desc": ""}, "id": 1}"#,
            "it is more than one of greeting, result and error",
        );
        refuses(
            r#"{"error": {"class": "GenericError"}, "id": 1}"#,
            "missing field `desc` at line 1 column 35",
        );
        refuses(
            r#"{"return": {}, "return": {}, "id": 1}"#,
            "duplicate field `return` at line 1 column 23",
        );
        refuses(
            r#"{"return": [1 2], "id": 1}"#,
            "expected `,` or `]` at line 1 column 15",
        );
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            Message::parse(format!(r#"{{"return": {open}{close}, "id": 1}}"#).as_bytes())
        };
        assert!(deep(100).is_ok());
        let why = deep(100_000).unwrap_err();
        assert!(why.starts_with("recursion limit exceeded"), "{why}");
    }
}
