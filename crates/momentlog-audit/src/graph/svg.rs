//! One state as an SVG: no script, light and dark, and nothing that depends on the width of letters.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

use super::Graph;
use super::escape::{markup, utc};
use super::frame::{Edge, Frame, Life, Row, Shown, State, frame, pinned};
use super::timeline::Timeline;

/// Height of a row, and width of a lane.
const ROW: usize = 26;
const LANE: usize = 18;
/// Where the rows begin, and the lanes.
const TOP: usize = 104;
const LEFT: usize = 28;
/// Width of a column of text, in hundredths: the letters are all of one width.
const COLUMN: usize = 783;
/// Most columns of a name with what is said beside it, and of a line of the head.
const NAME_COLUMNS: usize = 60;
const HEAD_COLUMNS: usize = 110;
const TIME_COLUMNS: usize = 22;
const ACTOR_COLUMNS: usize = 30;

const STYLE: &str = "\
text{font:13px ui-monospace,'DejaVu Sans Mono',monospace;fill:#1b1f24;white-space:pre}\
.paper{fill:#fff}.name{font-weight:bold}.dim,.ghost{fill:#59636e}.ghost{text-decoration:line-through}\
.here{fill:#0a57b5}.held{fill:#0b6b3a}.gone{fill:#a3221a}.was{fill:#874300}\
path{fill:none;stroke:#6e7781;stroke-width:1.5}.dotted{stroke-dasharray:2 3}\
.dashed{stroke:#874300;stroke-dasharray:5 3}.row{fill:#e3effd}\
circle{fill:#fff;stroke:#1b1f24;stroke-width:2}circle.current{fill:#0a57b5;stroke:#0a57b5}\
circle.ghost{stroke:#6e7781;stroke-dasharray:2 2;fill:#fff}circle.fold{fill:#6e7781;stroke:none}\
@media(prefers-color-scheme:dark){text{fill:#e6e9ed}.paper{fill:#14181d}.dim,.ghost{fill:#a3abb5}\
.here{fill:#7ab4ff}.held{fill:#6fd39a}.gone{fill:#ff9d8f}.was{fill:#ffb673}path{stroke:#8b949e}\
.dashed{stroke:#ffb673}.row{fill:#1d2c40}circle{fill:#14181d;stroke:#e6e9ed}\
circle.current{fill:#7ab4ff;stroke:#7ab4ff}circle.ghost{stroke:#8b949e;fill:#14181d}circle.fold{fill:#8b949e}}";

/// Returns the picture after the first `position` records.
pub(super) fn picture(graph: &Graph, position: usize) -> String {
    let timeline = &graph.timeline;
    let state = State::at(timeline, position);
    let frame = frame(&state, &pinned(timeline, &state, position));
    let drawing = Drawing {
        timeline,
        state: &state,
        frame: &frame,
        texts: frame
            .rows
            .iter()
            .map(|row| pieces(timeline, &state, row))
            .collect(),
    };
    let (width, height) = drawing.size();
    let title = markup(&graph.title());
    let (counts, record, words) = head(graph, &state, position);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">{title}</title>\n<desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n",
        markup(&format!("{counts}. {record}: {words}")),
    );
    let _ = write!(
        out,
        "<text x=\"16\" y=\"26\"><tspan class=\"name\">{title}</tspan><tspan class=\"dim\">  {}</tspan></text>\n\
         <text x=\"16\" y=\"50\">{}</text>\n<text x=\"16\" y=\"72\" class=\"name\">{}</text>\n",
        markup(&counts),
        markup(&cut(&record, HEAD_COLUMNS)),
        markup(&cut(&words, HEAD_COLUMNS)),
    );
    drawing.edges(&mut out);
    drawing.rows(&mut out);
    for (line, text) in graph.origin().iter().enumerate() {
        let _ = writeln!(
            out,
            "<text x=\"16\" y=\"{}\" class=\"dim\">{}</text>",
            height - 36 + 22 * line,
            markup(text)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// What stands above the rows: how many moments there are, and the record.
fn head(graph: &Graph, state: &State, position: usize) -> (String, String, String) {
    let timeline = &graph.timeline;
    let kind = graph.subject.kind;
    let plural = |count| if count == 1 { "" } else { "s" };
    let deleted = state
        .moments
        .iter()
        .filter(|moment| matches!(moment.life, Life::Deleted(_)));
    let living = state.living();
    let counts = format!(
        "{living} {kind}{}, {} deleted",
        plural(living),
        deleted.count()
    );
    let Some(record) = position.checked_sub(1).map(|at| &timeline.records[at]) else {
        return (counts, "Before the first record".to_owned(), String::new());
    };
    let reason = match &record.reason {
        Some(reason) => format!("“{reason}”"),
        None => "no reason given".to_owned(),
    };
    let (seq, time, actor) = (record.seq, utc(record.time), &record.actor);
    let line = format!("Record {seq} · {time} · {actor} · {reason}");
    (counts, line, record.words.clone())
}

/// A piece of text and how it looks.
type Piece = (&'static str, String);

/// What is said of a row: its name, and what is special about it.
fn pieces(timeline: &Timeline, state: &State, row: &Row) -> Vec<Piece> {
    let name = |moment: usize| timeline.moments[moment].name.as_str();
    match row.what {
        Shown::Fold { first, last, count } => {
            let more = if state.is_alive(first) {
                "more"
            } else {
                "deleted"
            };
            let text = format!("⋯ {count} {more}: {} … {}", name(first), name(last));
            vec![("dim", text)]
        }
        Shown::Moment { moment, closed } => {
            let class = if state.is_alive(moment) {
                "name"
            } else {
                "ghost"
            };
            let mut pieces = vec![(class, name(moment).to_owned())];
            if closed > 0 {
                pieces.push(("dim", format!("▸ {closed} below")));
            }
            pieces.extend(marks(timeline, state, moment));
            pieces
        }
    }
}

/// What is special about a moment.
fn marks(timeline: &Timeline, state: &State, moment: usize) -> Vec<Piece> {
    let mut marks = Vec::new();
    let its = &state.moments[moment];
    if state.current == Some(moment) {
        marks.push(("here", "you are here".to_owned()));
    }
    if !its.tags.is_empty() {
        let tags: Vec<&str> = its.tags.iter().map(String::as_str).collect();
        marks.push(("held", format!("held: {}", tags.join(", "))));
    }
    if let Life::Deleted(place) = its.life {
        let record = &timeline.records[place];
        let text = format!("deleted in {} by {}", record.seq, record.actor);
        marks.push(("gone", text));
    }
    if let Some((was, place)) = its.was {
        let until = timeline.records[place].seq;
        let was = match was {
            Some(was) => format!("was below {} until {until}", timeline.moments[was].name),
            None => format!("was a root until {until}"),
        };
        marks.push(("was", was));
    }
    marks
}

/// Returns as much of a text as fits, with `…` for the rest.
fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut left = columns.saturating_sub(1);
    for char in text.chars() {
        let wide = char.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        out.push(char);
    }
    out + "…"
}

fn width(text: &str) -> usize {
    text.chars().map(|char| char.width().unwrap_or(0)).sum()
}

/// A frame with what is said of its rows.
struct Drawing<'a> {
    timeline: &'a Timeline,
    state: &'a State,
    frame: &'a Frame,
    texts: Vec<Vec<Piece>>,
}

impl Drawing<'_> {
    /// Where names begin: right of the lanes and of the edges beside them.
    fn names(&self) -> usize {
        LEFT + (self.frame.lanes + 1) * LANE
    }

    /// Where times begin.
    fn times(&self) -> usize {
        let columns = |pieces: &Vec<Piece>| {
            let texts = pieces.iter().map(|(_, text)| width(text) + 2);
            texts.sum::<usize>().min(NAME_COLUMNS + 2)
        };
        let columns = self.texts.iter().map(columns).max().unwrap_or(0);
        self.names() + columns * COLUMN / 100 + 8
    }

    fn size(&self) -> (usize, usize) {
        let columns = |count: usize| count * COLUMN / 100;
        let rows = self.times() + columns(TIME_COLUMNS + ACTOR_COLUMNS);
        let width = rows.max(16 + columns(HEAD_COLUMNS)) + 16;
        (width, TOP + self.frame.rows.len() * ROW + 66)
    }

    fn edges(&self, out: &mut String) {
        for (at, row) in self.frame.rows.iter().enumerate() {
            let (x, y) = self.place(at);
            if let Shown::Moment { moment, .. } = row.what
                && self.state.current == Some(moment)
            {
                let (width, top) = (self.size().0 - 16, y - ROW / 2);
                let _ = writeln!(
                    out,
                    "<rect class=\"row\" x=\"8\" y=\"{top}\" width=\"{width}\" height=\"{ROW}\" rx=\"4\"/>"
                );
            }
            if let Some(Edge { from, is_bow }) = row.edge {
                let (Shown::Moment { moment, .. } | Shown::Fold { first: moment, .. }) = row.what;
                let class = if self.state.is_alive(moment) {
                    ""
                } else {
                    " class=\"dotted\""
                };
                let (from_x, from_y) = self.place(from);
                let path = if is_bow {
                    self.bow(from, at)
                } else if from_x == x {
                    format!("M{x} {from_y}V{y}")
                } else {
                    format!("M{from_x} {from_y}V{}Q{from_x} {y} {x} {y}", y - ROW / 2)
                };
                let _ = writeln!(out, "<path{class} d=\"{path}\"/>");
            }
            if let Some(from) = row.dashed {
                let path = self.bow(from, at);
                let _ = writeln!(out, "<path class=\"dashed\" d=\"{path}\"/>");
            }
        }
    }

    /// A line from row to row, beside the lanes.
    fn bow(&self, from: usize, to: usize) -> String {
        let ((from_x, from_y), (x, y)) = (self.place(from), self.place(to));
        let beside = self.names() - 14;
        format!("M{from_x} {from_y}C{beside} {from_y} {beside} {y} {x} {y}")
    }

    fn rows(&self, out: &mut String) {
        for (at, row) in self.frame.rows.iter().enumerate() {
            let (x, y) = self.place(at);
            let (names, baseline) = (self.names(), y + 5);
            let mut text = String::new();
            let mut left = NAME_COLUMNS;
            for (class, piece) in &self.texts[at] {
                let piece = cut(piece, left);
                left = left.saturating_sub(width(&piece) + 2);
                let _ = write!(text, "<tspan class=\"{class}\">{}</tspan>", markup(&piece));
                if left == 0 {
                    break;
                }
                text.push_str("  ");
            }
            let text = format!(
                "<text x=\"{names}\" y=\"{baseline}\">{}</text>",
                text.trim_end()
            );
            match row.what {
                Shown::Fold { .. } => {
                    let _ = writeln!(
                        out,
                        "<g><circle class=\"fold\" cx=\"{x}\" cy=\"{y}\" r=\"2.5\"/>{text}</g>"
                    );
                }
                Shown::Moment { moment, .. } => {
                    self.moment(out, at, moment, (x, y), &text);
                }
            }
        }
    }

    fn moment(
        &self,
        out: &mut String,
        at: usize,
        moment: usize,
        (x, y): (usize, usize),
        text: &str,
    ) {
        let is_current = self.state.current == Some(moment);
        let class = match (is_current, self.state.is_alive(moment)) {
            (true, _) => " class=\"current\"",
            (_, false) => " class=\"ghost\"",
            _ => "",
        };
        let its = &self.timeline.moments[moment];
        let actor = match its.record {
            Some(place) => self.timeline.records[place].actor.as_str(),
            None => "before the first record",
        };
        let (created, times, baseline) = (utc(its.created), self.times(), y + 5);
        let said = self.texts[at][1..].iter().map(|(_, text)| text.as_str());
        let said: Vec<&str> = said.collect();
        let mut desc = format!("created {created}, {actor}");
        if !said.is_empty() {
            desc = format!("{}; {desc}", said.join("; "));
        }
        let _ = writeln!(
            out,
            "<g><title>{}</title><desc>{}</desc><circle{class} cx=\"{x}\" cy=\"{y}\" r=\"5\"/>{text}\
             <text class=\"dim\" x=\"{times}\" y=\"{baseline}\">{created}</text>\
             <text class=\"dim\" x=\"{}\" y=\"{baseline}\">{}</text></g>",
            markup(&its.name),
            markup(&desc),
            times + TIME_COLUMNS * COLUMN / 100,
            markup(&cut(actor, ACTOR_COLUMNS)),
        );
    }

    fn place(&self, row: usize) -> (usize, usize) {
        let lane = self.frame.rows[row].lane;
        (LEFT + lane * LANE, TOP + row * ROW + ROW / 2)
    }
}
