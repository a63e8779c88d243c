//! Logs of any history, and what the library answers about them, for a model that reads nothing but their bytes.
//!
//! [`write_answers`] makes a store of commands of every kind and asks it about every moment that ever was, and about pairs of
//! points. `docs/format/audit.py` reads the store by `docs/format.md` and derives the same answers by `docs/json.md`.

mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use momentlog::core::{DomainUuid, MomentId};
use momentlog::store::{Draft, FileStore, RealDisk, Seq, Store as _, Text};
use momentlog::{Connection, Options, Step};
use momentlog_audit::json::{DiffDoc, EntryDoc, LifeDoc, line};
use momentlog_audit::{Differences, Life, MomentRef, Told, Wanted, lives};
use serde_json::json;

use crate::shared_store::SharedStore;
use crate::sim_disk::Random;
use history::{DOMAINS, history, uuid};

/// How much was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Records.
    pub records: usize,
    /// Moments that ever were.
    pub moments: usize,
    /// Pairs of points.
    pub pairs: usize,
    /// Bytes of the answers.
    pub bytes: usize,
}

/// Makes a log of a number of records in `store` below a directory, and writes what the library says of it to `answers` beside
/// it, one JSON array a line. The same seed makes the same history.
///
/// # Panics
///
/// If the library fails, or files cannot be written.
pub fn write_answers(directory: &Path, seed: u64, records: usize, pairs: usize) -> Answered {
    let mut random = Random(seed);
    let made = history(&mut random, records);
    let connection = with_erased_texts(&made, &directory.join("store"), &mut random);
    let mut answers = Answers {
        out: BufWriter::new(
            std::fs::File::create(directory.join("answers")).expect("a file can be made"),
        ),
        tally: Answered::default(),
    };
    let steps: Vec<Step> = connection
        .history(None)
        .expect("the log is there")
        .collect::<Result<_, _>>()
        .expect("the log can be read");
    answers.tally.records = steps.len();
    answers.of_records(&steps);
    answers.of_moments(&connection, &steps);
    answers.of_pairs(&connection, &steps, &mut random, pairs);
    answers.out.flush().expect("the file can be written");
    answers.tally
}

/// Compares what [`write_answers`] has written below a directory with what the model says, which is the program
/// `docs/format/audit.py` at `model`.
///
/// # Errors
///
/// The differences, or why the model could not be asked.
pub fn compare_answers(model: &Path, directory: &Path) -> Result<(), String> {
    let answered = Command::new("python3")
        .arg("-B")
        .arg(model)
        .arg(directory.join("store"))
        .arg("--answers")
        .arg(directory.join("answers"))
        .output();
    match answered {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let texts = [output.stdout, output.stderr];
            Err(texts
                .map(|text| String::from_utf8_lossy(&text).into_owned())
                .concat())
        }
        Err(error) => Err(format!("python3: {error}")),
    }
}

/// Where answers are written to.
struct Answers {
    out: BufWriter<std::fs::File>,
    tally: Answered,
}

impl Answers {
    fn put(&mut self, line: &str) {
        self.tally.bytes += line.len();
        self.out
            .write_all(line.as_bytes())
            .expect("the file can be written");
    }

    /// What `log` says.
    fn of_records(&mut self, steps: &[Step]) {
        for step in steps {
            self.put(&line(&("log", EntryDoc::of(&Told::of(step)))));
        }
    }

    /// What `why` and `log --moment` say of each moment by its id, and of each name.
    fn of_moments(&mut self, connection: &Connection, steps: &[Step]) {
        let told: Vec<Told> = steps.iter().map(Told::of).collect();
        let mut asked: BTreeMap<DomainUuid, (BTreeSet<MomentId>, BTreeSet<String>)> =
            BTreeMap::new();
        for told in &told {
            let Some(uuid) = told.entry.domain else {
                continue;
            };
            let (ids, names) = asked.entry(uuid).or_default();
            for consequence in &told.consequences {
                for moment in consequence.moments() {
                    ids.insert(moment.id);
                    names.insert(moment.name.to_string());
                }
            }
        }
        for (uuid, (ids, names)) in asked {
            let history = connection.history_of(uuid).expect("the log is there");
            let history: Vec<Step> = history
                .collect::<Result<_, _>>()
                .expect("the log can be read");
            self.tally.moments += ids.len();
            let ids = ids.into_iter().map(MomentRef::Id);
            let names = names
                .iter()
                .map(|name| MomentRef::Name(name.as_str().into()));
            for moment in ids.chain(names) {
                let name = match &moment {
                    MomentRef::Id(id) => json!(id.get()),
                    MomentRef::Name(name) => json!(&**name),
                };
                let steps_of = history.iter().cloned().map(Ok::<_, momentlog::Error>);
                let lives = lives(steps.first(), steps_of, uuid, None, &moment)
                    .expect("steps that were read are no errors");
                Answers::of_few_steps(connection, &steps[0], uuid, &moment, &lives);
                let lives: Vec<LifeDoc> = lives.iter().map(LifeDoc::of).collect();
                self.put(&line(&("why", uuid.to_string(), &name, lives)));
                let wanted = Wanted {
                    domain: Some(uuid),
                    moment: Some(moment),
                    ..Wanted::default()
                };
                let found = told.iter().filter(|told| wanted.keeps(told));
                let found: Vec<u64> = found.map(|told| told.seq().get()).collect();
                self.put(&line(&("log --moment", uuid.to_string(), &name, found)));
            }
        }
    }

    /// The lives that all steps of the domain tell are those that the steps about them tell, as the program reads them.
    fn of_few_steps(
        connection: &Connection,
        begin: &Step,
        uuid: DomainUuid,
        moment: &MomentRef,
        wanted: &[Life],
    ) {
        let wanted_moment = moment.clone();
        let steps =
            connection.steps_about(uuid, &|mention| moment.may_begin(mention), move |domain| {
                wanted_moment.is_in(domain)
            });
        let steps = steps.expect("the log is there");
        let found = lives(Some(begin), steps, uuid, None, moment).expect("the log can be read");
        let view = connection.view();
        let found: Vec<Life> = found
            .into_iter()
            .map(|life| life.of_domain(&view))
            .collect();
        assert_eq!(found, wanted);
    }

    /// What `diff` and `diff --domain` say of pairs of points.
    fn of_pairs(
        &mut self,
        connection: &Connection,
        steps: &[Step],
        random: &mut Random,
        pairs: usize,
    ) {
        let last = steps.len() as u64;
        for pair in 0..pairs as u64 {
            let one = random.below(last) + 1;
            // Near points as often as far ones.
            let other = match pair % 2 {
                0 => random.below(last) + 1,
                _ => (one + random.below(30)).min(last),
            };
            let (from, to) = (one.min(other), one.max(other));
            let place = |seq: u64| usize::try_from(seq).expect("a log is short") - 1;
            let ends = [from, to].map(|seq| {
                let step = &steps[place(seq)];
                (step.entry.head.seq, step.entry.recorded)
            });
            let mut found = Differences::default();
            let all = connection.history(Some(steps[place(from)].entry.head));
            let all = all.expect("the log is there").up_to(ends[1].0);
            read(all.watched(&mut found));
            let found = found.by_name();
            self.put(&line(&("diff", DiffDoc::of(ends[0], ends[1], &found))));
            let uuid = uuid(random.below(DOMAINS));
            let mut found = Differences::default();
            let own = connection.steps_of(uuid, Seq::after(Some(ends[0].0)), ends[1].0);
            read(own.expect("the log is there").watched(&mut found));
            let found = DiffDoc::of(ends[0], ends[1], &found.by_name());
            self.put(&line(&("diff --domain", uuid.to_string(), found)));
            self.tally.pairs += 1;
        }
    }
}

/// Reads on to the end.
fn read(mut records: impl Iterator<Item = momentlog::Result<()>>) {
    records
        .try_for_each(|record| record)
        .expect("the log can be read");
}

/// Writes the records of a store to files, with some of their texts erased; returns a connection to them.
fn with_erased_texts(made: &SharedStore, directory: &Path, random: &mut Random) -> Connection {
    let mut made = made.clone();
    let log = made.log_id().expect("the log can be read");
    let mut drafts = Vec::new();
    made.read(None, &mut |record| {
        let texts = record.texts.into_iter().map(|text| match &text {
            Text::Plain { bytes, .. } if random.below(40) == 0 => Text::Erased {
                commitment: text.commitment(),
                length: u32::try_from(bytes.len()).expect("a text is short"),
            },
            _ => text,
        });
        drafts.push(Draft {
            facts: record.facts,
            texts: texts.collect(),
        });
        Ok(())
    })
    .expect("the log can be read");
    let mut store = FileStore::new(RealDisk::new(directory));
    store.acquire(Duration::ZERO).expect("the store is new");
    store
        .append(log, None, drafts)
        .expect("the store can be written");
    store.release();
    Connection::over(Box::new(store), Options::default())
}
