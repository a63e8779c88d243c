//! Attaching a domain: what a guest is asked first.

use std::sync::Arc;

use momentlog::store::MemoryStore;
use momentlog::{Connection, Options};
use momentlog_qemu::Qemu;
use serde_json::json;

use crate::scripted::Server;

/// An image that a killed client had QEMU make is waited for: QEMU 7.2 dies of being asked for its nodes meanwhile.
#[test]
fn nodes_are_not_asked_for_while_an_image_is_made() {
    let server = Server::greeting(|mut client| {
        let mut looks = 0;
        while looks < 4 {
            let request = client.request();
            let name = request["execute"].as_str().unwrap().to_owned();
            let returned = match &*name {
                "query-jobs" => {
                    looks += 1;
                    let status = if looks < 3 { "running" } else { "concluded" };
                    json!([{"id": "create-x", "type": "create", "status": status}])
                }
                "query-named-block-nodes" => {
                    assert_eq!(looks, 3);
                    json!([])
                }
                "query-status" => json!({"status": "running"}),
                "query-uuid" => json!({"UUID": "00000000-0000-0000-0000-000000000000"}),
                _ => json!([]),
            };
            client.answer(&request, returned);
        }
        client.until_gone();
    });
    let store = Connection::over(Box::new(MemoryStore::new()), Options::default());
    let store = store.with_drivers([Arc::new(Qemu::default()) as _]);
    let xml = "<domain type='qemu'><name>vm</name><os><type>hvm</type></os></domain>";
    let domain = store.define_domain_xml(xml).unwrap();
    let socket = server.socket.display().to_string();
    domain.attach(Qemu::NAME, &socket, false).unwrap();
    assert!(domain.attachment().unwrap().is_some());
    server.end();
}
