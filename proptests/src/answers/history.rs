//! Histories of commands of every kind: of few domains and names, so that they meet each other.

use std::sync::Arc;

use momentlog::core::{
    Action, CheckpointDef, CheckpointDisk, Command, CreateCheckpoint, CreateSnapshot, DiskLocation,
    DiskSeen, DiskState, DiskTracking, DomainDef, DomainUuid, Extent, HoldTag, JobLength, Memory,
    MomentId, MomentKind, MomentName, Policy, Redefine, Report, Resume, RunState, Scope,
    SettingsChange, SnapshotDef, SnapshotDisk, SnapshotState, SourceKind, StateChange,
};
use momentlog::store::Seq;
use momentlog::xml::read_domain;
use momentlog::{Connection, ManualClock, Provenance};

use crate::op::Op;
use crate::shared_store::SharedStore;
use crate::sim_disk::Random;
use crate::suite::{connection, domain_def_of};

/// How many domains there are, uuids and names alike.
pub(super) const DOMAINS: u64 = 3;

/// How many names of moments there are: few enough that most are used again.
const NAMES: u64 = 40;

/// The uuid of a domain.
pub(super) fn uuid(domain: u64) -> DomainUuid {
    let [byte, ..] = (domain + 1).to_le_bytes();
    DomainUuid::from_bytes([byte; 16])
}

/// Makes a history of a number of records.
pub(super) fn history(random: &mut Random, records: usize) -> SharedStore {
    let store = SharedStore::new();
    let clock = Arc::new(ManualClock::default());
    let connection = connection(Box::new(store.clone()), clock.clone());
    let mut now = 1_700_000_000;
    let count = || {
        let head = connection.view().head();
        head.map_or(0, |head| {
            usize::try_from(head.seq.get()).expect("it is small")
        })
    };
    while count() < records {
        now += [0, 1, 1, 60][pick(random, 4)];
        clock.set_second(now);
        let asking = connection.with_provenance(provenance(random));
        let domain = uuid(
            random
                .below(DOMAINS * 2)
                .saturating_sub(DOMAINS - 1)
                .min(DOMAINS - 1),
        );
        let turn = Turn {
            random: &mut *random,
            connection: &asking,
            domain,
            now,
        };
        // What is refused leaves no record.
        _ = turn.ask();
    }
    store
}

fn pick(random: &mut Random, count: usize) -> usize {
    let picked = random.below(count as u64);
    usize::try_from(picked).expect("it is below a small number")
}

fn provenance(random: &mut Random) -> Provenance {
    let actors = [
        "intern@ops2",
        "backup@nightly",
        "anna@ops1",
        "é\u{202e}\n@x",
    ];
    let reasons = [
        None,
        None,
        Some("nightly"),
        Some("looked \"old\"\u{1}"),
        Some("note for audit"),
    ];
    Provenance {
        actor: actors[pick(random, actors.len())].into(),
        agent: ["root@vm momentlog-cli/0.2.0", "a/b c"][pick(random, 2)].into(),
        reason: reasons[pick(random, reasons.len())].map(Into::into),
        request_id: (random.below(20) == 0).then(|| format!("r{}", random.next()).into()),
        ..Provenance::default()
    }
}

/// One command or report.
struct Turn<'a> {
    random: &'a mut Random,
    connection: &'a Connection,
    domain: DomainUuid,
    now: i64,
}

impl Turn<'_> {
    fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[pick(self.random, all.len())]
    }

    fn kind(&mut self) -> MomentKind {
        self.one_of(&[MomentKind::Snapshot, MomentKind::Checkpoint])
    }

    fn name(&mut self) -> MomentName {
        let name = format!("m{}", self.random.below(NAMES));
        MomentName::new(&name).expect("it is a name")
    }

    /// A name of a moment that is there, mostly.
    fn known(&mut self, kind: MomentKind) -> MomentName {
        let view = self.connection.view();
        let domain = view.state().domain(self.domain);
        let names: Vec<MomentName> = match (domain, kind) {
            (None, _) => Vec::new(),
            (Some(domain), MomentKind::Snapshot) => {
                let all = domain.snapshots().walk(Scope::All);
                all.map(|moment| moment.name.clone()).collect()
            }
            (Some(domain), MomentKind::Checkpoint) => {
                let all = domain.checkpoints().walk(Scope::All);
                all.map(|moment| moment.name.clone()).collect()
            }
        };
        if names.is_empty() || self.chance(20) {
            return self.name();
        }
        names[pick(self.random, names.len())].clone()
    }

    fn ask(mut self) -> momentlog::Result<()> {
        let view = self.connection.view();
        let domain = view.state().domain(self.domain);
        let (waits, attached) = domain.map_or((false, false), |domain| {
            (
                domain.jobs().get(JobLength::Short).is_some(),
                domain.attachment().is_some(),
            )
        });
        // Little is accepted of a domain with an open job, or of one that is attached.
        if (waits || attached) && self.chance(3) {
            let end = Op::End {
                long: false,
                goes_on: self.chance(6),
            };
            return self.reported(if waits { &end } else { &Op::Detach });
        }
        let kind = self.kind();
        match self.random.below(100) {
            0..4 => {
                let def = self.def();
                self.execute(Action::Define(def))
            }
            4..6 => {
                let def = self.def();
                self.execute(Action::CreateLive(def))
            }
            6..12 => {
                let change = self.one_of(&[
                    StateChange::Start,
                    StateChange::Start,
                    StateChange::Shutdown,
                    StateChange::Destroy,
                    StateChange::Suspend,
                    StateChange::Resume,
                    StateChange::Reboot { ends: true },
                    StateChange::Reset,
                ]);
                self.execute(Action::ChangeState(change))
            }
            12 if self.chance(4) => {
                let with_snapshots = self.chance(2);
                self.execute(Action::Undefine { with_snapshots })
            }
            13 if self.chance(3) => {
                let autostart = self.chance(2);
                self.execute(Action::SetAutostart(autostart))
            }
            12..16 => {
                let policy = self.policy();
                self.connection.set_policy(self.domain, policy).map(drop)
            }
            16 => {
                let change = SettingsChange {
                    policy: self.chance(2).then(|| self.policy()),
                    request_window_s: self.chance(2).then_some(600),
                };
                self.connection.set_settings(change).map(drop)
            }
            17..40 => self.create(kind),
            40..54 => self.redefine(kind),
            54..66 => {
                let extent = self.one_of(&[
                    Extent::One,
                    Extent::One,
                    Extent::One,
                    Extent::Subtree,
                    Extent::ChildrenOnly,
                ]);
                let name = self.known(kind);
                self.execute(Action::Delete { kind, name, extent })
            }
            66..72 => {
                let name = self.known(kind);
                let parent = (!self.chance(5)).then(|| self.known(kind));
                self.execute(Action::Reparent { kind, name, parent })
            }
            72..75 => {
                let name = (!self.chance(5)).then(|| self.known(kind));
                self.execute(Action::SetCurrent { kind, name })
            }
            75..79 => {
                let resume = self.one_of(&[None, Some(Resume::Running), Some(Resume::Paused)]);
                let name = self.known(MomentKind::Snapshot);
                self.execute(Action::Revert { name, resume })
            }
            79..83 => self.hold(kind),
            83..87 => self.undelete(),
            87..90 => self.see(),
            _ => self.report(),
        }
    }

    fn execute(&self, action: Action) -> momentlog::Result<()> {
        let domain = self.domain;
        self.connection
            .execute(&Command { domain, action })
            .map(drop)
    }
}

/// What is asked for, in full.
impl Turn<'_> {
    fn policy(&mut self) -> Policy {
        Policy {
            exclusive: self.chance(8),
            chain: self.chance(6),
            active: self.chance(6),
            suffix: self.chance(2),
            overlays: !self.chance(3),
        }
    }

    /// A definition of the domain: two disks, memory and a name of its own, or one that another domain may have.
    fn def(&mut self) -> Arc<DomainDef> {
        let number = self.domain.as_bytes()[0];
        let name = match self.random.below(4) {
            0 => "any".to_owned(),
            _ => format!("vm{number}"),
        };
        // The name of a domain that is there stays.
        let view = self.connection.view();
        let there = view.state().domain(self.domain);
        let name = there.map_or(name, |domain| domain.name().to_string());
        let memory = [1024, 2048, 4096][pick(self.random, 3)];
        let def = domain_def_of(&name, self.domain);
        let xml = def.xml.replace("1048576", &memory.to_string());
        let xml = if self.chance(2) {
            xml.replace("vda.qcow2", "other.qcow2")
        } else {
            xml
        };
        Arc::new(read_domain(&xml, || self.domain).expect("the domain is one"))
    }

    fn description(&mut self) -> Option<Arc<str>> {
        let texts = [
            None,
            Some("before the upgrade"),
            Some("last good\n<one> & \"only\" é"),
        ];
        self.one_of(&texts).map(Into::into)
    }

    fn tracked(&mut self) -> Vec<CheckpointDisk> {
        let tracking = match self.random.below(4) {
            0 => return Vec::new(),
            1 => DiskTracking::No,
            2 => DiskTracking::Bitmap(Some("other".into())),
            _ => DiskTracking::Bitmap(None),
        };
        let name = "vda".into();
        vec![CheckpointDisk { name, tracking }]
    }

    fn create(&mut self, kind: MomentKind) -> momentlog::Result<()> {
        let name = (!self.chance(8)).then(|| self.name());
        let (now, description) = (self.now, self.description());
        let action = match kind {
            MomentKind::Snapshot => Action::CreateSnapshot(CreateSnapshot {
                name,
                description,
                now,
                memory: None,
                disks: Vec::new(),
                extra: self.chance(4).then(|| "<cookie><a/></cookie>".into()),
                disk_only: self.chance(4),
                halt: self.chance(10),
            }),
            MomentKind::Checkpoint => Action::CreateCheckpoint(CreateCheckpoint {
                name,
                description,
                now,
                disks: self.tracked(),
            }),
        };
        self.execute(action)
    }

    fn redefine(&mut self, kind: MomentKind) -> momentlog::Result<()> {
        let name = if self.chance(4) {
            self.name()
        } else {
            self.known(kind)
        };
        let parent = match self.random.below(6) {
            0 => None,
            1 | 2 => Some(self.known(kind)),
            _ => self.parent_of(kind, &name),
        };
        let domain = (!self.chance(4)).then(|| self.def());
        let (created, description) = (
            self.now - 60 * i64::from(self.chance(2)),
            self.description(),
        );
        let action = match kind {
            MomentKind::Checkpoint => Action::RedefineCheckpoint(Redefine {
                name,
                parent,
                created,
                def: CheckpointDef {
                    description,
                    disks: if domain.is_some() {
                        self.tracked()
                    } else {
                        Vec::new()
                    },
                    domain,
                },
                current: false,
            }),
            MomentKind::Snapshot => {
                let state = self.one_of(&[
                    SnapshotState::Run(RunState::Running),
                    SnapshotState::Run(RunState::Paused),
                    SnapshotState::Run(RunState::Shutoff),
                    SnapshotState::DiskSnapshot,
                ]);
                let memory = match state {
                    _ if state.is_memoryless() => Memory::No,
                    _ if self.chance(2) => Memory::External("/images/memory".into()),
                    _ => Memory::Internal,
                };
                let disk = SnapshotDisk {
                    name: "vda".into(),
                    location: Some(DiskLocation::External),
                    kind: SourceKind::File,
                    driver: Some("qcow2".into()),
                    source: Some("/images/overlay".into()),
                    xml: None,
                };
                let external = !matches!(memory, Memory::Internal) && self.chance(2);
                Action::RedefineSnapshot(Redefine {
                    name,
                    parent,
                    created,
                    def: SnapshotDef {
                        description,
                        state,
                        memory,
                        disks: if external { vec![disk] } else { Vec::new() },
                        inactive_domain: (domain.is_some() && self.chance(4)).then(|| self.def()),
                        domain,
                        revert_disks: None,
                        extra: self.chance(3).then(|| "<cookie><b/></cookie>".into()),
                    },
                    current: self.chance(3),
                })
            }
        };
        self.execute(action)
    }

    /// The name of a moment's parent.
    fn parent_of(&self, kind: MomentKind, name: &MomentName) -> Option<MomentName> {
        let view = self.connection.view();
        let domain = view.state().domain(self.domain)?;
        match kind {
            MomentKind::Snapshot => {
                let list = domain.snapshots();
                let parent = list.parent(list.find(name.as_str())?.id)?;
                Some(parent.name.clone())
            }
            MomentKind::Checkpoint => {
                let list = domain.checkpoints();
                let parent = list.parent(list.find(name.as_str())?.id)?;
                Some(parent.name.clone())
            }
        }
    }

    /// Holds a moment, or releases one of its holds.
    fn hold(&mut self, kind: MomentKind) -> momentlog::Result<()> {
        let name = self.known(kind);
        let tag = self.one_of(&["legal", "audit"]);
        let tag = HoldTag::new(tag).expect("it is a tag");
        // Few holds last, or nothing could be deleted any more.
        let held = {
            let view = self.connection.view();
            let domain = view.state().domain(self.domain);
            domain.map_or(0, |domain| domain.holds().len())
        };
        if held > 2 || self.chance(3) {
            return self.release();
        }
        let held = self.connection.hold(self.domain, kind, &name, &tag);
        held.map(drop)
    }

    fn release(&mut self) -> momentlog::Result<()> {
        let view = self.connection.view();
        let Some(domain) = view.state().domain(self.domain) else {
            return Ok(());
        };
        let holds: Vec<(MomentId, HoldTag)> = domain
            .holds()
            .iter()
            .map(|(id, tag, _)| (id, tag.clone()))
            .collect();
        if holds.is_empty() {
            return Ok(());
        }
        let (id, tag) = holds[pick(self.random, holds.len())].clone();
        let (kind, name) = match (domain.snapshots().get(id), domain.checkpoints().get(id)) {
            (Some(moment), _) => (MomentKind::Snapshot, moment.name.clone()),
            (_, Some(moment)) => (MomentKind::Checkpoint, moment.name.clone()),
            (None, None) => panic!("a hold is of a moment that is there"),
        };
        let released = self.connection.release_hold(self.domain, kind, &name, &tag);
        released.map(drop)
    }

    /// Takes back one of the last records, if it is a deletion.
    fn undelete(&mut self) -> momentlog::Result<()> {
        let view = self.connection.view();
        let Some(head) = view.head() else {
            return Ok(());
        };
        let domain = self.connection.lookup_domain_by_uuid(self.domain)?;
        for back in 0..40 {
            let Some(seq) = Seq::new(head.seq.get().saturating_sub(back)) else {
                break;
            };
            let rename = self.chance(8).then(|| self.name());
            if domain.undelete(seq, rename.as_ref()).is_ok() {
                break;
            }
        }
        Ok(())
    }

    /// Reports what was seen of a checkpoint.
    fn see(&mut self) -> momentlog::Result<()> {
        let name = self.known(MomentKind::Checkpoint);
        let view = self.connection.view();
        let domain = view.state().domain(self.domain);
        let Some(found) = domain.and_then(|domain| domain.checkpoints().find(name.as_str())) else {
            return Ok(());
        };
        let report = Report::See {
            checkpoint: found.id,
            disks: vec![DiskSeen {
                disk: "vda".into(),
                state: self.one_of(&DiskState::ALL),
            }],
        };
        self.connection.report(self.domain, &report).map(drop)
    }

    /// Reports of a driver: an attachment that does not last, a job that ends soon.
    fn report(&mut self) -> momentlog::Result<()> {
        let (snapshot, long) = (self.chance(2), self.chance(5));
        let op = match self.random.below(12) {
            0 => Op::Attach {
                socket: 1,
                look_only: self.chance(2),
            },
            1..4 => Op::Detach,
            4 => Op::Observe(self.one_of(&[0, 1, 2, 3])),
            5 | 6 => {
                let [byte, ..] = self.random.next().to_le_bytes();
                let action = match byte % 3 {
                    0 => Op::Delete {
                        snapshot,
                        name: byte,
                        extent: byte / 3 % 3,
                    },
                    _ => Op::Create {
                        snapshot,
                        name: Some(byte),
                        halt: false,
                    },
                };
                Op::Begin {
                    long,
                    action: (!self.chance(4)).then(|| Box::new(action)),
                }
            }
            7..11 => Op::End {
                long,
                goes_on: self.chance(6),
            },
            _ => Op::Fail { long },
        };
        self.reported(&op)
    }

    fn reported(&self, op: &Op) -> momentlog::Result<()> {
        let view = self.connection.view();
        let domain = view.state().domain(self.domain);
        let asked = op.asked_in(&domain_def_of("vm", self.domain), self.now, domain);
        asked.of(self.connection, self.domain).map(drop)
    }
}
