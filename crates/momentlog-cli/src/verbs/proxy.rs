//! The verb `proxy`: libvirtd's own protocol, passed on to it.

use std::path::Path;

use momentlog_rpc::{OtherUsers, Proxy};

use super::Verb;
use super::serve::{end_at_signal, sockets, system};
use crate::failure::Answer;
use crate::grammar::{Invocation, Spec, flag, needed, word};
use crate::session::Session;

/// The verb.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "proxy",
        "pass libvirt's protocol on to a libvirtd, until SIGTERM or SIGINT; nothing is recorded",
        &[
            needed("upstream", "the socket that libvirtd listens on"),
            word("socket", "the socket to make; without it those of systemd"),
            word(
                "read-only-socket",
                "a socket that is passed on to the upstream one with -ro behind its name",
            ),
            flag(
                "no-identity",
                "take other users' clients too; libvirtd sees them as the proxy's user",
            ),
        ],
    )
    .of_now()
    .in_text(),
    run: proxy,
}];

pub fn proxy(session: &mut Session, invocation: &Invocation) -> Answer {
    let upstream = invocation.get("upstream").unwrap_or_default();
    let sockets = sockets(invocation)?;
    let other_users = if invocation.has("no-identity") {
        OtherUsers::TakenForOurs
    } else {
        OtherUsers::Refused
    };
    let proxy = Proxy::new(Path::new(upstream), other_users).map_err(system("cannot pass on"))?;
    end_at_signal(proxy.stopper())?;
    session.say(&format!("Passing libvirt's clients on to {upstream}\n"));
    session.flush();
    proxy.run(sockets).map_err(system("cannot pass on"))?;
    Ok(0)
}
