//! A session's verbs on what the account has set for itself, and on whom it has blocked.

use super::Session;
use crate::wire::{
    Fault,
    chat::{self, account_service_client::AccountServiceClient},
};

impl Session {
    /// What the account has set for itself.
    pub async fn settings(&self) -> Result<chat::Settings, Fault> {
        let call = |channel, request| async move { AccountServiceClient::new(channel).get_settings(request).await };
        Ok(self.read(chat::GetSettingsRequest {}, call).await?.settings.unwrap_or_default())
    }

    /// Turns read receipts in direct conversations on or off; answers with what is set then.
    pub async fn set_read_receipts(&self, on: bool) -> Result<chat::Settings, Fault> {
        let id = self.cluster().request_id();
        let request = chat::UpdateSettingsRequest { request_id: id.to_string(), read_receipts: Some(on) };
        let call = |channel, request| async move { AccountServiceClient::new(channel).update_settings(request).await };
        Ok(self.write(id, request, call).await?.settings.unwrap_or_default())
    }

    /// Keeps an account from writing to this one and from inviting it.
    pub async fn block(&self, username: &str) -> Result<(), Fault> {
        let id = self.cluster().request_id();
        let request = chat::BlockAccountRequest { request_id: id.to_string(), username: username.to_owned() };
        let call = |channel, request| async move { AccountServiceClient::new(channel).block_account(request).await };
        self.write(id, request, call).await.map(|_| ())
    }

    /// Ends what [`Session::block`] began.
    pub async fn unblock(&self, username: &str) -> Result<(), Fault> {
        let id = self.cluster().request_id();
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
