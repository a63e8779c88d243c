//! The page of a picture in a real browser: Debian's chromium.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod browser;
#[path = "../../src/graph/tests/history.rs"]
mod history;

use std::path::PathBuf;

use momentlog_audit::graph::{Graph, Subject};
use momentlog_core::{Extent, MomentKind};
use momentlog_store::Seq;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use browser::{Browser, leaves_out};
use history::{HOSTILE, History, UUID, chain, ops, play, tree, week};

fn graph_of(history: &History, kind: MomentKind) -> Graph {
    let subject = Subject {
        log: history.log.log_id().unwrap(),
        domain: UUID,
        kind,
    };
    let steps = history.log.history_of(UUID).unwrap();
    Graph::of(subject, steps, &history.log.view()).unwrap()
}

fn graph(history: &History) -> Graph {
    graph_of(history, MomentKind::Checkpoint)
}

/// A page in a directory of its own.
struct Page {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Page {
    fn of(graph: &Graph) -> Page {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("picture.html");
        std::fs::write(&path, graph.html()).unwrap();
        Page {
            path,
            _directory: directory,
        }
    }
}

/// Fails if the page has asked for anything else, or the console says anything.
#[track_caller]
fn is_alone(browser: &Browser, page: &Page) {
    let file = format!("file://{}", page.path.display());
    let others: Vec<&str> = browser
        .requests()
        .into_iter()
        .filter(|url| !url.starts_with(&file))
        .collect();
    assert_eq!(others, [""; 0]);
    assert_eq!(browser.requests().len(), 1);
    assert_eq!(browser.console(), Vec::<&Value>::new());
}

#[test]
fn the_slider_tells_who_deleted_what_and_where_the_others_went() {
    if leaves_out() {
        return;
    }
    let page = Page::of(&graph(&week()));
    let mut browser = Browser::start();
    browser.open(&page.path, "");
    assert_eq!(browser.eval("document.title"), "checkpoints of web01");
    assert_eq!(browser.text("words"), "checkpoint c8 created below c7");

    // The thumb's middle runs from 8 pixels behind the slider's begin to 8 before its end.
    let at = browser.eval("(() => { const box = document.getElementById('slider').getBoundingClientRect(); return [box.left, box.width, box.top + box.height / 2, document.getElementById('slider').max]; })()");
    let number = |at: &Value| at.as_f64().or_else(|| at.as_str()?.parse().ok()).unwrap();
    let [left, width, y, max] = [0, 1, 2, 3].map(|place| number(&at[place]));
    let x = |position: f64| left + 8.0 + (width - 16.0) * position / max;
    // Record 9 is the domain's eighth: the log begins with one that is about no domain.
    browser.drag((x(max), y), (x(8.0), y));
    assert_eq!(
        browser.text("words"),
        "checkpoint c3 deleted; c4 moved below c1"
    );
    assert!(
        browser.text("record").starts_with("Record 9 · "),
        "{}",
        browser.text("record")
    );
    assert!(
        browser
            .text("record")
            .ends_with("Z · intern@ops2 · no reason given")
    );
    let spoken = browser.eval("document.getElementById('slider').getAttribute('aria-valuetext')");
    assert!(
        spoken
            .as_str()
            .unwrap()
            .ends_with("no reason given: checkpoint c3 deleted; c4 moved below c1")
    );
    let rows = browser.eval("[...document.querySelectorAll('[role=treeitem]')].map((row) => row.querySelector('.label').textContent.trim())");
    assert_eq!(
        rows,
        json!([
            "c1",
            "c2 deleted in 7 by intern@ops2",
            "c3 deleted in 9 by intern@ops2 was below c2 until 7",
            "c4 you are here was below c3 until 9",
        ])
    );
    // The address follows when the slider rests, and leads there again.
    let address = browser.eval("new Promise((done) => setTimeout(() => done(location.hash), 400))");
    assert_eq!(address, "#seq=9");

    // The slider has the focus.
    browser.press("ArrowRight", 39);
    assert_eq!(browser.text("words"), "checkpoint c5 created below c4");
    browser.eval("document.getElementById('previous').click()");
    browser.eval("document.getElementById('previous').click()");
    assert_eq!(
        browser.text("words"),
        "checkpoint c2 deleted; c3 moved below c1"
    );
    browser.eval("document.getElementById('back').click()");
    assert_eq!(browser.text("words"), "checkpoint c3 created below c2");
    browser.eval("document.getElementById('next').click()");
    assert_eq!(
        browser.text("words"),
        "checkpoint c2 deleted; c3 moved below c1"
    );
    browser.eval("document.getElementById('on').click()");
    assert_eq!(browser.text("words"), "checkpoint c4 created below c3");
    browser.press("Home", 36);
    assert_eq!(browser.text("record"), "Before the first record");
    assert_eq!(
        browser.eval("document.querySelectorAll('[role=treeitem]').length"),
        0
    );
    is_alone(&browser, &page);

    browser.open(&page.path, "#seq=9");
    assert_eq!(
        browser.text("words"),
        "checkpoint c3 deleted; c4 moved below c1"
    );
    let digest = browser.eval("document.querySelector('footer').textContent");
    assert!(
        digest
            .as_str()
            .unwrap()
            .contains("as of record 13, digest "),
        "{digest}"
    );
    is_alone(&browser, &page);
}

#[test]
fn keys_lead_through_the_tree_and_readers_of_the_screen_are_told_all() {
    if leaves_out() {
        return;
    }
    let page = Page::of(&graph(&chain(300)));
    let mut browser = Browser::start();
    browser.open(&page.path, "");
    let stops = "[...document.querySelectorAll('[role=treeitem]')].filter((row) => row.tabIndex === 0).length";
    assert_eq!(browser.eval(stops), 1);
    browser.eval("document.querySelector('[tabindex=\"0\"]').focus()");
    let focused = |browser: &mut Browser| {
        let text = browser.eval("document.activeElement.querySelector('.name, .fold').textContent");
        text.as_str().unwrap().to_owned()
    };
    assert_eq!(focused(&mut browser), "n300");
    for (key, code, name) in [
        ("Home", 36, "n1"),
        ("ArrowDown", 40, "n2"),
        ("ArrowRight", 39, "n3"),
        ("ArrowUp", 38, "n2"),
        ("End", 35, "n300"),
        ("ArrowUp", 38, "n299"),
        ("ArrowUp", 38, "n298"),
        ("ArrowUp", 38, "n297"),
        ("ArrowUp", 38, "⋯ 293 more: n4 … n296"),
        // Opens it.
        ("Enter", 13, "n4"),
        ("ArrowDown", 40, "n5"),
        // Closes what is below.
        ("Home", 36, "n1"),
    ] {
        browser.press(key, code);
        assert_eq!(focused(&mut browser), name, "{key}");
    }
    assert_eq!(browser.eval(stops), 1);
    assert_eq!(
        browser.eval("document.querySelectorAll('[role=treeitem]').length"),
        300
    );

    let tree = browser.ask("Accessibility.getFullAXTree", &json!({}));
    let nodes = tree["nodes"].as_array().unwrap();
    let named = |role: &str| -> Vec<&Value> {
        nodes
            .iter()
            .filter(|node| node["role"]["value"] == role)
            .collect()
    };
    assert_eq!(named("tree")[0]["name"]["value"], "checkpoints of vm");
    let items = named("treeitem");
    assert_eq!(items.len(), 300);
    let name = items[1]["name"]["value"].as_str().unwrap();
    assert!(
        name.starts_with("n2") && name.ends_with("backup@nightly"),
        "{name}"
    );
    let property = |name: &str| {
        items[1]["properties"]
            .as_array()
            .unwrap()
            .iter()
            .find(|property| property["name"] == name)
            .unwrap()["value"]["value"]
            .clone()
    };
    assert_eq!(
        (property("level"), property("expanded")),
        (2.into(), true.into())
    );
    let slider = named("slider")[0];
    assert_eq!(slider["name"]["value"], "record");
    assert_eq!(slider["value"]["value"], 302);
    assert_eq!(named("status").len(), 1);
    is_alone(&browser, &page);
}

/// The contrast of two colours, as WCAG 2 has it.
const CONTRAST: &str = "(() => {
  const light = (text) => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    const [r, g, b] = parts.slice(0, 3).map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    if (!element.offsetParent || ![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const pair = [getComputedStyle(element).color, behind(element)].map(light).sort((a, b) => b - a);
    found.push([element.className || element.tagName, (pair[0] + 0.05) / (pair[1] + 0.05)]);
  }
  return found;
})()";

#[test]
fn text_is_readable_in_light_in_dark_and_on_paper() {
    if leaves_out() {
        return;
    }
    let page = Page::of(&graph(&week()));
    let mut browser = Browser::start();
    for scheme in ["light", "dark"] {
        browser.resize(1000, 320);
        browser.show_as("screen", scheme);
        browser.open(&page.path, "#seq=9");
        let contrasts = browser.eval(CONTRAST);
        let contrasts = contrasts.as_array().unwrap();
        assert!(contrasts.len() > 20, "{contrasts:?}");
        for pair in contrasts {
            assert!(pair[1].as_f64().unwrap() >= 4.5, "{scheme}: {pair}");
        }
        keep(&mut browser, &format!("week-{scheme}"));
    }
    let shown = "['controls', 'tree', 'last'].map((id) => getComputedStyle(document.getElementById(id)).display)";
    assert_eq!(browser.eval(shown), json!(["block", "block", "none"]));
    browser.show_as("print", "light");
    browser.resize(1000, 620);
    keep(&mut browser, "week-print");
    assert_eq!(browser.eval(shown), json!(["none", "block", "block"]));
    browser.show_as("", "light");
    let paper = browser.ask("Page.printToPDF", &json!({}));
    // `%PDF`, in Base64.
    assert!(paper["data"].as_str().unwrap().starts_with("JVBERi"));

    is_alone(&browser, &page);
}

#[test]
fn without_scripts_the_table_is_there() {
    if leaves_out() {
        return;
    }
    let page = Page::of(&graph(&week()));
    let mut browser = Browser::start();
    browser.ask(
        "Emulation.setScriptExecutionDisabled",
        &json!({ "value": true }),
    );
    browser.open(&page.path, "");
    let shown = "['controls', 'tree', 'last'].map((id) => getComputedStyle(document.getElementById(id)).display)";
    assert_eq!(browser.eval(shown), json!(["none", "none", "block"]));
    let rows = browser.eval("[...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent.trim()))");
    assert_eq!(rows.as_array().unwrap().len(), 6);
    assert_eq!(
        rows[5],
        json!([
            "c8",
            "c7",
            "current",
            "2026-11-09 21:20:00Z",
            "backup@nightly"
        ])
    );
    is_alone(&browser, &page);
}

/// Keeps a picture of the page in the directory that `MOMENTLOG_PICTURES` names.
fn keep(browser: &mut Browser, name: &str) {
    let Some(directory) = std::env::var_os("MOMENTLOG_PICTURES") else {
        return;
    };
    let path = PathBuf::from(directory).join(format!("{name}.png"));
    std::fs::write(path, browser.screenshot()).unwrap();
}

#[test]
fn names_that_are_code_stay_names() {
    if leaves_out() {
        return;
    }
    let title = "snapshots of </title><script>alert(2)</script>&amp;";
    let mut history = History::new("</title><script>alert(2)</script>&amp;");
    for name in HOSTILE {
        assert!(history.create_snapshot(&format!("</script>{name}"), name));
    }
    let page = Page::of(&graph_of(&history, MomentKind::Snapshot));
    let mut browser = Browser::start();
    browser.open(&page.path, "");
    assert_eq!(browser.eval("document.title"), title);
    assert_eq!(
        browser.eval("document.querySelector('h1').textContent"),
        title
    );
    let names =
        browser.eval("[...document.querySelectorAll('.name')].map((name) => name.textContent)");
    let wanted: Vec<String> = HOSTILE
        .iter()
        .map(|name| momentlog_audit::escaped(name))
        .collect();
    assert_eq!(names, json!(wanted));
    let table = browser
        .eval("[...document.querySelectorAll('td:first-child')].map((name) => name.textContent)");
    assert_eq!(table, names);
    assert_eq!(
        browser.eval("document.querySelectorAll('script').length"),
        2
    );
    assert_eq!(browser.eval("document.querySelectorAll('img').length"), 0);
    keep(&mut browser, "hostile");
    is_alone(&browser, &page);
}

#[test]
fn what_is_held_is_marked_and_not_folded() {
    if leaves_out() {
        return;
    }
    let mut history = chain(30);
    assert!(history.hold("n11", "legal"));
    assert!(history.set_current(Some("n30")));
    let page = Page::of(&graph(&history));
    let mut browser = Browser::start();
    browser.open(&page.path, "");
    let labels = browser
        .eval("[...document.querySelectorAll('.label')].map((label) => label.textContent.trim())");
    let wanted = [
        "n1",
        "n2",
        "n3",
        "n4",
        "n5",
        "n6",
        "n7",
        "n8",
        "n9",
        "n10",
        "n11 held: legal",
        "n12",
        "n13",
        "n14",
        "⋯ 12 more: n15 … n26",
        "n27",
        "n28",
        "n29",
        "n30 you are here",
    ];
    assert_eq!(labels, json!(wanted));
    is_alone(&browser, &page);
}

#[test]
fn an_svg_is_one_for_a_browser_too() {
    if leaves_out() {
        return;
    }
    let mut hostile = History::new("]]></title>&");
    for name in HOSTILE {
        assert!(hostile.create_snapshot(&format!("</script>{name}"), name));
    }
    let mut removed = week();
    assert!(removed.set_current(Some("c4")));
    assert!(removed.create("fork"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("picture.svg");
    let mut browser = Browser::start();
    for (name, graph) in [
        ("svg-hostile", graph_of(&hostile, MomentKind::Snapshot)),
        ("svg-week", graph(&removed)),
        ("svg-tree", graph(&tree(300))),
    ] {
        std::fs::write(&path, graph.svg()).unwrap();
        browser.show_as("screen", "light");
        browser.open(&path, "");
        assert_eq!(browser.eval("document.documentElement.localName"), "svg");
        // A document that is not well-formed has one.
        assert_eq!(
            browser.eval("document.querySelectorAll('parsererror, script').length"),
            0
        );
        let rows = browser
            .eval("document.querySelectorAll('g circle').length")
            .as_u64()
            .unwrap();
        assert!(rows >= 7, "{name}: {rows}");
        keep(&mut browser, name);
        browser.show_as("screen", "dark");
        keep(&mut browser, &format!("{name}-dark"));
        assert_eq!(browser.requests().len(), 1);
        assert_eq!(browser.console(), Vec::<&Value>::new());
    }
}

/// Shows a record, and says what is drawn: names and lanes of the rows, and the edges.
const DRAWN: &str = "((position) => {
  const slider = document.getElementById('slider');
  slider.value = position;
  slider.dispatchEvent(new Event('input'));
  const rows = [...document.querySelectorAll('[role=treeitem]')].map((row) =>
    [row.querySelector('.name, .fold').textContent, Number(row.dataset.lane)]);
  return [rows, ...['solid', 'dotted', 'dashed'].map((id) => document.getElementById(id).getAttribute('d'))];
})";

/// What an SVG draws, as [`DRAWN`] says it: there the rows begin at the edge of the paper.
fn drawn(svg: &str) -> Value {
    let between = |text: &str, from: &str, to: &str| -> Option<String> {
        let (_, rest) = text.split_once(from)?;
        Some(rest.split_once(to)?.0.to_owned())
    };
    let mut rows = Vec::new();
    let mut edges = [String::new(), String::new(), String::new()];
    for line in svg.lines() {
        if line.starts_with("<g>") {
            let x: usize = between(line, " cx=\"", "\"").unwrap().parse().unwrap();
            let name = between(line, "<tspan class=", "</tspan>").unwrap();
            rows.push(json!([name.split_once('>').unwrap().1, (x - 28) / 18]));
        } else if line.starts_with("<path") {
            let kind = match between(line, "class=\"", "\"").as_deref() {
                None => 0,
                Some("dotted") => 1,
                _ => 2,
            };
            edges[kind] += &shifted(&between(line, " d=\"", "\"").unwrap());
        }
    }
    json!([rows, edges[0], edges[1], edges[2]])
}

/// A path, 16 further left and 104 further up.
fn shifted(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some(command) = rest.chars().next() {
        let end = rest[1..]
            .find(|char: char| char.is_ascii_alphabetic())
            .map_or(rest.len(), |at| at + 1);
        let numbers = rest[1..end].split(' ').enumerate().map(|(place, number)| {
            let number: usize = number.parse().unwrap();
            let is_x = command != 'V' && place % 2 == 0;
            (number - if is_x { 16 } else { 104 }).to_string()
        });
        let numbers: Vec<String> = numbers.collect();
        out += &format!("{command}{}", numbers.join(" "));
        rest = &rest[end..];
    }
    out
}

#[test]
fn the_page_draws_after_each_record_what_the_svg_of_it_draws() {
    if leaves_out() {
        return;
    }
    let mut histories = vec![week(), chain(40), tree(260)];
    let mut runner = TestRunner::deterministic();
    for _ in 0..6 {
        histories.push(play(
            &ops(100, true).new_tree(&mut runner).unwrap().current(),
        ));
    }
    let mut removed = week();
    assert!(removed.delete("c1", Extent::Subtree));
    histories.push(removed);
    let mut browser = Browser::start();
    for history in &histories {
        let graph = graph(history);
        let page = Page::of(&graph);
        browser.open(&page.path, "");
        let view = history.log.view();
        let last = view.head().unwrap().seq.get();
        // The log's first record is about no domain. Of a long history some do.
        let step = if last > 300 { 9 } else { 1 };
        for position in (1..last).step_by(step) {
            let wanted = drawn(&graph.svg_at(Seq::new(position + 1).unwrap()));
            let got = browser.eval(&format!("{DRAWN}({position})"));
            assert_eq!(got, wanted, "at {position} of {last}");
        }
    }
}

/// How long steps of the slider take, drawn and laid out, in ms: the middle one and the longest.
const STEPS: &str = "(() => {
  const slider = document.getElementById('slider');
  const taken = [];
  for (let step = 1; step <= 60; step++) {
    const begun = performance.now();
    slider.value = Math.round(slider.max * step / 60);
    slider.dispatchEvent(new Event('input'));
    document.body.getBoundingClientRect();
    taken.push(performance.now() - begun);
  }
  taken.sort((a, b) => a - b);
  return [taken[30], taken[59]];
})()";

#[test]
#[expect(clippy::print_stdout, reason = "it says what was measured")]
fn a_large_tree_has_few_rows_and_the_slider_moves() {
    if leaves_out() {
        return;
    }
    let mut browser = Browser::start();
    let mut removed = chain(300);
    assert!(removed.delete("n100", Extent::One));
    for (name, history, most) in [("300", removed, 60), ("2000", tree(2000), 300)] {
        let graph = graph(&history);
        let page = Page::of(&graph);
        for scheme in ["light", "dark"] {
            browser.show_as("screen", scheme);
            browser.open(&page.path, "");
            keep(&mut browser, &format!("{name}-{scheme}"));
        }
        let rows = browser
            .eval("document.querySelectorAll('[role=treeitem]').length")
            .as_u64()
            .unwrap();
        assert!(rows > 4 && rows <= most, "{rows} rows of {name} moments");
        let steps = browser.eval(STEPS);
        println!(
            "{name} moments: {} bytes, {rows} rows; a step of the slider takes {} ms, at most {}",
            graph.html().len(),
            steps[0],
            steps[1]
        );
        is_alone(&browser, &page);
    }
}
