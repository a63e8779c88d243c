//! The vectors of `docs/format/records.txt`, `attached.txt`, `seen.txt`, `renamed.txt` and `forwarded.txt` hold the code to
//! the page.

use momentlog_core::{
    Attachment, Change, CheckpointDef, CheckpointDisk, Deletion, DiskEffect, DiskLocation,
    DiskSeen, DiskState, DiskTracking, DomainDef, DomainDisk, EffectKind, Extent, FileToMake, Hold,
    HoldTag, HypervisorRun, IdRuns, Job, JobId, JobKind, JobLength, JobOutcome, Memory,
    MomentChange, MomentId, MomentName, MomentToMake, Policy, Power, RunState, Seen, Settings,
    SettledBy, SnapshotDef, SnapshotDisk, SnapshotState, SourceKind, State,
};
use momentlog_store::{Digest, Draft, Head, LogId, Record};

use super::body::TextRef;
use super::*;
use crate::image;
use crate::ledger::Ledger;

const AGENT: &str = "root@host momentlog-cli/0.1.0";

struct Vector {
    name: String,
    facts: Vec<u8>,
    texts: Vec<Vec<u8>>,
}

fn vectors() -> Vec<Vector> {
    let text = concat!(
        include_str!("../../../../docs/format/records.txt"),
        include_str!("../../../../docs/format/attached.txt"),
        include_str!("../../../../docs/format/seen.txt"),
        include_str!("../../../../docs/format/renamed.txt"),
        include_str!("../../../../docs/format/forwarded.txt")
    );
    let mut vectors: Vec<Vector> = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let (key, value) = line.split_once(' ').unwrap();
        if key == "record" {
            vectors.push(Vector {
                name: value.to_owned(),
                facts: Vec::new(),
                texts: Vec::new(),
            });
            continue;
        }
        let bytes = value
            .split(' ')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap());
        let vector = vectors.last_mut().unwrap();
        match key {
            "facts" => vector.facts.extend(bytes),
            _ => vector.texts.push(bytes.collect()),
        }
    }
    vectors
}

pub(crate) fn id(number: u64) -> MomentId {
    MomentId::new(number).unwrap()
}

pub(crate) fn uuid() -> DomainUuid {
    "3f2c7a90-5d1e-4b7c-9a52-0c6f1d8e4b21".parse().unwrap()
}

fn domain() -> Arc<DomainDef> {
    let disk = |target: &str, kind, source: Option<&str>, readonly, snapshot| DomainDisk {
        target: target.into(),
        kind,
        source: source.map(Arc::from),
        empty: source.is_none(),
        format: source.map(|_| "qcow2".into()),
        readonly,
        snapshot,
    };
    Arc::new(DomainDef {
        name: "vm".into(),
        uuid: uuid(),
        memory_kib: 8192,
        disks: vec![
            disk("vda", SourceKind::File, Some("/a.qcow2"), false, None),
            disk("sda", SourceKind::Block, None, true, Some(DiskLocation::No)),
        ],
        xml: "<domain type='kvm'>\n  <name>vm</name>\n</domain>\n".into(),
    })
}

fn checkpoint(description: Option<&str>, tracking: DiskTracking) -> CheckpointDef {
    let disk = |name: &str, tracking| CheckpointDisk {
        name: name.into(),
        tracking,
    };
    CheckpointDef {
        description: description.map(Arc::from),
        disks: vec![disk("vda", tracking), disk("sda", DiskTracking::No)],
        domain: Some(domain()),
    }
}

pub(crate) fn name(text: &str) -> MomentName {
    MomentName::new(text).unwrap()
}

fn deleted<D>(
    number: u64,
    extent: Extent,
    removed: &[u64],
    children_moved: u64,
    current: Option<MomentId>,
) -> MomentChange<D> {
    let removed = IdRuns::from_ids(removed.iter().map(|number| id(*number)).collect());
    MomentChange::Deleted {
        id: id(number),
        extent,
        removed,
        children_moved,
        current,
    }
}

fn job_begun(number: u64, length: JobLength) -> Change {
    let def = SnapshotDef {
        description: Some("a description".into()),
        state: SnapshotState::Run(RunState::Paused),
        memory: Memory::Internal,
        disks: Vec::new(),
        domain: Some(domain()),
        inactive_domain: None,
        revert_disks: None,
        extra: None,
    };
    let effect = |kind| DiskEffect {
        disk: "vda".into(),
        kind,
        image: "/a.qcow2".into(),
        node: "vda-format".into(),
        bitmap: Some("c2".into()),
        bitmap_was_there: true,
        file: Some("/o".into()),
    };
    let job = Job {
        kind: JobKind::Backup,
        length,
        call: 421,
        flags: 0x8000_0001,
        document: Some("<domainbackup/>".into()),
        snapshots: vec![MomentToMake {
            name: name("s2"),
            parent: Some(id(3)),
            created: -4,
            def: Arc::new(def),
            current: true,
        }],
        checkpoints: vec![MomentToMake {
            name: name("c2"),
            parent: None,
            created: 9,
            def: Arc::new(checkpoint(None, DiskTracking::Bitmap(None))),
            current: false,
        }],
        deletions: vec![Deletion {
            id: id(3),
            extent: Extent::Subtree,
            removed: IdRuns::from_ids(vec![id(3)]),
        }],
        effects: EffectKind::ALL[..4]
            .iter()
            .map(|kind| effect(*kind))
            .collect(),
        files: vec![FileToMake {
            disk: "vda".into(),
            path: "/o".into(),
        }],
        run: Some(HypervisorRun {
            pid: 42,
            start: 1 << 40,
            boot: [9; 16],
        }),
    };
    Change::JobBegun {
        id: JobId::new(number).unwrap(),
        job: Arc::new(job),
    }
}

fn outcome(number: u64, settled_by: SettledBy) -> JobOutcome {
    JobOutcome {
        job: JobId::new(number).unwrap(),
        seen: Seen::new(vec![("vda".into(), "bitmap c2 records".into())]).unwrap(),
        settled_by,
        agent: AGENT.into(),
    }
}

/// What each vector means, in their order.
#[expect(clippy::too_many_lines, reason = "one value for each vector")]
fn meanings() -> Vec<Content> {
    let policy = Policy {
        exclusive: true,
        chain: true,
        active: false,
        suffix: true,
        overlays: true,
    };
    let power = |state, reason, id| Change::StateChanged(Power { state, reason, id });
    let disk = |name: &str, location, driver: Option<&str>, source: Option<&str>| SnapshotDisk {
        name: name.into(),
        location: Some(location),
        kind: SourceKind::File,
        driver: driver.map(Arc::from),
        source: source.map(Arc::from),
        xml: source.map(|_| "<disk>\n  <source file='/o' x='y'/>\n</disk>\n".into()),
    };
    let snapshot = SnapshotDef {
        description: None,
        state: SnapshotState::Run(RunState::Running),
        memory: Memory::External("/m".into()),
        disks: vec![
            disk("vda", DiskLocation::External, Some("qcow2"), Some("/o")),
            disk("sda", DiskLocation::No, None, None),
        ],
        domain: Some(domain()),
        inactive_domain: None,
        revert_disks: Some("<revertDisks/>\n".into()),
        extra: Some("<cookie/>\n".into()),
    };
    let disk_only = SnapshotDef {
        state: SnapshotState::DiskSnapshot,
        memory: Memory::No,
        disks: Vec::new(),
        inactive_domain: Some(domain()),
        ..snapshot.clone()
    };
    let redefined = CheckpointDef {
        description: None,
        disks: vec![CheckpointDisk {
            name: "/x".into(),
            tracking: DiskTracking::Bitmap(None),
        }],
        domain: None,
    };
    let monday = checkpoint(Some("a description"), DiskTracking::Bitmap(None));
    let tuesday = checkpoint(
        Some("a description"),
        DiskTracking::Bitmap(Some("bm".into())),
    );
    let (one, two) = (Some(id(1)), Some(id(2)));
    let changes = vec![
        vec![Change::DomainDefined {
            def: domain(),
            policy,
            live: false,
        }],
        vec![Change::Checkpoint(MomentChange::Created {
            id: id(1),
            parent: None,
            name: name("monday"),
            created: 7,
            def: Arc::new(monday),
            current: true,
        })],
        vec![Change::Checkpoint(MomentChange::Created {
            id: id(2),
            parent: one,
            name: name("tuesday"),
            created: 8,
            def: Arc::new(tuesday),
            current: true,
        })],
        vec![Change::Checkpoint(MomentChange::Redefined {
            id: id(2),
            parent: one,
            created: -9,
            def: Arc::new(redefined),
            current: true,
        })],
        vec![Change::Checkpoint(deleted(1, Extent::One, &[1], 1, two))],
        vec![Change::Checkpoint(MomentChange::CurrentSet(two))],
        vec![Change::Checkpoint(MomentChange::Reparented {
            id: id(2),
            parent: None,
        })],
        vec![Change::Checkpoint(deleted(
            2,
            Extent::Subtree,
            &[2],
            0,
            None,
        ))],
        vec![Change::PolicySet(Policy {
            exclusive: false,
            ..policy
        })],
        vec![power(RunState::Running, 1, Some(5))],
        vec![
            Change::Snapshot(MomentChange::Created {
                id: id(3),
                parent: None,
                name: name("s"),
                created: 9,
                def: Arc::new(snapshot),
                current: true,
            }),
            power(RunState::Shutoff, 7, None),
        ],
        vec![Change::Snapshot(MomentChange::Redefined {
            id: id(3),
            parent: None,
            created: 9,
            def: Arc::new(disk_only),
            current: false,
        })],
        vec![Change::Reverted {
            id: id(3),
            power: Power {
                state: RunState::Paused,
                reason: 7,
                id: Some(6),
            },
        }],
        vec![Change::Snapshot(MomentChange::CurrentSet(None))],
        vec![Change::Snapshot(MomentChange::Reparented {
            id: id(3),
            parent: None,
        })],
        vec![Change::Snapshot(deleted(
            3,
            Extent::ChildrenOnly,
            &[],
            0,
            None,
        ))],
        vec![Change::HoldAdded {
            id: id(3),
            tag: HoldTag::new("legal").unwrap(),
            hold: Hold {
                since: -77,
                by: "anna@ops".into(),
            },
        }],
        vec![Change::HoldRemoved {
            id: id(3),
            tag: HoldTag::new("legal").unwrap(),
        }],
        vec![job_begun(1, JobLength::Long)],
        vec![
            Change::JobEnded(outcome(1, SettledBy::Beginner)),
            job_begun(2, JobLength::Short),
        ],
        vec![Change::JobFailed(outcome(2, SettledBy::Later))],
        vec![Change::MadeTransient],
        vec![power(RunState::Shutoff, 2, None), Change::DomainRemoved],
        vec![Change::SettingsSet(Settings {
            policy: Policy {
                chain: false,
                ..policy
            },
            request_window_s: 86_400,
        })],
    ];
    let attached = [
        vec![
            Change::DomainDefined {
                def: domain(),
                policy: Policy {
                    suffix: true,
                    ..Policy::NONE
                },
                live: false,
            },
            Change::HypervisorAttached(Arc::new(Attachment {
                driver: "qemu".into(),
                socket: "/run/vm.qmp".into(),
                look_only: true,
            })),
        ],
        vec![Change::HypervisorDetached, Change::DomainRemoved],
    ];
    let disk = |name: &str, tracking| CheckpointDisk {
        name: name.into(),
        tracking,
    };
    let seen = |disk: &str, state| DiskSeen {
        disk: disk.into(),
        state,
    };
    let seen = vec![
        Change::DomainDefined {
            def: domain(),
            policy: Policy {
                suffix: true,
                ..Policy::NONE
            },
            live: false,
        },
        Change::Checkpoint(MomentChange::Created {
            id: id(4),
            parent: None,
            name: MomentName::new("c").unwrap(),
            created: 5,
            def: Arc::new(CheckpointDef {
                description: None,
                disks: vec![
                    disk("vda", DiskTracking::Bitmap(None)),
                    disk("vdb", DiskTracking::No),
                    disk("vdc", DiskTracking::Bitmap(Some("b".into()))),
                ],
                domain: None,
            }),
            current: true,
        }),
        Change::CheckpointSeen {
            id: id(4),
            disks: vec![seen("vda", DiskState::Lost), seen("vdc", DiskState::Ok)],
        },
        Change::DomainRemoved,
    ];
    let renamed = vec![
        seen[0].clone(),
        Change::DomainRenamed(Arc::new(DomainDef {
            name: "web01".into(),
            xml: "<domain type='kvm'>\n  <name>web01</name>\n</domain>\n".into(),
            ..DomainDef::clone(&domain())
        })),
        Change::AutostartSet(true),
        Change::DomainRemoved,
    ];
    let forwarded = vec![
        seen[0].clone(),
        Change::JobBegun {
            id: JobId::new(3).unwrap(),
            job: Arc::new(Job {
                kind: JobKind::Forward,
                length: JobLength::Short,
                call: 421,
                flags: 1,
                document: Some("<domainbackup mode='pull'/>".into()),
                snapshots: vec![],
                checkpoints: vec![],
                deletions: vec![],
                effects: vec![],
                files: vec![],
                run: None,
            }),
        },
        Change::JobFailed(JobOutcome {
            job: JobId::new(3).unwrap(),
            seen: Seen::new(vec![(
                "libvirt".into(),
                "code 55: domain is not running".into(),
            )])
            .unwrap(),
            settled_by: SettledBy::Beginner,
            agent: AGENT.into(),
        }),
        Change::DomainRemoved,
    ];
    let command = |(at, changes): (usize, Vec<Change>)| {
        let request = RequestKey {
            id: "r1".into(),
            digest: std::array::from_fn(|index| u8::try_from(index).unwrap()),
        };
        Content::Command {
            asked: Asked {
                actor: if at < 2 { "alice" } else { "bob" }.into(),
                agent: AGENT.into(),
                call: Call(if at == 1 { 411 } else { 0x8001 }),
                flags: if at == 1 { 5 } else { 0 },
                reason: (at == 1).then(|| "a reason".into()),
                request: (at == 1).then_some(request),
                undoes: if at == 4 { Seq::new(4) } else { None },
            },
            events: changes
                .into_iter()
                .map(|change| Event {
                    domain: (!matches!(change, Change::SettingsSet(_))).then(uuid),
                    change,
                })
                .collect(),
        }
    };
    let genesis = Content::Genesis {
        profile: Profile::Own,
        writer: "momentlog 0.1.0".to_owned(),
    };
    let bridge = Content::Bridge {
        asked: Asked {
            call: Call::ARCHIVE,
            agent: AGENT.into(),
            reason: Some("kept for a year".into()),
            ..asked_by("alice")
        },
        bridge: Bridge {
            first: Seq::FIRST,
            last: Head {
                seq: Seq::new(25).unwrap(),
                digest: Digest::ZERO,
            },
            image: std::array::from_fn(|index| u8::try_from(32 + index).unwrap()),
            archive: Some("/archive".into()),
        },
    };
    std::iter::once(genesis)
        .chain(changes.into_iter().enumerate().map(command))
        .chain([bridge])
        .chain(attached.into_iter().map(|changes| command((26, changes))))
        .chain([
            command((28, seen)),
            command((29, renamed)),
            command((30, forwarded)),
        ])
        .collect()
}

fn record(seq: u64, vector: &Vector) -> Record {
    let texts = vector
        .texts
        .iter()
        .map(|bytes| Text::Plain {
            salt: [0; 32],
            bytes: bytes.clone(),
        })
        .collect();
    let previous = Seq::new(seq - 1).map(|seq| Head {
        seq,
        digest: Digest::ZERO,
    });
    Record::new(
        LogId([0; 16]),
        previous,
        None,
        Draft {
            facts: vector.facts.clone(),
            texts,
        },
    )
}

#[test]
fn every_vector_decodes_to_its_meaning_and_applies() {
    let mut dictionary = Dictionary::default();
    let mut state = State::new(Profile::Own);
    let (vectors, meanings) = (vectors(), meanings());
    assert_eq!(vectors.len(), meanings.len());
    for ((seq, vector), meaning) in (1..).zip(&vectors).zip(meanings) {
        let facts = dictionary
            .decode(&record(seq, vector))
            .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        assert_eq!(facts.content, meaning, "{}", vector.name);
        assert_eq!(
            facts.previous.map_or(0, Seq::get),
            seq.saturating_sub(1) * u64::from(seq > 2 && facts.domain.is_some()),
            "{}",
            vector.name
        );
        if let Content::Command { events, .. } = &facts.content {
            for event in events {
                state
                    .advance(event)
                    .unwrap_or_else(|misfit| panic!("{}: {misfit}", vector.name));
            }
        }
        assert_eq!(state.check(), Ok(()), "{}", vector.name);
    }
    assert!(state.domain(uuid()).is_none());
}

#[test]
fn every_kind_of_event_has_a_vector() {
    let mut kinds = std::collections::BTreeSet::new();
    for vector in vectors() {
        let mut rest = &vector.facts[at::FACTS_LEN..];
        rest = &rest[u32_at(&vector.facts, at::PROVENANCE_LEN) as usize..];
        for _ in 0..u32_at(&vector.facts, at::EVENTS) {
            kinds.insert(u16_at(rest, at::EVENT_KIND));
            rest = &rest[at::EVENT_LEN + u32_at(rest, at::EVENT_BODY_LEN) as usize..];
        }
    }
    let known: Vec<u16> = events::kinds().collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), known);
}

#[test]
fn every_meaning_encodes_to_its_vector() {
    let mut reading = Dictionary::default();
    let mut writing = Dictionary::default();
    for (seq, vector) in (1..).zip(&vectors()) {
        let facts = reading.decode(&record(seq, vector)).unwrap();
        let draft = writing.encode(Seq::new(seq).unwrap(), &facts, &mut || [0; 32]);
        assert_eq!(draft.facts, vector.facts, "{}", vector.name);
        let texts: Vec<Vec<u8>> = draft
            .texts
            .into_iter()
            .map(|text| match text {
                Text::Plain { bytes, .. } => bytes,
                Text::Erased { .. } => Vec::new(),
            })
            .collect();
        assert_eq!(texts, vector.texts, "{}", vector.name);
    }
}

#[test]
fn every_byte_cut_or_added_is_an_error() {
    let mut dictionary = Dictionary::default();
    for (seq, vector) in (1..).zip(&vectors()) {
        for length in 0..vector.facts.len() {
            let cut = Vector {
                name: String::new(),
                facts: vector.facts[..length].to_vec(),
                texts: vector.texts.clone(),
            };
            assert!(
                dictionary.decode(&record(seq, &cut)).is_err(),
                "{} cut at {length}",
                vector.name
            );
        }
        let mut facts = vector.facts.clone();
        facts.push(0);
        let longer = Vector {
            name: String::new(),
            facts,
            texts: vector.texts.clone(),
        };
        assert!(
            dictionary.decode(&record(seq, &longer)).is_err(),
            "{}",
            vector.name
        );
        dictionary.decode(&record(seq, vector)).unwrap();
    }
}

#[test]
fn ids_and_counts_that_a_kind_does_not_have_are_refused() {
    let mut dictionary = Dictionary::default();
    let mut changed = 0;
    for (seq, vector) in (1..).zip(&vectors()) {
        let kind = u16_at(&vector.facts, at::KIND);
        let first = at::FACTS_LEN + u32_at(&vector.facts, at::PROVENANCE_LEN) as usize;
        let mut places = Vec::new();
        if [KIND_GENESIS, KIND_BRIDGE].contains(&kind) {
            places.push((at::EVENTS, None));
        } else {
            let event = u16_at(&vector.facts, first);
            let has_parent = [1, 2, 4, 5].contains(&(event & 0xff));
            let of_moments = [0x0200, 0x0300].contains(&(event & 0xff00));
            if !(of_moments && has_parent) {
                places.push((first + at::EVENT_PARENT, Some(event)));
            }
            let has_moment = of_moments && event & 0xff != 5 || event & 0xff00 == 0x0500;
            if !has_moment {
                places.push((first + at::EVENT_MOMENT, Some(event)));
            }
        }
        for (place, event) in places {
            let mut facts = vector.facts.clone();
            assert_eq!(facts[place], 0, "{}", vector.name);
            facts[place] = 1;
            let other = Vector {
                name: String::new(),
                facts,
                texts: vector.texts.clone(),
            };
            let expected = match event {
                Some(kind) => DecodeError::Ids { kind },
                None => DecodeError::Length("head of the facts"),
            };
            let found = dictionary.clone().decode(&record(seq, &other));
            assert_eq!(found, Err(expected), "{}", vector.name);
            changed += 1;
        }
        dictionary.decode(&record(seq, vector)).unwrap();
    }
    assert!(changed > 25, "{changed}");
}

#[test]
fn an_erased_description_is_told_as_erased_and_the_chain_holds() {
    let vectors = vectors();
    let mut ledger = Ledger::new(Profile::Own);
    let mut head = None;
    for vector in &vectors[..3] {
        let texts = vector.texts.iter().map(|bytes| Text::Plain {
            salt: [7; 32],
            bytes: bytes.clone(),
        });
        let draft = |texts| Draft {
            facts: vector.facts.clone(),
            texts,
        };
        let record = |texts| Record::new(LogId([0; 16]), head, None, draft(texts));
        let whole = record(texts.clone().collect());
        let erased = texts.map(|text| match &text {
            Text::Plain { bytes, .. } if bytes == b"a description" || bytes == b"a reason" => {
                Text::Erased {
                    commitment: text.commitment(),
                    length: 13,
                }
            }
            _ => text,
        });
        let erased = record(erased.collect());
        assert_eq!(erased.digest, whole.digest);
        let entry = ledger.replay(&erased).unwrap();
        let reason = (vector.name == "checkpoint-created").then_some("");
        assert_eq!(entry.reason.as_deref(), reason);
        head = Some(erased.head());
    }
    let body = image::encode(&ledger).unwrap();
    let again = image::decode(head.unwrap(), &body).unwrap();
    for ledger in [&ledger, &again] {
        let domain = ledger.view().state().domain(uuid()).unwrap();
        let monday = domain.checkpoints().get(id(1)).unwrap();
        assert_eq!(monday.def.description.as_deref(), Some(""));
    }
}

#[test]
fn a_policy_with_an_unknown_rule_is_refused_by_its_number() {
    let read = |rules: &[u16]| {
        let stored = (rules.len() as u64).to_le_bytes().to_vec();
        let rules = rules.iter().flat_map(|rule| rule.to_le_bytes());
        body::decode_policy(&stored.into_iter().chain(rules).collect::<Vec<_>>())
    };
    assert_eq!(read(&[1, 2, 4, 5]), Ok(Profile::Own.policy()));
    assert_eq!(read(&[]), Ok(Policy::NONE));
    let error = read(&[2, 9]).unwrap_err();
    assert_eq!(error, DecodeError::Rule(9));
    assert_eq!(
        error.to_string(),
        "rule 9 of a policy is not known to this version"
    );
    for unordered in [&[2, 1][..], &[2, 2]] {
        assert_eq!(read(unordered), Err(DecodeError::Body("policy")));
    }
}

/// The page has the number and name of each rule.
#[test]
fn the_rules_are_those_of_the_page() {
    let page = include_str!("../../../../docs/format.md");
    let (_, table) = page.split_once("| rule | name |").unwrap();
    let rows = table.lines().skip(2).map_while(|row| {
        let mut cells = row.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.parse().unwrap(), cells.next()?))
    });
    let listed: Vec<(u16, &str)> = rows.collect();
    let known = momentlog_core::Rule::ALL.map(|rule| (rule.number(), rule.name()));
    assert_eq!(listed, known);
}

#[test]
fn an_unknown_event_kind_or_version_is_refused_by_name() {
    let vector = vectors().into_iter().nth(9).unwrap();
    let at = vector
        .facts
        .windows(2)
        .rposition(|bytes| bytes == [0x05, 0x01])
        .unwrap();
    for (offset, value, kind, version) in [(0, 0x77, 0x0177, 1), (2, 9, 0x0105, 9)] {
        let mut facts = vector.facts.clone();
        facts[at + offset] = value;
        let changed = Vector {
            name: String::new(),
            facts,
            texts: Vec::new(),
        };
        let mut dictionary = Dictionary::default();
        // It has the agent's text.
        dictionary.decode(&record(2, &vectors()[1])).unwrap();
        let error = dictionary.decode(&record(10, &changed)).unwrap_err();
        assert_eq!(error, DecodeError::EventKind { kind, version });
    }
}

type ProvenanceAsRead = (String, u64, u32, u16, u32, Option<u64>, Option<u64>, u64);

#[test]
fn another_reader_of_the_same_encoding_reads_the_bodies() {
    // The way out of bincode: what it wrote does not need it.
    let stored = body::Deleted {
        extent: 1,
        removed: vec![(2, 3), (9, 1)],
        children_moved: 4,
        current: 5,
    };
    let bytes = body::encode_body(&stored);
    let read: (u8, Vec<(u64, u64)>, u64, u64) = wincode::deserialize(&bytes).unwrap();
    assert_eq!(read, (1, vec![(2, 3), (9, 1)], 4, 5));
    let bytes = body::encode_body(&body::Provenance {
        actor: "alice",
        agent: TextRef { seq: 2, index: 1 },
        call: 9,
        flags: 4,
        reason: None,
        request: None,
        undoes: 3,
    });
    let read: ProvenanceAsRead = wincode::deserialize(&bytes).unwrap();
    assert_eq!(read, ("alice".to_owned(), 2, 1, 9, 4, None, None, 3));
}

#[test]
fn a_definition_from_before_means_the_domain_that_its_xml_means_now() {
    let create = |number, def: &Arc<DomainDef>| Content::Command {
        asked: asked_by("alice"),
        events: [
            Change::Checkpoint(MomentChange::Created {
                id: id(number),
                parent: None,
                name: name(&format!("c{number}")),
                created: 5,
                def: Arc::new(CheckpointDef {
                    description: None,
                    disks: Vec::new(),
                    domain: Some(def.clone()),
                }),
                current: true,
            }),
            Change::Snapshot(MomentChange::Created {
                id: id(number + 10),
                parent: None,
                name: name(&format!("s{number}")),
                created: 5,
                def: Arc::new(SnapshotDef {
                    description: None,
                    state: SnapshotState::DiskSnapshot,
                    memory: Memory::No,
                    disks: Vec::new(),
                    domain: Some(def.clone()),
                    inactive_domain: None,
                    revert_disks: None,
                    extra: None,
                }),
                current: true,
            }),
        ]
        .map(|change| Event {
            domain: Some(uuid()),
            change,
        })
        .into(),
    };
    let other = Arc::new(DomainDef {
        memory_kib: 1,
        ..DomainDef::clone(&domain())
    });
    let first = domain();
    // The first tells the text, the second is read and kept. The third, which only the first dictionary has written, says
    // that the text means another domain. The fourth has the bytes of the second and means that one, or the first again.
    for last in [&other, &first] {
        let (mut one, mut two) = (Dictionary::default(), Dictionary::default());
        for (number, def) in (2..).zip([&first, &first, &other, last]) {
            let seq = Seq::new(number).unwrap();
            let facts = Facts {
                recorded: 0,
                domain: Some(uuid()),
                previous: None,
                content: create(number, def),
            };
            let (writes, reads) = if number == 4 {
                (&mut one, &mut two)
            } else {
                (&mut two, &mut one)
            };
            let draft = writes.encode(seq, &facts, &mut || [0; 32]);
            let previous = Some(Head {
                seq: Seq::new(number - 1).unwrap(),
                digest: Digest::ZERO,
            });
            let record = Record::new(LogId([0; 16]), previous, None, draft);
            assert_eq!(
                reads.decode(&record).unwrap().content,
                facts.content,
                "{number}"
            );
        }
    }
}

/// Every reason would be in every image otherwise, for as long as the log lives.
#[test]
fn a_reason_is_a_text_of_its_own_record_and_is_not_learnt() {
    let said = |number, reason: &str| Content::Command {
        asked: Asked {
            reason: Some(reason.into()),
            ..asked_by("ann")
        },
        events: vec![Event {
            domain: Some(uuid()),
            change: Change::Checkpoint(MomentChange::Created {
                id: id(number),
                parent: None,
                name: name(&format!("c{number}")),
                created: 7,
                def: Arc::new(checkpoint(Some("weekly"), DiskTracking::No)),
                current: true,
            }),
        }],
    };
    let (mut writer, mut reader) = (Dictionary::default(), Dictionary::default());
    for number in 2..200 {
        let seq = Seq::new(number).unwrap();
        // Also one that is as what a moment says.
        let reason = if number % 2 == 0 {
            "weekly"
        } else {
            &number.to_string()
        };
        let facts = Facts {
            recorded: 7,
            domain: Some(uuid()),
            previous: None,
            content: said(number, reason),
        };
        let draft = writer.encode(seq, &facts, &mut || [0; 32]);
        assert!(draft.texts.iter().any(|text| {
            matches!(text, Text::Plain { bytes, .. } if bytes == reason.as_bytes())
        }));
        let record = Record {
            seq,
            previous: Digest::ZERO,
            digest: Digest::ZERO,
            durable: None,
            facts: draft.facts,
            texts: draft.texts,
        };
        assert_eq!(reader.decode(&record), Ok(facts));
    }
    assert!(writer.agrees_with(&reader));
    // Agent, XML and description.
    assert_eq!(reader.by_place.len(), 3);
}

/// What is known by its bytes from a record before is the same, and nothing else is.
#[test]
fn records_that_differ_in_one_thing_are_read_as_they_were_written() {
    let created = |number, def: CheckpointDef| {
        Change::Checkpoint(MomentChange::Created {
            id: id(number),
            parent: None,
            name: name(&format!("c{number}")),
            created: 7,
            def: Arc::new(def),
            current: true,
        })
    };
    let content = |actor: &str, reason: Option<&str>, key: Option<&str>, change| Content::Command {
        asked: Asked {
            reason: reason.map(Arc::from),
            request: key.map(|key| RequestKey {
                id: key.into(),
                digest: [3; 32],
            }),
            ..asked_by(actor)
        },
        events: vec![Event {
            domain: Some(uuid()),
            change,
        }],
    };
    let plain = || checkpoint(None, DiskTracking::No);
    let bitmap = || checkpoint(None, DiskTracking::Bitmap(None));
    let defined = Change::DomainDefined {
        def: domain(),
        policy: Profile::Own.policy(),
        live: false,
    };
    let contents = [
        content("ann", None, None, defined),
        content("ann", None, None, created(1, plain())),
        content("ann", None, None, created(2, plain())),
        content("ann", None, None, created(3, bitmap())),
        content("bob", None, None, created(4, bitmap())),
        content("bob", None, None, created(5, plain())),
        content("bob", Some("weekly"), None, created(6, plain())),
        content("bob", Some("yearly"), None, created(7, plain())),
        content("bob", Some("yearly"), Some("k1"), created(8, plain())),
        content("bob", None, Some("k1"), created(9, plain())),
        content("bob", None, Some("k1"), created(10, plain())),
        content("bob", None, None, created(11, plain())),
    ];
    let (mut writer, mut reader) = (Dictionary::default(), Dictionary::default());
    for (seq, content) in (2..).zip(contents) {
        let facts = Facts {
            recorded: 7,
            domain: Some(uuid()),
            previous: None,
            content,
        };
        let seq = Seq::new(seq).unwrap();
        let draft = writer.encode(seq, &facts, &mut || [0; 32]);
        let record = Record {
            seq,
            previous: Digest::ZERO,
            digest: Digest::ZERO,
            durable: None,
            facts: draft.facts,
            texts: draft.texts,
        };
        assert_eq!(reader.decode(&record), Ok(facts));
    }
}
