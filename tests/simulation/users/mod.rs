//! Users who write, read and subscribe by the real client library, and record all of it.
//!
//! | file | what a user does |
//! |---|---|
//! | [`lifetime`] | registers, opens conversations, works until the faults end, checks what was left open |
//! | [`user`] | what every part shares: name, random numbers, retries |
//! | [`messages`] | sends and reads messages |
//! | [`subscriber`] | follows its stream of events |
//! | [`user_actions`] | deletes and hides messages, joins and leaves rooms |
//! | [`account_churn`] | creates and deletes accounts beside the user |
//! | [`shared_accounts`] | uses one account from several clients at once |

mod account_churn;
mod lifetime;
mod messages;
mod shared_accounts;
mod subscriber;
mod user;
mod user_actions;

pub use user::User;
