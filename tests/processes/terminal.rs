//! A terminal that runs programs, and the text that a person would see on it.

use std::{
    io::{Read, Write},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::shell::eventually;

/// A shell in its own terminal. Dropping it kills the shell and everything that the shell runs.
pub struct Terminal {
    screen: Arc<Mutex<vt100::Parser>>,
    /// All bytes that programs have written to the terminal.
    sent: Arc<Mutex<Vec<u8>>>,
    keyboard: Box<dyn Write + Send>,
    master: Box<dyn MasterPty + Send>,
    shell: Box<dyn Child + Send + Sync>,
}

impl Terminal {
    /// Opens a terminal of this size. `chat` keeps its state in `state_home`.
    pub fn open(columns: u16, rows: u16, state_home: &Path) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).expect("a terminal");
        let mut command = CommandBuilder::new("sh");
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("CHAT_")) {
            command.env_remove(variable);
        }
        command.env("XDG_STATE_HOME", state_home);
        command.env("XDG_CONFIG_HOME", state_home);
        command.env("TERM", "xterm-256color");
        command.env("PS1", "$ ");
        let shell = pair.slave.spawn_command(command).expect("a shell starts");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let mut output = pair.master.try_clone_reader().expect("its output");
        let shown = screen.clone();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = sent.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends when the terminal is closed.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                kept.lock().expect("the record").extend_from_slice(&bytes[..count]);
                shown.lock().expect("the screen").process(&bytes[..count]);
            }
        });
        let keyboard = pair.master.take_writer().expect("its keyboard");
        let terminal = Self { screen, sent, keyboard, master: pair.master, shell };
        terminal.has_prompt();
        terminal
    }

    /// Types keys: `\r` is Enter, `\n` Ctrl+J, `\x03` Ctrl+C.
    pub fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("keys reach the terminal");
        self.keyboard.flush().expect("keys reach the terminal");
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        self.screen.lock().expect("the screen").screen_mut().set_size(rows, columns);
        self.master.resize(size(columns, rows)).expect("another size");
    }

    /// All that programs have written to the terminal, as text.
    pub fn sent(&self) -> String {
        String::from_utf8(self.sent.lock().expect("the record").clone()).expect("UTF-8")
    }

    pub fn picture(&self) -> String {
        self.screen.lock().expect("the screen").screen().contents()
    }

    /// Waits until these words are on the screen.
    #[track_caller]
    pub fn sees(&self, words: &str) {
        self.waits(&format!("{words:?} is on the screen"), |picture| picture.contains(words));
    }

    #[track_caller]
    fn waits(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let _shown = ShownOnPanic(self);
        eventually(what, || holds(&self.picture()));
    }

    /// Waits for the shell's prompt. Before it, another program would read the keys.
    #[track_caller]
    fn has_prompt(&self) {
        let is_back = || !self.screen.lock().expect("the screen").screen().alternate_screen();
        self.waits("the shell asks", |picture| is_back() && picture.trim_end().ends_with('$'));
    }

    /// Waits for the prompt and checks that the terminal is as before: lines are edited and echoed, the cursor is
    /// visible, and the main screen is shown.
    #[track_caller]
    pub fn is_clean(&mut self) {
        self.has_prompt();
        self.types("clear; stty -a; echo clean-$?\r");
        self.sees("clean-0");
        let picture = self.picture();
        for setting in ["icanon", "echo", "isig", "icrnl", "opost"] {
            let is_set = picture.split(|c: char| c.is_whitespace() || c == ';').any(|word| word == setting);
            assert!(is_set, "{setting} is not set:\n{picture}");
        }
        let parser = self.screen.lock().expect("the screen");
        let screen = parser.screen();
        assert!(!screen.alternate_screen(), "still on the other screen");
        assert!(!screen.hide_cursor(), "the cursor is hidden");
        assert!(!screen.bracketed_paste(), "pastes are still bracketed");
    }
}

/// Prints the screen if the test panics while this exists.
struct ShownOnPanic<'a>(&'a Terminal);

impl Drop for ShownOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the screen\n{}\n---", self.0.picture());
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // This closes the terminal, which ends the programs that still run in it.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { cols: columns, rows, pixel_width: 0, pixel_height: 0 }
}
