//! Floor 0: the vocabulary that every other room shares.
//!
//! Ids and names are newtypes, so the compiler finds a mix-up. A name exists only after its check, so code that is
//! given one does not check again. Every maximum is in [`limits`]. [`Clock`] and [`Entropy`] are the two seams that
//! make a whole cluster deterministic under test: production code reads time and randomness only through them.

mod address;
mod clock;
mod consistency;
mod counted;
mod entropy;
mod id;
pub mod limits;
mod name;
mod normal_form;
mod printable;

pub use address::{Address, InvalidAddress};
pub use clock::Clock;
pub use consistency::Consistency;
pub use counted::counted;
pub use entropy::Entropy;
pub use id::{AccountId, ConversationId, Cursor, InvalidId, NodeId, RequestId, SessionKey};
pub use name::{InvalidName, NodeName, RoomTitle, Username, Zone};
pub use normal_form::normal_form;
pub use printable::{is_printable, printable};
