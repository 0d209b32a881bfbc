//! Reads: pure functions of a state, most of which return the API's own messages.
//!
//! Every listing is paged and bounded in rows and bytes. A page may be shorter than asked for, even empty, and still
//! have a successor: only an empty `next_page_token` means that the caller has seen everything.
//!
//! A query does not check who asks. The edge looks up the session first, and passes the account in.

mod accounts;
mod conversations;
mod events;
mod merge;
mod messages;
mod page;
mod pattern;
mod requests;
mod summary;
mod view;

pub use accounts::{
    AccountView, SessionView, account, account_by_name, chores, list_accounts, list_blocked, list_sessions,
    log_time_ms, session, settings,
};
pub use conversations::{conversation, conversation_ids, list_conversations, unread_total};
pub use events::events_after;
pub use messages::list_messages;
pub use requests::{is_decided, time_correction};
pub use summary::{Missing, Summary, continues, missing, summary};
