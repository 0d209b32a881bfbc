//! The real programs as real processes on loopback: killed, frozen, starved of disk, restarted; and what they tell the
//! shell. Everything is typed as a person would type it, except for the load, which the client library makes.

mod bots;
mod cluster;
mod completion;
mod disk;
mod faults;
mod growing;
mod guide;
mod harmless;
mod hosts;
mod load;
mod mount;
mod nemesis;
mod outbox;
mod refusals;
mod screen;
mod shell;
mod terminal;
