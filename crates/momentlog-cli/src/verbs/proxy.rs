//! The verb `proxy`: libvirtd's own protocol, passed on to it and recorded.

use std::path::Path;
use std::time::Duration;

use momentlog::Options;
use momentlog_rpc::{CallLog, OnFailure, OtherUsers, Proxy};

use super::serve::{end_at_signal, sockets, system};
use super::{Verb, exclusive, log};
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec, flag, needed, word};
use crate::layout::escaped;
use crate::place;
use crate::session::{Format, Session};

/// The verb.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "proxy",
        "pass libvirt's protocol on to a libvirtd and record its changes, until SIGTERM or SIGINT",
        &[
            needed("upstream", "the socket that libvirtd listens on"),
            word("socket", "the socket to make; without it those of systemd"),
            word(
                "read-only-socket",
                "a socket that is passed on to the upstream one with -ro behind its name",
            ),
            word(
                "uri",
                "the driver whose domains are recorded; without it qemu:///system for root, else qemu:///session",
            ),
            word(
                "observe",
                "look at libvirtd each time after this number of seconds, for what came by other ways",
            ),
            flag(
                "once",
                "pass nothing on: look once for what came by other ways, and show the records of it",
            ),
            flag(
                "fail-open",
                "pass a call on that cannot be recorded, and record later that it was",
            ),
            flag(
                "no-identity",
                "let libvirtd take all clients for the proxy's user, whoever they are",
            ),
        ],
    )
    .of_now(),
    run: proxy,
}];

pub fn proxy(session: &mut Session, invocation: &Invocation) -> Answer {
    let upstream = invocation.get("upstream").unwrap_or_default();
    if invocation.has("once") {
        return look_once(session, invocation, Path::new(upstream));
    }
    if session.format == Format::Json {
        return Err(Failure::new("proxy has a JSON form with --once alone"));
    }
    let observe = invocation.get("observe").map(seconds).transpose()?;
    let sockets = sockets(invocation)?;
    let other_users = if invocation.has("no-identity") {
        OtherUsers::TakenForOurs
    } else {
        OtherUsers::usual()
    };
    let mut proxy =
        Proxy::new(Path::new(upstream), other_users).map_err(system("cannot pass on"))?;
    if session.names_store {
        let log = call_log(session, invocation, Path::new(upstream))?;
        proxy = proxy.recording(log, observe);
    }
    end_at_signal(proxy.stopper())?;
    let said = if session.names_store {
        let store = place::shown(&session.uri);
        format!("Passing libvirt's clients on to {upstream}, recorded in {store}\n")
    } else {
        format!("Passing libvirt's clients on to {upstream}, unrecorded: no store is named\n")
    };
    session.say(&said);
    session.flush();
    proxy.run(sockets).map_err(system("cannot pass on"))?;
    Ok(0)
}

/// Looks at libvirtd without passing anything on, and shows what the log has of it that it had not before.
fn look_once(session: &mut Session, invocation: &Invocation, upstream: &Path) -> Answer {
    for option in ["socket", "read-only-socket", "observe"] {
        exclusive(invocation, "once", option)?;
    }
    if !session.names_store {
        let why = "name the store that is to have what libvirtd lists: -c STORE";
        return Err(Failure::new(why));
    }
    let before = session.connection.refresh()?.head();
    let looked = call_log(session, invocation, upstream)?.look();
    if session.connection.refresh()?.head() == before {
        if looked.is_ok() {
            session.say("The log has what libvirtd lists\n");
        }
    } else {
        let next = before.map_or(1, |head| head.seq.get() + 1);
        let words = ["--from".to_owned(), next.to_string()];
        let recorded = Invocation::parse(&log::VERBS[0].spec, &words).map_err(Failure::new)?;
        log::log(session, &recorded)?;
    }
    session.flush();
    looked.map_err(|error| Failure::new(error.to_string()))?;
    Ok(0)
}

/// The log of what is passed on.
fn call_log(
    session: &Session,
    invocation: &Invocation,
    upstream: &Path,
) -> Result<CallLog, Failure> {
    if session.connection.is_read_only() {
        let why = "a proxy that records writes the store: leave out --readonly";
        return Err(Failure::new(why));
    }
    let options = Options {
        provenance: session.connection.provenance().clone(),
        lock_wait: session.lock_wait,
        // Each call waits for another writer by itself, as each is of another client.
        shared: false,
        ..Options::default()
    };
    let store = session.uri.clone();
    let open = move || place::open(&store, options.clone());
    let on_failure = if invocation.has("fail-open") {
        OnFailure::PassOn
    } else {
        OnFailure::Refuse
    };
    let uri = invocation
        .get("uri")
        .unwrap_or_else(|| CallLog::usual_uri());
    Ok(CallLog::new(open, upstream, uri, on_failure)?)
}

/// Reads a number of seconds, at least one.
fn seconds(text: &str) -> Result<Duration, Failure> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let why = format!("'{}' is no number of seconds, from 1", escaped(text));
        Failure::new(why)
    })
}
