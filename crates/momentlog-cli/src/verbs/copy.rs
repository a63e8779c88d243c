//! Copying a log between places: a directory, a database.

use momentlog::store::{CopyError, StoreError, copy as copy_log};
use momentlog_audit::json::CopyDoc;

use super::Verb;
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec, needed};
use crate::interrupt;
use crate::layout::escaped;
use crate::place;
use crate::progress;
use crate::session::Session;

/// The verb.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "copy",
        "copy a log to another place, or what a copy of it lacks: the same records and digests",
        &[
            needed("source", "URI of the log"),
            needed(
                "destination",
                "URI of the copy: a directory, or a database after init",
            ),
        ],
    )
    .of_now(),
    run: copy,
}];

pub fn copy(session: &mut Session, invocation: &Invocation) -> Answer {
    if session.connection.is_read_only() {
        return Err(Failure::new("nothing is copied for reading only"));
    }
    let (source, destination) = (invocation.need("source"), invocation.need("destination"));
    let mut from = place::store(source)?;
    let mut to = place::store(destination)?;
    // It may be the writer of one of them.
    session.connection.release();
    let copied = copy_log(from.as_mut(), to.as_mut(), session.lock_wait, &mut |_| {
        progress::count();
        if interrupt::pressed() {
            return Err(StoreError::Stopped);
        }
        Ok(())
    });
    let copied = copied.map_err(|error| failure(error, destination))?;
    let records = match copied.records {
        0 => "Nothing to copy".to_owned(),
        1 => "1 record copied".to_owned(),
        records => format!("{records} records copied"),
    };
    let (head, place) = (copied.end.head, escaped(&place::shown(destination)));
    session.say(&format!(
        "{records}: {place} ends with record {} {}\n",
        head.seq, head.digest
    ));
    session.document(&CopyDoc::of(&copied));
    Ok(0)
}

/// What is said of a copy that was not made, or not to its end.
fn failure(error: CopyError, destination: &str) -> Failure {
    let CopyError::Store(error) = error else {
        return Failure::new(error.to_string());
    };
    let advice = match &error {
        StoreError::Stopped => return momentlog::Error::aborted("interrupted").into(),
        StoreError::Missing { path } if path.path().is_none() => {
            let place = escaped(&place::shown(destination));
            Some(format!(
                "init makes the log in a database, as its owner: momentlog -c '{place}' init"
            ))
        }
        StoreError::Archived { .. } => {
            Some("copy that archive to the destination first: it is a log of its own".to_owned())
        }
        _ => None,
    };
    let failure = Failure::from(momentlog::Error::from(error));
    match advice {
        Some(advice) => failure.and(advice),
        None => failure,
    }
}
