//! A small file system, for tests with full disks.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::shell::is_root;

/// A file system in a file, unmounted when dropped.
pub struct Mount {
    dir: TempDir,
}

impl Mount {
    /// Mounts a file system of `mib` MiB. Returns `None` if this process may not mount.
    pub fn of(mib: u64) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let image = dir.path().join("image");
        File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("an image");
        let mount = Self { dir };
        fs::create_dir(mount.path()).expect("a mount point");
        let made = run("mkfs.ext4", &["-q", "-m", "0", text(&image)])
            && run("mount", &["-o", "loop", text(&image), text(&mount.path())]);
        made.then_some(mount)
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    /// Fills the file system except for `mib` MiB. Returns the file that takes the space.
    pub fn fill_but(&self, mib: u64) -> PathBuf {
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
    (stat.f_bavail * stat.f_frsize) >> 20
}

pub fn run(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|ended| ended.status.success())
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
