//! libvirt's list beside the log's, case by case.

use momentlog_core::{
    Action, CheckpointDisk, Command, DiskTracking, DomainDef, DomainDisk, DomainUuid, Profile,
    Redefine, RunState, SourceKind, State,
};

use super::*;
use crate::driver::{Bitmap, Layer, SeenDisk};

const UUID: DomainUuid = DomainUuid::from_bytes([7; 16]);

fn name(text: &str) -> MomentName {
    MomentName::new(text).unwrap()
}

fn tracking(bitmap: Option<&str>) -> CheckpointDef {
    CheckpointDef {
        description: None,
        disks: vec![CheckpointDisk {
            name: "vda".into(),
            tracking: DiskTracking::Bitmap(bitmap.map(Arc::from)),
        }],
        domain: None,
    }
}

/// A store with a domain of one disk, and checkpoints, each with its parent.
fn state(checkpoints: &[(&str, Option<&str>)]) -> State {
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
    let mut actions = vec![Action::Define(def.into())];
    for (number, (checkpoint, parent)) in (100..).zip(checkpoints) {
        actions.push(Action::RedefineCheckpoint(Redefine {
            name: name(checkpoint),
            parent: parent.map(name),
            created: number,
            def: tracking(None),
            current: false,
        }));
    }
    let mut state = State::new(Profile::Own);
    for action in actions {
        let domain = UUID;
        for event in state.decide(&Command { domain, action }).unwrap() {
            state.advance(&event).unwrap();
        }
    }
    state
}

fn listed(checkpoint: &str, size: Option<u64>) -> Listed {
    Listed {
        name: name(checkpoint),
        parent: None,
        def: tracking(Some(checkpoint)),
        sizes: size.map(|size| ("vda".into(), size)).into_iter().collect(),
    }
}

fn images(bitmaps: &[&str]) -> Sight {
    let bitmap = |name: &&str| Bitmap {
        name: (*name).into(),
        count: None,
        granularity: 65536,
        recording: true,
        persistent: true,
        inconsistent: false,
        busy: false,
    };
    Sight {
        power: (RunState::Shutoff, 0),
        disks: vec![SeenDisk {
            target: "vda".into(),
            layers: vec![Layer {
                image: "/a".into(),
                node: "".into(),
                format: "qcow2".into(),
                keeps_bitmaps: true,
                read_only: false,
                size: 1 << 20,
                cluster: Some(65536),
                empty: false,
                bitmaps: bitmaps.iter().map(bitmap).collect(),
            }],
        }],
        witnesses: Vec::new(),
        copies: BTreeMap::new(),
    }
}

fn compared(
    checkpoints: &[(&str, Option<&str>)],
    running: bool,
    theirs: Vec<Listed>,
    sight: Option<&Sight>,
) -> Listing {
    let told = ManagedGuest {
        running,
        checkpoints: theirs,
    };
    compare(state(checkpoints).domain(UUID).unwrap(), &told, sight)
}

/// Each checkpoint with its words and whether its disk is valid, and then each step with its parent.
fn told(listing: &Listing) -> Vec<String> {
    let checkpoints = listing.checkpoints.iter().map(|found| {
        let disk = &found.disks[0];
        format!(
            "{} {} {:?}",
            found.checkpoint,
            found.state.as_str(),
            disk.valid
        )
    });
    let plan = listing.plan.iter().map(|step| {
        let parent = step
            .parent
            .as_ref()
            .map_or("none", |parent| parent.as_str());
        format!("redefine {} below {parent}", step.moment)
    });
    checkpoints.chain(plan).collect()
}

#[test]
fn a_size_is_what_makes_a_checkpoint_of_a_guest_that_runs_valid() {
    let theirs = vec![
        listed("b", None),
        listed("a", Some(0)),
        listed("z", Some(0)),
    ];
    let found = compared(&[("a", None), ("b", Some("a"))], true, theirs, None);
    assert_eq!(
        told(&found),
        ["a listed Some(true)", "b listed and not valid Some(false)"]
    );
    assert_eq!(found.checkpoints[0].disks[0].bytes, Some(0));
    let names: Vec<&str> = found
        .unrecorded
        .iter()
        .map(|found| found.name.as_str())
        .collect();
    assert_eq!(names, ["z"]);
    assert!(!found.agrees());
    assert!(found.is_whole());
    let found = compared(&[("a", None)], true, vec![listed("a", Some(5))], None);
    assert!(found.agrees());
}

#[test]
fn another_bitmap_under_the_same_name_is_not_valid() {
    let mut theirs = listed("a", Some(0));
    theirs.def = tracking(Some("other"));
    let found = compared(&[("a", None)], true, vec![theirs], None);
    assert_eq!(told(&found), ["a listed and not valid Some(false)"]);
}

#[test]
fn what_libvirt_lost_is_redefined_below_the_nearest_that_it_lists_parents_first() {
    let chain = [
        ("a", None),
        ("b", Some("a")),
        ("c", Some("b")),
        ("d", Some("c")),
    ];
    let theirs = vec![listed("a", Some(0)), listed("c", None)];
    let found = compared(&chain, true, theirs, None);
    assert_eq!(
        told(&found),
        [
            "a listed Some(true)",
            "b not listed None",
            "c listed and not valid Some(false)",
            "d not listed None",
            "redefine b below a",
            "redefine d below c"
        ]
    );
    assert!(found.is_whole());
    assert_eq!(
        found.plan[0].xml,
        "<domaincheckpoint>\n  <name>b</name>\n  <parent>\n    <name>a</name>\n  </parent>\n  \
         <creationTime>101</creationTime>\n  <disks>\n    \
         <disk name='vda' checkpoint='bitmap' bitmap='b'/>\n  </disks>\n</domaincheckpoint>\n"
    );
}

#[test]
fn the_images_of_a_guest_that_is_off_tell_what_is_valid() {
    let chain = [("a", None), ("b", Some("a")), ("c", Some("b"))];
    let sight = images(&["a", "c"]);
    let theirs = || vec![listed("a", None)];
    let found = compared(&chain, false, theirs(), Some(&sight));
    // b is lost: what hangs below it is redefined below what is above it.
    assert_eq!(
        told(&found),
        [
            "a listed Some(true)",
            "b not listed Some(false)",
            "c not listed Some(true)",
            "redefine c below a"
        ]
    );
    let unseen = compared(&chain[..1], false, theirs(), None);
    assert_eq!(told(&unseen), ["a listed None"]);
    assert!(!unseen.is_whole() && !unseen.agrees());
    let lost = compared(&chain[..1], false, theirs(), Some(&images(&[])));
    assert_eq!(told(&lost), ["a listed and not valid Some(false)"]);
}
