//! Reads: pure functions of the state, which answer in the API's own types.
//!
//! Every listing is paged and bounded in rows and in bytes. A page may be shorter than asked for, even empty, and
//! still have a successor: only an empty `next_page_token` says that all has been seen.

mod accounts;
mod conversations;
mod events;
mod holdings;
mod messages;
mod page;
mod pattern;
mod requests;
mod timeline;
mod view;

pub use accounts::{
    AccountView, SessionView, account, account_by_name, chores, list_accounts, list_blocked, list_sessions,
    log_time_ms, session, settings,
};
pub use conversations::{conversation, conversation_ids, list_conversations, unread_total};
pub use events::events_after;
pub use holdings::{Holdings, Lacking, holdings, lacking};
pub use messages::list_messages;
pub use requests::is_decided;
