//! The process that works on the guest until it or QEMU is killed.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use momentlog::{
    BackupBeginFlags, CheckpointCreateFlags, CheckpointDeleteFlags, CheckpointListFlags,
    Connection, Domain, ErrorCode, Options,
};
use momentlog_qemu::Qemu;

use super::guest::{DISK_LEN, DISKS, Place, Writer};
use crate::sim_disk::Random;

/// More checkpoints than this are not kept.
const CHECKPOINTS_MAX: usize = 8;

/// How long a call waits for a guest that another process has.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Bytes of the unit in which the guest writes.
const SECTOR_LEN: u64 = 512;

struct Work<'a> {
    place: Place<'a>,
    random: Random,
    /// Begins the names of this process.
    prefix: String,
    names: u64,
    domain: Domain,
    writer: Writer,
    /// What each disk holds.
    content: BTreeMap<&'static str, Vec<u8>>,
}

/// Works until it is killed, or until QEMU does not answer: then the last line that it prints says `stopped` and why.
pub(super) fn work(dir: &Path, round: u64, seed: u64) -> Result<(), Box<dyn Error>> {
    let place = Place(dir);
    let begun = Work::begin(place, round, seed);
    let stopped = begun.and_then(|mut work| {
        say("ready")?;
        loop {
            work.step()?;
        }
    });
    match stopped {
        Ok(()) => Ok(()),
        Err::<(), _>(error) => say(&format!("stopped {error}")),
    }
}

/// One write for a line, so that no line is cut by the kill.
pub(super) fn say(line: &str) -> Result<(), Box<dyn Error>> {
    Ok(io::stdout()
        .lock()
        .write_all(format!("{line}\n").as_bytes())?)
}

/// A connection as both sides open it.
pub(super) fn open(place: &Place<'_>) -> Result<Connection, Box<dyn Error>> {
    let options = Options {
        lock_wait: LOCK_WAIT,
        ..Options::default()
    };
    let drivers = [Arc::new(Qemu::default()) as Arc<_>];
    Ok(Connection::open_driven(&place.uri(), options, &drivers)?)
}

impl<'a> Work<'a> {
    fn begin(place: Place<'a>, round: u64, seed: u64) -> Result<Work<'a>, Box<dyn Error>> {
        let domain = open(&place)?.lookup_domain_by_name("vm")?;
        let writer = Writer::new(&place)?;
        let mut content = BTreeMap::new();
        for disk in DISKS {
            content.insert(disk, place.read(disk)?);
        }
        Ok(Work {
            place,
            random: Random(seed),
            prefix: format!("r{round}"),
            names: 0,
            domain,
            writer,
            content,
        })
    }

    fn step(&mut self) -> Result<(), Box<dyn Error>> {
        let flags = CheckpointListFlags::TOPOLOGICAL;
        let listed = self.domain.list_all_checkpoints(flags)?;
        let count = u64::try_from(listed.len())?;
        let chosen = usize::try_from(self.random.below(count.max(1)))?;
        let chosen = listed.get(chosen);
        let kind = self.random.below(10);
        if let Some(chosen) = chosen
            && (kind < 2 || listed.len() > CHECKPOINTS_MAX)
        {
            let name = chosen.name();
            say(&format!("deleting {name}"))?;
            chosen.delete(CheckpointDeleteFlags::NONE)?;
            return say(&format!("deleted {name}"));
        }
        self.write()?;
        let name = self.new_name()?;
        match kind {
            0..4 => {
                let xml = checkpoint_xml(&name);
                let flags = CheckpointCreateFlags::NONE;
                self.domain.checkpoint_create_xml(&xml, flags)?;
                say(&format!("made {name}"))
            }
            4 => self.be_refused(&name),
            5 | 6 => self.back_up(&name, None),
            _ => self.back_up(&name, chosen.map(|chosen| chosen.name().as_str())),
        }
    }

    /// A name, with what the disks hold now.
    fn new_name(&mut self) -> Result<String, Box<dyn Error>> {
        self.names += 1;
        let name = format!("{}-{}", self.prefix, self.names);
        for (disk, content) in &self.content {
            std::fs::write(self.place.content(&name, disk), content)?;
        }
        Ok(name)
    }

    /// Writes some patterns here and there.
    fn write(&mut self) -> Result<(), Box<dyn Error>> {
        for _ in 0..=self.random.below(3) {
            let disk = DISKS[usize::try_from(self.random.below(2))?];
            let len = SECTOR_LEN * (1 + self.random.below(512));
            let offset = SECTOR_LEN * self.random.below((DISK_LEN - len) / SECTOR_LEN);
            let pattern = u8::try_from(self.random.below(256))?;
            self.writer.write(disk, offset, len, pattern)?;
            let from = usize::try_from(offset)?;
            let written = from..from + usize::try_from(len)?;
            let content = self.content.get_mut(disk).ok_or("no such disk")?;
            content[written].fill(pattern);
        }
        Ok(())
    }

    fn back_up(&mut self, name: &str, since: Option<&str>) -> Result<(), Box<dyn Error>> {
        let since = since.map(|since| format!("<incremental>{since}</incremental>"));
        let since = since.unwrap_or_default();
        let one = self.random.below(4) == 0;
        let disks = DISKS.map(|disk| {
            if one && disk == "vdb" {
                return format!("<disk name='{disk}' backup='no'/>");
            }
            let file = self.place.backup(name, disk);
            let file = file.display();
            format!("<disk name='{disk}' type='file'><target file='{file}'/></disk>")
        });
        let disks = disks.concat();
        let xml = format!("<domainbackup>{since}<disks>{disks}</disks></domainbackup>");
        let checkpoint = (self.random.below(3) > 0).then(|| checkpoint_xml(name));
        let flags = BackupBeginFlags::NONE;
        self.domain
            .backup_begin(&xml, checkpoint.as_deref(), flags)?;
        if checkpoint.is_some() {
            say(&format!("made {name}"))?;
        }
        while self.domain.job_info()?.is_some() {
            thread::sleep(Duration::from_millis(2));
        }
        let backup = self.domain.backups()?.pop().ok_or("no backup")?;
        if !backup.is_done() {
            return Err(format!("backup {name}: {:?}", backup.end).into());
        }
        say(&format!("done {name}"))
    }

    /// Asks for a backup over a file that is there, which must stay as it is.
    fn be_refused(&mut self, name: &str) -> Result<(), Box<dyn Error>> {
        let path = self.place.0.join("precious");
        let xml = format!(
            "<domainbackup><disks><disk name='vda' type='file'><target file='{}'/></disk>\
             <disk name='vdb' backup='no'/></disks></domainbackup>",
            path.display()
        );
        let checkpoint = checkpoint_xml(name);
        let flags = BackupBeginFlags::NONE;
        match self.domain.backup_begin(&xml, Some(&checkpoint), flags) {
            Err(error) if error.code() == ErrorCode::InvalidArg => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => Err("a backup was begun over a file that is there".into()),
        }
    }
}

pub(super) fn checkpoint_xml(name: &str) -> String {
    format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>")
}
