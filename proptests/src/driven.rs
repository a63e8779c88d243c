//! Crashes between the log and the hypervisor: every request and every change of the log, on either side.
//!
//! A workload of checkpoints, backups and snapshots is played on a simulated disk and a simulated host. It is played once
//! more for each request to the hypervisor, and for each change of the log, with a fault there: this process is gone, the
//! hypervisor is, or both. Then the store is opened again, the guest is entered, or looked at while it is off, and log and
//! hypervisor must agree, or every difference be named, and ended by the steps that are proposed.

mod world;

use crate::sim_disk::Random;
use crate::sim_qemu::{CLUSTER_LEN, QemuFault, Side};

use world::{SIZE, World};

/// One step of a workload. Moments are named by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrivenStep {
    /// The guest writes to a cluster of a disk.
    Write {
        /// The disk, 0 or 1.
        disk: usize,
        /// The cluster.
        cluster: u64,
    },
    /// A checkpoint is made.
    Checkpoint(u8),
    /// A checkpoint is deleted.
    Delete(u8),
    /// An external snapshot is made.
    Snapshot(u8),
    /// An external snapshot is made onto overlays that are there.
    Reuse(u8),
    /// The record of a snapshot is deleted.
    Forget(u8),
    /// The record of a checkpoint is deleted, and its bitmaps stay.
    ForgetCheckpoint(u8),
    /// A push backup is begun that takes some requests, and is not waited for.
    SlowPush {
        /// The checkpoint since which is copied; all is without one.
        since: Option<u8>,
        /// The checkpoint that is made with it.
        checkpoint: Option<u8>,
    },
    /// A push backup is begun whose copies fail.
    FailingPush {
        /// The checkpoint that is made with it.
        checkpoint: Option<u8>,
    },
    /// The guest is ended in order, and started again.
    Restart,
    /// The domain is detached and attached once more.
    Reattach,
    /// A push backup is made, and waited for.
    Push {
        /// The checkpoint since which is copied; all is without one.
        since: Option<u8>,
        /// The checkpoint that is made with it.
        checkpoint: Option<u8>,
    },
    /// A push backup is asked for over a file that is there.
    Over,
    /// A pull backup is begun.
    Pull {
        /// The checkpoint since which is offered.
        since: Option<u8>,
    },
    /// The job is aborted.
    Abort,
}

/// What a run of the suite has tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Driven {
    /// Points at which something failed.
    pub points: u64,
    /// Checkpoints that were acknowledged, and were found.
    pub kept: u64,
    /// Differences that were named, and ended.
    pub repaired: u64,
    /// Backups that were recorded as done, and compared.
    pub backups: u64,
}

impl std::ops::AddAssign for Driven {
    fn add_assign(&mut self, other: Driven) {
        self.points += other.points;
        self.kept += other.kept;
        self.repaired += other.repaired;
        self.backups += other.backups;
    }
}

/// A workload of one of everything.
pub fn one_of_each_driven() -> Vec<DrivenStep> {
    use DrivenStep::{Abort, Checkpoint, Delete, Forget, Over, Pull, Push, Snapshot, Write};
    vec![
        Write {
            disk: 0,
            cluster: 1,
        },
        Checkpoint(1),
        Push {
            since: None,
            checkpoint: Some(2),
        },
        Write {
            disk: 1,
            cluster: 3,
        },
        Push {
            since: Some(2),
            checkpoint: Some(3),
        },
        Snapshot(1),
        Write {
            disk: 0,
            cluster: 4,
        },
        Checkpoint(4),
        Delete(1),
        Over,
        Pull { since: Some(3) },
        Checkpoint(5),
        Abort,
        Forget(1),
        Push {
            since: Some(4),
            checkpoint: None,
        },
        Delete(4),
    ]
}

/// Returns a workload of this many steps; each seed has its own.
pub fn some_driven(seed: u64, steps: usize) -> Vec<DrivenStep> {
    let mut random = Random(seed);
    let mut workload = vec![DrivenStep::Checkpoint(1)];
    let mut next = 2;
    let mut snapshots = 0;
    while workload.len() < steps {
        let is_odd = random.below(2) == 1;
        let old = u8::try_from(1 + random.below(u64::from(next - 1))).unwrap_or(1);
        let mut fresh = || {
            next += 1;
            next - 1
        };
        workload.push(match random.below(14) {
            0 => DrivenStep::Checkpoint(fresh()),
            1 => DrivenStep::Delete(old),
            2 => DrivenStep::ForgetCheckpoint(old),
            3 => {
                snapshots += 1;
                // Only the first knows what is below it.
                if snapshots == 1 && is_odd {
                    DrivenStep::Reuse(snapshots)
                } else {
                    DrivenStep::Snapshot(snapshots)
                }
            }
            4 if snapshots > 0 => DrivenStep::Forget(snapshots),
            5 | 6 => DrivenStep::Push {
                since: is_odd.then_some(old),
                checkpoint: Some(fresh()),
            },
            7 => DrivenStep::SlowPush {
                since: is_odd.then_some(old),
                checkpoint: None,
            },
            8 => DrivenStep::FailingPush {
                checkpoint: is_odd.then(fresh),
            },
            9 => DrivenStep::Pull {
                since: is_odd.then_some(old),
            },
            10 => DrivenStep::Abort,
            11 => DrivenStep::Restart,
            12 => DrivenStep::Reattach,
            _ => DrivenStep::Write {
                disk: usize::from(is_odd),
                cluster: random.below(SIZE / CLUSTER_LEN),
            },
        });
    }
    workload
}

/// How one run ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// A request to the hypervisor fails so.
    Request(u64, QemuFault),
    /// As before, and the hypervisor dies with the caller.
    Both(u64, Side),
    /// The caller is gone at this request, the hypervisor ends later, in order or not, and what is left is settled while the
    /// guest is off.
    Off(u64, Side, bool),
    /// The machine of the log stops before this change of it.
    Log(u64),
    /// As before, and the hypervisor dies with it.
    LogAndHypervisor(u64),
    /// As before, but it ends later, as in [`Off`](Ending::Off).
    LogAndOff(u64, bool),
}

/// What has become of the guest when the store is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// It runs, unless a fault has ended it.
    Alone,
    /// It is killed, and runs again.
    Killed,
    /// It is off, and runs again later.
    Off {
        /// Whether it ended in order.
        in_order: bool,
    },
}

/// Plays a workload again and again, and lets something fail at each request and at each change of the log.
///
/// # Panics
///
/// If log and hypervisor do not agree afterwards, and what differs is not named or cannot be ended.
pub fn drive_everywhere(steps: &[DrivenStep]) -> Driven {
    let mut world = World::new();
    let (first, changes) = (world.host.requests() + 1, world.log.changes());
    world.play(steps);
    let (last, all) = (world.host.requests(), world.log.changes());
    let mut tally = Driven::default();
    world.recover(Left::Alone, &mut tally);
    let mut endings = Vec::new();
    for request in first..=last {
        let faults = [
            QemuFault::Refused,
            QemuFault::Killed(Side::Before),
            QemuFault::Killed(Side::After),
            QemuFault::KilledWithin(1),
            QemuFault::Closed(Side::Before),
            QemuFault::Closed(Side::After),
            QemuFault::Silent(Side::Before),
            QemuFault::Silent(Side::After),
            QemuFault::Gone(Side::Before),
            QemuFault::Gone(Side::After),
        ];
        endings.extend(faults.map(|fault| Ending::Request(request, fault)));
        for side in [Side::Before, Side::After] {
            endings.push(Ending::Both(request, side));
            endings.extend([true, false].map(|in_order| Ending::Off(request, side, in_order)));
        }
    }
    for change in changes..all {
        endings.push(Ending::Log(change));
        endings.push(Ending::LogAndHypervisor(change));
        endings.extend([true, false].map(|in_order| Ending::LogAndOff(change, in_order)));
    }
    for ending in endings {
        let _context = Context(|| format!("{ending:?} of {steps:?}"));
        let mut world = World::new();
        match ending {
            Ending::Request(request, fault) => world.host.fault_at(request, fault),
            Ending::Both(request, side) | Ending::Off(request, side, _) => {
                world.host.fault_at(request, QemuFault::Gone(side));
            }
            Ending::Log(change)
            | Ending::LogAndHypervisor(change)
            | Ending::LogAndOff(change, _) => world.log.stop_at(change),
        }
        world.play(steps);
        let left = match ending {
            Ending::Request(..) | Ending::Log(_) => Left::Alone,
            Ending::Both(..) | Ending::LogAndHypervisor(_) => Left::Killed,
            Ending::Off(.., in_order) | Ending::LogAndOff(_, in_order) => Left::Off { in_order },
        };
        world.recover(left, &mut tally);
        tally.points += 1;
    }
    tally
}

/// Says where it happened, if a check fails.
struct Context<F: Fn() -> String>(F);

impl<F: Fn() -> String> Drop for Context<F> {
    #[expect(
        clippy::print_stderr,
        reason = "it says which case a failed check belongs to"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", (self.0)());
        }
    }
}
