//! Floor 0: the words that every other room uses.
//!
//! Ids and names are newtypes, so that one cannot be passed for another; every maximum stands in [`limits`]. The two
//! seams through which a whole cluster becomes deterministic under test, [`Clock`] and [`Entropy`], are here too.

mod address;
mod clock;
mod consistency;
mod counted;
mod entropy;
mod id;
pub mod limits;
mod name;
mod printable;

pub use address::{Address, InvalidAddress};
pub use clock::Clock;
pub use consistency::Consistency;
pub use counted::counted;
pub use entropy::Entropy;
pub use id::{AccountId, ConversationId, Cursor, InvalidId, NodeId, RequestId, SessionKey};
pub use name::{InvalidName, NodeName, RoomTitle, Username, Zone};
pub use printable::{is_printable, printable};
