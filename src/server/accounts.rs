//! AccountService.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    call::Call,
    desk::{Desk, Reply},
    translate::{
        accounts as translate,
        outcome::{mismatch, time},
    },
    view,
};
use crate::{
    machine::query,
    types::{AccountId, Consistency},
    wire::{
        Fault,
        chat::{self, account_service_server::AccountService},
        store::outcome::Result as Outcome,
    },
};

pub(super) struct Accounts(pub Arc<Desk>);

#[tonic::async_trait]
impl AccountService for Accounts {
    async fn create_account(
        &self,
        request: Request<chat::CreateAccountRequest>,
    ) -> Result<Response<chat::CreateAccountResponse>, Status> {
        self.0.answer("CreateAccount", request, create_account).await
    }

    async fn delete_account(
        &self,
        request: Request<chat::DeleteAccountRequest>,
    ) -> Result<Response<chat::DeleteAccountResponse>, Status> {
        self.0.answer("DeleteAccount", request, delete_account).await
    }

    async fn list_accounts(
        &self,
        request: Request<chat::ListAccountsRequest>,
    ) -> Result<Response<chat::ListAccountsResponse>, Status> {
        self.0
            .answer("ListAccounts", request, |desk, call, request| async move {
                let listing = translate::listing(request)?;
                desk.query_as(&call, move |state, _| query::list_accounts(state, &listing)).await
            })
            .await
    }

    async fn change_password(
        &self,
        request: Request<chat::ChangePasswordRequest>,
    ) -> Result<Response<chat::ChangePasswordResponse>, Status> {
        self.0.answer("ChangePassword", request, change_password).await
    }

    async fn create_session(
        &self,
        request: Request<chat::CreateSessionRequest>,
    ) -> Result<Response<chat::CreateSessionResponse>, Status> {
        self.0.answer("CreateSession", request, create_session).await
    }

    async fn list_sessions(
        &self,
        request: Request<chat::ListSessionsRequest>,
    ) -> Result<Response<chat::ListSessionsResponse>, Status> {
        self.0
            .answer("ListSessions", request, |desk, call, _| async move {
                desk.query_as(&call, |state, account| Ok(query::list_sessions(state, account)?)).await
            })
            .await
    }

    async fn delete_session(
        &self,
        request: Request<chat::DeleteSessionRequest>,
    ) -> Result<Response<chat::DeleteSessionResponse>, Status> {
        self.0
            .answer("DeleteSession", request, |desk, call, request| async move {
                let done = desk.write(&call, translate::delete_session(request)?).await?;
                Ok(Reply { message: chat::DeleteSessionResponse {}, index: done.index })
            })
            .await
    }

    async fn get_settings(
        &self,
        request: Request<chat::GetSettingsRequest>,
    ) -> Result<Response<chat::GetSettingsResponse>, Status> {
        self.0
            .answer("GetSettings", request, |desk, call, _| async move {
                let read = desk.query_as(&call, |state, account| Ok(query::settings(state, account)?)).await?;
                Ok(read.map(|settings| chat::GetSettingsResponse { settings: Some(settings) }))
            })
            .await
    }

    async fn update_settings(
        &self,
        request: Request<chat::UpdateSettingsRequest>,
    ) -> Result<Response<chat::UpdateSettingsResponse>, Status> {
        self.0.answer("UpdateSettings", request, update_settings).await
    }

    async fn block_account(
        &self,
        request: Request<chat::BlockAccountRequest>,
    ) -> Result<Response<chat::BlockAccountResponse>, Status> {
        self.0
            .answer("BlockAccount", request, |desk, call, request| async move {
                let done = desk.write(&call, translate::block(request)?).await?;
                Ok(Reply { message: chat::BlockAccountResponse {}, index: done.index })
            })
            .await
    }

    async fn unblock_account(
        &self,
        request: Request<chat::UnblockAccountRequest>,
    ) -> Result<Response<chat::UnblockAccountResponse>, Status> {
        self.0
            .answer("UnblockAccount", request, |desk, call, request| async move {
                let done = desk.write(&call, translate::unblock(request)?).await?;
                Ok(Reply { message: chat::UnblockAccountResponse {}, index: done.index })
            })
            .await
    }

    async fn list_blocked_accounts(
        &self,
        request: Request<chat::ListBlockedAccountsRequest>,
    ) -> Result<Response<chat::ListBlockedAccountsResponse>, Status> {
        self.0
            .answer("ListBlockedAccounts", request, |desk, call, _| async move {
                desk.query_as(&call, |state, account| Ok(query::list_blocked(state, account)?)).await
            })
            .await
    }
}

async fn create_account(
    desk: Arc<Desk>,
    call: Call,
    request: chat::CreateAccountRequest,
) -> Result<Reply<chat::CreateAccountResponse>, Fault> {
    let account = translate::new_account(request)?;
    desk.only_on_leader()?;
    let salt = desk.node.entropy().bytes();
    let hash = desk.passwords.hash(account.password.clone(), salt, call.remaining()).await?;
    let done = desk.propose(&call, None, account.write(hash)).await?;
    let Outcome::AccountCreated(created) = done.outcome else { return Err(mismatch()) };
    let account =
        chat::Account { username: created.username, create_time: Some(time(created.create_time_ms)), deleted: false };
    Ok(Reply { message: chat::CreateAccountResponse { account: Some(account) }, index: done.index })
}

async fn create_session(
    desk: Arc<Desk>,
    call: Call,
    request: chat::CreateSessionRequest,
) -> Result<Reply<chat::CreateSessionResponse>, Fault> {
    let login = translate::login(request)?;
    desk.only_on_leader()?;
    let name = login.username.clone();
    let look = desk.query(Consistency::Linearizable, call.remaining(), move |state| {
        view::credentials_of_name(state, name.as_str())
    });
    let (version, phc) = look.await?.0.map_or((0, None), |known| (known.version, Some(known.phc)));
    let who = (login.request_id, login.username.clone(), login.password.clone());
    let logging_in = desk.passwords.log_in(who, phc, call.remaining());
    let token = desk.rates.guess(login.username.as_str(), call.origin, logging_in).await?;
    let ttl_ms = u64::try_from(desk.session_ttl.as_millis()).unwrap_or(u64::MAX);
    let done = desk.propose(&call, None, login.write(version, token.key(), ttl_ms)).await?;
    let Outcome::SessionCreated(created) = &done.outcome else { return Err(mismatch()) };
    let session = translate::session(created, token.key())?;
    let account = AccountId(created.account_id);
    let unread = desk.query_after(&done, &call, move |state| Ok(query::unread_total(state, account)?)).await?;
    let token = token.into_secret();
    let message = chat::CreateSessionResponse { session: Some(session), token, unread_count: unread.message };
    Ok(Reply { message, index: unread.index })
}

async fn delete_account(
    desk: Arc<Desk>,
    call: Call,
    request: chat::DeleteAccountRequest,
) -> Result<Reply<chat::DeleteAccountResponse>, Fault> {
    let deletion = translate::deletion(request)?;
    desk.only_on_leader()?;
    let version = match credentials_to_act(&desk, &call, deletion.request_id).await? {
        Some(known) => {
            check_password(&desk, &call, &known, deletion.password.clone()).await?;
            known.version
        }
        None => 0,
    };
    let done = desk.propose(&call, Some(call.session()?), deletion.write(version)).await?;
    let Outcome::AccountDeleted(deleted) = done.outcome else { return Err(mismatch()) };
    let message = chat::DeleteAccountResponse { messages_erased: deleted.messages_erased };
    Ok(Reply { message, index: done.index })
}

async fn change_password(
    desk: Arc<Desk>,
    call: Call,
    request: chat::ChangePasswordRequest,
) -> Result<Reply<chat::ChangePasswordResponse>, Fault> {
    let change = translate::password_change(request)?;
    desk.only_on_leader()?;
    let write = match credentials_to_act(&desk, &call, change.request_id).await? {
        Some(known) => {
            check_password(&desk, &call, &known, change.old.clone()).await?;
            let salt = desk.node.entropy().bytes();
            let hash = desk.passwords.hash(change.new.clone(), salt, call.remaining()).await?;
            change.write(known.version, hash)
        }
        None => change.write(0, String::new()),
    };
    let done = desk.propose(&call, Some(call.session()?), write).await?;
    Ok(Reply { message: chat::ChangePasswordResponse {}, index: done.index })
}

async fn check_password(desk: &Desk, call: &Call, known: &view::Credentials, password: String) -> Result<(), Fault> {
    let checking = desk.passwords.verify(password, Some(known.phc.clone()), call.remaining());
    desk.rates.guess(&known.username, call.origin, checking).await
}

async fn update_settings(
    desk: Arc<Desk>,
    call: Call,
    request: chat::UpdateSettingsRequest,
) -> Result<Reply<chat::UpdateSettingsResponse>, Fault> {
    let done = desk.write(&call, translate::settings(request)?).await?;
    let Outcome::SettingsUpdated(updated) = done.outcome else { return Err(mismatch()) };
    let settings = Some(chat::Settings { read_receipts: updated.read_receipts });
    Ok(Reply { message: chat::UpdateSettingsResponse { settings }, index: done.index })
}

/// What the password of the acting account is checked against. `None` for a retry of a request that was decided: its
/// first attempt has changed what there is to check, and its outcome is looked up by the request_id alone. A command
/// that takes this way does nothing: if it were not the same request, it would be refused as such.
async fn credentials_to_act(
    desk: &Desk,
    call: &Call,
    request_id: crate::types::RequestId,
) -> Result<Option<view::Credentials>, Fault> {
    let (key, now_ms) = (call.session()?, desk.node.clock().now_ms());
    let look = desk.query(Consistency::Linearizable, call.remaining(), move |state| {
        view::credentials_to_act(state, key, now_ms, request_id)
    });
    Ok(look.await?.0)
}
