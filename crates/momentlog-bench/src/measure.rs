//! Sides that take turns, and the table of what they reached.

use std::time::{Duration, Instant};

use crate::Failed;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// How often each side has its turn.
    pub(crate) rounds: usize,
    /// How long a turn is.
    pub(crate) round: Duration,
    /// Live moments where the work needs some.
    pub(crate) live: usize,
    /// Live moments where the work is about how many there are.
    pub(crate) many: usize,
}

impl Effort {
    /// For turns that take as long as they take.
    pub(crate) fn slow(self) -> Effort {
        Effort {
            rounds: self.rounds.min(3),
            ..self
        }
    }
}

/// One side: does one piece of work, and says how many events that was.
pub(crate) struct Side<'a> {
    pub(crate) name: &'a str,
    /// Does work for so long, and returns how many events were done.
    pub(crate) turn: Box<dyn FnMut(Duration) -> Result<u64, Failed> + 'a>,
}

/// What a peer is compared with, and at least how much of it ours should reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) peer: &'static str,
    pub(crate) ratio: f64,
}

/// A row: a work, ours against one peer.
#[derive(Debug)]
struct Row {
    work: String,
    ours: f64,
    peer: &'static str,
    theirs: f64,
    /// Median, least and most of the ratios of the rounds.
    ratio: [f64; 3],
    target: f64,
}

/// All rows so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    missing: Vec<String>,
}

impl Table {
    /// Lets the sides take turns, the first of which is ours, and adds a row for each target.
    pub(crate) fn compare(
        &mut self,
        work: &str,
        effort: Effort,
        sides: &mut [Side<'_>],
        targets: &[Target],
    ) -> Result<f64, Failed> {
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); sides.len()];
        for round in 0..=effort.rounds {
            for (side, rates) in sides.iter_mut().zip(&mut rates) {
                let begun = Instant::now();
                let events = (side.turn)(effort.round)?;
                #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 events")]
                let rate = events as f64 / begun.elapsed().as_secs_f64();
                // The first turn warms up.
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        let ours = rates[0].clone();
        for target in targets {
            let index = sides.iter().position(|side| side.name == target.peer);
            let theirs = &rates[index.ok_or("a target names a side")?];
            self.rounds(work, &ours, theirs, *target);
        }
        Ok(median(&ours))
    }

    /// Adds a row of the rates that both sides reached in turn.
    pub(crate) fn rounds(&mut self, work: &str, ours: &[f64], theirs: &[f64], target: Target) {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        let sorted = sorted(&ratios);
        self.rows.push(Row {
            work: work.to_owned(),
            ours: median(ours),
            peer: target.peer,
            theirs: median(theirs),
            ratio: [median(&ratios), sorted[0], sorted[sorted.len() - 1]],
            target: target.ratio,
        });
    }

    /// Says why some rows are not there.
    pub(crate) fn missing(&mut self, rows: &str, why: &str) {
        self.missing.push(format!("Rows {rows} are missing: {why}"));
    }

    /// Adds a row of two rates that were measured before in this run.
    pub(crate) fn relate(&mut self, work: &str, ours: f64, theirs: f64, target: Target) {
        let ratio = ours / theirs;
        self.rows.push(Row {
            work: work.to_owned(),
            ours,
            peer: target.peer,
            theirs,
            ratio: [ratio; 3],
            target: target.ratio,
        });
    }

    /// The table for a terminal.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!(
            "{:<42} {:>10} {:<30} {:>10} {:>7} {:>15} {:>7}\n",
            "work", "events/s", "against", "events/s", "ratio", "spread", "target"
        );
        for row in &self.rows {
            let [ratio, least, most] = row.ratio;
            text += &format!(
                "{:<42} {:>10.0} {:<30} {:>10.0} {:>6.2}x {:>6.2} to {:>5.2} {:>5.2}x {}\n",
                row.work,
                row.ours,
                row.peer,
                row.theirs,
                ratio,
                least,
                most,
                row.target,
                row.verdict()
            );
        }
        for missing in &self.missing {
            text += &format!("{missing}\n");
        }
        text
    }

    /// The table as Markdown.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text =
            "| work | momentlog, events/s | against | events/s | ratio | spread | to reach | |\n\
            |---|---|---|---|---|---|---|---|\n"
                .to_owned();
        for row in &self.rows {
            let [ratio, least, most] = row.ratio.map(short);
            text += &format!(
                "| {} | {} | {} | {} | {ratio} | {least}–{most} | {} | {} |\n",
                row.work,
                rate(row.ours),
                row.peer,
                rate(row.theirs),
                short(row.target),
                row.verdict()
            );
        }
        for missing in &self.missing {
            text += &format!("\n{missing}\n");
        }
        text
    }
}

impl Row {
    fn verdict(&self) -> &'static str {
        if self.ratio[0] >= self.target {
            "reached"
        } else {
            "missed"
        }
    }
}

/// A ratio with as many digits as say something.
fn short(ratio: f64) -> String {
    if ratio >= 100.0 || ratio.fract() == 0.0 {
        format!("{ratio:.0}")
    } else {
        format!("{ratio:.2}")
    }
}

/// A rate; nothing where it is not one.
fn rate(rate: f64) -> String {
    if rate < 1.0 {
        String::new()
    } else {
        format!("{rate:.0}")
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    sorted[sorted.len() / 2]
}

/// Calls `work` until the time is over, and returns the sum of what it says.
pub(crate) fn until(
    time: Duration,
    mut work: impl FnMut() -> Result<u64, Failed>,
) -> Result<u64, Failed> {
    let begun = Instant::now();
    let mut events = 0;
    while begun.elapsed() < time {
        events += work()?;
    }
    Ok(events)
}

/// As [`until`], on several threads at once.
pub(crate) fn threads(
    count: usize,
    time: Duration,
    work: impl Fn(usize) -> Result<u64, Failed> + Sync,
) -> Result<u64, Failed> {
    let begun = Instant::now();
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|thread| {
                scope.spawn(move || {
                    let mut events = 0;
                    while begun.elapsed() < time {
                        events += work(thread)?;
                    }
                    Ok::<u64, Failed>(events)
                })
            })
            .collect();
        let mut events = 0;
        for thread in threads {
            events += thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(events)
    })
}
