//! The domain that a store of the profile `libvirt-test` has from the start, as libvirt's test driver has it.

use std::sync::Arc;

use crate::{
    Change, DomainDef, DomainDisk, DomainUuid, Event, Power, Profile, RunState, SourceKind,
};

/// What `virsh -c test:///default dumpxml test` was seen to print.
const XML: &str = "\
<domain type='test'>
  <name>test</name>
  <uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
  <memory unit='KiB'>8388608</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <os>
    <type arch='i686'>hvm</type>
    <boot dev='hd'/>
  </os>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <source file='/guest/diskimage1'/>
      <target dev='vda' bus='virtio'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </disk>
    <interface type='network'>
      <mac address='aa:bb:cc:dd:ee:ff'/>
      <source network='default'/>
      <target dev='testnet0'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x0'/>
    </interface>
    <memballoon model='virtio'>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0'/>
    </memballoon>
  </devices>
</domain>
";

const UUID: [u8; 16] = [
    0x66, 0x95, 0xeb, 0x01, 0xf6, 0xa4, 0x83, 0x04, 0x79, 0xaa, 0x97, 0xf2, 0x50, 0x2e, 0x19, 0x3f,
];

impl Profile {
    /// Returns the events that make a new store's built-in domain; none for a profile without one.
    pub fn built_in(self) -> Vec<Event> {
        if self == Profile::Own {
            return Vec::new();
        }
        let disk = DomainDisk {
            target: "vda".into(),
            kind: SourceKind::File,
            source: Some("/guest/diskimage1".into()),
            empty: false,
            format: None,
            readonly: false,
            snapshot: None,
        };
        let def = Arc::new(DomainDef {
            name: "test".into(),
            uuid: DomainUuid::from_bytes(UUID),
            memory_kib: 8_388_608,
            disks: vec![disk],
            xml: XML.into(),
        });
        let domain = def.uuid;
        let running = Power {
            state: RunState::Running,
            reason: 0,
            id: Some(1),
        };
        let defined = Change::DomainDefined {
            def,
            policy: self.policy(),
            live: false,
        };
        [defined, Change::StateChanged(running)]
            .map(|change| Event {
                domain: Some(domain),
                change,
            })
            .to_vec()
    }
}
