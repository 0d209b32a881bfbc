//! `chat context`: names for clusters.

use serde_json::json;

use super::{args::ContextVerb, cluster_contexts::Contexts, command_context::CommandContext};
use crate::cli::{Result, Table};

pub(super) fn run(mut context: CommandContext, verb: ContextVerb) -> Result<()> {
    let mut named = context.cluster_contexts.load()?;
    let done = match verb {
        ContextVerb::List => return list(&mut context, &named),
        ContextVerb::Add { name, servers } => {
            named.add(&name, &servers)?;
            format!("context {name} is saved; sign in with `chat --context {name} login NAME`")
        }
        ContextVerb::Use { name } => {
            named.use_from_now_on(&name)?;
            format!("context {name} is in use")
        }
        ContextVerb::Remove { name } => {
            named.remove(&name)?;
            format!("context {name} is removed")
        }
    };
    context.cluster_contexts.save(&named)?;
    context.output().talk(done);
    Ok(())
}

fn list(context: &mut CommandContext, named: &Contexts) -> Result<()> {
    if context.output().is_json() {
        let contexts =
            named.iter().map(|(name, servers, in_use)| json!({ "name": name, "servers": servers, "current": in_use }));
        let contexts: Vec<_> = contexts.collect();
        return context.output().json(&json!({ "contexts": contexts }));
    }
    let mut table = Table::new(["USED", "NAME", "SERVERS"]);
    for (name, servers, in_use) in named.iter() {
        table.row([if in_use { "*" } else { "" }, name, &servers.join(",")]);
    }
    context.output().table(&table)
}
