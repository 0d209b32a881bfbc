//! AccountService: accounts, passwords, sessions, settings and blocks.
//!
//! # Calls with a password
//!
//! A password is hashed or verified on the node that serves the call, before the command is proposed. That takes tens of
//! milliseconds of one core, so the cheap reasons to refuse come first: a malformed field, a node that is not the leader
//! (no other can commit the command), too many wrong passwords lately.
//!
//! Between the check and the commit the password may change. The command carries the version of the password that was
//! checked, and the state machine refuses it if the account has another version by then.

pub(in crate::server) mod convert;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    auth_queries::{self, Credentials},
    call::Call,
    outcome::{mismatch, time},
    service_context::{Method, Reply, ServiceContext},
};
use crate::{
    machine::query,
    types::{AccountId, Consistency, RequestId},
    wire::{
        Fault,
        chat::{self, account_service_server::AccountService},
        store::outcome::Result as Outcome,
    },
};

pub(super) struct Accounts {
    pub context: Arc<ServiceContext>,
}

#[tonic::async_trait]
impl AccountService for Accounts {
    async fn create_account(
        &self,
        request: Request<chat::CreateAccountRequest>,
    ) -> Result<Response<chat::CreateAccountResponse>, Status> {
        self.context.answer(Method::limited("CreateAccount"), request, create_account).await
    }

    async fn delete_account(
        &self,
        request: Request<chat::DeleteAccountRequest>,
    ) -> Result<Response<chat::DeleteAccountResponse>, Status> {
        self.context.answer(Method::limited("DeleteAccount"), request, delete_account).await
    }

    async fn list_accounts(
        &self,
        request: Request<chat::ListAccountsRequest>,
    ) -> Result<Response<chat::ListAccountsResponse>, Status> {
        self.context
            .answer(Method::limited("ListAccounts"), request, |context, call, request| async move {
                let listing = convert::listing(request)?;
                context.query_as(&call, move |state, _| query::list_accounts(state, &listing)).await
            })
            .await
    }

    async fn change_password(
        &self,
        request: Request<chat::ChangePasswordRequest>,
    ) -> Result<Response<chat::ChangePasswordResponse>, Status> {
        self.context.answer(Method::limited("ChangePassword"), request, change_password).await
    }

    async fn create_session(
        &self,
        request: Request<chat::CreateSessionRequest>,
    ) -> Result<Response<chat::CreateSessionResponse>, Status> {
        self.context.answer(Method::limited("CreateSession"), request, create_session).await
    }

    async fn list_sessions(
        &self,
        request: Request<chat::ListSessionsRequest>,
    ) -> Result<Response<chat::ListSessionsResponse>, Status> {
        self.context
            .answer(Method::limited("ListSessions"), request, |context, call, _| async move {
                context.query_as(&call, |state, account| Ok(query::list_sessions(state, account)?)).await
            })
            .await
    }

    async fn delete_session(
        &self,
        request: Request<chat::DeleteSessionRequest>,
    ) -> Result<Response<chat::DeleteSessionResponse>, Status> {
        self.context
            .answer(Method::limited("DeleteSession"), request, |context, call, request| async move {
                let committed = context.write(&call, convert::delete_session(request)?).await?;
                Ok(Reply { message: chat::DeleteSessionResponse {}, index: committed.index })
            })
            .await
    }

    async fn get_settings(
        &self,
        request: Request<chat::GetSettingsRequest>,
    ) -> Result<Response<chat::GetSettingsResponse>, Status> {
        self.context
            .answer(Method::limited("GetSettings"), request, |context, call, _| async move {
                let read = context.query_as(&call, |state, account| Ok(query::settings(state, account)?)).await?;
                Ok(read.map(|settings| chat::GetSettingsResponse { settings: Some(settings) }))
            })
            .await
    }

    async fn update_settings(
        &self,
        request: Request<chat::UpdateSettingsRequest>,
    ) -> Result<Response<chat::UpdateSettingsResponse>, Status> {
        self.context.answer(Method::limited("UpdateSettings"), request, update_settings).await
    }

    async fn block_account(
        &self,
        request: Request<chat::BlockAccountRequest>,
    ) -> Result<Response<chat::BlockAccountResponse>, Status> {
        self.context
            .answer(Method::limited("BlockAccount"), request, |context, call, request| async move {
                let committed = context.write(&call, convert::block(request)?).await?;
                Ok(Reply { message: chat::BlockAccountResponse {}, index: committed.index })
            })
            .await
    }

    async fn unblock_account(
        &self,
        request: Request<chat::UnblockAccountRequest>,
    ) -> Result<Response<chat::UnblockAccountResponse>, Status> {
        self.context
            .answer(Method::limited("UnblockAccount"), request, |context, call, request| async move {
                let committed = context.write(&call, convert::unblock(request)?).await?;
                Ok(Reply { message: chat::UnblockAccountResponse {}, index: committed.index })
            })
            .await
    }

    async fn list_blocked_accounts(
        &self,
        request: Request<chat::ListBlockedAccountsRequest>,
    ) -> Result<Response<chat::ListBlockedAccountsResponse>, Status> {
        self.context
            .answer(Method::limited("ListBlockedAccounts"), request, |context, call, _| async move {
                context.query_as(&call, |state, account| Ok(query::list_blocked(state, account)?)).await
            })
            .await
    }
}

/// Hashes the password and commits the account. The salt is random, so two accounts with one password have different
/// hashes. A retry hashes again with another salt; the state machine answers it with the first outcome.
async fn create_account(
    context: Arc<ServiceContext>,
    call: Call,
    request: chat::CreateAccountRequest,
) -> Result<Reply<chat::CreateAccountResponse>, Fault> {
    let account = convert::new_account(request)?;
    context.require_leader()?;
    let salt = context.node.entropy().bytes();
    let hash = context.passwords.hash(account.password.clone(), salt, call.remaining()).await?;
    let committed = context.propose(&call, None, account.write(hash)).await?;
    let Outcome::AccountCreated(created) = committed.outcome else { return Err(mismatch()) };
    let account =
        chat::Account { username: created.username, create_time: Some(time(created.create_time_ms)), deleted: false };
    Ok(Reply { message: chat::CreateAccountResponse { account: Some(account) }, index: committed.index })
}

/// Verifies the password, derives the token and commits the session.
///
/// The account is read from a linearizable view, so that a password just changed elsewhere is the one that counts. The
/// token goes into the reply only; the log gets its hash. The unread count is read after the commit, from a view that
/// includes the session.
async fn create_session(
    context: Arc<ServiceContext>,
    call: Call,
    request: chat::CreateSessionRequest,
) -> Result<Reply<chat::CreateSessionResponse>, Fault> {
    let login = convert::login(request)?;
    context.require_leader()?;
    let name = login.username.clone();
    let reading = context.query(Consistency::Linearizable, call.remaining(), move |state| {
        auth_queries::credentials_of_name(state, name.as_str())
    });
    let (version, phc) = reading.await?.0.map_or((0, None), |known| (known.version, Some(known.phc)));
    let signing_in = context.passwords.derive_token(login.credentials(), phc, call.remaining());
    let token = context.rates.check_password(login.username.as_str(), call.origin, signing_in).await?;
    let ttl_ms = u64::try_from(context.session_ttl.as_millis()).unwrap_or(u64::MAX);
    let committed = context.propose(&call, None, login.write(version, token.key(), ttl_ms)).await?;
    let Outcome::SessionCreated(created) = &committed.outcome else { return Err(mismatch()) };
    let session = convert::session(created, token.key())?;
    let account = AccountId(created.account_id);
    let unread = context.query_after(&committed, &call, move |state| Ok(query::unread_total(state, account)?)).await?;
    let token = token.into_secret();
    let message = chat::CreateSessionResponse { session: Some(session), token, unread_count: unread.message };
    Ok(Reply { message, index: unread.index })
}

/// Verifies the password and commits the deletion, which also ends every session of the account.
async fn delete_account(
    context: Arc<ServiceContext>,
    call: Call,
    request: chat::DeleteAccountRequest,
) -> Result<Reply<chat::DeleteAccountResponse>, Fault> {
    let deletion = convert::deletion(request)?;
    context.require_leader()?;
    let version = match credentials_to_act(&context, &call, deletion.request_id).await? {
        Some(known) => {
            check_password(&context, &call, &known, deletion.password.clone()).await?;
            known.version
        }
        None => 0,
    };
    let committed = context.propose(&call, Some(call.session()?), deletion.write(version)).await?;
    let Outcome::AccountDeleted(deleted) = committed.outcome else { return Err(mismatch()) };
    let message = chat::DeleteAccountResponse { messages_erased: deleted.messages_erased };
    Ok(Reply { message, index: committed.index })
}

/// Verifies the old password, hashes the new one and commits the change, which ends the account's other sessions.
async fn change_password(
    context: Arc<ServiceContext>,
    call: Call,
    request: chat::ChangePasswordRequest,
) -> Result<Reply<chat::ChangePasswordResponse>, Fault> {
    let change = convert::password_change(request)?;
    context.require_leader()?;
    let write = match credentials_to_act(&context, &call, change.request_id).await? {
        Some(known) => {
            check_password(&context, &call, &known, change.old.clone()).await?;
            let salt = context.node.entropy().bytes();
            let hash = context.passwords.hash(change.new.clone(), salt, call.remaining()).await?;
            change.write(known.version, hash)
        }
        None => change.write(0, String::new()),
    };
    let committed = context.propose(&call, Some(call.session()?), write).await?;
    Ok(Reply { message: chat::ChangePasswordResponse {}, index: committed.index })
}

/// Verifies `password`, counting it against the rates of wrong passwords.
async fn check_password(
    context: &ServiceContext,
    call: &Call,
    known: &Credentials,
    password: String,
) -> Result<(), Fault> {
    let checking = context.passwords.verify(password, Some(known.phc.clone()), call.remaining());
    context.rates.check_password(&known.username, call.origin, checking).await
}

/// Commits the settings and replies with all of them as they are after it.
async fn update_settings(
    context: Arc<ServiceContext>,
    call: Call,
    request: chat::UpdateSettingsRequest,
) -> Result<Reply<chat::UpdateSettingsResponse>, Fault> {
    let committed = context.write(&call, convert::settings(request)?).await?;
    let Outcome::SettingsUpdated(updated) = committed.outcome else { return Err(mismatch()) };
    let settings = Some(chat::Settings { read_receipts: updated.read_receipts });
    Ok(Reply { message: chat::UpdateSettingsResponse { settings }, index: committed.index })
}

/// The credentials of the acting account, or `None` for a retry of a request that was decided.
///
/// The first attempt may have changed the password, so a retry cannot be checked against it. It gets the outcome of the
/// first attempt by its request id and changes nothing: a different request under the same id is refused.
async fn credentials_to_act(
    context: &ServiceContext,
    call: &Call,
    request_id: RequestId,
) -> Result<Option<Credentials>, Fault> {
    let (key, now_ms) = (call.session()?, context.node.now_ms());
    let reading = context.query(Consistency::Linearizable, call.remaining(), move |state| {
        auth_queries::credentials_to_act(state, key, now_ms, request_id)
    });
    Ok(reading.await?.0)
}
