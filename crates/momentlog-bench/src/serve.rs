//! Row 29: libvirt's protocol, `momentlog serve` against libvirtd in front of its test driver, asked by one client.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use momentlog_rpc::frame::{Frame, Header, KEEPALIVE, MESSAGE_LEN_MAX, PONG, Status};
use momentlog_rpc::proto::{DomainRef, MomentRef, Procedure, RemoteError, Value, decode, encode};
use momentlog_rpc::xdr::Reader;

use crate::Failed;
use crate::libvirtd::{Killed, Libvirtd};
use crate::measure::{Effort, Table, Target, median};

const LIBVIRTD: &str = "libvirtd's test driver";

/// How many clients ask at once.
pub(crate) const CROWDS: [usize; 2] = [1, 8];

/// How long the list is.
const LISTED: usize = 1000;

/// libvirt's numbers of the procedures.
const AUTH_LIST: i32 = 66;
const OPEN: i32 = 1;
const CREATE: i32 = 9;
const DEFINE: i32 = 11;
const XML: i32 = 14;
const LOOKUP: i32 = 23;
const SNAPSHOT_CREATE: i32 = 185;
const SNAPSHOT_DELETE: i32 = 193;
const SNAPSHOT_LIST: i32 = 274;
const CHECKPOINT_CREATE: i32 = 411;
const CHECKPOINT_DELETE: i32 = 417;

/// A call that is measured.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    ratio: f64,
    call: Call,
}

#[derive(Clone, Copy)]
pub(crate) enum Call {
    /// A procedure that reads.
    Read(i32),
    /// One that makes a moment; another one deletes it again, which is not measured.
    Make {
        element: &'static str,
        create: i32,
        delete: i32,
    },
}

/// A call that only reads.
pub(crate) const LOOK_UP: Work = Work {
    name: "look-up",
    ratio: 1.0,
    call: Call::Read(LOOKUP),
};

/// A call that makes a moment.
pub(crate) const MAKE: Work = Work {
    name: "snapshot create",
    ratio: 1.0,
    call: Call::Make {
        element: "domainsnapshot",
        create: SNAPSHOT_CREATE,
        delete: SNAPSHOT_DELETE,
    },
};

const WORKS: [Work; 5] = [
    LOOK_UP,
    Work {
        name: "domain's XML",
        ratio: 1.0,
        call: Call::Read(XML),
    },
    Work {
        name: "list of 1000 snapshots",
        ratio: 1.0,
        call: Call::Read(SNAPSHOT_LIST),
    },
    MAKE,
    Work {
        name: "checkpoint create",
        ratio: 50.0,
        call: Call::Make {
            element: "domaincheckpoint",
            create: CHECKPOINT_CREATE,
            delete: CHECKPOINT_DELETE,
        },
    },
];

pub(crate) fn rows(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let program = std::env::current_exe()?.with_file_name("momentlog");
    if !program.exists() {
        table.missing("29", &format!("{} is not built", program.display()));
        return Ok(());
    }
    let libvirtd = match Libvirtd::start(dir, &[]) {
        Ok(libvirtd) => libvirtd,
        Err(why) => {
            table.missing("29", &format!("libvirtd is not there: {why}"));
            return Ok(());
        }
    };
    let home = tempfile::tempdir()?;
    let socket = home.path().join("sock");
    let mut server = Process::new(program);
    server
        .args(["-c", "test:///default", "serve", "--socket"])
        .arg(&socket)
        .stdout(Stdio::null());
    let _server = Killed::start(&mut server, &socket)?;
    let mut own = Side::new(&socket, 0, LISTED)?;
    let mut its = Side::new(&libvirtd.socket(), 0, LISTED)?;
    let turn = effort.round / 4;
    for work in &WORKS {
        for crowd in CROWDS {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for round in 0..=effort.rounds {
                let pair = [own.turn(work, crowd, turn)?, its.turn(work, crowd, turn)?];
                // The first turn warms up.
                if round > 0 {
                    ours.push(1.0 / pair[0]);
                    theirs.push(1.0 / pair[1]);
                }
            }
            let [mine, yours] = [&ours, &theirs].map(|rates| 1e6 / median(rates));
            let clients = if crowd == 1 { "client" } else { "clients" };
            let name = format!(
                "29 {}, {crowd} {clients} ({mine:.0} µs, {yours:.0} µs)",
                work.name
            );
            let target = Target {
                peer: LIBVIRTD,
                ratio: work.ratio,
            };
            table.rounds(&name, &ours, &theirs, target);
        }
    }
    Ok(())
}

/// A server's clients, each with a running domain of its own.
pub(crate) struct Side {
    clients: Vec<Client>,
}

impl Side {
    /// Clients whose domains have numbers from `first` on, and a list of this length.
    pub(crate) fn new(socket: &Path, first: usize, len: usize) -> Result<Side, Failed> {
        let most = CROWDS.into_iter().max().ok_or("there are some")?;
        let mut clients = Vec::new();
        for number in first..=first + most {
            clients.push(Client::new(socket, number)?);
        }
        // The last client only fills the list that all the others read.
        let mut listed = clients.pop().ok_or("there are some")?;
        for number in 0..len {
            listed.moment(SNAPSHOT_CREATE, "domainsnapshot", &format!("s{number}"))?;
        }
        for client in &mut clients {
            client.listed = Some(listed.domain.clone());
        }
        Ok(Side { clients })
    }

    /// Lets this number of clients work for a time, and returns the median of how long a call took, in seconds.
    pub(crate) fn turn(
        &mut self,
        work: &Work,
        crowd: usize,
        time: Duration,
    ) -> Result<f64, Failed> {
        let start = Barrier::new(crowd);
        let start = &start;
        let clients = &mut self.clients[..crowd];
        let all = thread::scope(|scope| {
            let threads: Vec<_> = clients
                .iter_mut()
                .map(|client| {
                    scope.spawn(move || {
                        start.wait();
                        client.calls(work.call, time)
                    })
                })
                .collect();
            let mut all = Vec::new();
            for thread in threads {
                all.extend(thread.join().map_err(|_| "a thread panicked")??);
            }
            Ok::<_, Failed>(all)
        })?;
        Ok(median(&all))
    }
}

/// A client of either server.
struct Client {
    stream: UnixStream,
    serial: u32,
    domain: DomainRef<'static>,
    listed: Option<DomainRef<'static>>,
}

impl Client {
    fn new(socket: &Path, number: usize) -> Result<Client, Failed> {
        let mut client = Client {
            stream: UnixStream::connect(socket)?,
            serial: 0,
            domain: DomainRef {
                name: format!("bench-{number}").into_bytes().into(),
                uuid: [0xb0 + u8::try_from(number)?; 16],
                id: -1,
            },
            listed: None,
        };
        client.call(AUTH_LIST, &[])?;
        let uri = Value::OptText(Some(b"test:///default".into()));
        client.call(OPEN, &[uri, Value::UInt(0)])?;
        let uuid = format!("{:02x}", client.domain.uuid[0]).repeat(16);
        let xml = format!(
            "<domain type='test'><name>bench-{number}</name><uuid>{uuid}</uuid><memory>8192</memory>\
             <os><type>hvm</type></os><devices><disk type='file' device='disk'>\
             <source file='/i/1'/><target dev='vda'/></disk></devices></domain>"
        );
        client.call(DEFINE, &[Value::Text(xml.into_bytes().into())])?;
        let domain = client.domain.clone();
        client.call(CREATE, &[Value::Domain(domain)])?;
        Ok(client)
    }

    /// Makes calls until the time is over, and returns how many seconds each took.
    fn calls(&mut self, call: Call, time: Duration) -> Result<Vec<f64>, Failed> {
        let begun = Instant::now();
        let mut took = Vec::new();
        while begun.elapsed() < time {
            took.push(match call {
                Call::Read(number) => self.read(number)?,
                Call::Make {
                    element,
                    create,
                    delete,
                } => {
                    let seconds = self.moment(create, element, "new")?;
                    self.forget(delete, "new")?;
                    seconds
                }
            });
        }
        Ok(took)
    }

    fn read(&mut self, number: i32) -> Result<f64, Failed> {
        let arguments = match number {
            LOOKUP => vec![Value::Text(self.domain.name.clone())],
            SNAPSHOT_LIST => {
                let listed = self.listed.clone().ok_or("a client has a list to read")?;
                vec![Value::Domain(listed), Value::Int(1), Value::UInt(0)]
            }
            _ => vec![Value::Domain(self.domain.clone()), Value::UInt(0)],
        };
        self.call(number, &arguments)
    }

    fn moment(&mut self, create: i32, element: &str, name: &str) -> Result<f64, Failed> {
        let xml = format!("<{element}><name>{name}</name></{element}>");
        let arguments = [
            Value::Domain(self.domain.clone()),
            Value::Text(xml.into_bytes().into()),
            Value::UInt(0),
        ];
        self.call(create, &arguments)
    }

    fn forget(&mut self, delete: i32, name: &str) -> Result<f64, Failed> {
        let moment = MomentRef {
            name: name.as_bytes().to_vec().into(),
            domain: self.domain.clone(),
        };
        self.call(delete, &[Value::Moment(moment), Value::UInt(0)])
    }

    /// Makes a call, and returns how many seconds it took until its answer was decoded.
    fn call(&mut self, number: i32, arguments: &[Value<'_>]) -> Result<f64, Failed> {
        let procedure = Procedure::by_number(number).ok_or("the table has it")?;
        self.serial += 1;
        let begun = Instant::now();
        let frame = Frame {
            header: Header::call(number, self.serial),
            payload: encode(procedure.arguments, arguments)?,
        };
        self.stream.write_all(&frame.to_bytes())?;
        loop {
            let frame = Frame::read(&mut self.stream, MESSAGE_LEN_MAX)?.ok_or("no reply")?;
            if frame.header.program == KEEPALIVE {
                let pong = Frame {
                    header: Header::keepalive(PONG),
                    payload: Vec::new(),
                };
                self.stream.write_all(&pong.to_bytes())?;
                continue;
            }
            let mut reader = Reader::new(&frame.payload);
            if frame.header.status != Status::OK {
                let error = RemoteError::decode(&mut reader)?;
                let message = error.message.unwrap_or_default();
                let message = String::from_utf8_lossy(&message).into_owned();
                return Err(format!("procedure {number}: {message}").into());
            }
            decode(procedure.answer, &mut reader)?;
            return Ok(begun.elapsed().as_secs_f64());
        }
    }
}
