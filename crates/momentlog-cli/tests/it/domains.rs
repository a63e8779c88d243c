use super::*;

const UUID: &str = "6695eb01-f6a4-8304-79aa-97f2502e193f";

/// Runs a script on libvirt's test driver, as virsh was run when its output was noted here.
#[track_caller]
fn check(script: &str, out: &str, err: &str) {
    let ran = Program::new().run_on_test(&["-q", &script.replace("UUID", UUID)]);
    assert_eq!(ran.out, out.replace("UUID", UUID));
    assert_eq!(ran.err, err.replace("UUID", UUID));
}

#[test]
fn messages_call_a_domain_as_it_was_given() {
    for (verb, prepared, done) in [
        ("suspend", "domid", "suspended"),
        ("resume", "suspend", "resumed"),
        ("destroy", "domid", "destroyed"),
        ("shutdown", "domid", "is being shutdown"),
        ("undefine", "domid", "has been undefined"),
    ] {
        for given in ["1", "UUID", "test"] {
            let script = format!("{prepared} test; {verb} {given}");
            let ran = Program::new().run_on_test(&[&script.replace("UUID", UUID)]);
            let said = format!("Domain '{given}' {done}\n").replace("UUID", UUID);
            assert!(ran.out.contains(&said), "{script}: {ran:?}");
        }
    }
    check(
        "resume 1",
        "",
        "error: Failed to resume domain '1'\nerror: internal error: domain 'test' not paused\n",
    );
    let off = "error: internal error: domain 'test' not running\n";
    for verb in ["suspend", "shutdown"] {
        let ran = Program::new().run_on_test(&["-q", &format!("destroy 1; {verb} {UUID}")]);
        assert_eq!(
            ran.err,
            format!("error: Failed to {verb} domain '{UUID}'\n{off}")
        );
    }
}

#[test]
fn a_domain_is_started_by_its_name_or_uuid() {
    let ran =
        Program::new().run_on_test(&[&format!("destroy 1; start {UUID}; start 2; start test")]);
    assert_eq!(
        ran.out,
        "Domain '1' destroyed\n\nDomain 'test' started\n\n\n\n".to_owned()
    );
    assert_eq!(
        ran.err,
        "error: failed to get domain '2'\nerror: Domain is already active\n"
    );
}

#[test]
fn undefine_takes_what_concerns_the_host_on_a_store_of_ones_own() {
    for options in [
        "--nvram --snapshots-metadata --checkpoints-metadata",
        "--managed-save --keep-nvram --keep-tpm --snapshots-metadata",
        "--nvram --tpm --remove-all-storage --wipe-storage --snapshots-metadata",
        "--storage vda --delete-storage-volume-snapshots --snapshots-metadata",
    ] {
        let program = Program::with_domain();
        let made = program.run(&[
            "snapshot-create-as web01 a --disk-only --atomic --diskspec vda,snapshot=external,file=/i/a.qcow2 \
             --diskspec vdb,snapshot=no --diskspec vdc,snapshot=no",
        ]);
        assert_eq!((made.err.as_str(), made.status), ("", 0));
        let mut words = vec!["-q", "undefine", "web01"];
        words.extend(options.split(' '));
        let ran = program.run(&words);
        assert_eq!(ran.err, "", "{options}");
    }
    let program = Program::with_domain();
    for (options, why) in [
        (
            "--nvram --keep-nvram",
            "Options --nvram and --keep-nvram are mutually exclusive",
        ),
        (
            "--storage vda --remove-all-storage",
            "Options --storage and --remove-all-storage are mutually exclusive",
        ),
        (
            "--wipe-storage",
            "'--wipe-storage' requires '--storage <string>' or '--remove-all-storage'",
        ),
    ] {
        let ran = program.run(&[&format!("undefine web01 {options}")]);
        assert_eq!(ran.err, format!("error: {why}\n"));
    }
    let refused = Program::new().run_on_test(&["undefine test --nvram"]);
    assert!(
        refused.err.contains("unsupported flags (0x4)"),
        "{refused:?}"
    );
}

#[test]
fn options_that_concern_the_host_are_taken_on_a_store_of_ones_own() {
    let program = Program::with_domain();
    let script = "start web01 --paused --console --bypass-cache --force-boot --reset-nvram; domstate web01; \
        dumpxml web01 --update-cpu --migratable; destroy web01 --graceful --remove-logs; \
        start web01 --pass-fds 3,4; domstate web01; shutdown web01 --mode acpi,agent; domstate web01";
    let ran = program.run(&["-q", script]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    let states: Vec<&str> = ran.out.lines().filter(|line| !line.contains('<')).collect();
    assert_eq!(states, ["paused", "running", "shut off"]);
    for (command, expected) in [
        (
            "start web01 --autodestroy",
            "error: Failed to start domain 'web01'\nerror: a record outlives ",
        ),
        ("start web01 x", "error: Unable to parse FD number 'x'\n"),
        (
            "shutdown web01 x",
            "error: Unknown mode x value, expecting 'acpi', ",
        ),
    ] {
        let ran = program.run(&[command]);
        assert!(ran.err.starts_with(expected), "{ran:?}");
        assert_eq!(ran.status, 1);
    }
    assert_eq!(program.run(&["-q", "domstate web01"]).out, "shut off\n");
}

#[test]
fn on_the_test_driver_they_are_refused_as_it_refuses_them() {
    let program = Program::new();
    for (command, what, flags, function) in [
        (
            "destroy test --remove-logs",
            "destroy",
            "0x2",
            "testDomainDestroyFlags",
        ),
        (
            "shutdown test --mode acpi,agent",
            "shutdown",
            "0x3",
            "testDomainShutdownFlags",
        ),
        (
            "destroy test; start test --paused",
            "start",
            "0x1",
            "testDomainCreateWithFlags",
        ),
        (
            "destroy test; start test --bypass-cache",
            "start",
            "0x4",
            "testDomainCreateWithFlags",
        ),
        (
            "destroy test; start test --reset-nvram",
            "start",
            "0x20",
            "testDomainCreateWithFlags",
        ),
    ] {
        let ran = program.run_on_test(&[command]);
        let expected = format!(
            "error: Failed to {what} domain 'test'\nerror: unsupported flags ({flags}) in function {function}\n"
        );
        assert_eq!((ran.err, ran.status), (expected, 1), "{command}");
    }
    let taken = "destroy test --graceful; start test --force-boot; domstate test";
    assert_eq!(program.run_on_test(&["-q", taken]).out, "running\n");
}

/// As virsh 9.0.0 answered.
#[test]
fn storage_that_is_to_go_with_a_domain_is_looked_for_as_virsh_does() {
    let unmanaged = "error: Storage volume 'vda'(/guest/diskimage1) is not managed by libvirt. Remove it manually.\n\n";
    check(
        "undefine test --storage vda",
        "",
        "error: Storage volume deletion is supported only on stopped domains\n",
    );
    check(
        "destroy test; undefine test --remove-all-storage --wipe-storage; list --all",
        "",
        unmanaged,
    );
    check(
        "destroy test; undefine test --storage vda; list --all",
        "",
        unmanaged,
    );
    check(
        "destroy test; undefine test --storage vdz; list --all --name",
        "test\n",
        "error: Volume 'vdz' was not found in domain's definition.\n\n",
    );
    check("list --id --uuid --name", "UUID 1 test\n", "");
}

#[test]
fn list_filters_by_persistence_and_run_state() {
    let program = Program::with_domain();
    program.write(
        "other.xml",
        "<domain type='kvm'><name>passing</name><os><type>hvm</type></os></domain>",
    );
    assert_eq!(program.run(&["create", "other.xml"]).status, 0);
    for (options, expected) in [
        ("--all", "passing\nweb01\n"),
        ("--all --persistent", "web01\n"),
        ("--transient", "passing\n"),
        ("--all --transient --persistent", "passing\nweb01\n"),
        ("--state-shutoff", "web01\n"),
        ("--all --state-shutoff", "web01\n"),
        ("--all --state-running --state-paused", "passing\n"),
        ("--all --state-other", ""),
        ("--all --autostart", ""),
        (
            "--all --no-autostart --without-managed-save",
            "passing\nweb01\n",
        ),
        ("--all --with-managed-save", ""),
    ] {
        let ran = program.run(&["-q", &format!("list --name {options}")]);
        assert_eq!((ran.out.as_str(), ran.status), (expected, 0), "{options}");
    }
    let ran = program.run(&["list --table --name"]);
    assert_eq!(
        ran.err,
        "error: Options --table and --name are mutually exclusive\n"
    );
    assert_eq!(
        program.run(&["list --all --table"]),
        program.run(&["list --all"])
    );
}

/// As virsh 9.0.0 showed it.
#[test]
fn domblklist_names_the_sources_of_all_kinds_of_disk() {
    let program = Program::new();
    program.write(
        "disks.xml",
        "<domain type='test'><name>kinds</name><os><type>hvm</type></os><devices>\
        <disk type='block'><source dev='/dev/vg/a'/><target dev='sda' bus='scsi'/></disk>\
        <disk device='disk'><source file='/i/plain'/><target dev='vda'/></disk>\
        <disk type='dir' device='floppy'><source dir='/srv/d'/><target dev='fda'/></disk>\
        <disk type='block' device='cdrom'><target dev='hda' bus='ide'/><readonly/></disk>\
        <disk type='block' device='cdrom'><source startupPolicy='optional'/><target dev='hdb' bus='ide'/></disk>\
        <disk type='network'><source protocol='rbd' name='vms/x'><host name='h'/></source><target dev='vdb'/></disk>\
        <disk type='network'><source protocol='iscsi' name='iqn.2013-07.com.example:x'><host name='h'/></source><target dev='vdc'/></disk>\
        <disk type='network'><source protocol='iscsi' name='iqn.2013-07.com.example:x/5'><host name='h'/></source><target dev='vdd'/></disk>\
        <disk type='network'><source protocol='nbd'><host name='h'/></source><target dev='vde'/></disk>\
        <disk type='volume'><source pool='p' volume='v'/><target dev='vdf'/></disk>\
        <disk type='volume' device='cdrom'><target dev='hdc' bus='ide'/></disk>\
        <disk type='nvme'><source type='pci' managed='yes' namespace='12'>\
        <address domain='0x0001' bus='0x0a' slot='0x1f' function='0x3'/></source><target dev='vdg'/></disk>\
        <disk type='vhostuser'><driver name='qemu' type='raw'/><source type='unix' path='/run/v.sock'/><target dev='vdh' bus='virtio'/></disk>\
        </devices></domain>",
    );
    let ran = program.run(&["-q", "define disks.xml; domblklist kinds --details"]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    let mut rows: Vec<Vec<&str>> = ran
        .out
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect();
    rows.sort_by_key(|row| row[2]);
    let expected = [
        ["dir", "floppy", "fda", "/srv/d"],
        ["file", "cdrom", "hda", "-"],
        ["block", "cdrom", "hdb", "-"],
        ["file", "cdrom", "hdc", "-"],
        ["block", "disk", "sda", "/dev/vg/a"],
        ["file", "disk", "vda", "/i/plain"],
        ["network", "disk", "vdb", "vms/x"],
        ["network", "disk", "vdc", "iqn.2013-07.com.example:x/0"],
        ["network", "disk", "vdd", "iqn.2013-07.com.example:x/5"],
        ["network", "disk", "vde", "-"],
        ["volume", "disk", "vdf", "v"],
        ["nvme", "disk", "vdg", "nvme://0001:0a:1f.3/12"],
        ["vhostuser", "disk", "vdh", "/run/v.sock"],
    ];
    assert_eq!(rows, expected);
}

/// As virsh 9.0.0 showed it: the order of the buses that the XML names, and disks that name none sort among themselves.
#[test]
fn domblklist_has_the_order_of_the_definition() {
    let program = Program::new();
    let disk = |target: &str| {
        format!("<disk device='disk'><source file='/i'/><target dev='{target}'/></disk>")
    };
    let on_bus = |target: &str, bus: &str| {
        disk(target).replace("/></disk>", &format!(" bus='{bus}'/></disk>"))
    };
    let disks = [
        on_bus("sda", "scsi"),
        on_bus("sdb", "usb"),
        disk("sdc"),
        disk("vda"),
        disk("vdb"),
        disk("vdc"),
        disk("hda"),
        on_bus("vdd", "virtio"),
        on_bus("vde", "virtio"),
    ];
    let xml = format!(
        "<domain type='test'><name>order</name><os><type>hvm</type></os><devices>{}</devices></domain>",
        disks.concat()
    );
    program.write("order.xml", &xml);
    let ran = program.run(&["-q", "define order.xml; domblklist order"]);
    let targets: Vec<&str> = ran
        .out
        .lines()
        .filter_map(|row| row.split_whitespace().next())
        .collect();
    assert_eq!(
        targets,
        [
            "sda", "sdb", "vda", "hda", "vdb", "sdc", "vdc", "vdd", "vde"
        ]
    );
}

#[test]
fn a_name_and_autostart_are_set_shown_and_told_by_the_log() {
    let program = Program::with_domain();
    let script = "autostart web01; domrename web01 web02; dominfo web02; autostart web02 --disable; log web02";
    let ran = program.run(&[script]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    for line in [
        "Domain 'web01' marked as autostarted\n",
        "Domain successfully renamed\n",
        "Name:           web02\n",
        "OS Type:        hvm\n",
        "CPU(s):         4\n",
        "Autostart:      enable\n",
        "Managed save:   no\n",
        "Domain 'web02' unmarked as autostarted\n",
        "domain renamed from web01 to web02",
        "does not start with its host",
    ] {
        assert!(ran.out.contains(line), "{line}{}", ran.out);
    }
    let ran = program.run(&["start web02; domrename web02 web03"]);
    let active = "error: Requested operation is not valid: cannot rename active domain\n";
    assert_eq!((ran.err.as_str(), ran.status), (active, 1));
    // As virsh says it of libvirt's test driver.
    let ran = program.run_on_test(&["reboot test; reset test; dominfo test"]);
    for line in [
        "Domain 'test' is being rebooted\n",
        "Domain 'test' was reset\n",
        "OS Type:        linux\n",
        "CPU(s):         2\n",
        "Used memory:    2097152 KiB\n",
        "Autostart:      disable\n",
    ] {
        assert!(ran.out.contains(line), "{line}{}", ran.out);
    }
}
