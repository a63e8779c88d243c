//! Backups of a domain whose disks a real storage daemon has.

use serde_json::{Value, json};

use super::hypervisor::{Guest, SIZE};
use super::*;

const NO_JOB: &str = "Job type:         None        \n";

#[test]
fn without_a_job_there_is_nothing_to_tell_or_abort() {
    let Some(guest) = Guest::attached() else {
        return;
    };
    assert_eq!(guest.does(&["domjobinfo", "vm"]), NO_JOB);
    assert_eq!(guest.does(&["domjobinfo", "vm", "--completed"]), NO_JOB);
    assert_eq!(
        guest.does(&["domjobinfo", "vm", "--rawstats"]),
        "Job type: 0\n\n"
    );
    let none = guest.json(&["domjobinfo", "vm"]);
    assert_eq!(
        (&none["domain"]["name"], &none["job"]),
        (&json!("vm"), &Value::Null)
    );
    assert_eq!(
        guest.refuses(&["backup-dumpxml", "vm"]),
        "error: Domain backup job id not found: no domain backup job present\n"
    );
    assert_eq!(
        guest.refuses(&["domjobabort", "vm"]),
        "error: Requested operation is not valid: no job is active on the domain\n"
    );
    assert_eq!(
        guest.refuses(&["domjobabort", "vm", "--postcopy"]),
        "error: unsupported option --postcopy: a backup is no migration\n"
    );
}

#[test]
fn a_backup_without_xml_copies_all_disks_beside_them() {
    let Some(guest) = Guest::attached() else {
        return;
    };
    assert_eq!(
        guest.says(&["backup-begin", "vm", "--wait"]),
        "Backup started\nBackup done: 2.000 MiB copied\n"
    );
    let beside = std::fs::read_dir(guest.program.dir.path()).unwrap();
    let beside = beside.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        let name = name.to_str().unwrap();
        let second = name
            .strip_prefix("vda.qcow2.")
            .or_else(|| name.strip_prefix("vdb.qcow2."));
        second.is_some_and(|second| second.parse::<u64>().is_ok())
    });
    assert_eq!(beside.count(), 2);

    let completed = guest.does(&["domjobinfo", "vm", "--completed"]);
    let lines: Vec<&str> = completed.lines().collect();
    assert_eq!(lines[0], "Job type:         Completed   ");
    assert_eq!(lines[1], "Operation:        Backup      ");
    assert!(lines[2].starts_with("Time elapsed:     ") && lines[2].ends_with(" ms"));
    assert_eq!(lines[3], "File processed:   2.000 MiB");
    assert_eq!(lines[4], "File remaining:   0.000 B");
    assert_eq!(lines[5], "File total:       2.000 MiB");
    assert_eq!(lines.len(), 6);
    assert_eq!(guest.does(&["domjobinfo", "vm"]), NO_JOB);
    let raw = guest.does(&[
        "domjobinfo",
        "vm",
        "--completed",
        "--keep-completed",
        "--rawstats",
    ]);
    assert!(
        raw.starts_with("Job type: 3\n\noperation: 9\ntime_elapsed: "),
        "{raw}"
    );
    assert!(
        raw.ends_with(
            "\ndisk_total: 2097152\ndisk_processed: 2097152\ndisk_remaining: 0\nsuccess: 1\n"
        ),
        "{raw}"
    );
    let job = &guest.json(&["domjobinfo", "vm", "--completed"])["job"];
    assert_eq!(
        (&job["state"], &job["total"]),
        (&json!("completed"), &json!(2 * SIZE))
    );

    let log = guest.does(&["log", "vm", "--oneline"]);
    for told in [
        "job 1 begun: backup of vda, vdb",
        "job 1 ended; job 2 begun: copies of vda, vdb",
        "job 2 ended, settled by ",
        "(vda: copied, vdb: copied, bytes: 2097152 of 2097152)",
    ] {
        assert!(log.contains(told), "{told} in {log}");
    }
}

/// What is said of each disk of a backup that was begun: the checkpoint since which it is copied, and why.
fn since(report: &Value) -> Vec<(Option<&str>, &str)> {
    let disks = report["disks"].as_array().unwrap().iter();
    disks
        .map(|disk| (disk["since"].as_str(), disk["why"].as_str().unwrap()))
        .collect()
}

/// Copies what was written since the newest backup that is done, and makes a checkpoint, if one is named.
#[track_caller]
fn night(guest: &Guest, dir: &str, checkpoint: Option<&str>) -> Value {
    guest.make_dir(dir);
    let mut words = vec![
        "backup-begin",
        "vm",
        "--since-last-done",
        "--wait",
        "--to",
        dir,
    ];
    words.extend(checkpoint.iter().flat_map(|name| ["--checkpoint", name]));
    guest.json(&words)
}

const NEWEST: &str = "whose backup is done";

#[test]
fn an_incremental_copies_what_was_written_since_the_newest_backup_that_is_done() {
    let Some(guest) = Guest::written() else {
        return;
    };
    guest.does(&["checkpoint-create-as", "vm", "unused"]);
    guest.write("write -P 5 0 64k");
    let full = night(&guest, "night0", Some("c0"));
    let none = (
        None,
        "no checkpoint that is there belongs to a backup of it",
    );
    assert_eq!(since(&full), [none; 2]);
    assert_eq!(full["checkpoint"], "c0");
    assert_eq!(full["disks"][1]["file"], guest.path("night0/vdb.qcow2"));
    let end = json!({ "done": true, "seen": "copied", "bytes": 2 * SIZE });
    assert_eq!(full["end"], end);

    guest.write("write -P 6 64k 64k");
    guest.make_dir("night1");
    let words = "backup-begin vm --since-last-done --wait --to night1 --checkpoint c1";
    assert_eq!(
        guest.says(&[words]),
        "vda: since c0, whose backup is done\n\
         vdb: since c0, whose backup is done\n\
         Backup started\n\
         Backup done: 64.000 KiB copied\n"
    );
    let map = Command::new("qemu-img")
        .args(["map", "--output=json", "-U"])
        .arg(guest.path("night1/vda.qcow2"))
        .output();
    let map: Value = serde_json::from_slice(&map.unwrap().stdout).unwrap();
    let own = map.as_array().unwrap().iter();
    let own = own.filter(|range| range["depth"] == 0 && range["present"] == true);
    let own: Vec<(&Value, &Value)> = own
        .map(|range| (&range["start"], &range["length"]))
        .collect();
    assert_eq!(own, [(&json!(65536), &json!(65536))]);
    let rows = guest.does(&["checkpoint-list", "vm", "--backups"]);
    let ends = rows.lines().map(|row| {
        let cells: Vec<&str> = row.split_whitespace().collect();
        [cells[0], cells[cells.len() - 1]]
    });
    let expected = [["c0", "done"], ["c1", "done"], ["unused", "-"]];
    assert_eq!(ends.collect::<Vec<_>>(), expected);
}

#[test]
fn each_disk_goes_on_from_a_checkpoint_of_its_own() {
    let Some(mut guest) = Guest::attached() else {
        return;
    };
    night(&guest, "night1", Some("c1"));
    let alone = guest.path("alone");
    guest.program.write(
        "vdb.xml",
        &format!(
            "<domainbackup><disks><disk name='vdb' type='file'><target file='{alone}'/></disk></disks></domainbackup>"
        ),
    );
    guest.program.write(
        "c2.xml",
        "<domaincheckpoint><name>c2</name></domaincheckpoint>",
    );
    guest.does(&["backup-begin", "vm", "vdb.xml", "c2.xml", "--wait"]);
    let apart = night(&guest, "night2", None);
    assert_eq!(since(&apart), [(Some("c1"), NEWEST), (Some("c2"), NEWEST)]);
    assert_eq!(apart["checkpoint"], Value::Null);

    // One of the same name that was made later is another one.
    guest.does(&["checkpoint-delete vm c2; checkpoint-create-as vm c2"]);
    let again = night(&guest, "night3", None);
    assert_eq!(since(&again), [(Some("c1"), NEWEST); 2]);

    guest.kill();
    guest.start();
    let full = night(&guest, "night4", None);
    assert_eq!(since(&full), [(None, "the bitmap of c1 is lost"); 2]);
    let target = guest.path("night4/vda.qcow2");
    assert_eq!(
        guest.refuses(&["backup-begin vm --since-last-done --to night4"]),
        format!("error: invalid argument: store '{target}' for backup of 'vda' exists\n")
    );
}

#[test]
fn a_pull_goes_on_until_it_is_aborted() {
    let Some(guest) = Guest::attached() else {
        return;
    };
    let (socket, scratch) = (guest.path("nbd.sock"), guest.path("scratch"));
    guest.program.write(
        "pull.xml",
        &format!(
            "<domainbackup mode='pull'><server transport='unix' socket='{socket}'/><disks>\
             <disk name='vda' type='file'><scratch file='{scratch}'/></disk></disks></domainbackup>"
        ),
    );
    guest.program.write(
        "c.xml",
        "<domaincheckpoint><name>c</name></domaincheckpoint>",
    );
    assert_eq!(
        guest.refuses(&["backup-begin", "vm", "pull.xml", "--wait"]),
        "error: --wait waits for a push backup: a pull backup goes on until domjobabort\n"
    );
    let begin = [
        "backup-begin",
        "vm",
        "pull.xml",
        "c.xml",
        "--request-id",
        "r1",
    ];
    assert_eq!(guest.says(&begin), "Backup started\n");
    assert_eq!(guest.says(&begin), "Backup started\n");
    let report = guest.json(&begin);
    assert!(report["seq"].is_u64() && report["digest"].is_string());
    assert_eq!(report["repeated"], true);
    assert_eq!((&report["job"], &report["end"]), (&json!(2), &Value::Null));
    let running = guest.does(&["domjobinfo", "vm"]);
    assert!(
        running.starts_with(
            "Job type:         Unbounded   \nOperation:        Backup      \nTime elapsed:     "
        ),
        "{running}"
    );
    assert!(
        running.contains("\nTemporary disk space use: "),
        "{running}"
    );
    let job = &guest.json(&["domjobinfo", "vm"])["job"];
    assert_eq!(
        (&job["state"], &job["pull"]),
        (&json!("unbounded"), &json!(true))
    );
    let xml = guest.does(&["backup-dumpxml", "vm"]);
    assert!(xml.starts_with("<domainbackup mode='pull'>\n"), "{xml}");
    let document = guest.json(&["backup-dumpxml", "vm"]);
    assert_eq!(
        (&document["kind"], &document["text"]),
        (&json!("backup"), &json!(xml))
    );
    let word = |guest: &Guest| {
        let listed = guest.json(&["checkpoint-list", "vm", "--backups"])["moments"][0].clone();
        assert_eq!(
            (&listed["name"], &listed["below"]),
            (&json!("c"), &Value::Null)
        );
        listed["backup"].as_str().unwrap().to_owned()
    };
    assert_eq!(word(&guest), "running");

    let abort = ["domjobabort", "vm", "--request-id", "r2"];
    assert_eq!(guest.says(&abort), "");
    assert_eq!(guest.says(&abort), "");
    assert_eq!(word(&guest), "pull");
    let completed = guest.does(&["domjobinfo", "vm", "--completed"]);
    assert!(
        completed.starts_with("Job type:         Completed   \n"),
        "{completed}"
    );
    assert!(
        completed.ends_with(
            "\nTemporary disk space use: 0.000 B\n\
             Temporary disk space total: 1.000 MiB\n\
             Error message:    Operation canceled\n"
        ),
        "{completed}"
    );
}

#[test]
fn a_backup_that_died_with_its_hypervisor_has_failed_and_its_checkpoint_is_not_gone_on_from() {
    let Some(mut guest) = Guest::attached() else {
        return;
    };
    guest
        .program
        .write("all.xml", "<domainbackup mode='push'/>");
    guest.program.write(
        "c.xml",
        "<domaincheckpoint><name>c</name></domaincheckpoint>",
    );
    let begin = [
        "backup-begin",
        "vm",
        "all.xml",
        "c.xml",
        "--request-id",
        "r1",
    ];
    assert_eq!(guest.says(&begin), "Backup started\n");
    guest.kill();
    let asked_again = guest.run(&[&begin[..], &["--wait"]].concat());
    assert_eq!(
        (
            asked_again.out.as_str(),
            asked_again.err.as_str(),
            asked_again.status
        ),
        (
            "",
            "error: the backup failed: gone with the hypervisor's run\n",
            1
        )
    );
    let completed = ["domjobinfo", "vm", "--completed"];
    assert_eq!(
        guest.does(&completed),
        "Job type:         Failed      \nOperation:        Backup      \n"
    );
    let all = guest.does(&[&completed[..], &["--anystats"]].concat());
    assert!(
        all.ends_with("\nError message:    gone with the hypervisor's run\n"),
        "{all}"
    );
    let listed = &guest.json(&["checkpoint-list", "vm", "--backups"])["moments"][0];
    assert_eq!(
        (&listed["name"], &listed["backup"]),
        (&json!("c"), &json!("failed"))
    );
    let entries = guest.does(&["--format", "json", "log", "vm"]);
    assert!(entries.contains("{\"type\":\"job_failed\","), "{entries}");
    let log = guest.does(&["log", "vm", "--oneline"]);
    for told in [
        "job 1 begun: backup with checkpoint c of vda, vdb",
        "checkpoint c created as a root; job 1 ended; job 2 begun: copies of vda, vdb",
        "job 2 failed, settled by ",
        "(copies: gone with the hypervisor's run)",
    ] {
        assert!(log.contains(told), "{told} in {log}");
    }

    guest.start();
    guest.make_dir("next");
    let next = guest.says(&["backup-begin", "vm", "--since-last-done", "--to", "next"]);
    assert_eq!(
        next,
        "vda: all of it, the backup of c failed\n\
         vdb: all of it, the backup of c failed\n\
         Backup started\n"
    );
}

#[test]
fn a_target_that_cannot_be_made_is_named() {
    let Some(guest) = Guest::attached() else {
        return;
    };
    let words = [
        "backup-begin",
        "vm",
        "--since-last-done",
        "--to",
        "nowhere",
        "--wait",
    ];
    let refused = guest.refuses(&words);
    let target = guest.path("nowhere/vda.qcow2");
    assert!(refused.contains(&target), "{refused}");
    assert_eq!(guest.does(&["domjobinfo", "vm", "--completed"]), NO_JOB);
}

#[test]
fn options_that_do_not_go_together_are_refused_before_anything_is_asked() {
    let program = Program::with_domain();
    for (words, message) in [
        (
            "--since-last-done",
            "Option --to is required by option --since-last-done",
        ),
        (
            "--to x",
            "Option --since-last-done is required by option --to",
        ),
        (
            "--checkpoint x",
            "Option --since-last-done is required by option --checkpoint",
        ),
        (
            "--since-last-done --to x --backupxml y",
            "Options --since-last-done and --backupxml are mutually exclusive",
        ),
        (
            "--since-last-done --to x --checkpointxml y",
            "Options --since-last-done and --checkpointxml are mutually exclusive",
        ),
        (
            "--since-last-done --to x --request-id y",
            "Options --since-last-done and --request-id are mutually exclusive",
        ),
    ] {
        let ran = program.run(&[&format!("backup-begin web01 {words}")]);
        assert_eq!(ran.err, format!("error: {message}\n"), "{words}");
        assert_eq!(ran.status, 1);
    }
    let listed = program.run(&["checkpoint-list", "web01", "--backups", "--tree"]);
    assert_eq!(
        listed.err,
        "error: Options --backups and --tree are mutually exclusive\n"
    );
}
