//! The file of signed-in sessions: `sessions.json` in the state folder of the person at this machine.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    cli::{Exit, Failure, Result},
    wire::Address,
};

/// Sessions kept at most. One more drops the oldest from the file, without ending it at the cluster.
const SESSIONS: usize = 64;

/// A session that was signed in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SavedSession {
    /// Nodes of the cluster, as known at the sign-in.
    pub(super) servers: Vec<Address>,
    pub(super) account: String,
    /// The bearer token: as good as the password, so never printed.
    pub(super) token: String,
    /// The cluster's id; empty in files of versions that did not save it.
    pub(super) cluster: String,
}

impl SavedSession {
    /// A file name for this account at this cluster. It has no separators. Names of accounts are ASCII words that are
    /// unique regardless of case, so two accounts share a file only if neither session has a cluster id.
    pub(super) fn file_name(&self) -> String {
        let fit = |text: &str| -> String {
            text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).collect()
        };
        format!("{}@{}", fit(&self.account.to_ascii_lowercase()), fit(&self.cluster))
    }
}

/// The file's JSON. Later versions add fields and leave these as they are.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    sessions: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    servers: Vec<String>,
    account: String,
    token: String,
    #[serde(default)]
    cluster: String,
}

/// The file.
///
/// # Invariants
/// - Only its owner can read it, since it holds bearer tokens: mode 0600 in a folder of mode 0700.
/// - It is replaced as a whole: written beside, synced, renamed, and the folder synced. A crash at any point leaves the
///   old or the new file.
/// - Commands that change it at the same time take turns at the lock file `sessions.lock`, from reading to renaming, so
///   no change is lost. Readers take no lock: they see one whole file.
/// - The latest sign-in comes first, and there is at most one session for an account at overlapping servers.
/// - A file that cannot be parsed is reported and never overwritten.
pub(super) struct SavedSessions {
    directory: Option<PathBuf>,
}

impl SavedSessions {
    /// The file in `directory`; without one, nothing can be saved and nobody is signed in.
    pub(super) fn in_directory(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    /// The latest sign-in at any of `servers` (empty: anywhere), as `account` (`None`: as anyone).
    pub(super) fn select(&self, servers: &[Address], account: Option<&str>) -> Result<Option<SavedSession>> {
        let fits = |saved: &SavedSession| {
            overlap(servers, &saved.servers) && account.is_none_or(|name| name.eq_ignore_ascii_case(&saved.account))
        };
        Ok(self.load()?.into_iter().find(fits))
    }

    /// The accounts signed in here, at any cluster.
    pub(super) fn accounts(&self) -> Result<Vec<String>> {
        Ok(self.load()?.into_iter().map(|saved| saved.account).collect())
    }

    /// Saves a session, in place of an older one of the same account at the same cluster.
    pub(super) fn save(&self, session: SavedSession) -> Result<()> {
        self.change(|sessions| {
            sessions.retain(|other| !is_same_account(other, &session));
            sessions.insert(0, session);
            sessions.truncate(SESSIONS);
        })
    }

    /// Removes a session.
    pub(super) fn remove(&self, token: &str) -> Result<()> {
        self.change(|sessions| sessions.retain(|saved| saved.token != token))
    }

    /// Fails if no session could be saved. Called before signing in: a session that cannot be saved is lost at once.
    pub(super) fn check(&self) -> Result<()> {
        self.change(|_| {})
    }

    fn load(&self) -> Result<Vec<SavedSession>> {
        let Some(path) = self.directory.as_ref().map(|directory| directory.join("sessions.json")) else {
            return Ok(Vec::new());
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failure("read", &path, &error)),
        };
        let damaged = |error: serde_json::Error| {
            failure("read", &path, &error).next("remove the file and sign in again with `chat login NAME`")
        };
        let document: Document = serde_json::from_str(&text).map_err(damaged)?;
        Ok(document.sessions.into_iter().map(SavedSession::from).collect())
    }

    fn change(&self, change: impl FnOnce(&mut Vec<SavedSession>)) -> Result<()> {
        let Some(directory) = &self.directory else {
            return Err(Failure::new(Exit::Failure, "there is no folder to keep the session in")
                .next("set HOME or XDG_STATE_HOME to an absolute path"));
        };
        let failed = |error: io::Error| failure("write", directory, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        // Released when `lock` is dropped, or by the kernel if the process dies.
        let lock = private_file().create(true).truncate(false).open(directory.join("sessions.lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut sessions = self.load()?;
        change(&mut sessions);
        write(directory, sessions).map_err(failed)
    }
}

fn write(directory: &Path, sessions: Vec<SavedSession>) -> io::Result<()> {
    let document = Document { sessions: sessions.into_iter().map(Entry::from).collect() };
    let (path, fresh) = (directory.join("sessions.json"), directory.join("sessions.json.new"));
    // A crash may have left one behind, and with any mode: `mode` counts only for a file that is created.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private_file().create_new(true).open(&fresh)?;
    serde_json::to_writer_pretty(&mut file, &document)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    File::open(directory)?.sync_all()
}

/// Opens for writing a file that only its owner may read.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Whether `given` is empty or shares a server with `saved`.
fn overlap(given: &[Address], saved: &[Address]) -> bool {
    given.is_empty() || given.iter().any(|server| saved.contains(server))
}

/// Clusters are told apart by their servers, not by `cluster`, which older files lack.
fn is_same_account(one: &SavedSession, other: &SavedSession) -> bool {
    one.account.eq_ignore_ascii_case(&other.account) && overlap(&one.servers, &other.servers)
}

fn failure(verb: &str, path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failure, format!("cannot {verb} the saved sessions: {}: {error}", path.display()))
}

impl From<Entry> for SavedSession {
    /// Servers that are no addresses are left out.
    fn from(entry: Entry) -> Self {
        let servers = entry.servers.iter().filter_map(|server| server.parse().ok()).collect();
        Self { servers, account: entry.account, token: entry.token, cluster: entry.cluster }
    }
}

impl From<SavedSession> for Entry {
    fn from(session: SavedSession) -> Self {
        let servers = session.servers.iter().map(ToString::to_string).collect();
        Self { servers, account: session.account, token: session.token, cluster: session.cluster }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn session(servers: &[&str], account: &str, token: &str) -> SavedSession {
        let servers = servers.iter().map(|server| server.parse().unwrap()).collect();
        SavedSession { servers, account: account.into(), token: token.into(), cluster: "q".into() }
    }

    #[test]
    fn the_last_to_sign_in_is_selected_unless_told_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let sessions = SavedSessions::in_directory(Some(directory.path().join("deep/down")));
        assert_eq!(sessions.select(&[], None).unwrap(), None);
        let alice = session(&["a:1", "b:1"], "alice", "1");
        let bob = session(&["a:1", "b:1"], "Bob", "2");
        let other = session(&["z:9"], "alice", "3");
        for each in [&alice, &bob, &other] {
            sessions.save(each.clone()).unwrap();
        }
        let at = |server: &str| vec![server.parse().unwrap()];
        assert_eq!(sessions.select(&[], None).unwrap(), Some(other.clone()));
        assert_eq!(sessions.select(&at("b:1"), None).unwrap(), Some(bob.clone()));
        assert_eq!(sessions.select(&at("b:1"), Some("ALICE")).unwrap(), Some(alice));
        assert_eq!(sessions.select(&at("q:1"), None).unwrap(), None);
        sessions.remove("3").unwrap();
        assert_eq!(sessions.select(&[], None).unwrap(), Some(bob));
    }

    #[test]
    fn signing_in_again_replaces_the_session() {
        let directory = tempfile::tempdir().unwrap();
        let sessions = SavedSessions::in_directory(Some(directory.path().into()));
        sessions.save(session(&["a:1"], "alice", "old")).unwrap();
        sessions.save(session(&["a:1", "b:1"], "Alice", "new")).unwrap();
        let tokens: Vec<String> = sessions.load().unwrap().into_iter().map(|saved| saved.token).collect();
        assert_eq!(tokens, ["new"]);
    }

    #[test]
    fn tokens_are_readable_by_their_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let sessions = SavedSessions::in_directory(Some(directory.path().join("state")));
        fs::create_dir(directory.path().join("state")).unwrap();
        fs::write(directory.path().join("state/sessions.json.new"), "left by a crash").unwrap();
        sessions.save(session(&["a:1"], "alice", "t")).unwrap();
        let mode = fs::metadata(directory.path().join("state/sessions.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_named_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sessions.json");
        fs::write(&path, "{").unwrap();
        let sessions = SavedSessions::in_directory(Some(directory.path().into()));
        let failure = sessions.save(session(&["a:1"], "alice", "t")).unwrap_err();
        assert!(failure.to_string().contains("sessions.json"), "{failure}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{");
    }
}
