//! The file of contexts, which are names for clusters: `config.toml` in the configuration folder. People may edit it.
//!
//! ```toml
//! current = "work"
//!
//! [contexts.work]
//! servers = ["10.0.0.1:7400", "10.0.0.2:7400"]
//! ```

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{
    cli::{Exit, Failure, Result},
    types::NodeName,
    wire::Address,
};

/// Contexts kept at most.
const CONTEXTS: usize = 64;

/// The content of the file.
///
/// People edit it by hand, so nothing is taken for granted on reading: `current` may name a context that is not there,
/// and servers may be no addresses. Both are found when the context is used. [`Self::add`], [`Self::use_from_now_on`]
/// and [`Self::remove`] keep `current` within `contexts`, and every name they add is a word.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, NamedCluster>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedCluster {
    servers: Vec<String>,
}

impl Contexts {
    /// Names a cluster, in place of an older context of that name. The first context is in use at once.
    pub(super) fn add(&mut self, name: &str, servers: &[Address]) -> Result<()> {
        NodeName::new(name).map_err(|_| Failure::new(Exit::Usage, "a context's name is a word such as work"))?;
        let is_full = self.contexts.len() >= CONTEXTS && !self.contexts.contains_key(name);
        if is_full {
            return Err(Failure::new(Exit::Failure, format!("there are {CONTEXTS} contexts already"))
                .next("remove one with `chat context remove NAME`"));
        }
        let servers = servers.iter().map(ToString::to_string).collect();
        self.contexts.insert(name.to_owned(), NamedCluster { servers });
        self.current.get_or_insert_with(|| name.to_owned());
        Ok(())
    }

    /// Makes `name` the context in use.
    pub(super) fn use_from_now_on(&mut self, name: &str) -> Result<()> {
        if !self.contexts.contains_key(name) {
            return Err(unknown(name));
        }
        self.current = Some(name.to_owned());
        Ok(())
    }

    /// Removes a context. If it was in use, none is in use afterwards.
    pub(super) fn remove(&mut self, name: &str) -> Result<()> {
        self.contexts.remove(name).ok_or_else(|| unknown(name))?;
        self.current.take_if(|current| current == name);
        Ok(())
    }

    /// Name, servers, and whether it is in use, of every context, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[String], bool)> {
        let is_current = |name: &str| self.current.as_deref() == Some(name);
        self.contexts.iter().map(move |(name, named)| (name.as_str(), named.servers.as_slice(), is_current(name)))
    }
}

/// The file itself. A missing file holds no contexts.
pub(super) struct ClusterContexts {
    path: Option<PathBuf>,
}

impl ClusterContexts {
    /// The file in `directory`; without one, nothing can be saved.
    pub(super) fn in_directory(directory: Option<PathBuf>) -> Self {
        Self { path: directory.map(|directory| directory.join("config.toml")) }
    }

    /// The servers of the context `name`: at least one.
    pub(super) fn servers_of(&self, name: &str) -> Result<Vec<Address>> {
        self.servers(&self.load()?, name)
    }

    /// The servers of the context in use; empty if none is in use.
    pub(super) fn servers_in_use(&self) -> Result<Vec<Address>> {
        let saved = self.load()?;
        saved.current.as_ref().map_or(Ok(Vec::new()), |name| self.servers(&saved, name))
    }

    /// The names of all contexts.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        Ok(self.load()?.contexts.into_keys().collect())
    }

    fn servers(&self, saved: &Contexts, name: &str) -> Result<Vec<Address>> {
        let named = saved.contexts.get(name).ok_or_else(|| unknown(name))?;
        let read = |server: &String| {
            server.parse().map_err(|error| self.failure("use", &format!("context {name}: {server:?}: {error}")))
        };
        let servers: Vec<Address> = named.servers.iter().map(read).collect::<Result<_>>()?;
        if servers.is_empty() {
            Err(self.failure("use", &format!("context {name} has no servers")))
        } else {
            Ok(servers)
        }
    }

    /// Reads the file.
    pub(super) fn load(&self) -> Result<Contexts> {
        let Some(path) = &self.path else { return Ok(Contexts::default()) };
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| self.failure("read", &error.message())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contexts::default()),
            Err(error) => Err(self.failure("read", &error)),
        }
    }

    /// Replaces the whole file by rename, so a crash leaves either the old or the new one.
    pub(super) fn save(&self, contexts: &Contexts) -> Result<()> {
        let Some(path) = &self.path else {
            return Err(Failure::new(Exit::Failure, "there is no folder to keep contexts in")
                .next("set HOME or XDG_CONFIG_HOME to an absolute path"));
        };
        let text = toml::to_string_pretty(contexts).map_err(|error| self.failure("write", &error))?;
        let fresh = path.with_extension("toml.new");
        let written = || -> io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            let mut file = fs::File::create(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, path)
        };
        written().map_err(|error| self.failure("write", &error))
    }

    fn failure(&self, verb: &str, error: &dyn fmt::Display) -> Failure {
        let path = self.path.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
        Failure::new(Exit::Failure, format!("cannot {verb} {path}: {error}")).next("correct the file, or remove it")
    }
}

fn unknown(name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no context {name:?}"))
        .next("`chat context list` lists the contexts, `chat context add NAME HOST:PORT,…` adds one")
}
