//! Full and read-only disks, on small file systems that the tests mount if they may.

use std::{fs, path::Path};

use crate::{
    cluster::Cluster,
    load::Load,
    mount::{Mount, run, text},
    shell::{chat_node, free_address, is_root},
};

#[test]
fn a_leader_whose_disk_is_full_stops_with_75_and_goes_on_from_there_once_there_is_room() {
    let Some(mount) = Mount::of(64) else {
        return println!("SKIPPED: needs root and a loop device");
    };
    let mut cluster = Cluster::with_first_in(3, Some(&mount.path().join("n1")));
    cluster.admin(&["transfer-leader", "n1"]).expect(0);
    let load = Load::start(&cluster.addresses());
    let ballast = mount.fill_but(0);
    let (code, log) = cluster.running("n1").exit();
    assert_eq!(code, Some(75), "{log}");
    assert!(log.contains("next: make room, then start the node again: nothing is lost"), "{log}");
    load.progresses();
    fs::remove_file(ballast).expect("room is made");
    cluster.start("n1");
    load.progresses();
    load.check();
    cluster.replicas_agree();
    drop(cluster);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("read-only");
    fs::create_dir(&place).expect("a directory");
    let address = free_address();
    let init = |data: &Path| chat_node(&["init", "--data-dir", text(data), "--name", "n1", "--listen", &address]);
    init(&place).expect(0);
    // Permissions do not stop root; a read-only mount does.
    match is_root() {
        true => assert!(run("mount", &["-t", "tmpfs", "-o", "ro,size=1m", "none", text(&place)]), "mount"),
        false => assert!(run("chmod", &["500", text(&place)]), "chmod"),
    }
    let ended = [init(&place), init(&place.join("below")), chat_node(&["run", "--data-dir", text(&place)])];
    match is_root() {
        true => run("umount", &[text(&place)]),
        false => run("chmod", &["700", text(&place)]),
    };
    for ended in ended {
        ended.expect(1).says(text(&place)).says("next: check that ");
    }
}
