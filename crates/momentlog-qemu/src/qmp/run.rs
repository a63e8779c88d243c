//! Which run of a hypervisor is at the other end of a socket.

use std::fs;
use std::os::unix::net::UnixStream;
use std::str;

use momentlog_core::HypervisorRun;
use rustix::net::sockopt::socket_peercred;

/// Returns the process that listens at the socket, if it and when it started can be told: not across containers, and not
/// where `/proc` is hidden. Who was handed a socket that another process made is not told from that one.
pub(super) fn of_peer(stream: &UnixStream) -> Option<HypervisorRun> {
    let pid = socket_peercred(stream).ok()?.pid.as_raw_nonzero().get();
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(HypervisorRun {
        pid: pid.try_into().ok()?,
        start: start_of(&stat)?,
        boot: boot_id(&boot)?,
    })
}

/// Field 22 of `/proc/PID/stat`. Field 2 is the program's name in parentheses, which may have any byte in it.
fn start_of(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let from_field_3 = str::from_utf8(&stat[name_end + 1..]).ok()?;
    from_field_3
        .split_ascii_whitespace()
        .nth(22 - 3)?
        .parse()
        .ok()
}

/// A uuid in its usual form.
fn boot_id(text: &str) -> Option<[u8; 16]> {
    let digits = text.trim_end().replace('-', "");
    let number = (digits.len() == 32).then(|| u128::from_str_radix(&digits, 16))?;
    Some(number.ok()?.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_behind_any_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
        for name in ["qemu", "a b", "a) R 1 (b", "))", "\u{fffd}\n("] {
            let stat = format!("12 ({name}) {rest}\n");
            assert_eq!(start_of(stat.as_bytes()), Some(987_654), "{name}");
        }
        assert_eq!(start_of(b"12 (\xff) S 1"), None);
        assert_eq!(start_of(b"12 qemu"), None);
        assert_eq!(start_of(b""), None);
    }

    #[test]
    fn a_boot_id_is_a_uuid() {
        assert_eq!(
            boot_id("00112233-4455-6677-8899-aabbccddeeff\n"),
            Some([
                0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
                0xee, 0xff
            ])
        );
        assert_eq!(boot_id("00112233"), None);
        assert_eq!(boot_id("x0112233-4455-6677-8899-aabbccddeeff"), None);
    }
}
