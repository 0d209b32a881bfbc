//! Calls on the account itself: its sessions, password, settings and blocks, and the list of accounts.

use super::Session;
use crate::wire::{
    Fault,
    chat::{self, account_service_client::AccountServiceClient},
};

impl Session {
    /// Ends this session (`None`), the session with this id, or with `all` every session of the account.
    pub async fn logout(&self, session_id: Option<&str>, all: bool) -> Result<(), Fault> {
        let id = self.cluster.request_id();
        let session_id = session_id.unwrap_or_default().to_owned();
        let request = chat::DeleteSessionRequest { request_id: id.to_string(), session_id, all };
        let call = |channel, request| async move { AccountServiceClient::new(channel).delete_session(request).await };
        self.write(id, request, call).await.map(|_| ())
    }

    /// The account's sessions.
    pub async fn sessions(&self) -> Result<Vec<chat::Session>, Fault> {
        let call = |channel, request| async move { AccountServiceClient::new(channel).list_sessions(request).await };
        Ok(self.read(chat::ListSessionsRequest {}, call).await?.sessions)
    }

    /// Changes the password and ends every other session.
    pub async fn change_password(&self, old_password: &str, new_password: &str) -> Result<(), Fault> {
        let id = self.cluster.request_id();
        let request = chat::ChangePasswordRequest {
            request_id: id.to_string(),
            old_password: old_password.to_owned(),
            new_password: new_password.to_owned(),
        };
        let call = |channel, request| async move { AccountServiceClient::new(channel).change_password(request).await };
        self.write(id, request, call).await.map(|_| ())
    }

    /// Deletes the account, with `erase_messages` its messages too. Returns how many messages were erased.
    pub async fn delete_account(&self, password: &str, erase_messages: bool) -> Result<u64, Fault> {
        let id = self.cluster.request_id();
        let request =
            chat::DeleteAccountRequest { request_id: id.to_string(), password: password.to_owned(), erase_messages };
        let call = |channel, request| async move { AccountServiceClient::new(channel).delete_account(request).await };
        Ok(self.write(id, request, call).await?.messages_erased)
    }

    /// One page of the accounts whose names match `pattern` (`*` and `?`; empty: all), by name. With `page_size` 0 the
    /// server chooses the size.
    pub async fn users(
        &self,
        pattern: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<chat::ListAccountsResponse, Fault> {
        let (pattern, page_token) = (pattern.to_owned(), page_token.to_owned());
        let request = chat::ListAccountsRequest { pattern, page_size, page_token };
        let call = |channel, request| async move { AccountServiceClient::new(channel).list_accounts(request).await };
        self.read(request, call).await
    }

    /// The account's settings.
    pub async fn settings(&self) -> Result<chat::Settings, Fault> {
        let call = |channel, request| async move { AccountServiceClient::new(channel).get_settings(request).await };
        Ok(self.read(chat::GetSettingsRequest {}, call).await?.settings.unwrap_or_default())
    }

    /// Turns read receipts in direct conversations on or off. Returns the new settings.
    pub async fn set_read_receipts(&self, on: bool) -> Result<chat::Settings, Fault> {
        let id = self.cluster.request_id();
        let request = chat::UpdateSettingsRequest { request_id: id.to_string(), read_receipts: Some(on) };
        let call = |channel, request| async move { AccountServiceClient::new(channel).update_settings(request).await };
        Ok(self.write(id, request, call).await?.settings.unwrap_or_default())
    }

    /// Stops an account from writing to this one and from inviting it.
    pub async fn block(&self, username: &str) -> Result<(), Fault> {
        let id = self.cluster.request_id();
        let request = chat::BlockAccountRequest { request_id: id.to_string(), username: username.to_owned() };
        let call = |channel, request| async move { AccountServiceClient::new(channel).block_account(request).await };
        self.write(id, request, call).await.map(|_| ())
    }

    /// Undoes [`Session::block`].
    pub async fn unblock(&self, username: &str) -> Result<(), Fault> {
        let id = self.cluster.request_id();
        let request = chat::UnblockAccountRequest { request_id: id.to_string(), username: username.to_owned() };
        let call = |channel, request| async move { AccountServiceClient::new(channel).unblock_account(request).await };
        self.write(id, request, call).await.map(|_| ())
    }

    /// The accounts that this one has blocked.
    pub async fn blocked(&self) -> Result<Vec<chat::Account>, Fault> {
        let call =
            |channel, request| async move { AccountServiceClient::new(channel).list_blocked_accounts(request).await };
        Ok(self.read(chat::ListBlockedAccountsRequest {}, call).await?.accounts)
    }
}
