//! Disks that are full or cannot be written: small file systems of their own where this test may mount them.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    cluster::Cluster,
    ledger::Load,
    shell::{chat_node, free_address, is_root},
};

/// A file system in a file, unmounted when dropped.
struct Mount {
    dir: TempDir,
}

impl Mount {
    /// Of so many MiB; none where mounting is not allowed.
    fn of(mib: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let image = dir.path().join("image");
        File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("an image");
        let mount = Self { dir };
        fs::create_dir(mount.path()).expect("a mount point");
        let made = run("mkfs.ext4", &["-q", "-m", "0", text(&image)])
            && run("mount", &["-o", "loop", text(&image), text(&mount.path())]);
        made.then_some(mount)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    /// Takes all space but so much.
    fn fill_but(&self, mib: u64) -> PathBuf {
        let ballast = self.path().join("ballast");
        let mut file = File::create(&ballast).expect("a file");
        while free_mib(&self.path()) > mib && file.write_all(&[0; 1 << 20]).and_then(|()| file.sync_all()).is_ok() {}
        ballast
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &["-l", text(&self.path())]);
    }
}

fn free_mib(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("its size");
    stat.f_bavail * stat.f_frsize >> 20
}

fn run(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|ended| ended.status.success())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_leader_whose_disk_is_full_stops_with_75_and_goes_on_from_there_once_there_is_room() {
    let mount = if is_root() { Mount::of(64) } else { None };
    let Some(mount) = mount else {
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
    // Root is above permissions, but not above a read-only mount.
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
