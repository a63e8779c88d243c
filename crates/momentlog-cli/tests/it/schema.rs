//! Every document that the program prints: valid by its schema, with the keys of the golden files in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

use super::*;

/// Verbs that print no document: those that have no JSON form, and two that end the session.
const WITHOUT: &[&str] = &[
    "completion",
    "echo",
    "exit",
    "help",
    "init",
    "man",
    "proxy",
    "proxy-install",
    "proxy-remove",
    "quit",
    "serve",
];

/// Verbs of attached domains: their documents are seen, and checked, in `hypervisor` and `backups`.
const OF_ATTACHED_DOMAINS: &[(&str, &str)] = &[
    ("attach", "outcome"),
    ("backup-begin", "backup"),
    ("backup-dumpxml", "text"),
    ("detach", "outcome"),
    ("domjobabort", "outcome"),
];

/// Commands that read, each with its document.
const READING: &[(&str, &str)] = &[
    ("checkpoint-dumpxml W c1", "text"),
    ("checkpoint-dumpxml W c1 --output c1.xml", "text"),
    ("checkpoint-info W c1", "moments"),
    ("checkpoint-list W", "moments"),
    ("checkpoint-list W --tree", "moments"),
    ("checkpoint-parent W c2", "moments"),
    ("checkpoint-create-as W --print-xml", "text"),
    ("copy momentlog:store momentlog:copied", "copy"),
    ("desc W", "text"),
    ("diff 1", "diff"),
    ("domblklist W", "disks"),
    ("domid W", "domains"),
    ("dominfo W", "domains"),
    ("domjobinfo W", "job"),
    ("domname 6695eb01-f6a4-8304-79aa-97f2502e193f", "domains"),
    ("domstate W", "domains"),
    ("domuuid W", "domains"),
    ("dumpxml W", "text"),
    ("graph W --kind checkpoint --html -", "text"),
    ("graph W --kind checkpoint --svg c.svg", "text"),
    ("hold-list", "holds"),
    ("image", "image"),
    ("list --all", "domains"),
    ("log", "entry"),
    ("metadata W urn:x", "text"),
    ("policy --default", "policy"),
    ("policy W", "policy"),
    ("receipt", "receipt"),
    ("reconcile", "reconcile"),
    (
        "redefine-plan W --kind checkpoint --out plan",
        "redefinitions",
    ),
    ("show 3", "entry"),
    ("snapshot-create-as W --print-xml", "text"),
    ("snapshot-current W", "text"),
    ("snapshot-current W --name", "moments"),
    ("snapshot-dumpxml W s1", "text"),
    ("snapshot-info W s1", "moments"),
    ("snapshot-list W", "moments"),
    ("snapshot-parent W s2", "moments"),
    ("stat", "stat"),
    ("verify", "verify"),
    ("why W c1", "life"),
];

/// The schemas, by the name of their document.
struct All {
    schemas: Schemas,
    by_name: BTreeMap<String, SchemaIndex>,
}

fn folder() -> PathBuf {
    repository().join("docs/schema")
}

/// The lines of the golden files, one file for each release that has added something.
fn golden() -> String {
    let files = std::fs::read_dir(folder()).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    paths.sort();
    let texts = paths
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap());
    texts.collect()
}

fn all() -> &'static All {
    static ALL: OnceLock<All> = OnceLock::new();
    ALL.get_or_init(|| {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        let mut by_name = BTreeMap::new();
        for file in std::fs::read_dir(folder()).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let Some(name) = name.strip_suffix("-1.json") else {
                continue;
            };
            let text = std::fs::read_to_string(&path).unwrap();
            let place = format!("urn:{name}");
            let schema: Value = serde_json::from_str(&text).unwrap();
            compiler.add_resource(&place, schema).unwrap();
            let index = compiler.compile(&place, &mut schemas).unwrap();
            by_name.insert(format!("{name}/1"), index);
        }
        All { schemas, by_name }
    })
}

/// What a line holds, with its keys in their order.
enum Node {
    Object(Vec<(String, Node)>),
    List(Vec<Node>),
    Text(String),
    Other,
}

impl<'de> serde::Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Node;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Node, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = list.next_element()? {
                    nodes.push(node);
                }
                Ok(Node::List(nodes))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Node::Object(fields))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The keys of the objects in a document, by where they are; an event or a turn also by what it is.
type Keys = BTreeMap<String, Vec<String>>;

fn collect(node: &Node, place: &str, keys: &mut Keys) {
    match node {
        Node::Object(fields) => {
            // An event is the same in every document, and has the keys of its type; a turn of a life those of what it is.
            let by = match place {
                "event" => "type",
                _ if place.rsplit('.').next() == Some("turns") => "what",
                _ => "schema",
            };
            let kind = fields.iter().find_map(|(key, value)| match value {
                Node::Text(text) if key == by => Some(text.as_str()),
                _ => None,
            });
            let place = format!("{place}.{}", kind.unwrap_or_default());
            for (key, value) in fields {
                match key.as_str() {
                    "events" => collect(value, "event", keys),
                    key => collect(value, &format!("{place}.{key}"), keys),
                }
            }
            keys.insert(place, fields.iter().map(|(key, _)| key.clone()).collect());
        }
        Node::List(nodes) => nodes.iter().for_each(|node| collect(node, place, keys)),
        Node::Text(_) | Node::Other => {}
    }
}

fn keys_of(line: &str) -> Keys {
    let mut keys = Keys::new();
    collect(&serde_json::from_str(line).expect(line), "", &mut keys);
    // What counts something by a name has no keys of its own.
    keys.retain(|place, _| !place.ends_with(".actors.") && !place.ends_with(".kinds."));
    keys
}

fn golden_keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut keys = Keys::new();
        for line in golden().lines() {
            for (place, found) in keys_of(line) {
                // What a later release has added is behind what was there, or between.
                let known = keys.entry(place).or_default();
                let is_longer = found.len() > known.len();
                if is_longer {
                    *known = found;
                }
            }
        }
        keys
    })
}

/// Checks a line that the program has printed: it is valid by its schema, and all keys of the golden files are there, in
/// their order, and maybe others.
#[track_caller]
pub(crate) fn check(line: &str) -> Value {
    let document: Value = serde_json::from_str(line).expect(line);
    let name = document["schema"].as_str().expect(line);
    assert!(
        line.starts_with(&format!("{{\"schema\":\"{name}\",")),
        "{line}"
    );
    let all = all();
    let index = *all.by_name.get(name).expect(name);
    if let Err(error) = all.schemas.validate(&document, index) {
        panic!("{line}\n{error:#}");
    }
    let golden = golden_keys();
    for (place, found) in keys_of(line) {
        let expected = golden.get(&place);
        let expected = expected.unwrap_or_else(|| panic!("no golden file has {place}: {line}"));
        let kept: Vec<&String> = found.iter().filter(|key| expected.contains(key)).collect();
        assert_eq!(kept, expected.iter().collect::<Vec<_>>(), "{place}: {line}");
    }
    document
}

/// Checks all lines that a command has printed which was to answer in JSON, and that there is nothing else.
#[track_caller]
pub(crate) fn check_all(ran: &Ran) -> Vec<Value> {
    for line in ran.err.lines().filter(|line| line.starts_with('{')) {
        check(line);
    }
    ran.out.lines().map(check).collect()
}

/// The verbs that the program lists.
fn verbs() -> BTreeSet<String> {
    let help = Program::new().run_on_test(&["-q", "help"]).out;
    let names = help
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split(' ').next());
    names.map(str::to_owned).collect()
}

/// The document of a verb that changes something.
fn of_changing(verb: &str) -> &'static str {
    match verb {
        "moments-restore" => "restore",
        _ => "outcome",
    }
}

#[test]
fn every_verb_has_a_document() {
    let changing = retries::COMMANDS.iter().map(|(verb, _, _)| *verb);
    let reading = READING
        .iter()
        .map(|(command, _)| command.split(' ').next().unwrap());
    let attached = OF_ATTACHED_DOMAINS.iter().map(|(verb, _)| *verb);
    let known = changing.chain(reading).chain(attached).chain(["archive"]);
    let known = known.chain(WITHOUT.iter().copied());
    let known: BTreeSet<String> = known.map(str::to_owned).collect();
    assert_eq!(known, verbs());
}

#[test]
fn a_verb_that_changes_something_says_what_it_has_recorded() {
    for (verb, setup, command) in retries::COMMANDS {
        let program = retries::prepared(setup);
        let mut asked = program.command();
        asked.args(["--format", "json"]);
        asked
            .env("EDITOR", "sed -i s/first/second/")
            .env_remove("VISUAL");
        asked.args(command.replace('W', "web01").split(' '));
        let ran = ran(asked.output().unwrap());
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{verb}");
        let documents = check_all(&ran);
        assert_eq!(documents.len(), 1, "{verb}: {}", ran.out);
        let outcome = &documents[0];
        assert_eq!(
            outcome["schema"],
            format!("momentlog.{}/1", of_changing(verb)),
            "{verb}"
        );
        let record = match of_changing(verb) {
            "outcome" => &outcome["records"][0],
            _ => outcome,
        };
        let newest = check_all(&program.run(&["--format", "json", "log", "-n", "1"]));
        for key in ["seq", "digest"] {
            assert_eq!(record[key], newest[0][key], "{verb}");
        }
    }
}

#[test]
fn a_verb_that_reads_answers_with_its_document_before_and_after_the_verb() {
    let program = Program::with_domain();
    let script = "checkpoint-create-as web01 c1 first; checkpoint-create-as web01 c2; checkpoint-hold web01 c1 legal; \
        policy web01 exclusive=off; snapshot-create-as web01 s1; snapshot-create-as web01 s2; \
        metadata web01 urn:x --key k --set <x/>";
    let ran = program.run(&["-q", script]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    let uuid = program.run(&["-q", "domuuid", "web01"]).out;
    for (command, name) in READING {
        let command = command.replace("6695eb01-f6a4-8304-79aa-97f2502e193f", uuid.trim());
        let command = command.replace('W', "web01");
        let words: Vec<&str> = command.split(' ').collect();
        for words in [
            [&["--format", "json"], &words[..]].concat(),
            [&words[..], &["--format=json"]].concat(),
        ] {
            // A plan wants a directory without files each time.
            let _ = std::fs::remove_dir_all(program.dir.path().join("plan"));
            let ran = program.run(&words);
            assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
            let documents = check_all(&ran);
            assert!(!documents.is_empty(), "{words:?}");
            for document in documents {
                assert_eq!(
                    document["schema"],
                    format!("momentlog.{name}/1"),
                    "{words:?}"
                );
            }
        }
    }
}

#[test]
fn an_answer_that_was_given_before_is_told_as_such_also_when_its_record_is_archived() {
    let program = Program::with_domain();
    let asked = || {
        let words = [
            "--format",
            "json",
            "checkpoint-create-as",
            "web01",
            "a",
            "--request-id",
            "r",
        ];
        check_all(&program.run(&words)).remove(0)["records"][0].clone()
    };
    let first = asked();
    assert_eq!(
        (&first["seq"], &first["repeated"]),
        (&3.into(), &false.into())
    );
    let again = asked();
    assert_eq!(
        (&again["digest"], &again["repeated"]),
        (&first["digest"], &true.into())
    );
    let archive = program.run(&["--format", "json", "archive", "cold"]);
    let archived = check_all(&archive).remove(0);
    assert_eq!(
        archived["records"][0]["events"][0]["type"],
        "records_archived"
    );
    let again = asked();
    assert_eq!((&again["seq"], &again["digest"]), (&3.into(), &Value::Null));
}

#[test]
fn what_changes_nothing_has_no_record() {
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 a"]);
    let mut edit = program.command();
    edit.args(["--format", "json", "checkpoint-edit", "web01", "a"]);
    edit.env("EDITOR", "true").env_remove("VISUAL");
    let outcome = check_all(&ran(edit.output().unwrap())).remove(0);
    assert_eq!(outcome["records"], serde_json::json!([]));
}

#[test]
fn a_script_in_json_prints_documents_and_nothing_else() {
    let program = Program::with_domain();
    let script = "checkpoint-create-as web01 a; list; quit";
    assert_eq!(
        check_all(&program.run(&["--format", "json", "-t", script])).len(),
        2
    );
    let mut typed = program.command();
    typed
        .args(["--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut typed = typed.spawn().unwrap();
    let mut input = typed.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"list\nreceipt\n").unwrap();
    drop(input);
    assert_eq!(check_all(&ran(typed.wait_with_output().unwrap())).len(), 2);
}

/// The types of events that a schema names.
fn event_types() -> BTreeSet<String> {
    let text = std::fs::read_to_string(folder().join("momentlog.entry-1.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let event = &schema["$defs"]["event"];
    let known = event["properties"]["type"]["examples"].as_array().unwrap();
    known
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// Events of attached guests: `hypervisor` and `backups` make them.
const OF_GUESTS: &[&str] = &["checkpoint_seen", "job_begun", "job_ended", "job_failed"];

/// Makes the roots current, which the library alone does without another change.
fn choose_current(program: &Program) {
    use momentlog::core::{Action, Command, DomainUuid, MomentKind, MomentName};
    let uuid = program.run(&["-q", "domuuid", "web01"]).out;
    let domain: DomainUuid = uuid.trim().parse().unwrap();
    let store = program.store().canonicalize().unwrap();
    let store = momentlog::Connection::open(&format!("momentlog://{}", store.display())).unwrap();
    for (kind, name) in [(MomentKind::Snapshot, "s1"), (MomentKind::Checkpoint, "c1")] {
        let name = MomentName::new(name);
        let action = Action::SetCurrent { kind, name };
        store.execute(&Command { domain, action }).unwrap();
    }
}

#[test]
fn every_event_is_told_in_a_document() {
    let program = Program::with_domain();
    let script = "domrename web01 web02; domrename web02 web01; autostart web01; policy --default --request-window 7d; policy web01 exclusive=off suffix=off chain=off; \
        checkpoint-create-as web01 c1; checkpoint-create-as web01 c2 first; checkpoint-create-as web01 c3; \
        checkpoint-edit web01 c2; checkpoint-delete web01 c2; checkpoint-undelete web01 c2; \
        checkpoint-hold web01 c1 legal; checkpoint-release web01 c1 legal; \
        snapshot-create-as web01 s1; snapshot-create-as web01 s2 first; snapshot-create-as web01 s3; \
        snapshot-edit web01 s2; snapshot-delete web01 s2; snapshot-undelete web01 s2; \
        snapshot-hold web01 s1 legal; snapshot-release web01 s1 legal; snapshot-revert web01 s1; \
        attach web01 nowhere.sock; detach web01";
    let end = "snapshot-delete web01 s1 --children; checkpoint-delete web01 c1 --children; \
        start web01; undefine web01; destroy web01";
    let in_store = |script: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        command.args(["-q", "-c", "momentlog:store?driver=qemu", script]);
        command
            .env("EDITOR", "sed -i s/first/second/")
            .env_remove("VISUAL");
        let made = ran(command.current_dir(program.dir.path()).output().unwrap());
        assert_eq!((made.err.as_str(), made.status), ("", 0));
    };
    in_store(script);
    choose_current(&program);
    in_store(end);
    let mut entries = check_all(&program.run(&["--format", "json", "log"]));
    program.run(&["archive cold"]);
    entries.extend(check_all(&program.run(&["--format", "json", "log"])));
    let events = entries
        .iter()
        .flat_map(|entry| entry["events"].as_array().unwrap());
    let mut found: BTreeSet<&str> = events
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    found.extend(OF_GUESTS);
    let known = event_types();
    assert_eq!(found, known.iter().map(String::as_str).collect());
}

#[test]
fn the_golden_files_have_every_document_and_every_event_and_are_valid() {
    let (mut documents, mut events) = (BTreeSet::new(), BTreeSet::new());
    for line in golden().lines() {
        let document = check(line);
        documents.insert(document["schema"].as_str().unwrap().to_owned());
        if document["schema"] == "momentlog.entry/1" {
            let found = document["events"].as_array().unwrap().iter();
            events.extend(found.map(|event| event["type"].as_str().unwrap().to_owned()));
        }
    }
    let known: BTreeSet<String> = all().by_name.keys().cloned().collect();
    assert_eq!(documents, known);
    assert_eq!(events, event_types());
}

#[test]
fn the_page_names_every_document_with_its_keys_in_order() {
    let page = std::fs::read_to_string(repository().join("docs/json.md")).unwrap();
    for name in all().by_name.keys() {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/json.md has no row of {name}"));
        let file = format!("schema/{}.json", name.replace('/', "-"));
        assert!(row.contains(&format!("({file})")), "{row}");
        let mut rest = row;
        for key in &golden_keys()[&format!(".{name}")] {
            let (_, after) = rest
                .split_once(&format!("`{key}`"))
                .unwrap_or_else(|| panic!("the row of {name} has no `{key}` in its place"));
            rest = after;
        }
    }
    for event in event_types() {
        let generic = event
            .replacen("snapshot", "K", 1)
            .replacen("checkpoint", "K", 1);
        let is_told =
            page.contains(&format!("`{event}`")) || page.contains(&format!("`{generic}`"));
        assert!(is_told, "docs/json.md has no event {event}");
    }
}

#[test]
fn python_reads_what_is_printed_line_by_line() {
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 a"]);
    let page = std::fs::read_to_string(repository().join("docs/json.md")).unwrap();
    let (_, example) = page.split_once("```python\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", example]).current_dir(program.dir.path());
    let path = Path::new(env!("CARGO_BIN_EXE_momentlog")).parent().unwrap();
    python.env("PATH", format!("{}:/usr/bin:/bin", path.display()));
    python.env("MOMENTLOG_DEFAULT_URI", "momentlog:store");
    let ran = ran(python.output().unwrap());
    let expected = "2 domain defined\n3 checkpoint a created as a root\n";
    let err = ran.err.clone();
    assert_eq!((ran.out.as_str(), ran.status), (expected, 0), "{err}");
}

#[test]
fn a_document_that_lacks_a_key_or_has_another_order_is_found() {
    let image = |keys: &str| {
        let digest = "0".repeat(64);
        let line =
            format!("{{\"schema\":\"momentlog.image/1\",{keys}}}").replace("DIGEST", &digest);
        std::panic::catch_unwind(|| check(&line)).is_ok()
    };
    assert!(image("\"seq\":1,\"digest\":\"DIGEST\""));
    assert!(image("\"seq\":1,\"new\":[],\"digest\":\"DIGEST\""));
    for wrong in [
        "\"seq\":1",
        "\"seq\":0,\"digest\":\"DIGEST\"",
        "\"seq\":1,\"digest\":null",
        "\"digest\":\"DIGEST\",\"seq\":1",
    ] {
        assert!(!image(wrong), "{wrong}");
    }
}
