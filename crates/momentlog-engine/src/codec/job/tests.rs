use std::sync::Arc;

use momentlog_core::{
    CheckpointDisk, DiskLocation, DiskTracking, DomainDef, DomainUuid, Event, Extent, Memory,
    MomentChange, Policy, Profile, RunState, SnapshotDisk, SnapshotState, SourceKind,
};
use momentlog_store::{Draft, Head, LogId, Record};

use super::*;
use crate::codec::{Asked, Content, Facts, RequestKey, asked_by};
use crate::image;
use crate::ledger::Ledger;

const UUID: DomainUuid = DomainUuid::from_bytes([7; 16]);

fn domain() -> Arc<DomainDef> {
    Arc::new(DomainDef {
        name: "vm".into(),
        uuid: UUID,
        memory_kib: 1024,
        disks: Vec::new(),
        xml: "<domain/>".into(),
    })
}

fn id(number: u64) -> MomentId {
    MomentId::new(number).unwrap()
}

fn job_id(number: u64) -> JobId {
    JobId::new(number).unwrap()
}

fn checkpoint() -> Arc<CheckpointDef> {
    Arc::new(CheckpointDef {
        description: Some("before the upgrade".into()),
        disks: vec![CheckpointDisk {
            name: "vda".into(),
            tracking: DiskTracking::Bitmap(None),
        }],
        domain: Some(domain()),
    })
}

fn snapshot() -> Arc<SnapshotDef> {
    Arc::new(SnapshotDef {
        description: None,
        state: SnapshotState::Run(RunState::Running),
        memory: Memory::External("/m".into()),
        disks: vec![SnapshotDisk {
            name: "vda".into(),
            location: Some(DiskLocation::External),
            kind: SourceKind::File,
            driver: Some("qcow2".into()),
            source: Some("/o".into()),
            xml: None,
        }],
        domain: Some(domain()),
        inactive_domain: None,
        revert_disks: None,
        extra: None,
    })
}

/// A job with something in every field.
fn job(length: JobLength) -> Job {
    Job {
        kind: JobKind::Backup,
        length,
        call: 300,
        flags: 0x8000_0001,
        document: Some("<domainbackup/>".into()),
        snapshots: vec![MomentToMake {
            name: MomentName::new("s").unwrap(),
            parent: None,
            created: -4,
            def: snapshot(),
            current: true,
        }],
        checkpoints: vec![MomentToMake {
            name: MomentName::new("c2").unwrap(),
            parent: Some(id(1)),
            created: 9,
            def: checkpoint(),
            current: false,
        }],
        deletions: vec![Deletion {
            id: id(1),
            extent: Extent::Subtree,
            removed: IdRuns::from_ids(vec![id(1)]),
        }],
        effects: EffectKind::ALL
            .map(|kind| DiskEffect {
                disk: "vda".into(),
                kind,
                image: "/a.qcow2".into(),
                node: "vda-format".into(),
                bitmap: Some("c2".into()),
                bitmap_was_there: true,
                file: Some("/o".into()),
            })
            .to_vec(),
        files: vec![FileToMake {
            disk: "vda".into(),
            path: "/o".into(),
        }],
        run: Some(HypervisorRun {
            pid: 42,
            start: 1 << 40,
            boot: [9; 16],
        }),
    }
}

fn outcome(number: u64, settled_by: SettledBy) -> JobOutcome {
    JobOutcome {
        job: job_id(number),
        seen: Seen::new(vec![("vda".into(), "bitmap c2 records".into())]).unwrap(),
        settled_by,
        agent: "root@host momentlog".into(),
    }
}

fn created(number: u64) -> Change {
    Change::Checkpoint(MomentChange::Created {
        id: id(number),
        parent: None,
        name: MomentName::new(&format!("c{number}")).unwrap(),
        created: 5,
        def: checkpoint(),
        current: true,
    })
}

fn begun(number: u64, length: JobLength) -> Change {
    Change::JobBegun {
        id: job_id(number),
        job: Arc::new(job(length)),
    }
}

fn held(number: u64, tag: &str) -> Change {
    Change::HoldAdded {
        id: id(number),
        tag: HoldTag::new(tag).unwrap(),
        hold: Hold {
            since: -77,
            by: "anna@ops".into(),
        },
    }
}

fn settings(policy: Policy, request_window_s: u32) -> Change {
    Change::SettingsSet(Settings {
        policy,
        request_window_s,
    })
}

/// Records as they are written, each read by a ledger of its own: what both make is the same, and so is what an image
/// keeps of it.
struct Log {
    written: Dictionary,
    read: Ledger,
}

impl Log {
    fn begun() -> Log {
        let mut log = Log {
            written: Dictionary::default(),
            read: Ledger::new(Profile::Own),
        };
        let writer = "a test".to_owned();
        let profile = Profile::Own;
        log.take(None, Content::Genesis { profile, writer });
        log.record(vec![Change::DomainDefined {
            def: domain(),
            policy: Profile::Own.policy(),
            live: false,
        }]);
        log.record(vec![created(1)]);
        log
    }

    fn record(&mut self, changes: Vec<Change>) {
        self.record_as(asked_by("ann"), changes);
    }

    fn record_as(&mut self, asked: Asked, changes: Vec<Change>) {
        let is_settings = matches!(changes[..], [Change::SettingsSet(_)]);
        let domain = (!is_settings).then_some(UUID);
        let event = |change| Event { domain, change };
        let content = Content::Command {
            asked,
            events: changes.into_iter().map(event).collect(),
        };
        self.take(domain, content);
    }

    fn take(&mut self, domain: Option<DomainUuid>, content: Content) {
        let head = self.read.view().head();
        let facts = Facts {
            recorded: 1,
            domain,
            previous: domain.and_then(|domain| self.read.view.revisions.get(&domain).copied()),
            content,
        };
        let seq = Seq::after(head.map(|head| head.seq));
        let Draft { facts, texts } = self.written.encode(seq, &facts, &mut || [0; 32]);
        let record = Record::new(LogId([0; 16]), head, None, Draft { facts, texts });
        let entry = self.read.replay(&record).unwrap();
        assert_eq!(entry.head, record.head());
    }

    /// Returns what an image of the log gives.
    fn imaged(&mut self) -> Ledger {
        let head = self.read.view().head().unwrap();
        let body = image::encode(&self.read).unwrap();
        let again = image::decode(head, &body).unwrap();
        assert!(again.agrees_with(&self.read));
        for length in 0..body.len() {
            assert!(image::decode(head, &body[..length]).is_err(), "{length}");
        }
        again
    }
}

#[test]
fn jobs_are_read_as_they_were_written_and_open_ones_are_in_images() {
    let mut log = Log::begun();
    log.record(vec![begun(1, JobLength::Short)]);
    log.record(vec![
        Change::JobEnded(outcome(1, SettledBy::Beginner)),
        created(2),
        begun(2, JobLength::Long),
    ]);
    log.record(vec![begun(3, JobLength::Short)]);
    log.record(vec![Change::JobFailed(outcome(3, SettledBy::Later))]);
    let ledger = log.imaged();
    let open: Vec<_> = ledger.view().state().open_jobs().collect();
    let [(UUID, open)] = open[..] else {
        panic!("{open:?}");
    };
    assert_eq!(open.id, job_id(2));
    assert_eq!(*open.job, job(JobLength::Long));
    assert_eq!(ledger.view().state().next_job(), JobId::new(4));
}

/// A request under the id `id`.
fn requested(id: &str) -> Asked {
    Asked {
        request: Some(RequestKey {
            id: id.into(),
            digest: [5; 32],
        }),
        ..asked_by("ann")
    }
}

#[test]
fn a_failed_job_frees_the_request_that_began_it_also_behind_an_image() {
    let mut log = Log::begun();
    for (number, id) in [(1, "r1"), (2, "r2")] {
        log.record_as(requested(id), vec![begun(number, JobLength::Short)]);
        let open: Vec<_> = log.read.requests.open().collect();
        assert_eq!(open, [(job_id(number), id)]);
        // What is replayed from here on begins with what the image holds.
        log.read = log.imaged();
        log.record(vec![if number == 1 {
            Change::JobEnded(outcome(1, SettledBy::Beginner))
        } else {
            Change::JobFailed(outcome(2, SettledBy::Later))
        }]);
    }
    assert_eq!(log.read.requests.open().len(), 0);
    assert!(log.read.requests.get("r1").is_some());
    assert_eq!(log.read.requests.get("r2"), None);
    log.record_as(requested("r2"), vec![begun(3, JobLength::Short)]);
    assert_eq!(log.read.requests.get("r2").unwrap().seq.get(), 8);
    log.imaged();
}

#[test]
fn attachments_are_read_as_they_were_written_and_are_in_images() {
    let attached = |socket: &str| Attachment {
        driver: "qemu".into(),
        socket: socket.into(),
        look_only: false,
    };
    let attach = |socket: &str| Change::HypervisorAttached(attached(socket).into());
    let mut log = Log::begun();
    let without = image::encode(&log.read).unwrap();
    log.record(vec![attach("/run/a")]);
    log.record(vec![attach("/run/b")]);
    let found = log.imaged();
    let domain = found.view().state().domain(UUID).unwrap();
    assert_eq!(
        domain.attachment().map(|found| (**found).clone()),
        Some(attached("/run/b"))
    );
    // An image that needs no part of the second version is written in the first.
    let with = image::encode(&log.read).unwrap();
    assert_eq!([without[0], with[0]], [1, 2]);
    log.record(vec![Change::HypervisorDetached]);
    assert_eq!(image::encode(&log.read).unwrap()[0], 1);
    for socket in ["", "relative", &"/".repeat(4097)] {
        let body = body::encode_body(&("qemu", socket, false));
        assert_eq!(decode_attached(&body), Err(DecodeError::Body("attachment")));
    }
}

#[test]
fn holds_are_read_as_they_were_written_and_are_in_images() {
    let mut log = Log::begun();
    log.record(vec![held(1, "legal")]);
    log.record(vec![held(1, "audit")]);
    log.record(vec![Change::HoldRemoved {
        id: id(1),
        tag: HoldTag::new("legal").unwrap(),
    }]);
    let ledger = log.imaged();
    let holds = ledger.view().state().domain(UUID).unwrap().holds();
    let holds: Vec<_> = holds
        .of(id(1))
        .map(|(tag, hold)| (tag.as_str(), hold.since))
        .collect();
    assert_eq!(holds, [("audit", -77)]);
}

#[test]
fn settings_and_policies_that_were_set_are_in_images() {
    let free = Policy {
        chain: false,
        ..Profile::Own.policy()
    };
    let mut log = Log::begun();
    log.record(vec![Change::PolicySet(Profile::LibvirtTest.policy())]);
    log.record(vec![Change::DomainRemoved]);
    log.record(vec![settings(free, 0)]);
    let ledger = log.imaged();
    let state = ledger.view().state();
    assert_eq!(state.settings().policy, free);
    assert_eq!(state.settings().request_window_s, 0);
    assert_eq!(state.policy_of_new(UUID), Profile::LibvirtTest.policy());
    assert_eq!(state.policy_of_new(DomainUuid::from_bytes([1; 16])), free);
}

/// What each body must be refused for, found by changing one byte of it after another.
#[test]
fn bodies_that_mean_nothing_are_refused() {
    let word = |bytes: &[u8], at: usize, value: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        bytes
    };
    let mut writing = Dictionary::default();
    let seq = Seq::FIRST;
    let mut encoder = Encoder {
        dictionary: &mut writing,
        seq,
        texts: Vec::new(),
    };
    let begun = job(JobLength::Short);
    let bytes = body::encode_body(&encoder.job(job_id(1), &begun));
    let ended = body::encode_body(&encoder.outcome(&outcome(1, SettledBy::Later)));
    let mut reading = writing.clone();
    let mut refused = |bytes: &[u8]| {
        let stored = decode_body(bytes, "job")?;
        reading.job(seq, stored).map(|_| ())
    };
    assert_eq!(refused(&bytes), Ok(()));
    let wrong = |what, value| Err(DecodeError::Word { what, value });
    assert_eq!(refused(&word(&bytes, 0, 0)), wrong("job", 0));
    assert_eq!(refused(&word(&bytes, 8, 8)), wrong("kind of job", 8));
    assert_eq!(refused(&word(&bytes, 10, 3)), wrong("length of a job", 3));
    let mut refused = |bytes: &[u8]| writing.decode_outcome(seq, bytes).map(|_| ());
    assert_eq!(refused(&ended), Ok(()));
    assert_eq!(refused(&word(&ended, 0, 0)), wrong("job", 0));
    assert_eq!(refused(&word(&ended, 8, 0)), wrong("settler of a job", 0));
    let seen = body::encode_body(&vec![("vda", 8_u8)]);
    assert_eq!(
        decode_seen(id(1), &seen).map(|_| ()),
        wrong("state of a bitmap", 8)
    );
    for tag in ["", "a\nb", &"x".repeat(65)] {
        let refused = decode_hold_removed(id(1), &body::encode_body(&tag));
        assert_eq!(refused, Err(DecodeError::Body("tag of a hold")), "{tag:?}");
    }
}

#[test]
fn what_was_seen_has_a_bound_in_the_log_too() {
    let mut dictionary = Dictionary::default();
    let pair: (&str, &str) = ("", "");
    let stored = StoredOutcome {
        job: 1,
        settled_by: 1,
        agent: TextRef { seq: 1, index: 0 },
        seen: vec![pair; Seen::COUNT_MAX + 1],
    };
    let refused = dictionary.decode_outcome(Seq::FIRST, &body::encode_body(&stored));
    assert_eq!(refused, Err(DecodeError::Body("outcome of a job")));
}

#[test]
fn an_event_of_the_store_in_a_record_about_a_domain_does_not_replay() {
    let mut log = Log::begun();
    let head = log.read.view().head();
    let facts = Facts {
        recorded: 1,
        domain: Some(UUID),
        previous: head.map(|head| head.seq),
        content: Content::Command {
            asked: asked_by("ann"),
            events: vec![Event {
                domain: None,
                change: settings(Profile::Own.policy(), 1),
            }],
        },
    };
    let seq = Seq::after(head.map(|head: Head| head.seq));
    let draft = log.written.encode(seq, &facts, &mut || [0; 32]);
    let record = Record::new(LogId([0; 16]), head, None, draft);
    assert!(log.read.replay(&record).is_err());
}
