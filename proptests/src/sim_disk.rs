//! A disk in memory that keeps what is durable apart from what is pending, fails when told, and stops when told.
//!
//! The model, pessimistic where real disks differ:
//!
//! * What was written is pending until the file is synced, in pieces of at most one 512-byte sector; so is each change of
//!   length. Creating, removing and renaming is pending until the directory is synced, in order.
//! * A power failure keeps any subset of a file's pending pieces, the last of them possibly torn, with the file as long as
//!   what was kept or as long as it was meant to be, and any prefix of the directory's pending changes.
//! * A sync that fails may leave everything pending, or drop it while reads still see it and the next sync says that all
//!   is well, as Linux does.
//! * An earlier copy may be put back at any time, in other files or in the same ones ([`SimDisk::put_back`]).
//! * A process that is killed leaves what it wrote in the kernel: it is seen by others, and still pending.
//!
//! Not in the model: a disk that says it synced and did not, a bit that flips by itself, a directory of another user.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use momentlog::store::{Access, Disk, DiskFile, FileId};

/// Bytes that a disk writes as a whole or not at all, but for the last of a write.
pub const SECTOR_LEN: u64 = 512;

/// Up to how many pending pieces all their subsets are tried.
pub const EXHAUSTIVE_MAX: usize = 8;

/// A directory on a disk in memory. Clones are the same directory.
#[derive(Clone, Debug)]
pub struct SimDisk {
    path: PathBuf,
    directory: usize,
    machine: Arc<Mutex<Machine>>,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An input/output error; what is pending stays pending.
    Io,
    /// There is no space.
    NoSpace,
    /// Half of a write is done; any other call does nothing.
    Short,
    /// A sync drops what it should have made durable, and reads still see it; any other call does nothing.
    Lost,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 4] = [Fault::Io, Fault::NoSpace, Fault::Short, Fault::Lost];

    fn error(self) -> io::Error {
        match self {
            Fault::NoSpace => io::ErrorKind::StorageFull.into(),
            Fault::Io | Fault::Short | Fault::Lost => io::Error::other("the disk failed"),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Machine {
    directories: Vec<Directory>,
    files: Vec<File>,
    /// Calls so far, and those of them that change something or sync.
    calls: u64,
    changes: u64,
    fault: Option<(u64, Fault)>,
    /// Nothing is done from this change on.
    stop: Option<u64>,
    stopped: bool,
    full: bool,
    next_handle: u64,
}

/// A directory as processes see it, and as it is on the disk.
#[derive(Clone, Debug, Default)]
struct Directory {
    made: bool,
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Created(String, usize),
    Removed(String),
    Renamed(String, String),
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Piece>,
    /// Who holds the lock, and whether shared.
    locks: Vec<(u64, bool)>,
}

/// What a disk does at once, or not.
#[derive(Clone, Debug)]
enum Piece {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: usize,
    handle: u64,
}

/// What the caller wants to do; tells changes from looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Look,
    Change,
}

impl SimDisk {
    /// Returns an empty disk without the directory at `path`, which is a name only.
    pub fn new(path: impl Into<PathBuf>) -> SimDisk {
        SimDisk {
            path: path.into(),
            directory: 0,
            machine: Arc::new(Mutex::new(Machine {
                directories: vec![Directory::default()],
                ..Machine::default()
            })),
        }
    }

    /// Returns another directory of the same disk, which is not there yet either.
    #[must_use]
    pub fn beside(&self, path: impl Into<PathBuf>) -> SimDisk {
        let mut machine = self.machine();
        machine.directories.push(Directory::default());
        SimDisk {
            path: path.into(),
            directory: machine.directories.len() - 1,
            machine: self.machine.clone(),
        }
    }

    /// Returns this directory as it is on the disk of `other`.
    #[must_use]
    pub fn on(&self, other: &SimDisk) -> SimDisk {
        SimDisk {
            machine: other.machine.clone(),
            ..self.clone()
        }
    }

    /// Lets the call number `call`, counted from 0 over all calls, fail once.
    pub fn fail_at(&self, call: u64, fault: Fault) {
        self.machine().fault = Some((call, fault));
    }

    /// Lets the machine stop before the change number `change`, counted from 0: that and everything after it fails.
    pub fn stop_at(&self, change: u64) {
        self.machine().stop = Some(change);
    }

    /// Takes away all free space, or gives it back: what is allocated can still be written.
    pub fn set_full(&self, full: bool) {
        self.machine().full = full;
    }

    /// Number of calls so far.
    pub fn calls(&self) -> u64 {
        self.machine().calls
    }

    /// Number of calls so far that change something or sync.
    pub fn changes(&self) -> u64 {
        self.machine().changes
    }

    /// Whether the machine has stopped.
    pub fn is_stopped(&self) -> bool {
        self.machine().stopped
    }

    /// Whether the fault has come.
    pub fn has_failed(&self) -> bool {
        let machine = self.machine();
        machine.fault.is_some_and(|(at, _)| at < machine.calls)
    }

    /// Returns the disk as the next process finds it after this one was killed: everything that was written is there, and
    /// what was pending is.
    #[must_use]
    pub fn killed(&self) -> SimDisk {
        self.with(self.machine().rested())
    }

    /// Returns the disk with the contents of a file changed, durably; for damage. A file that is missing is made.
    #[must_use]
    pub fn edited(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
        let mut machine = self.machine().rested();
        let found = machine.directories[self.directory].names.get(name).copied();
        let file = found.unwrap_or_else(|| machine.create(self.directory, name));
        edit(&mut machine.files[file].bytes);
        machine.settle();
        self.with(machine)
    }

    /// Returns the disk without a file, durably.
    #[must_use]
    pub fn without(&self, name: &str) -> SimDisk {
        let mut machine = self.machine().rested();
        machine.directories[self.directory].names.remove(name);
        machine.settle();
        self.with(machine)
    }

    /// Puts the files of an earlier copy in place of those that are here, durably, while processes go on: those that have
    /// files open keep the old ones, or, if it is done `in_place`, find the copy's bytes in them.
    pub fn put_back(&self, earlier: &BTreeMap<String, Vec<u8>>, in_place: bool) {
        let mut machine = self.machine();
        let before = std::mem::take(&mut machine.directories[self.directory].names);
        for (name, bytes) in earlier {
            let file = match before.get(name) {
                Some(file) if in_place => *file,
                _ => {
                    machine.files.push(File::default());
                    machine.files.len() - 1
                }
            };
            machine.files[file].bytes.clone_from(bytes);
            let names = &mut machine.directories[self.directory].names;
            names.insert(name.clone(), file);
        }
        machine.settle();
    }

    /// Names of the files, and what processes see in them.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let machine = self.machine();
        let bytes = |file: &usize| machine.files[*file].bytes.clone();
        machine.directories[self.directory]
            .names
            .iter()
            .map(|(name, file)| (name.clone(), bytes(file)))
            .collect()
    }

    /// Returns the disks that a power failure may leave now, each once: all subsets of the pending pieces if they are at
    /// most [`EXHAUSTIVE_MAX`], and otherwise none, all, every prefix, every prefix with its last piece torn, and
    /// `samples` others, chosen by `seed`.
    pub fn after_power_failure(&self, samples: usize, seed: u64) -> Vec<SimDisk> {
        let machine = self.machine();
        let pieces: Vec<(usize, usize)> = machine
            .files
            .iter()
            .enumerate()
            .flat_map(|(file, content)| (0..content.pending.len()).map(move |piece| (file, piece)))
            .collect();
        let mut known = HashSet::new();
        let mut found = Vec::new();
        let names: usize = machine
            .directories
            .iter()
            .map(|directory| directory.pending.len())
            .sum();
        for landing in landings(pieces.len(), samples, seed) {
            for names in 0..=names {
                for as_long_as_meant in [false, true] {
                    let after = machine.landed(&pieces, &landing, names, as_long_as_meant);
                    if known.insert(after.fingerprint()) {
                        found.push(self.with(after));
                    }
                }
            }
        }
        found
    }

    fn with(&self, machine: Machine) -> SimDisk {
        SimDisk {
            path: self.path.clone(),
            directory: self.directory,
            machine: Arc::new(Mutex::new(machine)),
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and says whether it is done: `Err` if not, and otherwise whether it is half done.
    fn call(&self, call: Call) -> io::Result<(MutexGuard<'_, Machine>, Option<Fault>)> {
        let mut machine = self.machine();
        let number = machine.calls;
        machine.calls += 1;
        if call == Call::Change {
            machine.stopped |= machine.stop.is_some_and(|stop| machine.changes >= stop);
            machine.changes += 1;
        }
        if machine.stopped {
            return Err(io::Error::other("the machine has stopped"));
        }
        let fault = machine
            .fault
            .filter(|(at, _)| *at == number)
            .map(|(_, fault)| fault);
        Ok((machine, fault))
    }

    /// As [`call`](Self::call), for what is done as a whole or not at all.
    fn whole(&self, call: Call) -> io::Result<MutexGuard<'_, Machine>> {
        match self.call(call)? {
            (machine, None) => Ok(machine),
            (_, Some(fault)) => Err(fault.error()),
        }
    }

    fn in_directory(&self, call: Call) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = self.whole(call)?;
        if machine.directories[self.directory].made {
            Ok(machine)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn handle(&self, mut machine: MutexGuard<'_, Machine>, file: usize) -> Box<dyn DiskFile> {
        machine.next_handle += 1;
        Box::new(SimFile {
            disk: self.clone(),
            file,
            handle: machine.next_handle,
        })
    }
}

/// Which of `count` pieces land, the last one of them torn or not.
fn landings(count: usize, samples: usize, seed: u64) -> Vec<(Vec<bool>, bool)> {
    let mut found = Vec::new();
    if count <= EXHAUSTIVE_MAX {
        for subset in 0..1_usize << count {
            let landed: Vec<bool> = (0..count).map(|piece| subset >> piece & 1 == 1).collect();
            found.push((landed.clone(), false));
            if subset != 0 {
                found.push((landed, true));
            }
        }
        return found;
    }
    for prefix in 0..=count {
        let landed: Vec<bool> = (0..count).map(|piece| piece < prefix).collect();
        found.push((landed.clone(), false));
        if prefix > 0 {
            found.push((landed, true));
        }
    }
    let mut random = Random(seed);
    for _ in 0..samples {
        let landed = (0..count).map(|_| random.next() & 1 == 1).collect();
        found.push((landed, random.next() & 1 == 1));
    }
    found
}

impl Machine {
    /// The machine after its processes are gone, and with no more plans.
    fn rested(&self) -> Machine {
        let mut machine = self.clone();
        machine.fault = None;
        machine.stop = None;
        machine.stopped = false;
        machine.full = false;
        machine.calls = 0;
        machine.changes = 0;
        for file in &mut machine.files {
            file.locks.clear();
        }
        machine
    }

    /// Makes everything durable that processes see.
    fn settle(&mut self) {
        for directory in &mut self.directories {
            directory.durable = directory.names.clone();
            directory.pending.clear();
        }
        for file in &mut self.files {
            file.durable = file.bytes.clone();
            file.pending.clear();
        }
    }

    fn landed(
        &self,
        pieces: &[(usize, usize)],
        (landed, torn): &(Vec<bool>, bool),
        names: usize,
        as_long_as_meant: bool,
    ) -> Machine {
        let mut after = self.rested();
        let last = landed.iter().rposition(|landed| *landed);
        for (index, (file, piece)) in pieces.iter().enumerate() {
            let pending = &self.files[*file].pending[*piece];
            if landed[index] {
                let torn = *torn && Some(index) == last;
                apply(&mut after.files[*file].durable, pending, torn);
            } else if as_long_as_meant {
                let meant = match pending {
                    Piece::Bytes(offset, bytes) => offset + bytes.len(),
                    Piece::Length(_) => 0,
                };
                let durable = &mut after.files[*file].durable;
                durable.resize(durable.len().max(meant), 0);
            }
        }
        // Those of one directory land in order; those of the first directories before those of the others.
        let mut left = names;
        for directory in &mut after.directories {
            for change in directory.pending.drain(..).take(left) {
                rename(&mut directory.durable, &change);
                left -= 1;
            }
            directory.names = directory.durable.clone();
        }
        for file in &mut after.files {
            file.bytes = file.durable.clone();
            file.pending.clear();
        }
        after
    }

    /// What tells two machines after a power failure apart.
    fn fingerprint(&self) -> Vec<(usize, String, Vec<u8>)> {
        let bytes = |file: &usize| self.files[*file].durable.clone();
        let named = |(number, directory): (usize, &Directory)| {
            directory
                .durable
                .iter()
                .map(|(name, file)| (number, name.clone(), bytes(file)))
                .collect::<Vec<_>>()
        };
        self.directories
            .iter()
            .enumerate()
            .flat_map(named)
            .collect()
    }

    fn create(&mut self, directory: usize, name: &str) -> usize {
        let file = self.files.len();
        self.files.push(File::default());
        self.directories[directory].change(NameChange::Created(name.to_owned(), file));
        file
    }
}

impl Directory {
    fn change(&mut self, change: NameChange) {
        rename(&mut self.names, &change);
        self.pending.push(change);
    }
}

fn rename(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Created(name, file) => {
            names.insert(name.clone(), *file);
        }
        NameChange::Removed(name) => {
            names.remove(name);
        }
        NameChange::Renamed(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

fn apply(bytes: &mut Vec<u8>, piece: &Piece, torn: bool) {
    match piece {
        Piece::Bytes(offset, written) => {
            let length = if torn {
                written.len().div_ceil(2)
            } else {
                written.len()
            };
            let end = offset + length;
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset..end].copy_from_slice(&written[..length]);
        }
        Piece::Length(length) => bytes.resize(*length, 0),
    }
}

impl File {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = usize::try_from(SECTOR_LEN - at % SECTOR_LEN).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(rest.len().min(room));
            let piece = Piece::Bytes(index(at), now.to_vec());
            apply(&mut self.bytes, &piece, false);
            self.pending.push(piece);
            at += now.len() as u64;
            rest = later;
        }
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a file of a test fits in memory")
}

impl Disk for SimDisk {
    fn create(&self) -> io::Result<()> {
        let mut machine = self.whole(Call::Change)?;
        machine.directories[self.directory].made = true;
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        self.in_directory(Call::Look).map(|_| ())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let machine = self.in_directory(Call::Look)?;
        let names = &machine.directories[self.directory].names;
        Ok(names.keys().cloned().collect())
    }

    fn open(&self, name: &str, _: Access) -> io::Result<Box<dyn DiskFile>> {
        let machine = self.in_directory(Call::Look)?;
        match machine.directories[self.directory].names.get(name).copied() {
            Some(file) => Ok(self.handle(machine, file)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn id_of(&self, name: &str) -> io::Result<FileId> {
        let machine = self.in_directory(Call::Look)?;
        let names = &machine.directories[self.directory].names;
        names
            .get(name)
            .map(|file| id(*file))
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create_file(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut machine = self.in_directory(Call::Change)?;
        let names = &machine.directories[self.directory].names;
        if names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if machine.full {
            return Err(Fault::NoSpace.error());
        }
        let file = machine.create(self.directory, name);
        Ok(self.handle(machine, file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut machine = self.in_directory(Call::Change)?;
        let directory = &mut machine.directories[self.directory];
        if !directory.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        directory.change(NameChange::Removed(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut machine = self.in_directory(Call::Change)?;
        let directory = &mut machine.directories[self.directory];
        if !directory.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        directory.change(NameChange::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut machine = self.in_directory(Call::Change)?;
        let directory = &mut machine.directories[self.directory];
        for change in std::mem::take(&mut directory.pending) {
            rename(&mut directory.durable, &change);
        }
        Ok(())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

fn id(file: usize) -> FileId {
    FileId {
        device: 0,
        number: file as u64,
    }
}

impl DiskFile for SimFile {
    fn id(&self) -> io::Result<FileId> {
        drop(self.disk.whole(Call::Look)?);
        Ok(id(self.file))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let machine = self.disk.whole(Call::Look)?;
        let bytes = &machine.files[self.file].bytes;
        let start = index(offset).min(bytes.len());
        let length = buffer.len().min(bytes.len() - start);
        buffer[..length].copy_from_slice(&bytes[start..start + length]);
        Ok(length)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut machine, fault) = self.disk.call(Call::Change)?;
        let full = machine.full;
        let file = &mut machine.files[self.file];
        if full && index(offset) + bytes.len() > file.bytes.len() {
            return Err(Fault::NoSpace.error());
        }
        match fault {
            None => {
                file.write(offset, bytes);
                Ok(())
            }
            Some(fault) => {
                if fault == Fault::Short {
                    file.write(offset, &bytes[..bytes.len() / 2]);
                }
                Err(fault.error())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let (mut machine, fault) = self.disk.call(Call::Change)?;
        let file = &mut machine.files[self.file];
        match fault {
            None => {
                for piece in std::mem::take(&mut file.pending) {
                    apply(&mut file.durable, &piece, false);
                }
                Ok(())
            }
            Some(fault) => {
                if fault == Fault::Lost {
                    file.pending.clear();
                }
                Err(fault.error())
            }
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut machine = self.disk.whole(Call::Change)?;
        let piece = Piece::Length(index(length));
        let file = &mut machine.files[self.file];
        apply(&mut file.bytes, &piece, false);
        file.pending.push(piece);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let machine = self.disk.whole(Call::Look)?;
        Ok(machine.files[self.file].bytes.len() as u64)
    }

    fn try_lock(&self, share: bool) -> io::Result<bool> {
        let mut machine = self.disk.whole(Call::Look)?;
        let locks = &mut machine.files[self.file].locks;
        let others = locks.iter().filter(|(holder, _)| *holder != self.handle);
        if others.clone().any(|(_, shared)| !(share && *shared)) {
            return Ok(false);
        }
        locks.retain(|(holder, _)| *holder != self.handle);
        locks.push((self.handle, share));
        Ok(true)
    }

    fn unlock(&self) -> io::Result<()> {
        let mut machine = self.disk.whole(Call::Look)?;
        let locks = &mut machine.files[self.file].locks;
        locks.retain(|(holder, _)| *holder != self.handle);
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut machine = self.disk.machine();
        let locks = &mut machine.files[self.file].locks;
        locks.retain(|(holder, _)| *holder != self.handle);
    }
}

/// A small generator, so that a seed replays a run.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        // SplitMix64, as published by Steele, Lea and Flood.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
