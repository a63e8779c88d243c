//! The verbs about the store itself: receipts, verification, images, archives.

use std::panic::AssertUnwindSafe;
use std::path::Path;

use momentlog::store::{Receipt, TornTail};
use momentlog::{Connection, Point, Verification, store_directory, verify_store};
use momentlog_audit::json::{ImageDoc, ReceiptDoc, VerifyDoc};

use super::Verb;
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, OptionSpec, Spec, flag, needed, only_named, word};
use crate::interrupt;
use crate::layout::{escaped, info as line};
use crate::outcome;
use crate::place;
use crate::progress;
use crate::session::Session;

/// What verbs take that can answer of a verified log alone.
pub const VERIFIED: OptionSpec = flag(
    "verified",
    "verify the whole log first, with its archive if that is named, and answer of what was verified",
);

/// The verbs of the store itself.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "init",
            "make the log in a database, with the tables and roles that it needs",
            &[],
        )
        .of_now(),
        run: init,
    },
    Verb {
        spec: Spec::new("receipt", "print a receipt of the log, for verify", &[]),
        run: receipt,
    },
    Verb {
        spec: Spec::new(
            "verify",
            "verify the whole log, also against a receipt, and with its archive",
            &[
                word("against", "receipt that the log must agree with"),
                only_named("archive", "directory of the archived records"),
                flag("strict", "a torn tail is a fault, too"),
            ],
        )
        .of_now(),
        run: verify,
    },
    Verb {
        spec: Spec::new(
            "image",
            "make an image of the log, from which it is opened sooner",
            &[],
        )
        .of_now(),
        run: image,
    },
    Verb {
        spec: Spec::new(
            "archive",
            "move all records up to now to a directory, and go on from an image and \
                 a bridge record",
            &[needed("to", "directory that the records move to")],
        )
        .changing(),
        run: archive,
    },
];

pub fn init(session: &mut Session, _: &Invocation) -> Answer {
    if session.connection.is_read_only() {
        return Err(Failure::new("nothing is made for reading only"));
    }
    if !place::is_database(&session.uri) {
        return Err(Failure::new(
            "the first change makes a directory: init is for postgres://…",
        ));
    }
    place::init(&session.uri).map_err(momentlog::Error::from)?;
    session.say(&format!("{} is ready\n", place::shown(&session.uri)));
    if let Some(server) = place::server(&session.uri)? {
        session.say(&place::of_copies(&server));
    }
    Ok(0)
}

pub fn receipt(session: &mut Session, _: &Invocation) -> Answer {
    let receipt = session.connection.receipt()?;
    let receipt = receipt.ok_or_else(|| Failure::new("the log has no record yet"))?;
    session.print(&format!("{receipt}\n"));
    session.document(&ReceiptDoc::of(&receipt));
    Ok(0)
}

pub fn image(session: &mut Session, invocation: &Invocation) -> Answer {
    let head = session.connection_for(invocation)?.make_image()?;
    session.say(&format!("Image of record {} made\n", head.seq));
    session.document(&ImageDoc::of(head));
    Ok(0)
}

pub fn archive(session: &mut Session, invocation: &Invocation) -> Answer {
    let to = invocation.get("to").unwrap_or_default();
    let archived = session.connection_for(invocation)?.archive(Path::new(to))?;
    session.say(&format!(
        "Records {} to {} moved to {}; record {} stands for them\n",
        archived.first,
        archived.last.seq,
        escaped(to),
        archived.bridge.seq
    ));
    let bridge = outcome::of_record(&session.connection, archived.bridge.seq);
    session.document(&bridge);
    Ok(0)
}

pub fn verify(session: &mut Session, invocation: &Invocation) -> Answer {
    let receipt = match invocation.get("against") {
        None => None,
        Some(text) => Some(read_receipt(text)?),
    };
    let strict = invocation.has("strict");
    let found = look_through(session, invocation, receipt)?;
    let verdict = found.verdict();
    let log = &found.log;
    let status = log.exit_status(verdict, strict);
    let unproven = log.anchored.zip(log.head);
    let unproven = unproven.map(|(anchored, head)| head.seq.get() - anchored.seq.get());
    let mut faults = faults(&found);
    if let (Some(receipt), Some(id)) = (receipt, log.log)
        && receipt.log != id
    {
        faults.push(format!(
            "the receipt is of log {}, and this is log {id}: the whole store was replaced, or it is the receipt of another",
            receipt.log
        ));
    }
    let server = place::server(&session.uri)?;
    let mut report = text_report(&found, unproven, &faults);
    report += &server.as_ref().map_or_else(String::new, place::of_server);
    session.print(&report);
    session.document(&VerifyDoc::of(&found, status, faults, server));
    Ok(status)
}

/// What unwinds a verification that Ctrl-C ends.
struct Stopped;

/// Leaves a verification, which only reads: its files and locks are closed on the way out.
fn stop_if_pressed() {
    if interrupt::pressed() {
        std::panic::resume_unwind(Box::new(Stopped));
    }
}

/// Runs what may be left by [`stop_if_pressed`].
fn interruptible<T>(run: impl FnOnce() -> momentlog::Result<T>) -> momentlog::Result<T> {
    match std::panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(found) => found,
        Err(why) if why.is::<Stopped>() => Err(momentlog::Error::aborted("interrupted")),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Verifies the whole store, with the archive that a command names.
fn look_through(
    session: &Session,
    invocation: &Invocation,
    receipt: Option<Receipt>,
) -> Result<Verification, Failure> {
    let archive = invocation.get("archive").map(Path::new);
    if place::is_database(&session.uri) {
        if archive.is_some() {
            return Err(Failure::new(
                "the archive of a log in a database is verified by itself: momentlog -c momentlog:DIR verify",
            ));
        }
        let mut store = place::database(&session.uri).map_err(momentlog::Error::from)?;
        return Ok(interruptible(|| {
            verify_store(store.as_mut(), receipt, &mut |_| {
                progress::count();
                stop_if_pressed();
            })
        })?);
    }
    let directory = store_directory(&session.uri)?;
    let directory =
        directory.ok_or_else(|| Failure::new("a store in memory has nothing to verify"))?;
    let found = interruptible(|| {
        momentlog::verify(&directory, archive, receipt, &mut |_| {
            progress::count();
            stop_if_pressed();
        })
    })?;
    Ok(found)
}

/// Verifies the whole log, and returns the connection that a command reads as of the last record that was verified.
pub fn verified(
    session: &Session,
    invocation: &Invocation,
    connection: Connection,
) -> Result<Connection, Failure> {
    let found = look_through(session, invocation, None)?;
    let verdict = found.verdict();
    if found.log.exit_status(verdict, false) != 0 {
        let failure = Failure::new(format!("the log is not verified: {}", verdict.as_str()));
        return Err(faults(&found).into_iter().fold(failure, Failure::and));
    }
    let last = found.log.log.zip(found.log.head);
    let newest = connection.refresh()?.head();
    match last {
        Some((log, head)) if newest.is_some_and(|newest| newest.seq >= head.seq) => {
            Ok(connection.at(&Point::Receipt(Receipt { log, head }))?)
        }
        // It has no record, or is as of an earlier one.
        _ => Ok(connection),
    }
}

/// The report of a verification for people.
fn text_report(found: &Verification, unproven: Option<u64>, faults: &[String]) -> String {
    let log = &found.log;
    let verdict = found.verdict();
    let (domains, snapshots, checkpoints) = found.counts;
    let head = log.head.map(|head| format!("{} {}", head.seq, head.digest));
    let mut text = line("Verdict", verdict.as_str());
    text += &line("Records", log.records);
    if let Some(start) = log.start {
        let seq = start.seq;
        text += &line("Archived", format!("records up to {seq}, not looked at"));
    }
    if let Some((anchored, behind)) = log.anchored.zip(unproven) {
        let behind = match behind {
            0 => "it is the last".to_owned(),
            1 => "1 record behind it is not proven".to_owned(),
            _ => format!("{behind} records behind it are not proven"),
        };
        text += &line(
            "Anchored",
            format!("up to record {}; {behind}", anchored.seq),
        );
    }
    if log.receipt_archived {
        let why = "of a record that was archived: not compared, give --archive";
        text += &line("Receipt", why);
    }
    text += &line("Head", head.unwrap_or_else(|| "-".to_owned()));
    text += &line("Log", log.log.map_or("-".to_owned(), |id| id.to_string()));
    text += &line(
        "State",
        format!("{domains} domains, {snapshots} snapshots, {checkpoints} checkpoints"),
    );
    if found.jobs_open > 0 {
        text += &line("Open jobs", found.jobs_open);
    }
    if found.images_sound > 0 {
        text += &line(
            "Images",
            format!("{} agree with the log", found.images_sound),
        );
    }
    if found.images_ignored > 0 {
        text += &line(
            "Ignored images",
            format!("{}, damaged or of another log", found.images_ignored),
        );
    }
    if log.texts_erased > 0 {
        text += &line("Erased texts", log.texts_erased);
    }
    for fault in faults {
        text += &line("Fault", escaped(fault));
    }
    text
}

/// Reads a receipt as it is, or out of a file.
fn read_receipt(text: &str) -> Result<Receipt, Failure> {
    let text = if text.starts_with("momentlog1 ") {
        text.to_owned()
    } else {
        super::read_file(text)?
    };
    text.parse::<Receipt>()
        .map_err(|error| Failure::new(error.to_string()))
}

/// Says everything that is wrong, a line each.
fn faults(found: &Verification) -> Vec<String> {
    let log = &found.log;
    let torn = |torn: &TornTail| {
        let path = torn.path.display();
        format!(
            "an interrupted write left bytes in {path} from offset {}, where record {} would be",
            torn.offset, torn.seq
        )
    };
    let mut faults: Vec<String> = Vec::new();
    faults.extend(log.error.as_ref().map(ToString::to_string));
    faults.extend(log.torn.as_ref().map(torn));
    if log.head_torn {
        faults.push(
            "the file head says nothing: its writing was interrupted, or it is damaged".to_owned(),
        );
    }
    faults.extend(
        found
            .replay
            .as_ref()
            .map(|error| format!("{error}: {}", error.why)),
    );
    faults.extend(found.images.iter().map(ToString::to_string));
    faults.extend(found.broken.as_ref().map(ToString::to_string));
    faults.extend(
        found
            .breach
            .as_ref()
            .map(|(uuid, breach)| format!("domain {uuid} breaks its policy: {breach}")),
    );
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verification_is_left_by_an_interrupt_and_by_nothing_else() {
        let left = interruptible::<()>(|| std::panic::resume_unwind(Box::new(Stopped)));
        let code = left.map_err(|error| error.code());
        assert_eq!(code, Err(momentlog::ErrorCode::OperationAborted));
        assert_eq!(interruptible(|| Ok(7)).ok(), Some(7));
        let fault =
            || interruptible::<()>(|| std::panic::resume_unwind(Box::new("a fault of ours")));
        assert!(std::panic::catch_unwind(fault).is_err());
    }
}
