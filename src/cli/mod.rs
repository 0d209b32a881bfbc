//! Floor 3: the command lines of `chat-node`, `chat-admin` and `chat`.
//!
//! This floor parses arguments, calls the cluster through [`client`](crate::client), and prints the answers. It takes no
//! decision about the cluster or about chat. What the commands of `chat-node` do is above this floor.
//!
//! The programs share these conventions:
//!
//! - exit codes ([`Exit`]);
//! - errors that say what failed, why, and what to do next ([`Failure`]);
//! - data on stdout, messages to the person on stderr ([`Output`]);
//! - tables ([`Table`]);
//! - text of others is escaped before it reaches a terminal ([`text`]).

pub mod admin;
mod args;
pub mod chat;
pub mod demo;
mod exit;
mod failure;
pub mod node;
mod output;
pub mod probe;
mod program;
mod room_change;
pub mod screen;
mod style;
mod table;
mod terminal;
pub mod text;
mod typed;

pub use args::{completions, duration, man, parse, version};
pub use exit::Exit;
pub use failure::{Failure, Result, finish};
pub use output::{Captured, Output};
pub use program::run_to_end;
pub use style::Style;
pub use table::Table;
