//! What is taken, though it looks odd, because libvirt takes it.

use super::*;

#[test]
fn a_domain_without_a_uuid_gets_one() {
    let def = domain("").unwrap();
    assert_eq!(def.uuid, FRESH);
    assert!(
        def.xml.contains(&format!("  <uuid>{FRESH}</uuid>\n")),
        "{}",
        def.xml
    );
    let uuid = DomainUuid::from_bytes([7; 16]);
    let def = domain(&format!("<uuid>{uuid}</uuid>")).unwrap();
    assert_eq!(def.uuid, uuid);
}
