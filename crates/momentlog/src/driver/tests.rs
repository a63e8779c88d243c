//! The words of reconciling and the table of settling, row by row.

use std::collections::{BTreeMap, BTreeSet};

use momentlog_core::{
    Action, Change, Command, CreateCheckpoint, DiskEffect, DomainDisk, EffectKind, JobKind,
    JobLength, JobOutcome, MomentName, OpenJob, Profile, Seen, SettledBy, SourceKind, State,
};

use super::*;

const UUID: DomainUuid = DomainUuid::from_bytes([7; 16]);
const LOG: LogId = LogId([1; 16]);

const RUN: HypervisorRun = HypervisorRun {
    pid: 42,
    start: 1,
    boot: [9; 16],
};

const OTHER_RUN: HypervisorRun = HypervisorRun { pid: 43, ..RUN };

fn bitmap(name: &str) -> Bitmap {
    Bitmap {
        name: name.into(),
        count: Some(65536),
        granularity: 65536,
        recording: true,
        persistent: true,
        inconsistent: false,
        busy: false,
    }
}

fn layer(image: &str, bitmaps: Vec<Bitmap>) -> Layer {
    Layer {
        image: image.into(),
        node: "a-node".into(),
        format: "qcow2".into(),
        keeps_bitmaps: true,
        read_only: false,
        empty: false,
        size: 1 << 20,
        cluster: Some(65536),
        bitmaps,
    }
}

fn sight(layers: Vec<Layer>) -> Sight {
    Sight {
        power: (RunState::Running, 1),
        disks: vec![SeenDisk {
            target: "vda".into(),
            layers,
        }],
        witnesses: Vec::new(),
        copies: BTreeMap::new(),
    }
}

/// A store with a domain of one disk and the checkpoint c1.
fn state() -> State {
    let def = DomainDef {
        name: "vm".into(),
        uuid: UUID,
        memory_kib: 8192,
        disks: vec![DomainDisk {
            target: "vda".into(),
            kind: SourceKind::File,
            source: Some("/a".into()),
            empty: false,
            format: Some("qcow2".into()),
            readonly: false,
            snapshot: None,
        }],
        xml: "".into(),
    };
    let create = CreateCheckpoint {
        name: MomentName::new("c1"),
        description: None,
        now: 100,
        disks: vec![],
    };
    let mut state = State::new(Profile::Own);
    for action in [Action::Define(def.into()), Action::CreateCheckpoint(create)] {
        let domain = UUID;
        for event in state.decide(&Command { domain, action }).unwrap() {
            state.advance(&event).unwrap();
        }
    }
    state
}

#[test]
fn each_word_of_reconciling_has_its_case() {
    let changed = |change: fn(&mut Bitmap)| {
        let mut bitmap = bitmap("c1");
        change(&mut bitmap);
        Some(vec![layer("/a", vec![bitmap])])
    };
    let both =
        |top: Vec<Bitmap>, base: Vec<Bitmap>| Some(vec![layer("/top", top), layer("/a", base)]);
    let c1 = || vec![bitmap("c1")];
    let cases: Vec<(Option<Vec<Layer>>, DiskState, bool)> = vec![
        (None, DiskState::Unknown, false),
        (Some(vec![]), DiskState::DiskGone, false),
        (Some(vec![layer("/a", vec![])]), DiskState::Lost, true),
        (both(vec![], c1()), DiskState::Broken, true),
        (
            changed(|found| found.inconsistent = true),
            DiskState::Inconsistent,
            true,
        ),
        (
            changed(|found| found.recording = false),
            DiskState::Stopped,
            true,
        ),
        (
            changed(|found| found.persistent = false),
            DiskState::Temporary,
            true,
        ),
        (both(c1(), c1()), DiskState::Ok, false),
        (changed(|_| {}), DiskState::Ok, false),
    ];
    let state = state();
    let domain = state.domain(UUID).unwrap();
    for (layers, word, is_dropped) in cases {
        let sight = layers.map(sight);
        let found = compare(domain, LOG, sight.as_ref(), true, &BTreeSet::new());
        assert_eq!(found.checkpoints[0].disks[0].state, word, "{sight:?}");
        assert_eq!(found.agrees(), word == DiskState::Ok, "{sight:?}");
        // The result names what cannot be seen, and a disk that is gone; nothing touches them.
        assert_eq!(!found.plan.is_empty(), is_dropped, "{word}");
    }
}

#[test]
fn a_bitmap_that_is_not_recorded_is_named_by_whose_it_is_and_foreign_ones_stay() {
    let ours = format!("{}4", temporary_prefix(LOG));
    let other_log = format!("{}4", temporary_prefix(LogId([2; 16])));
    let names = ["c1", &ours, "once", "theirs", &other_log];
    let bitmaps = names.into_iter().map(bitmap).collect();
    let had = ["once", "c1"].map(|bitmap| Tracked {
        disk: "vda".into(),
        bitmap: bitmap.into(),
    });
    let had = BTreeSet::from(had);
    let state = state();
    let domain = state.domain(UUID).unwrap();
    let found = compare(
        domain,
        LOG,
        Some(&sight(vec![layer("/a", bitmaps)])),
        true,
        &had,
    );
    let whose: Vec<_> = found
        .unrecorded
        .iter()
        .map(|found| (&*found.bitmap, found.kind.as_str()))
        .collect();
    assert_eq!(
        whose,
        [
            (&*ours, "leftover"),
            ("once", "orphan"),
            ("theirs", "foreign"),
            (&*other_log, "foreign")
        ]
    );
    let planned: Vec<&str> = found
        .plan
        .iter()
        .map(|step| match step {
            Step::RemoveBitmap(found) => &*found.bitmap,
            Step::DropCheckpoint { .. } => panic!("{step:?}"),
        })
        .collect();
    assert_eq!(planned, [&*ours, "once"]);
}

fn effect(kind: EffectKind, image: &str) -> DiskEffect {
    DiskEffect {
        disk: "vda".into(),
        kind,
        image: image.into(),
        node: "a-node".into(),
        bitmap: Some("c2".into()),
        bitmap_was_there: kind == EffectKind::BitmapRemoved,
        file: Some("/top".into()),
    }
}

fn open(kind: JobKind, length: JobLength, effects: Vec<DiskEffect>) -> OpenJob {
    OpenJob {
        id: JobId::FIRST,
        job: Arc::new(Job {
            kind,
            length,
            call: 0,
            flags: 0,
            document: None,
            snapshots: vec![],
            checkpoints: vec![],
            deletions: vec![],
            effects,
            files: vec![],
            run: Some(RUN),
        }),
    }
}

/// The verdict in a word.
fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Ended(_) => "ended",
        Verdict::RollForward(..) => "rolled forward",
        Verdict::Failed(_) => "failed",
        Verdict::Finish(_) => "finished",
        Verdict::Open => "open",
    }
}

#[test]
fn a_job_is_settled_by_its_witness_in_the_same_run_and_by_the_disks_in_another() {
    let create = || {
        let added = effect(EffectKind::BitmapAdded, "/a");
        open(JobKind::CreateCheckpoint, JobLength::Short, vec![added])
    };
    let delete = || {
        let removed = ["/top", "/a"].map(|image| effect(EffectKind::BitmapRemoved, image));
        open(
            JobKind::DeleteCheckpoint,
            JobLength::Short,
            removed.to_vec(),
        )
    };
    let snapshot = || {
        let added = effect(EffectKind::OverlayAdded, "/a");
        open(JobKind::CreateSnapshot, JobLength::Short, vec![added])
    };
    let merge = || {
        let merged = effect(EffectKind::OverlayMerged, "/top");
        open(JobKind::DeleteSnapshot, JobLength::Short, vec![merged])
    };
    let empty = |mut sight: Sight| {
        sight.disks[0].layers[0].empty = true;
        sight
    };
    let c2 = || vec![bitmap("c2")];
    let base = |bitmaps| sight(vec![layer("/a", bitmaps)]);
    let both = |top, bottom| sight(vec![layer("/top", top), layer("/a", bottom)]);
    let witnessed = |sight: Sight| Sight {
        witnesses: vec![JobId::FIRST],
        ..sight
    };
    let broken = || {
        vec![Bitmap {
            inconsistent: true,
            ..bitmap("c2")
        }]
    };
    let rows = [
        (create(), Some(RUN), witnessed(base(c2())), "ended"),
        // The bitmap may be another program's, which was in the way.
        (create(), Some(RUN), base(c2()), "failed"),
        (create(), Some(OTHER_RUN), base(c2()), "ended"),
        (create(), None, base(c2()), "ended"),
        (create(), None, base(broken()), "failed"),
        (create(), Some(OTHER_RUN), base(vec![]), "failed"),
        (
            delete(),
            Some(RUN),
            witnessed(both(vec![], vec![])),
            "ended",
        ),
        (delete(), Some(RUN), both(c2(), c2()), "failed"),
        (delete(), Some(RUN), both(vec![], c2()), "rolled forward"),
        (
            delete(),
            Some(OTHER_RUN),
            both(vec![], c2()),
            "rolled forward",
        ),
        (delete(), Some(OTHER_RUN), both(vec![], vec![]), "ended"),
        (delete(), None, both(c2(), c2()), "failed"),
        (
            snapshot(),
            Some(RUN),
            witnessed(both(vec![], vec![])),
            "ended",
        ),
        (snapshot(), Some(RUN), base(vec![]), "failed"),
        (snapshot(), Some(OTHER_RUN), both(vec![], vec![]), "ended"),
        (snapshot(), Some(OTHER_RUN), base(vec![]), "failed"),
        (snapshot(), None, both(vec![], vec![]), "ended"),
        (snapshot(), None, empty(both(vec![], vec![])), "failed"),
        (snapshot(), None, base(vec![]), "failed"),
        (merge(), None, base(vec![]), "ended"),
        (merge(), None, both(vec![], vec![]), "failed"),
        (merge(), None, sight(vec![]), "failed"),
    ];
    for (open, run, sight, expected) in rows {
        let verdict = settle(&open, run, &sight);
        assert_eq!(
            word(&verdict),
            expected,
            "{:?} {run:?} {sight:?}",
            open.job.kind
        );
    }
}

#[test]
fn copies_go_on_are_finished_or_have_failed() {
    let copy = |ended, error: Option<&str>| Copy {
        ended,
        error: error.map(Into::into),
        progress: (0, 1),
    };
    let with = |copies: Vec<Copy>| Sight {
        copies: copies
            .into_iter()
            .map(|copy| (Arc::from("c2"), copy))
            .collect(),
        ..sight(vec![])
    };
    let backup = open(
        JobKind::Backup,
        JobLength::Long,
        vec![effect(EffectKind::Copied, "/a")],
    );
    for (run, sight, expected) in [
        (Some(RUN), with(vec![copy(false, None)]), "open"),
        (Some(RUN), with(vec![copy(true, None)]), "finished"),
        (
            Some(RUN),
            with(vec![copy(true, Some("No space left"))]),
            "failed",
        ),
        (Some(RUN), with(vec![]), "failed"),
        (Some(OTHER_RUN), with(vec![copy(true, None)]), "failed"),
        (None, with(vec![]), "failed"),
    ] {
        let verdict = settle(&backup, run, &sight);
        assert_eq!(word(&verdict), expected, "{run:?} {sight:?}");
    }
}

#[test]
fn a_repair_of_a_guest_that_is_off_is_rolled_forward_by_whoever_finds_it() {
    let removed = ["/top", "/a"].map(|image| effect(EffectKind::BitmapRemoved, image));
    let repair = open(JobKind::Repair, JobLength::Short, removed.to_vec());
    let job = Job {
        run: None,
        ..(*repair.job).clone()
    };
    let repair = OpenJob {
        job: job.into(),
        ..repair
    };
    let c2 = || vec![bitmap("c2")];
    let both = |top, bottom| sight(vec![layer("/top", top), layer("/a", bottom)]);
    for (run, sight, expected) in [
        (None, both(c2(), c2()), "rolled forward"),
        (None, both(vec![], c2()), "rolled forward"),
        (Some(RUN), both(c2(), c2()), "rolled forward"),
        (None, both(vec![], vec![]), "ended"),
        (None, sight(vec![]), "failed"),
    ] {
        let verdict = settle(&repair, run, &sight);
        assert_eq!(word(&verdict), expected, "{run:?} {sight:?}");
    }
}

#[test]
fn overlays_are_added_together_and_one_that_holds_something_says_so() {
    let added = ["vda", "vdb"].map(|disk| DiskEffect {
        disk: disk.into(),
        ..effect(EffectKind::OverlayAdded, "/a")
    });
    let snapshot = open(JobKind::CreateSnapshot, JobLength::Short, added.to_vec());
    for (empty, expected) in [
        ([true, true], "failed"),
        ([true, false], "ended"),
        ([false, false], "ended"),
    ] {
        let disks = std::iter::zip(["vda", "vdb"], empty).map(|(disk, empty)| SeenDisk {
            target: disk.into(),
            layers: vec![
                Layer {
                    empty,
                    ..layer("/top", vec![])
                },
                layer("/a", vec![]),
            ],
        });
        let seen = Sight {
            disks: disks.collect(),
            ..sight(vec![])
        };
        let verdict = settle(&snapshot, None, &seen);
        assert_eq!(word(&verdict), expected, "{empty:?}");
        let (Verdict::Ended(said) | Verdict::Failed(said)) = verdict else {
            panic!("{verdict:?}");
        };
        let named = said
            .pairs()
            .iter()
            .map(|(_, found)| found.ends_with(" /top"));
        assert_eq!(named.collect::<Vec<_>>(), empty, "{said:?}");
    }
}

/// What is known of vda after these changes, the newest last.
fn known(changes: &[Change]) -> (Vec<String>, Option<String>) {
    let mut tops = TopsOfLog::default();
    for change in changes {
        tops.note(change);
    }
    let tops = tops.tops();
    let known = tops.known.get("vda").into_iter().flatten();
    let known = known.map(ToString::to_string).collect();
    (known, tops.doubtful.get("vda").map(ToString::to_string))
}

#[test]
fn the_log_knows_what_was_on_top_of_a_disk() {
    let state = state();
    let domain = state.domain(UUID).unwrap();
    let defined = |source: &str| {
        let mut def = (**domain.def()).clone();
        def.disks[0].source = Some(source.into());
        Change::DomainDefined {
            def: def.into(),
            policy: domain.policy(),
            live: false,
        }
    };
    let begun = |kind, image: &str, file: &str| {
        let effect = DiskEffect {
            file: Some(file.into()),
            ..effect(kind, image)
        };
        let job = open(JobKind::CreateSnapshot, JobLength::Short, vec![effect]).job;
        let id = JobId::FIRST;
        Change::JobBegun { id, job }
    };
    let outcome = || JobOutcome {
        job: JobId::FIRST,
        seen: Seen::default(),
        settled_by: SettledBy::Beginner,
        agent: "".into(),
    };
    let ended = || Change::JobEnded(outcome());
    let failed = || Change::JobFailed(outcome());
    let add = |image, file| begun(EffectKind::OverlayAdded, image, file);
    let track = |image| begun(EffectKind::BitmapAdded, image, "");

    let changes = [
        (defined("/a"), "", ""),
        (add("/a", "/b"), "", "/b"),
        (failed(), "", ""),
        (add("/a", "/b"), "", "/b"),
        (ended(), "/b", ""),
        (add("/b", "/c"), "/b", "/c"),
        (ended(), "/b /c", ""),
        // The same images: how much memory it has says nothing of them.
        (defined("/a"), "/b /c", ""),
        (begun(EffectKind::OverlayMerged, "/c", "/b"), "/b /c", ""),
        (ended(), "/b", ""),
        // The guest was started from its first image again.
        (track("/a"), "/b /a", ""),
        (failed(), "/b /a", ""),
        (track("/b"), "/a /b", ""),
        (ended(), "/a /b", ""),
        (defined("/b"), "", ""),
        (track("/b"), "/b", ""),
        (Change::DomainRemoved, "", ""),
    ];
    for count in 1..=changes.len() {
        let (_, expected, doubtful) = changes[count - 1];
        let so_far: Vec<Change> = changes[..count]
            .iter()
            .map(|(change, ..)| change.clone())
            .collect();
        let (known, found) = known(&so_far);
        assert_eq!(
            (&*known.join(" "), found.as_deref().unwrap_or("")),
            (expected, doubtful),
            "{count}"
        );
    }
}
