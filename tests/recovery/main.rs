//! Operations after a loss or a move, with real processes on loopback.
//!
//! | file | what it tests |
//! |---|---|
//! | [`recover`] | `chat-node recover`: one survivor goes on after the quorum is lost for good |
//! | [`backup`] | `chat-admin backup` and `chat-node restore` |
//! | [`removed`] | nodes that were removed or wiped while they were down |
//! | [`address`] | nodes that move to another address |
//! | [`observe`] | `verify` and `status` on a cluster under load, and on one that hangs |

mod address;
mod backup;
mod observe;
mod recover;
mod removed;
mod world;
