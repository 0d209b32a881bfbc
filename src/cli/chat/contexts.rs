//! The sessions of the person at this machine, in one file under the XDG state folder.
//!
//! The file holds bearer tokens: it is readable by its owner only, and replaced as a whole, so that a crash leaves
//! either the old or the new one. Changes by several commands at once queue up at a lock.

use std::{
    env,
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

/// Sessions kept at most; the oldest gives way.
const CONTEXTS: usize = 64;

/// A session that was signed in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) servers: Vec<Address>,
    pub(super) account: String,
    pub(super) token: String,
    /// The cluster's id; empty where an earlier version kept the session.
    pub(super) cluster: String,
}

impl Context {
    /// What tells this account at this cluster from all others, fit for a file's name.
    pub(super) fn file_name(&self) -> String {
        let fit = |text: &str| -> String {
            text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).collect()
        };
        format!("{}@{}", fit(&self.account.to_ascii_lowercase()), fit(&self.cluster))
    }
}

/// As written: JSON, the last to sign in first.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    sessions: Vec<SavedContext>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedContext {
    servers: Vec<String>,
    account: String,
    token: String,
    #[serde(default)]
    cluster: String,
}

/// `$XDG_STATE_HOME/quorate`, or `~/.local/state/quorate` (XDG Base Directory Specification 0.8).
pub(super) fn directory() -> Option<PathBuf> {
    xdg("XDG_STATE_HOME", ".local/state")
}

/// `quorate` in the folder that `variable` names, or else in `usual` under the home folder.
pub(super) fn xdg(variable: &str, usual: &str) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(usual)))?;
    Some(base.join("quorate"))
}

/// The file of sessions.
pub(super) struct Contexts {
    directory: Option<PathBuf>,
}

impl Contexts {
    pub(super) fn at(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    /// The last session to sign in, at any of `servers` (none: anywhere) and as `account` (none: as anyone).
    pub(super) fn select(&self, servers: &[Address], account: Option<&str>) -> Result<Option<Context>> {
        let contexts = self.load()?;
        let fits = |context: &Context| {
            overlaps(servers, &context.servers)
                && account.is_none_or(|name| name.eq_ignore_ascii_case(&context.account))
        };
        Ok(contexts.into_iter().find(fits))
    }

    /// Who is signed in here, at any cluster.
    pub(super) fn accounts(&self) -> Result<Vec<String>> {
        Ok(self.load()?.into_iter().map(|context| context.account).collect())
    }

    /// Keeps a session, in place of an older one of the same account there.
    pub(super) fn keep(&self, context: Context) -> Result<()> {
        self.change(|contexts| {
            contexts.retain(|other| !same(other, &context));
            contexts.insert(0, context);
            contexts.truncate(CONTEXTS);
        })
    }

    /// Forgets a session.
    pub(super) fn forget(&self, token: &str) -> Result<()> {
        self.change(|contexts| contexts.retain(|context| context.token != token))
    }

    /// Whether a session could be kept: better known before signing in than after.
    pub(super) fn check(&self) -> Result<()> {
        self.change(|_| {})
    }

    fn load(&self) -> Result<Vec<Context>> {
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
        let saved: Saved = serde_json::from_str(&text).map_err(damaged)?;
        Ok(saved.sessions.into_iter().map(Context::from).collect())
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Context>)) -> Result<()> {
        let Some(directory) = &self.directory else {
            return Err(Failure::new(Exit::Failure, "there is no place to keep the session")
                .next("set HOME or XDG_STATE_HOME to an absolute path"));
        };
        let failed = |error: io::Error| failure("write", directory, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let lock = owners_own().create(true).truncate(false).open(directory.join("sessions.lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut contexts = self.load()?;
        change(&mut contexts);
        write(directory, contexts).map_err(failed)
    }
}

fn write(directory: &Path, contexts: Vec<Context>) -> io::Result<()> {
    let saved = Saved { sessions: contexts.into_iter().map(SavedContext::from).collect() };
    let (path, fresh) = (directory.join("sessions.json"), directory.join("sessions.json.new"));
    // One left behind by a crash may have any mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = owners_own().create_new(true).open(&fresh)?;
    serde_json::to_writer_pretty(&mut file, &saved)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    File::open(directory)?.sync_all()
}

fn owners_own() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn overlaps(given: &[Address], kept: &[Address]) -> bool {
    given.is_empty() || given.iter().any(|server| kept.contains(server))
}

fn same(one: &Context, other: &Context) -> bool {
    one.account.eq_ignore_ascii_case(&other.account) && overlaps(&one.servers, &other.servers)
}

fn failure(verb: &str, path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failure, format!("cannot {verb} the kept sessions: {}: {error}", path.display()))
}

impl From<SavedContext> for Context {
    fn from(saved: SavedContext) -> Self {
        let servers = saved.servers.iter().filter_map(|server| server.parse().ok()).collect();
        Self { servers, account: saved.account, token: saved.token, cluster: saved.cluster }
    }
}

impl From<Context> for SavedContext {
    fn from(context: Context) -> Self {
        let servers = context.servers.iter().map(ToString::to_string).collect();
        Self { servers, account: context.account, token: context.token, cluster: context.cluster }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn context(servers: &[&str], account: &str, token: &str) -> Context {
        let servers = servers.iter().map(|server| server.parse().unwrap()).collect();
        Context { servers, account: account.into(), token: token.into(), cluster: "q".into() }
    }

    #[test]
    fn the_last_to_sign_in_is_selected_unless_told_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let contexts = Contexts::at(Some(directory.path().join("deep/down")));
        assert_eq!(contexts.select(&[], None).unwrap(), None);
        let alice = context(&["a:1", "b:1"], "alice", "1");
        let bob = context(&["a:1", "b:1"], "Bob", "2");
        let other = context(&["z:9"], "alice", "3");
        for each in [&alice, &bob, &other] {
            contexts.keep(each.clone()).unwrap();
        }
        let at = |server: &str| vec![server.parse().unwrap()];
        assert_eq!(contexts.select(&[], None).unwrap(), Some(other.clone()));
        assert_eq!(contexts.select(&at("b:1"), None).unwrap(), Some(bob.clone()));
        assert_eq!(contexts.select(&at("b:1"), Some("ALICE")).unwrap(), Some(alice));
        assert_eq!(contexts.select(&at("q:1"), None).unwrap(), None);
        contexts.forget("3").unwrap();
        assert_eq!(contexts.select(&[], None).unwrap(), Some(bob));
    }

    #[test]
    fn signing_in_again_replaces_the_session() {
        let directory = tempfile::tempdir().unwrap();
        let contexts = Contexts::at(Some(directory.path().into()));
        contexts.keep(context(&["a:1"], "alice", "old")).unwrap();
        contexts.keep(context(&["a:1", "b:1"], "Alice", "new")).unwrap();
        let tokens: Vec<String> = contexts.load().unwrap().into_iter().map(|context| context.token).collect();
        assert_eq!(tokens, ["new"]);
    }

    #[test]
    fn tokens_are_readable_by_their_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let contexts = Contexts::at(Some(directory.path().join("state")));
        fs::create_dir(directory.path().join("state")).unwrap();
        fs::write(directory.path().join("state/sessions.json.new"), "left by a crash").unwrap();
        contexts.keep(context(&["a:1"], "alice", "t")).unwrap();
        let mode = fs::metadata(directory.path().join("state/sessions.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_named_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sessions.json");
        fs::write(&path, "{").unwrap();
        let contexts = Contexts::at(Some(directory.path().into()));
        let failure = contexts.keep(context(&["a:1"], "alice", "t")).unwrap_err();
        assert!(failure.to_string().contains("sessions.json"), "{failure}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{");
    }
}
