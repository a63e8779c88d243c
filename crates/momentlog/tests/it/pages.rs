//! Pages that say where things are: what they name is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_path(name: &&str) -> bool {
    name.ends_with('/') || Path::new(name).extension().is_some_and(|end| end == "rs")
}

#[test]
fn every_path_that_the_architecture_names_is_there() {
    let page = read("docs/architecture.md");
    let (_, table) = page.split_once("## Where a change belongs").unwrap();
    let mut count = 0;
    for row in table.lines().filter(|line| line.starts_with('|')) {
        // A short name lies beside, or below, the last one with its whole path.
        let mut beside = Vec::new();
        for name in quoted(row).filter(is_path) {
            let whole = [format!("crates/{name}"), name.to_owned()];
            let found = whole.into_iter().find(|path| root().join(path).exists());
            let found = match found {
                Some(found) => found.into(),
                None => {
                    let mut beside = beside.iter().map(|dir: &PathBuf| dir.join(name));
                    let found = beside.find(|path| root().join(path).exists());
                    found.unwrap_or_else(|| panic!("`{name}` in {row}"))
                }
            };
            let dir = found.parent().unwrap().to_owned();
            beside.extend([dir.parent().unwrap().to_owned(), dir]);
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn every_crate_is_in_the_architecture_and_depends_downward_only() {
    let page = read("docs/architecture.md");
    let order = [
        "momentlog-core",
        "momentlog-store",
        "momentlog-postgres",
        "momentlog-xml",
        "momentlog-engine",
        "momentlog",
        "momentlog-audit",
        "momentlog-qemu",
        "momentlog-rpc",
        "momentlog-cli",
    ];
    for (height, package) in order.iter().enumerate() {
        assert!(
            page.contains(&format!("| `crates/{package}` |")),
            "{package}"
        );
        let manifest = read(&format!("crates/{package}/Cargo.toml"));
        let (_, after) = manifest.split_once("[dependencies]").unwrap();
        let own: BTreeSet<&str> = after
            .lines()
            .take_while(|line| !line.starts_with("[dev-dependencies]"))
            .filter_map(|line| line.strip_suffix(".workspace = true"))
            .filter(|name| name.starts_with("momentlog"))
            .collect();
        for name in own {
            let below = order.iter().position(|other| *other == name);
            assert!(
                below.is_some_and(|below| below < height),
                "{package}: {name}"
            );
        }
        if *package == "momentlog-engine" {
            assert!(!manifest.contains("momentlog-xml"));
        }
    }
}

#[test]
fn every_decision_is_in_the_index() {
    let index = read("docs/decisions/README.md");
    let mut names: Vec<String> = std::fs::read_dir(root().join("docs/decisions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    names.sort();
    let linked: Vec<&str> = index
        .lines()
        .filter_map(|line| line.split_once("](")?.1.strip_suffix(')'))
        .collect();
    assert_eq!(linked, names);
}
