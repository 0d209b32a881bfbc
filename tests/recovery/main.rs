//! What operators do when something is lost or has moved, by real processes on loopback: recovery of a survivor, backup
//! and restore, nodes that were removed or have another address, and looks at a cluster that hangs.

mod recover;
mod world;
