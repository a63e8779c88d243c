//! The page: one file with its script, its style and its data.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::Graph;
use super::escape::{base64, json, markup, utc};
use super::frame::State;
use super::timeline::{Change, Timeline};

const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");
/// The page around title, table and data, with holes for them.
const PAGE: &str = include_str!("page.html");

/// Largest number that a script reads without loss.
const SAFE_MAX: u64 = (1 << 53) - 1;

/// Returns the page.
pub(super) fn page(graph: &Graph) -> String {
    let (script, style) = (packed(SCRIPT), packed(STYLE));
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'",
        source_hash(&script),
        source_hash(&style)
    );
    let title = markup(&graph.title());
    let origin = markup(&graph.origin().join(", "));
    let table = table(graph);
    let data = data(graph);
    let fill = |hole: &str| match hole {
        "policy" => policy.as_str(),
        "title" => &title,
        "style" => &style,
        "table" => &table,
        "origin" => &origin,
        "data" => &data,
        "script" => &script,
        _ => unreachable!("the page has no hole `{hole}`"),
    };
    let mut out = String::new();
    for (at, part) in PAGE.trim_end().split('%').enumerate() {
        out += if at % 2 == 0 { part } else { fill(part) };
    }
    out.push('\n');
    out
}

/// A source without indentation and without lines that are comments.
fn packed(source: &str) -> String {
    let lines = source.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    let lines: Vec<&str> = lines.collect();
    lines.join("\n") + "\n"
}

/// A script or a style, as a content security policy allows it.
fn source_hash(text: &str) -> String {
    format!("sha256-{}", base64(&Sha256::digest(text.as_bytes())))
}

/// What is there after the last record, for readers without scripts and for paper.
fn table(graph: &Graph) -> String {
    let timeline = &graph.timeline;
    let state = State::at(timeline, timeline.records.len());
    let mut out = String::new();
    for (at, moment) in timeline.moments.iter().enumerate() {
        if !state.is_alive(at) {
            continue;
        }
        let its = &state.moments[at];
        let parent = its
            .parent
            .map_or("", |parent| &timeline.moments[parent].name);
        let mut marks = Vec::new();
        if state.current == Some(at) {
            marks.push("current".to_owned());
        }
        if !its.tags.is_empty() {
            let tags: Vec<&str> = its.tags.iter().map(String::as_str).collect();
            marks.push(format!("held: {}", tags.join(", ")));
        }
        let actor = moment
            .record
            .map_or("", |place| &timeline.records[place].actor);
        let _ = writeln!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}",
            markup(&moment.name),
            markup(parent),
            markup(&marks.join("; ")),
            utc(moment.created),
            markup(actor),
        );
    }
    out
}

/// Texts that come up often, each once.
#[derive(Default)]
struct Texts<'a> {
    all: Vec<&'a str>,
    places: BTreeMap<&'a str, usize>,
}

impl<'a> Texts<'a> {
    fn place(&mut self, text: &'a str) -> usize {
        *self.places.entry(text).or_insert_with(|| {
            self.all.push(text);
            self.all.len() - 1
        })
    }

    fn json(&self) -> String {
        list(self.all.iter().map(|text| json(text)))
    }
}

/// The history as JSON: lists, in which texts and moments are numbers, and seqs and times the difference to the record
/// before.
fn data(graph: &Graph) -> String {
    let timeline = &graph.timeline;
    let (mut actors, mut reasons, mut tags) =
        (Texts::default(), Texts::default(), Texts::default());
    let start = timeline.start.iter().map(|change| flat(change, &mut tags));
    let start = list(start);
    let (mut seq, mut time) = (0, 0);
    let mut records = Vec::with_capacity(timeline.records.len());
    for record in &timeline.records {
        let reason = record.reason.as_deref();
        let reason = reason.map_or("-1".to_owned(), |reason| reasons.place(reason).to_string());
        let mut fields = vec![
            (i128::from(record.seq.get()) - seq).to_string(),
            (i128::from(record.time) - time).to_string(),
            actors.place(&record.actor).to_string(),
            reason,
            json(&record.words),
        ];
        fields.extend(record.changes.iter().map(|change| flat(change, &mut tags)));
        records.push(list(fields));
        (seq, time) = (record.seq.get().into(), record.time.into());
    }
    format!(
        "{{\"kind\":{},\"actors\":{},\"reasons\":{},\"tags\":{},\n\"moments\":{},\n\"start\":{start},\n\"records\":[\n{}\n]}}",
        json(graph.subject.kind.as_str()),
        actors.json(),
        reasons.json(),
        tags.json(),
        moments(timeline),
        records.join(",\n"),
    )
}

/// The moments: a name, or a name and a time if no record tells that.
fn moments(timeline: &Timeline) -> String {
    list(timeline.moments.iter().map(|moment| {
        let name = json(&moment.name);
        match moment.record {
            Some(_) => name,
            None if moment.created.unsigned_abs() <= SAFE_MAX => {
                format!("[{name},{}]", moment.created)
            }
            None => format!("[{name},{}]", json(&utc(moment.created))),
        }
    }))
}

/// A change as numbers: which, the moment, and what else there is to it. No moment is -1.
fn flat<'a>(change: &'a Change, tags: &mut Texts<'a>) -> String {
    let number = |moment: &Option<usize>| moment.map_or("-1".to_owned(), |at| at.to_string());
    match change {
        Change::Created { moment, below } => format!("0,{moment},{}", number(below)),
        Change::Deleted { moment } => format!("1,{moment}"),
        Change::Moved { moment, below } => format!("2,{moment},{}", number(below)),
        Change::Current { moment } => format!("3,{}", number(moment)),
        Change::Held { moment, tag } => format!("4,{moment},{}", tags.place(tag)),
        Change::Released { moment, tag } => format!("5,{moment},{}", tags.place(tag)),
        Change::Named { moment } => format!("6,{moment}"),
    }
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}
