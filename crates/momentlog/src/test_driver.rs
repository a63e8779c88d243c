//! The domain that libvirt's test driver has from the start.

use std::sync::Arc;

use momentlog_core::{Change, DomainUuid, Event, Power, Profile, RunState};
use momentlog_xml::read_domain;

/// What `virsh -c test:///default dumpxml test` was seen to print.
const TEST_DOMAIN: &str = "\
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

/// Returns the events that make a new store's built-in domain, for the profile that has one.
pub(crate) fn built_in(profile: Profile) -> Vec<Event> {
    if profile == Profile::Own {
        return Vec::new();
    }
    let nobody = DomainUuid::from_bytes([0; 16]);
    let def =
        Arc::new(read_domain(TEST_DOMAIN, || nobody).expect("the built-in domain is well formed"));
    let domain = def.uuid;
    let running = Power {
        state: RunState::Running,
        reason: 0,
        id: Some(1),
    };
    [
        Change::DomainDefined {
            def,
            policy: profile.policy(),
            live: false,
        },
        Change::StateChanged(running),
    ]
    .map(|change| Event {
        domain: Some(domain),
        change,
    })
    .to_vec()
}
