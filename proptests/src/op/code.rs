//! Ops as a fuzzer makes them of bytes.

use arbitrary::{Arbitrary, Unstructured};

use super::Op;

/// The highest five bits of a number say which op it is. An op keeps its code for ever, so that
/// the seeds of the fuzz targets keep their meaning; a new op takes a code that means to define the domain before.
impl<'a> Arbitrary<'a> for Op {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Op> {
        Ok(match u32::arbitrary(bytes)? >> 27 {
            1 => Op::ChangeState(bytes.arbitrary()?),
            2 => Op::Undefine {
                with_snapshots: bytes.arbitrary()?,
            },
            3 => Op::SetPolicy {
                exclusive: bytes.arbitrary()?,
                chain: bytes.arbitrary()?,
                active: bytes.arbitrary()?,
            },
            4 => Op::Create {
                snapshot: bytes.arbitrary()?,
                name: bytes.arbitrary()?,
                halt: bytes.arbitrary()?,
            },
            5 => Op::Redefine {
                snapshot: bytes.arbitrary()?,
                name: bytes.arbitrary()?,
                parent: bytes.arbitrary()?,
                current: bytes.arbitrary()?,
                state: bytes.arbitrary()?,
                domain: bytes.arbitrary()?,
            },
            6 => Op::Delete {
                snapshot: bytes.arbitrary()?,
                name: bytes.arbitrary()?,
                extent: bytes.arbitrary()?,
            },
            7 => Op::Reparent {
                snapshot: bytes.arbitrary()?,
                name: bytes.arbitrary()?,
                parent: bytes.arbitrary()?,
            },
            8 => Op::SetCurrent {
                snapshot: bytes.arbitrary()?,
                name: bytes.arbitrary()?,
            },
            9 => Op::Revert {
                name: bytes.arbitrary()?,
                resume: bytes.arbitrary()?,
            },
            10 => Op::Attach {
                socket: bytes.arbitrary()?,
                look_only: bytes.arbitrary()?,
            },
            11 => Op::Detach,
            12 => Op::Observe(bytes.arbitrary()?),
            13 => Op::Begin {
                long: bytes.arbitrary()?,
                action: bytes.arbitrary()?,
            },
            14 => Op::End {
                long: bytes.arbitrary()?,
                goes_on: bytes.arbitrary()?,
            },
            15 => Op::Fail {
                long: bytes.arbitrary()?,
            },
            16 => Op::Hold {
                snapshot: bytes.arbitrary()?,
                name: bytes.arbitrary()?,
                tag: bytes.arbitrary()?,
            },
            17 => Op::Release {
                snapshot: bytes.arbitrary()?,
                name: bytes.arbitrary()?,
                tag: bytes.arbitrary()?,
            },
            18 => Op::Undelete {
                snapshot: bytes.arbitrary()?,
                name: bytes.arbitrary()?,
                parent: bytes.arbitrary()?,
                adopts: bytes.arbitrary()?,
                current: bytes.arbitrary()?,
            },
            19 => Op::SetAutostart(bytes.arbitrary()?),
            _ => Op::Define,
        })
    }
}
