//! Two processes on one store, where one of them does all of its work between two calls of the other.
//!
//! Every pair of works is tried at every call. Neither may see damage that is not there, and what either was answered is
//! recorded must be there afterwards.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use momentlog::store::{Access, Disk, DiskFile, FileId, FileStore, StoreError};
use momentlog::{CheckpointCreateFlags, Connection, Options, Provenance, Step, verify_disk};

use crate::SimDisk;

const DOMAIN: &str = "<domain type='kvm'><name>vm</name><os><type>hvm</type></os><devices>\
    <disk type='file'><source file='/i/vm.qcow2'/><target dev='vda'/></disk></devices></domain>";

type Hook = Box<dyn FnOnce() + Send>;

/// A disk that does something else before one of its calls.
#[derive(Clone)]
pub struct Hooked {
    disk: Arc<dyn Disk>,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    calls: AtomicU64,
    keep_removals: AtomicBool,
    hook: Mutex<Option<(u64, Hook)>>,
}

impl Hooked {
    /// Returns the disk `disk`, which does nothing else yet.
    pub fn new(disk: impl Disk + 'static) -> Hooked {
        Hooked {
            disk: Arc::new(disk),
            plan: Arc::default(),
        }
    }

    /// Counts calls from 0 again, and lets `hook` run before the call number `call`.
    pub fn before(&self, call: u64, hook: impl FnOnce() + Send + 'static) {
        self.plan.calls.store(0, Ordering::SeqCst);
        *self.hook() = Some((call, Box::new(hook)));
    }

    /// Lets no hook run right before a file is removed.
    pub fn keep_removals(&self) {
        self.plan.keep_removals.store(true, Ordering::SeqCst);
    }

    /// Whether the hook has run; if not, it never will.
    pub fn has_run(&self) -> bool {
        self.hook().take().is_none()
    }

    fn hook(&self) -> std::sync::MutexGuard<'_, Option<(u64, Hook)>> {
        self.plan
            .hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// As a call that nothing comes before, because it acts by name and cannot say on which file: what is due comes before
    /// the next one.
    fn call_by_name(&self) -> &dyn Disk {
        let number = self.plan.calls.load(Ordering::SeqCst);
        if self.plan.keep_removals.load(Ordering::SeqCst)
            && let Some((call, _)) = &mut *self.hook()
            && *call == number
        {
            *call += 1;
        }
        self.call()
    }

    fn call(&self) -> &dyn Disk {
        let number = self.plan.calls.fetch_add(1, Ordering::SeqCst);
        let due = self.hook().take_if(|(call, _)| *call == number);
        if let Some((_, hook)) = due {
            hook();
        }
        self.disk.as_ref()
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(HookedFile {
            file,
            disk: self.clone(),
        })
    }
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooked").finish_non_exhaustive()
    }
}

impl Disk for Hooked {
    fn create(&self) -> io::Result<()> {
        self.call().create()
    }

    fn check(&self) -> io::Result<()> {
        self.call().check()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.call().list()
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(self.call().open(name, access)?))
    }

    fn id_of(&self, name: &str) -> io::Result<FileId> {
        self.call().id_of(name)
    }

    fn create_file(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(self.call().create_file(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call_by_name().remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call().rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.call().sync_dir()
    }

    fn path(&self) -> &Path {
        self.disk.path()
    }
}

#[derive(Debug)]
struct HookedFile {
    file: Box<dyn DiskFile>,
    disk: Hooked,
}

impl HookedFile {
    fn call(&self) -> &dyn DiskFile {
        self.disk.call();
        self.file.as_ref()
    }
}

impl DiskFile for HookedFile {
    fn id(&self) -> io::Result<FileId> {
        self.call().id()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.call().read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.call().write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.call().sync()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.call().set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.call().length()
    }

    fn try_lock(&self, share: bool) -> io::Result<bool> {
        self.call().try_lock(share)
    }

    fn unlock(&self) -> io::Result<()> {
        self.call().unlock()
    }
}

/// What a process does on a store that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Records a checkpoint.
    Append,
    /// Records one, makes an image, and records another.
    Image,
    /// Moves all records away, and records a checkpoint after that.
    Archive,
    /// The same twice.
    ArchiveTwice,
    /// Reads on from where it was.
    Refresh,
    /// Reads all entries.
    Entries,
    /// Replays the log.
    Replay,
    /// Repeats a request that was answered before.
    Retry,
    /// Verifies the store.
    Verify,
}

impl Work {
    /// All of them.
    pub const ALL: [Work; 9] = [
        Work::Append,
        Work::Image,
        Work::Archive,
        Work::ArchiveTwice,
        Work::Refresh,
        Work::Entries,
        Work::Replay,
        Work::Retry,
        Work::Verify,
    ];

    /// Those that change the store.
    pub const CHANGES: [Work; 4] = [Work::Append, Work::Image, Work::Archive, Work::ArchiveTwice];

    /// Does it; returns the names of the checkpoints that were acknowledged.
    fn run(
        self,
        who: &str,
        store: &Connection,
        disk: Arc<dyn Disk>,
        archive: &SimDisk,
    ) -> momentlog::Result<Vec<String>> {
        let mut made = Vec::new();
        let mut append = |name: &str| {
            let name = format!("{who}-{name}");
            checkpoint(store, &name, None)?;
            made.push(name);
            Ok::<_, momentlog::Error>(())
        };
        match self {
            Work::Append => append("a")?,
            Work::Image => {
                append("a")?;
                store.make_image()?;
                append("b")?;
            }
            Work::Archive | Work::ArchiveTwice => {
                store.archive_to(archive)?;
                append("a")?;
                if self == Work::ArchiveTwice {
                    store.archive_to(archive)?;
                    append("b")?;
                }
            }
            Work::Refresh => drop(store.refresh()?),
            Work::Entries => {
                let entries = store.entries(None)?;
                assert!(!entries.is_empty());
            }
            Work::Replay => {
                let mut last = 0;
                for step in store.history(None)? {
                    let Step {
                        before,
                        entry,
                        after,
                    } = match step {
                        // It goes on with the bridge.
                        Err(error) if is_archived(&error) => continue,
                        step => step?,
                    };
                    let seq = entry.head.seq.get();
                    assert!(seq == last + 1 || seq > last && entry.bridge.is_some());
                    assert_eq!(before.head().map_or(0, |head| head.seq.get()), seq - 1);
                    assert_eq!(after.head(), Some(entry.head));
                    last = seq;
                }
                assert!(last >= 4);
            }
            Work::Retry => checkpoint(store, "first", Some("r1"))?,
            Work::Verify => {
                let found = verify_disk(disk, None, None, &mut |_| {})?;
                assert_eq!(found.verdict().exit_status(false), 0, "{found:?}");
            }
        }
        store.release();
        Ok(made)
    }
}

fn checkpoint(store: &Connection, name: &str, request: Option<&str>) -> momentlog::Result<()> {
    let store = store.with_provenance(Provenance {
        request_id: request.map(Into::into),
        ..store.provenance().clone()
    });
    let domain = store.lookup_domain_by_name("vm")?;
    let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
    domain
        .checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE)
        .map(|_| ())
}

fn open(disk: Arc<dyn Disk>) -> Connection {
    let options = Options {
        lock_wait: Duration::ZERO,
        ..Options::default()
    };
    Connection::over(Box::new(FileStore::over(disk)), options)
}

/// Lets `theirs` run before every call of `ours`, one run for each; returns how many there were. `warm`: ours has read the
/// store before.
///
/// # Panics
///
/// If either sees damage, or what it was answered to be recorded is not there afterwards.
pub fn overtake_everywhere(ours: Work, theirs: Work, warm: bool) -> u64 {
    for call in 0.. {
        let case = format!("{ours:?} overtaken by {theirs:?} before call {call}, warm: {warm}");
        let live = SimDisk::new("/store");
        let archive = live.beside("/archive");
        {
            let store = open(Arc::new(live.clone()));
            store.define_domain_xml(DOMAIN).expect(&case);
            checkpoint(&store, "first", Some("r1")).expect(&case);
            checkpoint(&store, "second", None).expect(&case);
        }
        let disk = Hooked::new(live.clone());
        let store = open(Arc::new(disk.clone()));
        if warm {
            store.refresh().expect(&case);
        }
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let hook = {
            let (live, archive, told, case) =
                (live.clone(), archive.clone(), told.clone(), case.clone());
            move || {
                let disk: Arc<dyn Disk> = Arc::new(live);
                let store = open(disk.clone());
                match theirs.run("their", &store, disk, &archive) {
                    Ok(made) => told
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(made),
                    // Ours is writing.
                    Err(error) if matches!(error.store(), Some(StoreError::Locked { .. })) => {}
                    Err(error) => panic!("{case}: theirs: {error}"),
                }
            }
        };
        disk.before(call, hook);
        let made = ours
            .run("our", &store, Arc::new(disk.clone()), &archive)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        let was_overtaken = disk.has_run();
        drop(store);
        let mut names = vec!["first".to_owned(), "second".to_owned()];
        names.extend(made);
        names.append(&mut told.lock().unwrap_or_else(PoisonError::into_inner));
        check(&live, &archive, &names, &case);
        if !was_overtaken {
            return call;
        }
    }
    unreachable!("the work ends");
}

/// What stands there when another store takes its place, and what the handle has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// A sound store that the handle has not looked at.
    Cold,
    /// A sound store that the handle has written, holding the lock.
    Warm,
    /// A store that lost its `head`, with an interrupted write at its end and files that are not needed, which the handle
    /// has not looked at.
    Torn,
}

/// What takes the place of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// An earlier copy, in other files.
    Earlier,
    /// A copy that went on with other records, more of them, in other files.
    Fork,
    /// An earlier copy, in the same files, between two commands. A file that is overwritten in the middle of a write
    /// holds half of both, unless the copy is of the moment before that write: see [`undo_everywhere`].
    EarlierInPlace,
    /// As the fork, in the same files, between two commands.
    ForkInPlace,
}

/// Puts another store in place before every call of `ours`, one run for each; returns how many there were. Only right before
/// a file is removed nothing is put there: between the last look and that call lies the window that stays.
///
/// # Panics
///
/// If a command that comes after it is acknowledged and lost, or if what was put there is damaged by it.
pub fn put_back_everywhere(ours: Work, before: Before, put: Put) -> u64 {
    for call in 0.. {
        let case = format!("{ours:?} on {before:?}, {put:?} before call {call}");
        let base = SimDisk::new("/store");
        {
            let store = open(Arc::new(base.clone()));
            store.define_domain_xml(DOMAIN).expect(&case);
            checkpoint(&store, "first", Some("r1")).expect(&case);
        }
        let copy = match put {
            Put::Earlier | Put::EarlierInPlace => base.contents(),
            Put::Fork | Put::ForkInPlace => {
                let fork = base.killed();
                let store = open(Arc::new(fork.clone()));
                for number in 0..8 {
                    checkpoint(&store, &format!("fork-{number}"), None).expect(&case);
                }
                drop(store);
                fork.contents()
            }
        };
        checkpoint(&open(Arc::new(base.clone())), "second", None).expect(&case);
        let live = if before == Before::Torn {
            torn(&base)
        } else {
            base
        };
        let archive = live.beside("/archive");
        let disk = Hooked::new(live.clone());
        disk.keep_removals();
        let store = open(Arc::new(disk.clone()));
        if before == Before::Warm {
            checkpoint(&store, "third", None).expect(&case);
        }
        let was_overtaken = if matches!(put, Put::EarlierInPlace | Put::ForkInPlace) {
            let _ = ours.run("our", &store, Arc::new(disk.clone()), &archive);
            live.put_back(&copy, true);
            false
        } else {
            let live = live.clone();
            disk.before(call, move || live.put_back(&copy, false));
            let _ = ours.run("our", &store, Arc::new(disk.clone()), &archive);
            disk.has_run()
        };
        // Whatever was answered before: what is acknowledged now is there.
        let told = checkpoint(&store, "after", None);
        drop(store);
        let reader = open(Arc::new(live.clone()));
        let domain = reader.lookup_domain_by_name("vm").expect(&case);
        domain.checkpoint_lookup_by_name("first").expect(&case);
        let found = domain.checkpoint_lookup_by_name("after");
        assert_eq!(told.is_ok(), found.is_ok(), "{case}: {told:?}");
        checkpoint(&reader, "goes-on", None).expect(&case);
        drop((domain, found, reader));
        let found = verify_disk(Arc::new(live.clone()), None, None, &mut |_| {}).expect(&case);
        assert_eq!(found.verdict().exit_status(false), 0, "{case}: {found:?}");
        if !was_overtaken {
            return call;
        }
    }
    unreachable!("the work ends");
}

/// Returns the store as a crash leaves it, with all that recovery may have to do.
fn torn(disk: &SimDisk) -> SimDisk {
    let segment = "00000000000000000001.seg";
    disk.edited(segment, |bytes| {
        let frame: Vec<u8> = bytes.iter().copied().take(100).collect();
        bytes.extend(frame);
    })
    .edited("head", |bytes| bytes.fill(0))
    .edited("start.tmp", |bytes| bytes.push(1))
}

/// Overwrites the files with a copy of exactly the moment before an append, before every call of that append, one run for
/// each; returns how many there were. `warm`: the same handle has written before.
///
/// # Panics
///
/// If the command is acknowledged and lost, or if the copy cannot be opened and written afterwards.
pub fn undo_everywhere(warm: bool) -> u64 {
    for call in 0.. {
        let case = format!("an append is undone before call {call}, warm: {warm}");
        let live = SimDisk::new("/store");
        {
            let store = open(Arc::new(live.clone()));
            store.define_domain_xml(DOMAIN).expect(&case);
            checkpoint(&store, "first", None).expect(&case);
        }
        let disk = Hooked::new(live.clone());
        let store = open(Arc::new(disk.clone()));
        if warm {
            checkpoint(&store, "second", None).expect(&case);
        }
        let copy = live.contents();
        let hook = {
            let live = live.clone();
            move || live.put_back(&copy, true)
        };
        disk.before(call, hook);
        let told = checkpoint(&store, "after", None);
        let was_overtaken = disk.has_run();
        drop(store);
        let reader = open(Arc::new(live.clone()));
        let domain = reader.lookup_domain_by_name("vm").expect(&case);
        let found = domain.checkpoint_lookup_by_name("after");
        assert!(told.is_err() || found.is_ok(), "{case}: {told:?}");
        if let Err(error) = told {
            let replaced = matches!(error.store(), Some(StoreError::Replaced { .. }));
            assert!(replaced, "{case}: {error}");
        }
        checkpoint(&reader, "goes-on", None).expect(&case);
        drop((domain, found, reader));
        let found = verify_disk(Arc::new(live.clone()), None, None, &mut |_| {}).expect(&case);
        assert_eq!(found.verdict().exit_status(false), 0, "{case}: {found:?}");
        if !was_overtaken {
            return call;
        }
    }
    unreachable!("the work ends");
}

/// Copies a store, `head` first and then the rest, while `theirs` runs before every call of the copying, one run for each.
///
/// # Panics
///
/// If a copy is no store, or cannot be written.
pub fn copy_everywhere(theirs: Work) -> u64 {
    for call in 0.. {
        let case = format!("copied while {theirs:?} runs before call {call}");
        let live = SimDisk::new("/store");
        let archive = live.beside("/archive");
        {
            let store = open(Arc::new(live.clone()));
            store.define_domain_xml(DOMAIN).expect(&case);
            checkpoint(&store, "first", Some("r1")).expect(&case);
        }
        let disk = Hooked::new(live.clone());
        let hook = {
            let (live, case) = (live.clone(), case.clone());
            move || {
                let store = open(Arc::new(live.clone()));
                theirs
                    .run("their", &store, Arc::new(live), &archive)
                    .expect(&case);
            }
        };
        disk.before(call, hook);
        let copied = copied(&disk).expect(&case);
        let was_overtaken = disk.has_run();
        let copy = SimDisk::new("/copy");
        copy.create().expect(&case);
        copy.put_back(&copied, false);
        let found = verify_disk(Arc::new(copy.clone()), None, None, &mut |_| {}).expect(&case);
        assert_eq!(found.verdict().exit_status(false), 0, "{case}: {found:?}");
        let store = open(Arc::new(copy));
        checkpoint(&store, "goes-on", None).expect(&case);
        if !was_overtaken {
            return call;
        }
    }
    unreachable!("the work ends");
}

/// Copies a directory as `docs/durability.md` says.
fn copied(disk: &dyn Disk) -> io::Result<std::collections::BTreeMap<String, Vec<u8>>> {
    let mut names = vec!["head".to_owned()];
    let mut copied = std::collections::BTreeMap::new();
    let read = |name: &str| {
        let file = disk.open(name, Access::Read)?;
        let mut bytes = vec![0; usize::try_from(file.length()?).expect("it fits in memory")];
        let length = file.read_at(0, &mut bytes)?;
        bytes.truncate(length);
        Ok::<_, io::Error>(bytes)
    };
    let head = read(&names[0])?;
    copied.insert(names.remove(0), head);
    names = disk.list()?;
    names.retain(|name| name != "head" && name != "lock");
    for name in names {
        let bytes = read(&name)?;
        copied.insert(name, bytes);
    }
    Ok(copied)
}

fn check(live: &SimDisk, archive: &SimDisk, names: &[String], case: &str) {
    let store = open(Arc::new(live.clone()));
    let domain = store.lookup_domain_by_name("vm").expect(case);
    for name in names {
        let found = domain.checkpoint_lookup_by_name(name);
        assert!(found.is_ok(), "{case}: {name} is lost: {found:?}");
    }
    drop((domain, store));
    let archive: Option<Arc<dyn Disk>> = match archive.check() {
        Ok(()) => Some(Arc::new(archive.clone())),
        Err(_) => None,
    };
    let found = verify_disk(Arc::new(live.clone()), archive, None, &mut |_| {}).expect(case);
    assert_eq!(found.verdict().exit_status(false), 0, "{case}: {found:?}");
}

fn is_archived(error: &momentlog::Error) -> bool {
    matches!(error.store(), Some(StoreError::Archived { .. }))
}
