//! Comparing an answer with the recorded one, level by level.

use std::fmt;

use momentlog::ErrorCode;
use serde_json::Value;

use crate::Report;
use crate::session::Answer;
use crate::trace::Call;

/// What is compared, coarsest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Success or failure.
    Outcome,
    /// Error code and domain.
    Code,
    /// The message, where its wording is libvirt's own.
    Message,
    /// Results other than XML.
    Result,
    /// XML without the embedded domain, byte for byte.
    Xml,
    /// The order in which a TOPOLOGICAL list came.
    Order,
    /// The whole state after the call.
    State,
}

impl Level {
    /// All of them.
    pub const ALL: [Level; 7] = [
        Level::Outcome,
        Level::Code,
        Level::Message,
        Level::Result,
        Level::Xml,
        Level::Order,
        Level::State,
    ];

    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Outcome => "outcome",
            Level::Code => "code",
            Level::Message => "message",
            Level::Result => "result",
            Level::Xml => "xml",
            Level::Order => "order",
            Level::State => "state",
        }
    }
}

/// One answer that differs.
#[derive(Debug)]
pub struct Divergence {
    /// The trace.
    pub trace: String,
    /// Number of the call.
    pub call: i64,
    /// The C function.
    pub function: String,
    /// What differs.
    pub level: Level,
    /// What libvirt answered.
    pub wanted: String,
    /// What momentlog answered.
    pub got: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence {
            trace,
            call,
            function,
            level,
            wanted,
            got,
        } = self;
        write!(
            f,
            "{trace} call {call} {function}, {}:\n  wanted {wanted}\n  got    {got}",
            level.as_str()
        )
    }
}

/// A difference that the design wants: a rule about calls, never about a file or a number.
struct Improvement {
    rule: &'static str,
    applies: fn(&Call, &Answer) -> bool,
}

/// All of them.
const IMPROVED: [Improvement; 1] = [Improvement {
    rule: "a document type is refused, not processed (quirk 24)",
    applies: |call, answer| {
        call.xml
            .as_deref()
            .is_some_and(|xml| xml.contains("<!DOCTYPE"))
            && matches!(answer, Answer::Error(error) if error.code() == ErrorCode::XmlDetail)
    },
}];

/// Compares one call's answer and state; returns whether the trace still tells the same story.
pub(crate) fn compare(
    trace: &str,
    call: &Call,
    answer: &Answer,
    state: Option<&Value>,
    report: &mut Report,
) -> bool {
    if let Some(improvement) = IMPROVED
        .iter()
        .find(|improvement| (improvement.applies)(call, answer))
    {
        *report.improved.entry(improvement.rule).or_default() += 1;
        return false;
    }
    let mut check = |level: Level, wanted: String, got: String| {
        *report.compared.entry(level).or_default() += 1;
        if wanted != got {
            report.divergences.push(Divergence {
                trace: trace.to_owned(),
                call: call.n,
                function: call.function.clone(),
                level,
                wanted,
                got,
            });
        }
    };
    match (&call.error, answer) {
        (Some(wanted), Answer::Error(got)) => {
            check(Level::Outcome, "error".to_owned(), "error".to_owned());
            let numbers = |code: u32, domain: u32| format!("code {code}, domain {domain}");
            let found = numbers(got.code().number(), got.domain().number());
            check(Level::Code, numbers(wanted.code, wanted.domain), found);
            let upto = |text: &str| {
                text.split_once("in function")
                    .map_or(text, |(head, _)| head)
                    .to_owned()
            };
            match wanted.text.as_str() {
                "stable" => check(
                    Level::Message,
                    wanted.message.clone(),
                    got.message().to_owned(),
                ),
                "internal-symbol" => {
                    check(Level::Message, upto(&wanted.message), upto(got.message()));
                }
                _ => {}
            }
        }
        (Some(wanted), got) => {
            let wanted = format!(
                "error {}/{} {:?}",
                wanted.code, wanted.domain, wanted.message
            );
            check(Level::Outcome, wanted, got.to_string());
        }
        (None, Answer::Error(got)) => {
            let wanted = call
                .result
                .as_ref()
                .map(Value::to_string)
                .unwrap_or_default();
            let got = format!(
                "error {}/{} {:?}",
                got.code().number(),
                got.domain().number(),
                got.message()
            );
            check(Level::Outcome, wanted, got);
        }
        (None, Answer::Ok(got)) => {
            check(Level::Outcome, "result".to_owned(), "result".to_owned());
            compare_result(call, got, &mut check);
        }
    }
    if let (Some(wanted), Some(got)) = (&call.state, state) {
        check(Level::State, wanted.to_string(), got.to_string());
    }
    true
}

fn compare_result(call: &Call, got: &Value, check: &mut impl FnMut(Level, String, String)) {
    let Some(wanted) = &call.result else {
        return;
    };
    let field =
        |value: &Value, name: &str| value.get(name).map(Value::to_string).unwrap_or_default();
    if wanted.get("xml_stripped").is_some() {
        check(
            Level::Xml,
            field(wanted, "xml_stripped"),
            field(got, "xml_stripped"),
        );
        let has_domain = |has: bool| format!("domain embedded: {has}");
        let found = got.get("domain").and_then(Value::as_bool).unwrap_or(false);
        check(
            Level::Result,
            has_domain(wanted.get("domain_sha256").is_some()),
            has_domain(found),
        );
        return;
    }
    if wanted.get("raw").is_some() {
        check(Level::Order, field(wanted, "raw"), field(got, "raw"));
    }
    let without_order = |value: &Value| {
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("raw");
        }
        value.to_string()
    };
    check(Level::Result, without_order(wanted), without_order(got));
}
