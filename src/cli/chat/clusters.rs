//! Names for clusters: `config.toml` under the XDG configuration folder, which people may edit as well.
//!
//! ```toml
//! current = "work"
//!
//! [contexts.work]
//! servers = ["10.0.0.1:7400", "10.0.0.2:7400"]
//! ```

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Desk, args::ContextVerb, contexts};
use crate::{
    cli::{Exit, Failure, Result, Table},
    types::NodeName,
    wire::Address,
};

/// Clusters named at most.
const CLUSTERS: usize = 64;

/// As written.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, SavedCluster>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedCluster {
    servers: Vec<String>,
}

/// `$XDG_CONFIG_HOME/quorate`, or `~/.config/quorate`.
pub(super) fn directory() -> Option<PathBuf> {
    contexts::xdg("XDG_CONFIG_HOME", ".config")
}

/// The file of names.
pub(super) struct Clusters {
    path: Option<PathBuf>,
}

impl Clusters {
    pub(super) fn at(directory: Option<PathBuf>) -> Self {
        Self { path: directory.map(|directory| directory.join("config.toml")) }
    }

    /// Some nodes of the cluster called `name`.
    pub(super) fn named(&self, name: &str) -> Result<Vec<Address>> {
        self.servers(&self.load()?, name)
    }

    /// What clusters are called.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        Ok(self.load()?.contexts.into_keys().collect())
    }

    /// Some nodes of the cluster in use; none if none is.
    pub(super) fn in_use(&self) -> Result<Vec<Address>> {
        let saved = self.load()?;
        saved.current.as_ref().map_or(Ok(Vec::new()), |name| self.servers(&saved, name))
    }

    fn servers(&self, saved: &Saved, name: &str) -> Result<Vec<Address>> {
        let cluster = saved.contexts.get(name).ok_or_else(|| unknown(name))?;
        let read = |server: &String| {
            server.parse().map_err(|error| self.failure("use", &format!("context {name}: {server:?}: {error}")))
        };
        let servers: Vec<Address> = cluster.servers.iter().map(read).collect::<Result<_>>()?;
        if servers.is_empty() {
            Err(self.failure("use", &format!("context {name} has no servers")))
        } else {
            Ok(servers)
        }
    }

    fn load(&self) -> Result<Saved> {
        let Some(path) = &self.path else { return Ok(Saved::default()) };
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| self.failure("read", &error.message())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Saved::default()),
            Err(error) => Err(self.failure("read", &error)),
        }
    }

    /// Replaces the file as a whole, so that a crash leaves the old one or the new one.
    fn save(&self, saved: &Saved) -> Result<()> {
        let Some(path) = &self.path else {
            return Err(Failure::new(Exit::Failure, "there is no place to keep contexts")
                .next("set HOME or XDG_CONFIG_HOME to an absolute path"));
        };
        let text = toml::to_string_pretty(saved).map_err(|error| self.failure("write", &error))?;
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

    fn failure(&self, verb: &str, error: &dyn std::fmt::Display) -> Failure {
        let path = self.path.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
        Failure::new(Exit::Failure, format!("cannot {verb} {path}: {error}")).next("correct the file, or remove it")
    }
}

fn unknown(name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no context {name:?}"))
        .next("`chat context list` shows them, `chat context add NAME HOST:PORT,…` makes one")
}

pub(super) fn run(mut desk: Desk, verb: ContextVerb) -> Result<()> {
    let mut saved = desk.clusters.load()?;
    let said = match verb {
        ContextVerb::List => return list(&mut desk, &saved),
        ContextVerb::Add { name, servers } => {
            NodeName::new(&name).map_err(|_| Failure::new(Exit::Usage, "a context's name is a word such as work"))?;
            let is_full = saved.contexts.len() >= CLUSTERS && !saved.contexts.contains_key(&name);
            if is_full {
                return Err(Failure::new(Exit::Failure, format!("there are {CLUSTERS} contexts already"))
                    .next("remove one with `chat context remove NAME`"));
            }
            let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
            saved.contexts.insert(name.clone(), SavedCluster { servers });
            // The first one is what is meant from now on.
            saved.current.get_or_insert_with(|| name.clone());
            format!("context {name} is kept; sign in with `chat --context {name} login NAME`")
        }
        ContextVerb::Use { name } => {
            if !saved.contexts.contains_key(&name) {
                return Err(unknown(&name));
            }
            saved.current = Some(name.clone());
            format!("context {name} is in use")
        }
        ContextVerb::Remove { name } => {
            saved.contexts.remove(&name).ok_or_else(|| unknown(&name))?;
            saved.current.take_if(|current| *current == name);
            format!("context {name} is forgotten")
        }
    };
    desk.clusters.save(&saved)?;
    desk.output().talk(said);
    Ok(())
}

fn list(desk: &mut Desk, saved: &Saved) -> Result<()> {
    let is_current = |name: &str| saved.current.as_deref() == Some(name);
    if desk.output().is_json() {
        let contexts = saved
            .contexts
            .iter()
            .map(|(name, cluster)| json!({ "name": name, "servers": cluster.servers, "current": is_current(name) }));
        let contexts: Vec<_> = contexts.collect();
        return desk.output().json(&json!({ "contexts": contexts }));
    }
    let mut table = Table::new(["USED", "NAME", "SERVERS"]);
    for (name, cluster) in &saved.contexts {
        table.row([if is_current(name) { "*" } else { "" }, name, &cluster.servers.join(",")]);
    }
    desk.output().table(&table)
}
