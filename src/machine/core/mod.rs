//! What verbs and queries stand on: records and their keys, and the rules that several verbs share.
//!
//! A file here may use the files above it in this list, never the other way round:
//!
//! | file | what |
//! |---|---|
//! | `error` | refusals and storage errors |
//! | `keys` | the layout of keys |
//! | `records` | typed reading and writing of rows |
//! | `context` | one log entry being applied |
//! | `timeline` | the events of a conversation |
//! | `session_table` | the rows of a session |
//! | `actor` | who acts in a command |
//! | `dedup` | request ids and remembered outcomes |
//! | `lookup` | accounts and conversations by what a caller calls them |
//! | `blocks` | who has blocked whom |
//! | `member` | one account in one conversation: read mark and unread count |
//! | `references` | the messages that a request names |
//! | `roster` | joining and leaving a conversation |
//! | `chores` | what remains to be done after an account was deleted |

pub mod actor;
pub mod blocks;
pub mod chores;
pub mod context;
pub mod dedup;
pub mod error;
pub mod keys;
pub mod lookup;
pub mod member;
pub mod records;
pub mod references;
pub mod roster;
pub mod session_table;
pub mod timeline;
