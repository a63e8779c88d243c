//! `moments-restore`, and what is in the folder.

use super::*;

/// Writes a saved checkpoint into the folder `saved`.
fn save(program: &Program, name: &str, parent: Option<&str>) {
    let parent = parent.map_or(String::new(), |parent| {
        format!("<parent><name>{parent}</name></parent>")
    });
    let xml = format!(
        "<domaincheckpoint><name>{name}</name>{parent}<creationTime>7</creationTime></domaincheckpoint>"
    );
    std::fs::create_dir_all(program.dir.path().join("saved")).unwrap();
    program.write(&format!("saved/{name}.xml"), &xml);
}

#[track_caller]
fn fails(program: &Program, words: &[&str]) -> String {
    let ran = program.run(words);
    assert_eq!((ran.out.trim(), ran.status), ("", 1), "{ran:?}");
    ran.err
}

#[test]
fn a_night_that_lost_its_oldest_file_is_restored() {
    let program = Program::with_domain();
    // The file of the parent sorts behind that of its child.
    save(&program, "tuesday", Some("monday"));
    save(&program, "thursday", Some("wednesday"));
    save(&program, "wednesday", Some("tuesday"));
    let restore = ["moments-restore", "web01", "saved"];
    let refused = "error: Failed to restore moments\nerror: tuesday.xml: its parent, checkpoint monday, is missing\n";
    assert_eq!(fails(&program, &restore), refused);
    let both = fails(
        &program,
        &[
            "moments-restore",
            "web01",
            "saved",
            "--reroot",
            "--truncate",
        ],
    );
    assert!(both.contains("mutually exclusive"), "{both}");
    let ran = program.run(&["moments-restore", "web01", "saved", "--reroot"]);
    let answer = [
        " File            Kind         Name        What",
        "------------------------------------------------------------------------------------",
        " thursday.xml    checkpoint   thursday    restored below wednesday",
        " tuesday.xml     checkpoint   tuesday     restored as a root, as monday is missing",
        " wednesday.xml   checkpoint   wednesday   restored below tuesday",
        "",
        "3 moments of domain 'web01' restored, 1 of them re-rooted; 0 left out",
    ];
    assert_eq!(ran.err, "");
    assert_eq!(ran.out.trim_end().lines().collect::<Vec<_>>(), answer);
    let tree = program.run(&["-q", "checkpoint-list", "web01", "--name", "--topological"]);
    assert_eq!(
        tree.out.split_whitespace().collect::<Vec<_>>(),
        ["tuesday", "wednesday", "thursday"]
    );
    // Once more: nothing is written, and the answer says so.
    let records = || program.run(&["-q", "receipt"]).out;
    let before = records();
    let again = program.run(&["moments-restore", "web01", "saved", "--reroot"]);
    assert_eq!((again.err.as_str(), again.status), ("", 0));
    let says = "\nNothing changed: 3 moments of domain 'web01' are there as saved; 0 left out\n";
    assert!(again.out.contains(says), "{}", again.out);
    assert!(
        again.out.contains("unchanged below tuesday"),
        "{}",
        again.out
    );
    assert_eq!(records(), before);
}

#[test]
fn the_chain_is_cut_and_the_answer_says_so_in_json() {
    let program = Program::with_domain();
    save(&program, "a", None);
    save(&program, "c", Some("b"));
    let words = [
        "--format",
        "json",
        "-q",
        "moments-restore",
        "web01",
        "saved",
        "--truncate",
    ];
    let ran = program.run(&words);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(answer["domain"]["name"], "web01");
    assert_eq!(answer["seq"], 3);
    let moments = &answer["moments"];
    assert_eq!(
        (&moments[0]["name"], &moments[0]["what"]),
        (&"a".into(), &"restored".into())
    );
    assert_eq!(moments[1]["file"], "c.xml");
    assert_eq!(moments[1]["what"], "left-out");
    assert_eq!(moments[1]["missing"], "b");
    let again: serde_json::Value = serde_json::from_str(&program.run(&words).out).unwrap();
    assert_eq!(again["seq"], serde_json::Value::Null);
}

#[test]
fn what_is_no_file_of_a_moment_is_named() {
    let program = Program::with_domain();
    save(&program, "a", None);
    let restore = ["moments-restore", "web01", "saved"];
    let nowhere = fails(&program, &["moments-restore", "web01", "nowhere"]);
    assert!(nowhere.contains("'nowhere'"), "{nowhere}");
    let bad = program.dir.path().join("saved/b\nad");
    let at = |says: &str| format!("error: b\\x0aad: {says}\n");

    std::fs::create_dir(&bad).unwrap();
    assert_eq!(fails(&program, &restore), at("it is no regular file"));
    std::fs::remove_dir(&bad).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(&bad).unwrap();
    assert_eq!(fails(&program, &restore), at("it is no regular file"));
    drop(socket);
    std::fs::remove_file(&bad).unwrap();

    std::fs::write(&bad, b"<domaincheckpoint>\xff").unwrap();
    assert_eq!(
        fails(&program, &restore),
        at("line 1, byte 19 of it is 0xff, which is not UTF-8")
    );
    let large = std::fs::File::create(&bad).unwrap();
    large.set_len(1 << 40).unwrap();
    let says = fails(&program, &restore);
    assert!(
        says.starts_with("error: b\\x0aad: it has more than "),
        "{says}"
    );
    std::fs::write(&bad, "plain text").unwrap();
    let says = fails(&program, &restore);
    assert!(says.contains("error: b\\x0aad: "), "{says}");
    std::fs::remove_file(&bad).unwrap();

    std::fs::remove_file(program.dir.path().join("saved/a.xml")).unwrap();
    let says = fails(&program, &restore);
    assert_eq!(says, "error: there is no file in 'saved'\n");
    let list = program.run(&["-q", "checkpoint-list", "web01", "--name"]);
    assert_eq!(list.out.trim(), "");
}
