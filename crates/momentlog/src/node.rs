//! What libvirt's clients ask of the host: constants, as nothing here starts a guest.

use momentlog_engine::process_host;

use crate::connection::Connection;
use crate::error::{Error, ErrorCode, ErrorDomain, Result};

/// What would start a guest; nothing does here.
const EMULATOR: &str = "/usr/bin/momentlog-guest";

/// The version of libvirt whose calls are answered. Follows `virConnectGetLibVersion`.
pub const LIBVIRT_VERSION: u64 = 9_000_000;

/// The most vCPUs of a guest. Follows `virConnectGetMaxVcpus`.
pub const MAX_VCPUS: u32 = 32;

/// What a host is made of. Follows `virNodeInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// The architecture of its CPUs; less than 32 bytes.
    pub model: &'static str,
    /// Its memory in KiB.
    pub memory_kib: u64,
    /// Its active CPUs.
    pub cpus: u32,
    /// Their frequency.
    pub mhz: u32,
    /// NUMA nodes.
    pub nodes: u32,
    /// Sockets of a node.
    pub sockets: u32,
    /// Cores of a socket.
    pub cores: u32,
    /// Threads of a core.
    pub threads: u32,
}

/// What the host of libvirt's test driver is made of, and that of each store here.
const NODE: NodeInfo = NodeInfo {
    model: "x86_64",
    memory_kib: 3 * 1024 * 1024,
    cpus: 16,
    mhz: 1400,
    nodes: 2,
    sockets: 2,
    cores: 2,
    threads: 2,
};

impl Connection {
    /// What answers, in capitals: `TEST`, or the driver that this connection asks hypervisors by. Follows
    /// `virConnectGetType`.
    pub fn type_name(&self) -> String {
        let driver = self.drivers().first();
        driver.map_or("TEST".to_owned(), |driver| driver.name().to_uppercase())
    }

    /// The version of what answers, as `major * 1000000 + minor * 1000 + release`: that of libvirt's test driver.
    /// Follows `virConnectGetVersion`.
    pub fn version(&self) -> u64 {
        2
    }

    /// The name of the host; `localhost` if it has none. Follows `virConnectGetHostname`.
    pub fn hostname(&self) -> String {
        process_host().unwrap_or_else(|| "localhost".to_owned())
    }

    /// What the host is made of: constants. Follows `virNodeGetInfo`.
    pub fn node_info(&self) -> NodeInfo {
        NodeInfo {
            model: self.facts().arches[0],
            ..NODE
        }
    }

    /// What guests the host could run, as XML: a constant. Follows `virConnectGetCapabilities`.
    pub fn capabilities(&self) -> String {
        let arches = self.facts().arches;
        let guests: String = arches.iter().map(|arch| self.guest(arch)).collect();
        format!(
            "<capabilities>\n\n  <host>\n    <cpu>\n      <arch>{}</arch>\n    </cpu>\n  </host>\n{guests}\n\
             </capabilities>\n",
            arches[0],
        )
    }

    /// What a guest may be made of, as XML: a constant but for the architecture and the type of domain that are asked for,
    /// where none are the first ones of [`capabilities`](Self::capabilities). Follows `virConnectGetDomainCapabilities`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArg`] for those that the capabilities do not name.
    pub fn domain_capabilities(&self, arch: Option<&str>, kind: Option<&str>) -> Result<String> {
        let arch = known(self.facts().arches, "arch", arch)?;
        let kind = known(self.facts().domain_types, "virttype", kind)?;
        Ok(format!(
            "<domainCapabilities>\n  <path>{EMULATOR}</path>\n  <domain>{kind}</domain>\n  <arch>{arch}</arch>\n  \
             <vcpu max='{MAX_VCPUS}'/>\n  <os supported='yes'>\n    <loader supported='no'/>\n  </os>\n  <cpu>\n    \
             <mode name='host-passthrough' supported='no'/>\n    <mode name='host-model' supported='no'/>\n    \
             <mode name='custom' supported='no'/>\n  </cpu>\n  <devices>\n    <disk supported='yes'/>\n  \
             </devices>\n  <features>\n    <backup supported='{}'/>\n  </features>\n</domainCapabilities>\n",
            if self.drivers().is_empty() {
                "no"
            } else {
                "yes"
            },
        ))
    }

    fn guest(&self, arch: &str) -> String {
        let wordsize = if arch == "x86_64" { 64 } else { 32 };
        let mut types = String::new();
        for kind in self.facts().domain_types {
            types.extend(["      <domain type='", kind, "'/>\n"]);
        }
        format!(
            "\n  <guest>\n    <os_type>hvm</os_type>\n    <arch name='{arch}'>\n      \
             <wordsize>{wordsize}</wordsize>\n      <emulator>{EMULATOR}</emulator>\n{types}    </arch>\n  </guest>\n",
        )
    }
}

/// Returns what is asked for, which is one of those; the first one if nothing is.
fn known(all: &[&'static str], what: &str, asked: Option<&str>) -> Result<&'static str> {
    let found = match asked {
        None => all.first(),
        Some(asked) => all.iter().find(|known| **known == asked),
    };
    found.copied().ok_or_else(|| {
        let detail = format!("{what} '{}' is not known", asked.unwrap_or_default());
        Error::new(ErrorCode::InvalidArg, ErrorDomain::Test, detail)
    })
}
