//! `chat-node demo` as a newcomer runs it, with real processes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Time limit of a demo on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A running demo. All its data and temporary files are below `place`. Dropping it kills the demo and its nodes.
struct Demo {
    place: tempfile::TempDir,
    child: Child,
}

impl Demo {
    fn start(args: &[&str]) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        fs::create_dir(place.path().join("tmp")).expect("a directory");
        let file = |name: &str| File::create(place.path().join(name)).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_chat-node"))
            .arg("demo")
            .args(args)
            .env("TMPDIR", place.path().join("tmp"))
            // Settings of the person, which must not reach the nodes of the demo.
            .env("CHAT_DATA_DIR", "/nowhere")
            .env("CHAT_NAME", "mine")
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .expect("chat-node runs");
        Self { place, child }
    }

    /// Its stdout and stderr so far.
    fn printed(&self) -> (String, String) {
        let read = |name: &str| fs::read_to_string(self.place.path().join(name)).expect("a file");
        (read("out"), read("err"))
    }

    fn wait_for(&mut self, what: &str, mut happened: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + TIMEOUT;
        while !happened(self) {
            let (out, err) = self.printed();
            assert!(Instant::now() < until, "no {what} within {TIMEOUT:?}; it said:\n{err}\n{out}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn finish(&mut self) -> ExitStatus {
        self.wait_for("end", |demo| demo.child.try_wait().expect("a child").is_some());
        self.child.wait().expect("it has ended")
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(self.child.id()), signal).expect("it runs");
    }

    /// The ids of the running nodes: processes with our directory in their command line.
    fn nodes(&self) -> Vec<u32> {
        let names = |directory: &Path| {
            let line = fs::read(directory.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&*self.place.path().to_string_lossy())
        };
        let processes = fs::read_dir("/proc").expect("a Linux").flatten().map(|entry| entry.path());
        let ours = processes.filter(|directory| names(directory));
        ours.filter_map(|directory| directory.file_name()?.to_str()?.parse().ok()).collect()
    }

    /// The entries of its temporary directory.
    fn left(&self) -> Vec<PathBuf> {
        fs::read_dir(self.place.path().join("tmp")).expect("a directory").flatten().map(|entry| entry.path()).collect()
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.left(), Vec::<PathBuf>::new(), "directories are left");
        assert_eq!(self.nodes(), Vec::<u32>::new(), "nodes are left");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for node in self.nodes() {
            let _ = kill_process(pid(node), Signal::KILL);
        }
    }
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.try_into().expect("a process id")).expect("not zero")
}

#[test]
fn the_demo_passes_all_four_metrics_and_leaves_nothing_behind() {
    let mut demo = Demo::start(&[]);
    let status = demo.finish();
    let (out, err) = demo.printed();
    assert_eq!(status.code(), Some(0), "{err}\n{out}");
    for metric in ["durability", "availability", "consistency", "recovery time"] {
        assert!(out.contains(&format!("PASS  {metric}")), "no PASS for {metric}:\n{err}\n{out}");
    }
    assert!(out.contains("are on all 5 nodes") && out.contains("5 equal digests"), "{out}");
    assert!(err.contains("survives any 2 nodes") && err.contains("SIGKILL to n"), "{err}");
    demo.assert_nothing_is_left();
}

#[test]
fn a_demo_that_is_interrupted_cleans_up() {
    let mut demo = Demo::start(&["--nodes", "3"]);
    demo.wait_for("second node", |demo| demo.printed().1.contains("n2 added"));
    assert!(demo.nodes().len() >= 2);
    demo.signal(Signal::INT);
    let status = demo.finish();
    assert_eq!(status.code(), Some(1), "{}", demo.printed().1);
    assert!(demo.printed().1.contains("stopped by ctrl-c; everything is cleaned up"), "{}", demo.printed().1);
    demo.assert_nothing_is_left();
}

#[test]
fn a_kept_demo_goes_on_running_and_says_how_to_use_it() {
    let mut demo = Demo::start(&["--nodes", "3", "--keep"]);
    let status = demo.finish();
    let (out, err) = demo.printed();
    assert_eq!(status.code(), Some(0), "{err}\n{out}");
    assert_eq!((demo.nodes().len(), demo.left().len()), (3, 1));
    let setting = |name: &str| {
        let (_, rest) = out.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {out}"));
        rest.split_whitespace().next().expect("a value").to_owned()
    };
    let read = Command::new(env!("CARGO_BIN_EXE_chat"))
        .args(["login", "alice"])
        .env("CHAT_SERVERS", setting("CHAT_SERVERS"))
        .env("CHAT_PASSWORD", setting("CHAT_PASSWORD"))
        .env("XDG_STATE_HOME", demo.place.path().join("state"))
        .env_remove("CHAT_AS")
        .output()
        .expect("chat runs");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    // The printed line is: kill -9 PID… && rm -r DIR
    let (_, kill) = out.split_once("  kill -9 ").expect("how to stop it");
    let (pids, remove) = kill.split_once(" && rm -r ").expect("how to clean up");
    for id in pids.split(' ') {
        kill_process(pid(id.parse().expect("a process id")), Signal::TERM).expect("it runs");
    }
    demo.wait_for("end of all nodes", |demo| demo.nodes().is_empty());
    assert_eq!(demo.left(), [PathBuf::from(remove.trim())]);
}

#[test]
fn a_directory_that_holds_anything_is_refused_and_left_alone() {
    let given = tempfile::tempdir().expect("a directory");
    fs::write(given.path().join("mine"), "").expect("a file");
    let mut demo = Demo::start(&["--dir", &given.path().to_string_lossy()]);
    assert_eq!(demo.finish().code(), Some(4));
    assert!(demo.printed().1.contains("is not empty"), "{}", demo.printed().1);
    assert!(given.path().join("mine").exists());
}
