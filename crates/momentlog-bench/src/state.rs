//! Rows 5 to 8, 17 and 18: replay, opening from an image, changing and reading a large state, memory, the program.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;
use std::time::Instant;

use momentlog::core::{
    Change, CheckpointDef, Event, Moment, MomentChange, MomentId, MomentName, State,
};
use momentlog::store::{FileStore, RealDisk};
use momentlog::{Connection, Options};

use crate::Failed;
use crate::command::{DOMAIN, store};
use crate::measure::{Effort, Side, Table, Target, until};
use crate::peers::{BareLog, MutableTree, NameTree, SqliteEvents};

pub(crate) fn rows(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let path = dir.join("state");
    memory(effort, table)?;
    let connection = store(&path, effort.many)?;
    // Reading the records again is what an image saves.
    let bare = dir.join("state-without-image");
    connection.release();
    copy(&path, &bare, |name| !is_image(name))?;
    connection.make_image()?;
    drop(connection);
    let small = dir.join("small");
    drop(store(&small, 1000)?);
    for path in [&small, &path] {
        reading(&open(path)?, effort, table)?;
    }
    for below in [Below::Current, Below::Any] {
        applying(&open(&path)?, below, effort, table)?;
    }
    opening(dir, &path, effort, table)?;
    replaying(dir, &bare, effort, table)?;
    starting(&small, &path, effort, table)
}

pub(crate) fn is_image(name: &str) -> bool {
    name.strip_suffix(".img").is_some()
}

pub(crate) fn copy(from: &Path, to: &Path, keep: impl Fn(&str) -> bool) -> Result<(), Failed> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&keep) {
            let file = to.join(entry.file_name());
            std::fs::copy(entry.path(), &file)?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

pub(crate) fn open(path: &Path) -> Result<Connection, Failed> {
    let store = FileStore::new(RealDisk::new(path));
    let options = Options {
        read_only: true,
        ..Options::default()
    };
    let connection = Connection::over(Box::new(store), options);
    connection.refresh()?;
    Ok(connection)
}

const SQLITE: &str = "SQLite, read, decoded, folded";

/// Row 5: the log into the queryable state, against SQLite reading the same events and folding them into maps.
fn replaying(dir: &Path, bare: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let many = effort.many as u64;
    let sqlite = SqliteEvents::new(&dir.join("replay.sqlite"), many)?;
    let mut sides = [
        Side {
            name: "momentlog",
            turn: Box::new(|_| {
                black_box(open(bare)?);
                Ok(many)
            }),
        },
        Side {
            name: SQLITE,
            turn: Box::new(|_| {
                black_box(sqlite.fold()?);
                Ok(many)
            }),
        },
    ];
    let target = Target {
        peer: SQLITE,
        ratio: 4.0,
    };
    let work = format!("5 replay of {many} events, chain verified");
    table.compare(&work, effort.slow(), &mut sides, &[target])?;
    Ok(())
}

/// Row 6: opening from an image, against folding a bare log into owned structures, and against reading and checksumming
/// the file of the image.
fn opening(dir: &Path, path: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    const OWNED: &str = "bare log into owned structures";
    const READ: &str = "read and CRC-32C of the image";
    let many = effort.many as u64;
    let image = newest_image(path)?;
    let bare = BareLog::new(&dir.join("bare.log"), many)?;
    let mut sides = [
        Side {
            name: "momentlog",
            turn: Box::new(|_| {
                black_box(open(path)?);
                Ok(many)
            }),
        },
        Side {
            name: OWNED,
            turn: Box::new(|_| {
                black_box(bare.fold()?);
                Ok(many)
            }),
        },
        Side {
            name: READ,
            turn: Box::new(|_| {
                black_box(crc32c::crc32c(&std::fs::read(&image)?));
                Ok(many)
            }),
        },
    ];
    let targets = [
        Target {
            peer: OWNED,
            ratio: 8.0,
        },
        Target {
            peer: READ,
            ratio: 0.5,
        },
    ];
    let work = format!("6 open {many} live moments from an image");
    table.compare(&work, effort.slow(), &mut sides, &targets)?;
    Ok(())
}

pub(crate) fn newest_image(path: &Path) -> Result<PathBuf, Failed> {
    let mut images = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_image) {
            images.push(entry.path());
        }
    }
    images.sort();
    Ok(images.pop().ok_or("there is no image")?)
}

/// Where new moments hang.
#[derive(Clone, Copy, Debug)]
enum Below {
    /// Each below the one before.
    Current,
    /// Each below any that is there.
    Any,
}

impl Below {
    /// The number of the parent of moment `number`; both count from 1.
    fn parent(self, number: u64) -> u64 {
        match self {
            Below::Current => number - 1,
            Below::Any => number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (number - 1) + 1,
        }
    }
}

/// Returns a state with one checkpoint more.
pub(crate) fn created(
    state: &State,
    name: &str,
    parent: Option<MomentId>,
    def: &Arc<CheckpointDef>,
) -> Result<State, Failed> {
    let change = Change::Checkpoint(MomentChange::Created {
        id: state.next_moment().ok_or("there are ids")?,
        parent,
        name: MomentName::new(name).ok_or("it is a name")?,
        created: 7,
        def: def.clone(),
        current: true,
    });
    Ok(state.apply(&Event {
        domain: Some(DOMAIN),
        change,
    })?)
}

/// Row 7: one event on a large state whose version before is held, against a tree that is changed in place, and against
/// a persistent map from names to nodes with sets of children.
fn applying(
    connection: &Connection,
    below: Below,
    effort: Effort,
    table: &mut Table,
) -> Result<(), Failed> {
    const IN_PLACE: &str = "tree changed in place";
    const BY_NAME: &str = "map from name to node";
    let many = effort.many as u64;
    let mut held: State = connection.view().state().clone();
    let domain = held.domain(DOMAIN).ok_or("the domain is there")?;
    let current = domain.checkpoints().current();
    let def = current.ok_or("there are checkpoints")?.def.clone();
    let definition: Arc<str> = "a definition that all share".into();
    let (mut mutable, mut named) = (MutableTree::default(), NameTree::default());
    let name = |number: u64| format!("checkpoint-{}", number - 1);
    mutable.create(&name(1), None, &definition);
    named.create(&name(1), None, &definition);
    for number in 2..=many {
        let parent = usize::try_from(number - 2)?;
        mutable.create(&name(number), Some(parent), &definition);
        named.create(&name(number), Some(&name(number - 1)), &definition);
    }
    let mut numbers = [many; 2];
    let mut next = |side: usize| {
        numbers[side] += 1;
        numbers[side]
    };
    let next = std::cell::RefCell::new(&mut next);
    let mut sides = [
        Side {
            name: "momentlog",
            turn: Box::new(|time| {
                until(time, || {
                    let id = held.next_moment().ok_or("there are ids")?;
                    let parent = MomentId::new(below.parent(id.get()));
                    // The version before is held until the one after is there.
                    held = created(&held, &name(id.get()), parent, &def)?;
                    Ok(1)
                })
            }),
        },
        Side {
            name: IN_PLACE,
            turn: Box::new(|time| {
                until(time, || {
                    let number = (next.borrow_mut())(0);
                    let parent = usize::try_from(below.parent(number) - 1)?;
                    mutable.create(&name(number), Some(parent), &definition);
                    Ok(1)
                })
            }),
        },
        Side {
            name: BY_NAME,
            turn: Box::new(|time| {
                until(time, || {
                    let number = (next.borrow_mut())(1);
                    let mut after = named.clone();
                    let parent = name(below.parent(number));
                    after.create(&name(number), Some(&parent), &definition);
                    named = after;
                    Ok(1)
                })
            }),
        },
    ];
    let targets = [
        Target {
            peer: IN_PLACE,
            ratio: 0.1,
        },
        Target {
            peer: BY_NAME,
            ratio: 3.0,
        },
    ];
    let place = match below {
        Below::Current => "the current one",
        Below::Any => "any",
    };
    let work = format!("7 create below {place} of {many}");
    table.compare(&work, effort, &mut sides, &targets)?;
    Ok(())
}

/// Row 8: a view, a look-up by name and a parent, against a `HashMap` of the same keys.
fn reading(connection: &Connection, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    const AT_ONCE: u64 = 1000;
    let view = connection.view();
    let list = view
        .state()
        .domain(DOMAIN)
        .ok_or("the domain is there")?
        .checkpoints();
    let moments: Vec<Moment<'_, _>> = list.walk(momentlog::core::Scope::All).collect();
    let map: HashMap<&str, u64> = moments
        .iter()
        .map(|moment| (moment.name.as_str(), moment.id.get()))
        .collect();
    let count = moments.len();
    // Far apart, so that one look-up does not warm the next.
    let places: Vec<usize> = (0..count).map(|at| at * 7919 % count).collect();
    let mut next = [0_usize; 3];
    let mut take = |which: usize| {
        next[which] = (next[which] + 1) % count;
        moments[places[next[which]]]
    };
    let take = std::cell::RefCell::new(&mut take);
    let some = |work: &dyn Fn(Moment<'_, CheckpointDef>), which: usize| {
        for _ in 0..AT_ONCE {
            work((take.borrow_mut())(which));
        }
        AT_ONCE
    };
    let mut sides = [
        Side {
            name: "momentlog",
            turn: Box::new(|time| {
                until(time, || {
                    Ok(some(
                        &|moment| {
                            black_box(list.find(moment.name.as_str()));
                        },
                        0,
                    ))
                })
            }),
        },
        Side {
            name: "HashMap",
            turn: Box::new(|time| {
                until(time, || {
                    Ok(some(
                        &|moment| {
                            black_box(map.get(moment.name.as_str()));
                        },
                        1,
                    ))
                })
            }),
        },
        Side {
            name: "parent",
            turn: Box::new(|time| {
                until(time, || {
                    Ok(some(
                        &|moment| {
                            black_box(list.parent(moment.id));
                        },
                        2,
                    ))
                })
            }),
        },
    ];
    let targets = [Target {
        peer: "HashMap",
        ratio: 1.0 / 1.5,
    }];
    let work = format!("8 look-up by name at {count} moments");
    table.compare(&work, effort, &mut sides, &targets)?;
    // Ours is the first side, so the parent's row swaps them.
    sides.swap(0, 2);
    sides[2].name = "look-up";
    let work = format!("8 parent at {count} moments");
    let target = Target {
        peer: "look-up",
        ratio: 1.0,
    };
    table.compare(&work, effort, &mut sides, &[target])?;
    let begun = Instant::now();
    let views = 1_000_000_u32;
    for _ in 0..views {
        black_box(connection.view());
    }
    let rate = f64::from(views) / begun.elapsed().as_secs_f64();
    let work = format!("8 view at {count} moments");
    let target = Target {
        peer: "100 ns",
        ratio: 1.0,
    };
    table.relate(&work, rate, 1e7, target);
    Ok(())
}

/// Row 17: what a process grows by, with names, definitions, the dictionary of texts and the index of names.
///
/// It is one of its own: this one may have memory left of what it did before.
fn memory(effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let done = Process::new(std::env::current_exe()?)
        .args(["--memory", &effort.many.to_string()])
        .output()?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
    }
    let grown: f64 = String::from_utf8_lossy(&done.stdout).trim().parse()?;
    #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 moments")]
    let each = grown / effort.many as f64;
    let target = Target {
        peer: "250 bytes a moment",
        ratio: 1.0,
    };
    let work = format!(
        "17 memory at {} moments ({each:.0} bytes each)",
        effort.many
    );
    table.relate(&work, 1.0 / each, 1.0 / 250.0, target);
    Ok(())
}

/// Returns how many bytes this process grows by when it makes a store of `moments` moments.
pub(crate) fn grown(moments: usize) -> Result<u64, Failed> {
    let scratch = tempfile::tempdir()?;
    let before = resident_bytes();
    let connection = store(&scratch.path().join("store"), moments)?;
    let after = resident_bytes();
    drop(connection);
    Ok(after.saturating_sub(before))
}

pub(crate) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1);
    pages
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4096
}

/// Row 18: from the start of the program to its first answer.
fn starting(small: &Path, large: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let program = std::env::current_exe()?.with_file_name("momentlog");
    if !program.exists() {
        return Err(format!("{} is not built", program.display()).into());
    }
    for (path, count, most) in [(small, 1000, 0.005), (large, effort.many, 0.2)] {
        let mut seconds = Vec::new();
        for _ in 0..effort.rounds {
            let begun = Instant::now();
            let done = Process::new(&program)
                .args(["-r", "-c", &format!("momentlog:{}", path.display())])
                .args(["checkpoint-info", "vm", "checkpoint-7"])
                .output()?;
            seconds.push(begun.elapsed().as_secs_f64());
            if !done.status.success() {
                return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
            }
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let peer = if count == 1000 { "5 ms" } else { "200 ms" };
        let work = format!(
            "18 program's first answer at {count} ({:.1} ms)",
            median * 1e3
        );
        table.relate(&work, 1.0 / median, 1.0 / most, Target { peer, ratio: 1.0 });
    }
    Ok(())
}
