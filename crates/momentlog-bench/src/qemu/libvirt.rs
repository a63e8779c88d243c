//! libvirt's own qemu driver: a libvirtd that serves this benchmark alone, with one guest.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::guest::{make_image, target};
use crate::Failed;
use crate::libvirt::build;
use crate::libvirtd::{Libvirtd, is_root};

/// A guest of libvirt, and a client that stays connected. All of it ends when it is dropped.
pub(super) struct Libvirt {
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    client: Child,
    _daemon: Libvirtd,
}

impl Libvirt {
    /// Starts one, with a guest of this number of disks in `dir`.
    pub(super) fn start(dir: &Path, disks: usize) -> Result<Libvirt, Failed> {
        fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        let program = build(&dir, include_str!("libvirt.c"))?;
        let images: Vec<PathBuf> = (0..disks)
            .map(|disk| dir.join(format!("{disk}.qcow2")))
            .collect();
        images.iter().try_for_each(|image| make_image(image))?;
        if is_root()? {
            // libvirtd is another user then, and reaches the images through directories of ours.
            let scratch = dir.parent().ok_or("a scratch directory has a parent")?;
            for reached in [scratch, &dir] {
                fs::set_permissions(reached, Permissions::from_mode(0o711))?;
            }
        }
        let daemon = Libvirtd::start(&dir, &images)?;
        let socket = daemon.socket();
        let mut client = Command::new(program)
            .arg(format!("qemu+unix:///session?socket={}", socket.display()))
            .arg(definition(&images))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let answers = client.stdout.take().ok_or("it is piped")?;
        let mut libvirt = Libvirt {
            asks: client.stdin.take(),
            answers: BufReader::new(answers),
            client,
            _daemon: daemon,
        };
        libvirt.seconds()?;
        Ok(libvirt)
    }

    /// Has a checkpoint made and deleted, and returns in how many seconds it was made.
    pub(super) fn checkpoint(&mut self) -> Result<f64, Failed> {
        let asks = self.asks.as_mut().ok_or("it is piped")?;
        asks.write_all(b"\n")?;
        self.seconds()
    }

    fn seconds(&mut self) -> Result<f64, Failed> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let seconds = line.trim().parse();
        seconds.map_err(|_| "its client says why above".into())
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        // Without input the client ends, and with it the guest.
        drop(self.asks.take());
        let _ = self.client.wait();
    }
}

/// The XML of a guest like that of the other rows.
fn definition(images: &[PathBuf]) -> String {
    let disks = images.iter().enumerate().map(|(number, image)| {
        format!(
            "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{}'/>\
             <target dev='{}' bus='virtio'/></disk>",
            image.display(),
            target(number)
        )
    });
    format!(
        "<domain type='qemu'><name>bench</name><memory unit='MiB'>64</memory>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{}\
         <controller type='usb' model='none'/><memballoon model='none'/></devices></domain>",
        disks.collect::<String>()
    )
}
