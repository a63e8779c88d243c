//! A libvirtd for tests, of one domain that is off and has the snapshots that a test gives it.

use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::{io::Write as _, thread};

use momentlog::core::DomainUuid;
use momentlog::{Connection, Entry, Provenance};

use super::client::ClientRecorder;
use super::look::{NO_SNAPSHOT, NO_SUPPORT};
use super::{CallLog, OnFailure, Shared};
use crate::frame::{Frame, Header, MESSAGE_LEN_MAX, Status};
use crate::held::{Held, Recorder as _};
use crate::proto::{DomainRef, MomentRef, Procedure, RemoteError, Value, decode, encode};
use crate::xdr::Reader;

pub(super) const VM: DomainUuid = DomainUuid::from_bytes([7; 16]);

/// The XML of each snapshot, by name.
type Snapshots = Arc<Mutex<BTreeMap<String, String>>>;

/// A log, and the libvirtd whose calls it has.
pub(super) struct Libvirtd {
    snapshots: Snapshots,
    pub(super) log: CallLog,
    _dir: tempfile::TempDir,
}

impl Libvirtd {
    pub(super) fn new() -> Libvirtd {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let snapshots = Snapshots::default();
        let listed = snapshots.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let listed = listed.clone();
                thread::spawn(move || serve(stream.unwrap(), &listed));
            }
        });
        let store = format!("momentlog:{}", dir.path().join("store").display());
        let open = move || Connection::open(&store);
        let log = CallLog::new(open, &socket, "test:///default", OnFailure::Refuse).unwrap();
        Libvirtd {
            snapshots,
            log,
            _dir: dir,
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.log.0.clone()
    }

    /// Has a snapshot listed, in the place of one of its name.
    pub(super) fn list(&self, name: &str, description: &str, disks: &str) {
        let xml = format!(
            "<domainsnapshot><name>{name}</name><description>{description}</description>\
             <creationTime>1</creationTime><state>shutoff</state>{disks}{}</domainsnapshot>",
            domain_xml()
        );
        self.snapshots.lock().unwrap().insert(name.to_owned(), xml);
    }

    pub(super) fn unlist(&self, name: &str) {
        self.snapshots.lock().unwrap().remove(name).unwrap();
    }

    /// A call of a client.
    pub(super) fn call(&self, procedure: i32, values: &[Value<'_>]) -> (Frame, Box<dyn Held>) {
        let client = Provenance {
            actor: "client".into(),
            ..Provenance::default()
        };
        let arguments = Procedure::by_number(procedure).unwrap().arguments;
        let frame = Frame {
            header: Header::call(procedure, 1),
            payload: encode(arguments, values).unwrap(),
        };
        let held = ClientRecorder::new(self.shared(), client).hear(&frame);
        (frame, held.unwrap())
    }

    /// The records of the domain.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let connection = self.log.0.writer.connection();
        let steps = connection.history_of(VM).unwrap();
        steps.map(|step| step.unwrap().entry).collect()
    }
}

/// The reply to a call that is done.
pub(super) fn done(call: &Frame) -> Frame {
    Frame {
        header: call.header.reply(Status::OK),
        payload: Vec::new(),
    }
}

pub(super) fn vm() -> DomainRef<'static> {
    DomainRef {
        name: b"vm".into(),
        uuid: *VM.as_bytes(),
        id: -1,
    }
}

pub(super) fn moment(name: &str) -> MomentRef<'static> {
    MomentRef {
        name: name.as_bytes().to_vec().into(),
        domain: vm(),
    }
}

fn domain_xml() -> String {
    format!(
        "<domain type='test'><name>vm</name><uuid>{VM}</uuid><memory>1024</memory>\
         <os><type>hvm</type></os></domain>"
    )
}

fn serve(mut stream: UnixStream, snapshots: &Snapshots) {
    while let Ok(Some(call)) = Frame::read(&mut stream, MESSAGE_LEN_MAX) {
        let procedure = Procedure::by_number(call.header.procedure).unwrap();
        let listed = snapshots.lock().unwrap().clone();
        let values = match procedure.number {
            1 | 66 | 316 => Ok(None),
            273 => Ok(Some(vec![Value::Domains(vec![vm()]), Value::UInt(1)])),
            24 => Ok(Some(vec![Value::Domain(vm())])),
            212 => Ok(Some(vec![Value::Int(5), Value::Int(0)])),
            151 => Ok(Some(vec![Value::Int(1)])),
            15 => Ok(Some(vec![Value::Int(0)])),
            14 => Ok(Some(vec![Value::Text(domain_xml().into_bytes().into())])),
            274 => {
                let moments: Vec<_> = listed.keys().map(|name| moment(name)).collect();
                let count = i32::try_from(moments.len()).unwrap();
                Ok(Some(vec![Value::Moments(moments), Value::Int(count)]))
            }
            186 => {
                let values = decode(procedure.arguments, &mut Reader::new(&call.payload));
                let Ok([Value::Moment(moment), _]) = values.as_deref() else {
                    panic!("{values:?}");
                };
                let name = String::from_utf8(moment.name.to_vec()).unwrap();
                let xml = listed[&name].clone();
                Ok(Some(vec![Value::Text(xml.into_bytes().into())]))
            }
            191 => Err(NO_SNAPSHOT),
            _ => Err(NO_SUPPORT),
        };
        let (status, payload) = match values {
            Ok(values) => {
                let payload = values.map(|values| encode(procedure.answer, &values).unwrap());
                (Status::OK, payload.unwrap_or_default())
            }
            Err(code) => {
                let error = RemoteError {
                    code,
                    domain: 0,
                    message: None,
                    level: 2,
                    about: None,
                    texts: [None, None, None],
                    numbers: [-1; 2],
                    network: None,
                };
                (Status::ERROR, error.encode().unwrap())
            }
        };
        let reply = Frame {
            header: call.header.reply(status),
            payload,
        };
        stream.write_all(&reply.to_bytes()).unwrap();
    }
}
