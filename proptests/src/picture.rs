//! Pictures of any history: what names, actors and reasons say stays text.

use std::sync::Arc;

use momentlog::core::{Action, Command, CreateSnapshot, MomentKind, MomentName, Policy};
use momentlog::store::MemoryStore;
use momentlog::{ManualClock, Provenance};
use momentlog_audit::escaped;
use momentlog_audit::graph::{Graph, Subject};
use roxmltree::Document;
use serde_json::Value;

use crate::op::Op;
use crate::suite::{UUID, connection, domain_def};

/// Elements of an SVG. None of them runs, loads or links to anything.
const ELEMENTS: [&str; 10] = [
    "svg", "title", "desc", "style", "rect", "path", "g", "circle", "text", "tspan",
];

/// Plays ops, then makes a snapshot of each text, which also says who makes it and why, and draws both kinds.
/// Returns how many of these snapshots there are.
///
/// # Panics
///
/// If a text ends a tag of the page or the SVG, is not found in the page's data, or the picture is not the same twice.
pub fn picture(ops: &[Op], texts: &[String]) -> usize {
    let clock = Arc::new(ManualClock::default());
    let connection = connection(Box::new(MemoryStore::new()), clock.clone());
    let ask = |provenance, action| {
        let command = Command {
            domain: UUID,
            action,
        };
        // A refusal leaves less to draw.
        connection
            .with_provenance(provenance)
            .execute(&command)
            .is_ok()
    };
    for (now, op) in (100..).zip(ops) {
        clock.set_second(now);
        // What drivers report is not drawn.
        let view = connection.view();
        if let Some(action) = op.action(now, view.state().domain(UUID)) {
            ask(Provenance::default(), action);
        }
    }
    ask(Provenance::default(), Action::Define(domain_def()));
    ask(Provenance::default(), Action::SetPolicy(Policy::NONE));
    let mut wanted = Vec::new();
    for text in texts {
        let create = CreateSnapshot {
            name: MomentName::new(text),
            description: None,
            now: 0,
            memory: None,
            disks: vec![],
            extra: None,
            disk_only: false,
            halt: false,
        };
        let provenance = Provenance {
            actor: text.as_str().into(),
            reason: Some(text.as_str().into()),
            ..Provenance::default()
        };
        if ask(provenance, Action::CreateSnapshot(create)) {
            wanted.push(text);
        }
    }
    let Some(log) = connection.log_id() else {
        return 0;
    };
    for kind in [MomentKind::Snapshot, MomentKind::Checkpoint] {
        let graph = || {
            let subject = Subject {
                log,
                domain: UUID,
                kind,
            };
            let steps = connection.history_of(UUID).expect("the log is there");
            Graph::of(subject, steps, &connection.view()).expect("the log can be read")
        };
        let (page, svg) = (graph().html(), graph().svg());
        assert_eq!((&graph().html(), &graph().svg()), (&page, &svg));
        check_page(
            &page,
            if kind == MomentKind::Snapshot {
                &wanted
            } else {
                &[]
            },
        );
        check_svg(&svg);
    }
    wanted.len()
}

fn check_page(page: &str, wanted: &[&String]) {
    for (text, count) in [
        ("<script", 2),
        ("</script", 2),
        ("<style", 1),
        ("</style", 1),
        ("<title", 1),
        ("</title", 1),
        ("<!", 1),
        ("\u{2028}", 0),
        ("\u{202e}", 0),
    ] {
        assert_eq!(page.matches(text).count(), count, "{text}: {page}");
    }
    let (_, data) = page.split_once("id=\"data\">").expect("the page has data");
    let (data, _) = data.split_once("</script>").expect("the data end");
    let data: Value = serde_json::from_str(data).expect("the data are JSON");
    let has = |list: &str, text: &str| {
        let all = data[list].as_array().expect("the data are lists");
        all.iter().any(|found| *found == text || found[0] == text)
    };
    for text in wanted {
        let shown = escaped(text);
        // A text that is too long or empty was not recorded as it is; a name that was used twice has its id.
        let is_name = MomentName::new(text).is_some();
        let names = data["moments"].as_array().expect("the data are lists");
        let is_named = names.iter().any(|name| {
            let name = name.as_str().unwrap_or_default();
            name == shown || name.starts_with(&format!("{shown} (#"))
        });
        assert!(!is_name || is_named, "{shown:?} is no name: {data}");
        assert!(
            text.is_empty() || has("reasons", &shown),
            "{shown:?} is no reason: {data}"
        );
    }
}

fn check_svg(svg: &str) {
    let document = Document::parse(svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
    for element in document.descendants().filter(roxmltree::Node::is_element) {
        let name = element.tag_name().name();
        assert!(ELEMENTS.contains(&name), "{name}: {svg}");
    }
}
