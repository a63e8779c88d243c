//! The verb `log`: who did what, when and why.

mod shown;

use std::collections::BTreeSet;
use std::time::Duration;

use momentlog::core::DomainUuid;
use momentlog::store::{Head, Seq};
use momentlog::{Connection, History, Point, Step};
use momentlog_audit::{Edge, MomentRef, RecordKind, Suspicion, Teller, Told, Wanted, suspicions};

use super::store::VERIFIED;
use super::{Verb, exclusive};
use crate::failure::{Answer, Failure};
use crate::grammar::{ARCHIVE, Invocation, Spec, flag, only_named, other_name, word};
use crate::interrupt;
use crate::layout::escaped;
use crate::session::Session;
use crate::time::{archive, is_archived, point};
use shown::Shown;

/// How long a follower waits before it looks whether it is to go on.
const WAIT: Duration = Duration::from_secs(1);

/// Of fewer records than these, only the domains that they are about are replayed.
const FEW: u64 = 1_000;

/// The verbs of the history.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "log",
        "show who did what, when and why, and what followed from it",
        &[
            word("domain", "only records about this domain: its name or uuid"),
            only_named(
                "moment",
                "only records about this moment, moved by a deletion as well: its name or #ID",
            ),
            only_named("by", "only records of this actor, with or without the host"),
            only_named(
                "grep",
                "only records with this text in their reason, actor or words",
            ),
            only_named(
                "kind",
                "only records of these kinds, with commas: created, redefined, deleted, moved, current, \
                 reverted, held, defined, state, removed, policy, job, attached, settings, archived, \
                 snapshot, checkpoint",
            ),
            only_named("since", "only records from this point on"),
            only_named("until", "only records up to this point"),
            word(
                "from",
                "only records from this number on, or behind a receipt",
            ),
            only_named("to", "only records up to this number"),
            word(
                "n",
                "only the newest records, this many; with --from the first ones",
            ),
            other_name("limit", "n"),
            flag("reverse", "the newest record first"),
            flag(
                "follow",
                "go on with what is appended, by other processes too",
            ),
            flag(
                "xml",
                "show also the XML of what was defined, and how it differs",
            ),
            flag("oneline", "one line for each record"),
            flag(
                "suspicious",
                "only records with claimed times in the future of the record, before the parent's, changed \
                 by a redefinition, or the same as a sibling's, and what is odd about them",
            ),
            ARCHIVE,
            VERIFIED,
        ],
    ),
    run: log,
}];

pub fn log(session: &mut Session, invocation: &Invocation) -> Answer {
    exclusive(invocation, "follow", "suspicious")?;
    exclusive(invocation, "follow", "verified")?;
    let connection = session.connection.clone();
    let asked = Asked::read(&connection, invocation)?;
    let last = connection.refresh()?.head();
    let mut shown = Shown::new(session, &asked, last.map_or(1, |head| head.seq.get()));
    let read = read(&connection, invocation, &asked, &mut shown)?;
    if let (Some(domain), false) = (&asked.domain, read.found) {
        // It may be one of the records that were passed over.
        super::why::domains_called(std::slice::from_ref(&connection), domain)?;
    }
    shown.finish()?;
    if let Some(error) = read.fault {
        return Err(error.into());
    }
    if invocation.has("follow") {
        // Where nothing was read, it goes on behind the receipt, or behind the end.
        let last = read.last.or(asked.behind).or(last);
        return follow(&connection, last, &asked, &mut shown);
    }
    Ok(0)
}

/// What is asked for.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the verb"
)]
struct Asked {
    /// The name or uuid of a domain.
    domain: Option<String>,
    wanted: Wanted,
    /// The record of a receipt, behind which records are asked for.
    behind: Option<Head>,
    /// How many records.
    count: Option<usize>,
    reverse: bool,
    xml: bool,
    one_line: bool,
    suspicious: bool,
}

impl Asked {
    fn read(connection: &Connection, invocation: &Invocation) -> Result<Asked, Failure> {
        let number = |option: &str| {
            let text = invocation.get(option);
            text.map(|text| text.parse::<u64>().map_err(|_| not_a_number(option, text)))
                .transpose()
        };
        let mut wanted = Wanted {
            moment: invocation.get("moment").map(MomentRef::parse),
            by: invocation.get("by").map(str::to_owned),
            grep: invocation.get("grep").map(str::to_owned),
            kinds: kinds(invocation.get("kind").unwrap_or_default())?,
            to: number("to")?.map(|to| Seq::new(to).unwrap_or(Seq::FIRST)),
            ..Wanted::default()
        };
        let mut behind = None;
        if let Some(text) = invocation.get("since") {
            match point(text, Edge::Start)? {
                Point::Seq(seq) => wanted.from = Some(seq),
                Point::Time(time) => wanted.since = Some(time),
                Point::Receipt(receipt) => behind = Some(receipt.head),
                Point::Now => wanted.since = Some(now_us()),
            }
        }
        if let Some(text) = invocation.get("until") {
            let until = match point(text, Edge::End)? {
                Point::Seq(seq) => Some(seq),
                // The log must have that record.
                receipt @ Point::Receipt(_) => Some(connection.locate(&receipt)?.seq),
                Point::Time(time) => {
                    wanted.until = Some(time);
                    None
                }
                Point::Now => None,
            };
            wanted.to = wanted.to.into_iter().chain(until).min();
        }
        if let Some(text) = invocation.get("from") {
            let found = point(text, Edge::Start).ok();
            match found {
                Some(Point::Seq(seq)) => wanted.from = Some(seq),
                Some(Point::Receipt(receipt)) => behind = Some(receipt.head),
                // As ever, from 0 on is from the first one on.
                _ => wanted.from = number("from")?.and_then(Seq::new),
            }
        }
        let count = number("n")?.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        Ok(Asked {
            domain: invocation.get("domain").map(str::to_owned),
            wanted,
            behind,
            count,
            reverse: invocation.has("reverse"),
            xml: invocation.has("xml"),
            one_line: invocation.has("oneline"),
            suspicious: invocation.has("suspicious"),
        })
    }

    /// Whether records are asked for by their numbers alone, whatever they say.
    fn is_unfiltered(&self) -> bool {
        let Wanted {
            domain,
            moment,
            by,
            grep,
            kinds,
            since,
            until,
            from: _,
            to: _,
        } = &self.wanted;
        !self.suspicious
            && self.domain.is_none()
            && domain.is_none()
            && moment.is_none()
            && by.is_none()
            && grep.is_none()
            && kinds.is_empty()
            && since.is_none()
            && until.is_none()
    }

    /// Whether the states around a record are needed to show it.
    fn needs_states(&self) -> bool {
        self.xml || self.suspicious
    }

    /// The domain that is asked for, if one alone has or had that name.
    fn only_domain(&self, connection: &Connection) -> Result<Option<DomainUuid>, Failure> {
        let Some(domain) = &self.domain else {
            return Ok(None);
        };
        let found = super::why::domains_called(std::slice::from_ref(connection), domain);
        Ok(match found {
            Ok(found) if found.len() == 1 => found.first().copied(),
            // Of several, records come in the order of the log; that there is none is found there as well.
            _ => None,
        })
    }

    /// Whether a record is about the domain that is asked for.
    fn is_about(&self, told: &Told) -> bool {
        self.domain.as_deref().is_none_or(|wanted| {
            told.domain.as_deref() == Some(wanted)
                || told.entry.domain.is_some_and(|uuid| is_uuid(uuid, wanted))
        })
    }

    /// What is odd about the times that a record claims, if that is asked for.
    fn suspicions(&self, step: &Step) -> Vec<Suspicion> {
        if !self.suspicious {
            return Vec::new();
        }
        let mut found = suspicions(step);
        if let Some(moment) = &self.wanted.moment {
            found.retain(|suspicion| moment.is(&suspicion.moment));
        }
        found
    }

    /// From where to where reading is enough, in a log that ends with `last`.
    fn range(&self, last: Seq) -> (Option<Seq>, Seq) {
        let (from, to) = (
            self.wanted.from,
            self.wanted.to.map_or(last, |to| to.min(last)),
        );
        let count = self.count.filter(|_| self.is_unfiltered());
        let Some(count) = count.map(|count| u64::try_from(count).unwrap_or(u64::MAX)) else {
            return (from, to);
        };
        match from {
            Some(first) => {
                let enough = Seq::new(first.get().saturating_add(count).saturating_sub(1));
                (from, enough.map_or(to, |enough| enough.min(to)))
            }
            None => (Seq::new(to.get().saturating_sub(count) + 1), to),
        }
    }
}

fn is_uuid(uuid: DomainUuid, text: &str) -> bool {
    text.len() == 36 && uuid.to_string() == text
}

fn not_a_number(option: &str, text: &str) -> Failure {
    Failure::new(format!("'{}' in --{option} is not a number", escaped(text)))
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

fn kinds(text: &str) -> Result<Vec<RecordKind>, Failure> {
    let words = text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    words
        .map(|word| {
            RecordKind::from_word(word).ok_or_else(|| {
                let known: Vec<&str> = RecordKind::ALL.iter().map(|(_, word)| *word).collect();
                let known = known.join(", ");
                Failure::new(format!("'{}' is no kind of record: {known}", escaped(word)))
            })
        })
        .collect()
}

/// What reading the log came to.
struct Read {
    /// Whether a record was about the domain that is asked for.
    found: bool,
    /// The last record that was read.
    last: Option<Head>,
    /// What ended the reading before the end of the log.
    fault: Option<momentlog::Error>,
}

/// Reads the log, its archive first if that is named, and shows the records that are asked for.
fn read(
    connection: &Connection,
    invocation: &Invocation,
    asked: &Asked,
    shown: &mut Shown,
) -> Result<Read, Failure> {
    let mut read = Read {
        found: asked.domain.is_none(),
        last: None,
        fault: None,
    };
    let archived = invocation.get("archive").map(archive).transpose()?;
    if let Some(archived) = &archived
        && asked.behind.is_none()
    {
        let begin = asked.wanted.from.unwrap_or(Seq::FIRST);
        read_history(archived.history_from(begin)?, asked, shown, &mut read);
    }
    if read.fault.is_none() {
        read_on(connection, asked, shown, &mut read)?;
    }
    Ok(read)
}

/// A record that was read, with what is shown of it besides.
struct Found {
    told: Told,
    suspicions: Vec<Suspicion>,
    /// The record with the states around it, if that is shown.
    whole: Option<Step>,
}

impl Found {
    fn of(asked: &Asked, step: Step) -> Found {
        Found {
            suspicions: asked.suspicions(&step),
            whole: asked.xml.then(|| step.clone()),
            told: Told::of_step(step),
        }
    }
}

impl From<Told> for Found {
    fn from(told: Told) -> Found {
        Found {
            told,
            suspicions: Vec::new(),
            whole: None,
        }
    }
}

/// Reads the log itself, no further than is needed.
fn read_on(
    connection: &Connection,
    asked: &Asked,
    shown: &mut Shown,
    read: &mut Read,
) -> Result<(), Failure> {
    if let Some(behind) = asked.behind {
        read_history(connection.history(Some(behind))?, asked, shown, read);
        return Ok(());
    }
    let last = connection.view().head().map_or(Seq::FIRST, |head| head.seq);
    let (from, to) = asked.range(last);
    let begin = from.unwrap_or(Seq::FIRST);
    let are_few = to.get().saturating_sub(begin.get()) < FEW && (from.is_some() || to < last);
    // A damaged log is read up to the damage, to say so.
    if are_few && connection.damage().is_none() {
        read_steps(connection.steps(begin, to)?, asked, shown, read);
    } else if let (None, Some(domain)) = (from, asked.only_domain(connection)?) {
        match &asked.wanted.moment {
            Some(moment) if connection.damage().is_none() => {
                let steps = super::why::steps_about(connection, domain, moment)?;
                read_steps(steps, asked, shown, read);
            }
            _ if asked.needs_states() => {
                read_steps(connection.history_of(domain)?, asked, shown, read);
            }
            _ => {
                let told = connection.history_of(domain)?.watched(Teller::default());
                read_told(told, asked, shown, read);
            }
        }
    } else {
        read_history(connection.history_from(begin)?, asked, shown, read);
    }
    Ok(())
}

/// Shows those records of a history that are asked for.
fn read_history(history: History<'_>, asked: &Asked, shown: &mut Shown, read: &mut Read) {
    if asked.needs_states() {
        read_steps(history, asked, shown, read);
    } else {
        read_told(history.watched(Teller::default()), asked, shown, read);
    }
}

fn read_told(
    told: impl Iterator<Item = momentlog::Result<Told>>,
    asked: &Asked,
    shown: &mut Shown,
    read: &mut Read,
) {
    show(told.map(|told| told.map(Found::from)), asked, shown, read);
}

fn read_steps(
    steps: impl Iterator<Item = momentlog::Result<Step>>,
    asked: &Asked,
    shown: &mut Shown,
    read: &mut Read,
) {
    let found = steps.map(|step| step.map(|step| Found::of(asked, step)));
    show(found, asked, shown, read);
}

fn show(
    found: impl Iterator<Item = momentlog::Result<Found>>,
    asked: &Asked,
    shown: &mut Shown,
    read: &mut Read,
) {
    for found in interrupt::watched(found) {
        let found = match found {
            Ok(found) => found,
            // It goes on with the bridge, which says what was moved.
            Err(error) if is_archived(&error) => continue,
            Err(error) => {
                read.fault = Some(error);
                return;
            }
        };
        // An archive and the log may both have it.
        let Found {
            told,
            suspicions,
            whole,
        } = found;
        if read.last.is_some_and(|last| told.seq() <= last.seq) {
            continue;
        }
        read.last = Some(told.entry.head);
        let about = asked.is_about(&told);
        read.found |= about && asked.domain.is_some();
        let ends = asked.wanted.ends_at(&told);
        if about && asked.wanted.keeps(&told) {
            let is_passed_over = asked.suspicious && suspicions.is_empty();
            if !is_passed_over && !shown.take(&told, whole.as_ref(), &suspicions) {
                return;
            }
        }
        if ends {
            return;
        }
    }
}

/// Goes on with what is appended.
fn follow(connection: &Connection, last: Option<Head>, asked: &Asked, shown: &mut Shown) -> Answer {
    let mut state = match last {
        Some(last) => connection.view_at(last.seq)?.state().clone(),
        None => connection.view().state().clone(),
    };
    let mut subscription = connection.subscribe(last);
    while shown.goes_on() {
        for entry in subscription.next(WAIT)? {
            let told = Told::next(&mut state, entry);
            if asked.is_about(&told) && asked.wanted.keeps(&told) && !shown.take(&told, None, &[]) {
                return Ok(0);
            }
        }
        shown.flush();
    }
    Ok(0)
}

/// What is said about a domain that the log does not know: those that it knows, nearest first.
pub fn no_domain(wanted: &str, known: &BTreeSet<String>) -> Failure {
    /// How many names are shown.
    const NEAREST: usize = 5;
    let mut nearest: Vec<(usize, &String)> = known
        .iter()
        .map(|name| (crate::hint::distance(wanted, name), name))
        .collect();
    nearest.sort();
    nearest.dedup();
    let names: Vec<String> = nearest
        .iter()
        .take(NEAREST)
        .map(|(_, name)| format!("'{}'", escaped(name)))
        .collect();
    let known = match (names.len(), nearest.len()) {
        (0, _) => "it knows no domain yet".to_owned(),
        (shown, all) if shown < all => {
            format!("it knows {} and {} more", names.join(", "), all - shown)
        }
        _ => format!("it knows {}", names.join(", ")),
    };
    // `-n 3`, as `tail` has it, is meant as an option.
    let option = if wanted.starts_with('-') {
        "options begin with two dashes; "
    } else {
        ""
    };
    Failure::new(format!(
        "the log knows no domain '{}'; {option}{known}",
        escaped(wanted)
    ))
}
