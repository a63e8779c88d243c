//! libvirt's wire protocol over a momentlog store: virsh, python-libvirt and go-libvirt become its clients.
//!
//! ```
//! use std::io::Write as _;
//! use std::os::unix::net::UnixStream;
//!
//! use momentlog::Connection;
//! use momentlog_rpc::frame::{Frame, Header, MESSAGE_LEN_MAX, Status};
//! use momentlog_rpc::proto::{Procedure, Value, decode, encode};
//! use momentlog_rpc::xdr::Reader;
//! use momentlog_rpc::{Served, Server, Socket};
//!
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("sock");
//! let uri = "test:///default";
//! let server = Server::new(Served::while_used(|| Connection::open(uri), uri))?;
//! let (stop, sockets) = (server.stopper(), vec![Socket::bind(&path, false)?]);
//! let serving = std::thread::spawn(move || server.run(sockets));
//!
//! // What a client sends and gets: it opens the store, and looks up a domain.
//! let mut client = UnixStream::connect(&path)?;
//! for (number, arguments) in [(1, vec![Value::OptText(None), Value::UInt(0)]), (23, vec![Value::Text(b"test".into())])] {
//!     let procedure = Procedure::by_number(number).ok_or("no such procedure")?;
//!     let payload = encode(procedure.arguments, &arguments)?;
//!     client.write_all(&Frame { header: Header::call(number, 0), payload }.to_bytes())?;
//!     let reply = Frame::read(&mut client, MESSAGE_LEN_MAX)?.ok_or("no reply")?;
//!     assert_eq!(reply.header.status, Status::OK);
//!     let answer = decode(procedure.answer, &mut Reader::new(&reply.payload))?;
//!     assert!(number == 1 || matches!(&answer[..], [Value::Domain(domain)] if domain.id == 1));
//! }
//!
//! stop.stop();
//! serving.join().expect("it does not panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`frame`], [`xdr`] and [`proto`] are the protocol alone, in both directions, and know no store. `docs/clients.md` of the
//! repository says what clients can do.

mod acceptor;
mod client;
mod descriptor;
mod events;
mod failure;
mod features;
pub mod frame;
mod held;
mod identity;
mod outbox;
mod peer;
pub mod proto;
mod proxy;
mod queue;
mod record;
mod relay;
mod served;
mod server;
mod session;
mod socket;
pub mod xdr;

pub use acceptor::Stop;
pub use held::{Held, Recorder};
pub use identity::{PROXY_CONNECT, proxy_connect};
pub use proxy::{OtherUsers, Proxy};
pub use record::{CallLog, LookFailed, OUTSIDE, OnFailure};
pub use relay::{relay, relay_recorded};
pub use served::Served;
pub use server::Server;
pub use socket::{Socket, SocketError};
