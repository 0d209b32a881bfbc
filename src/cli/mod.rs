//! Floor 3: the command lines of the three programs.
//!
//! Arguments in, calls through [`client`](crate::client), answers out. The shared manners are here: exit codes
//! ([`Exit`]), errors that say what failed, why and what to do next ([`Failure`]), data on stdout and talk on stderr
//! ([`Output`]), tables ([`Table`]), and text from others made harmless for a terminal ([`text`]).
//! No decision about the cluster or about chat is taken on this floor.

pub mod admin;
mod args;
pub mod chat;
pub mod demo;
mod exit;
mod failure;
mod happened;
pub mod node;
mod output;
pub mod probe;
pub mod screen;
mod style;
mod table;
pub mod text;

pub use args::{completions, duration, man, parse, version};
pub use exit::Exit;
pub use failure::{Failure, Result, finish};
pub use output::{Captured, Output};
pub use style::Style;
pub use table::Table;
