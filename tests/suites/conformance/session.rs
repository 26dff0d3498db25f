use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overlay_agent::store::Session;
use overlay_agent::store::client::{SessionId, TxnOp};

use super::{Place, Refused as _};

super::cases![
    a_lock_has_one_holder,
    the_end_of_a_session_releases_its_lock,
    a_plain_write_keeps_the_lock,
    an_unknown_session_cannot_lock,
    a_kept_session_is_replaced_when_lost,
    a_session_can_be_resumed_and_ended,
];

/// Consul's shortest.
const TTL: Duration = Duration::from_secs(10);

async fn holder(at: &Place, key: &str) -> Result<Option<SessionId>> {
    let pair = at.client.get(key).await?.value.context("the key is gone")?;
    Ok(pair.session)
}

async fn a_lock_has_one_holder(at: &Place) -> Result<()> {
    let key = at.key("a");
    let first = at.client.session_create("first", TTL).await?;
    let second = at.client.session_create("second", TTL).await?;
    at.client
        .txn("test", &[TxnOp::lock(&key, b"1", first.clone())])
        .await?;
    ensure!(holder(at, &key).await?.as_ref() == Some(&first));
    // Again by the same: a write.
    at.client
        .txn("test", &[TxnOp::lock(&key, b"2", first.clone())])
        .await?;
    let error = at
        .client
        .txn("test", &[TxnOp::lock(&key, b"3", second.clone())])
        .await;
    ensure!(error.refused()?.op_failed(0));
    at.client
        .txn("test", &[TxnOp::check_session(&key, first.clone())])
        .await?;
    let error = at
        .client
        .txn("test", &[TxnOp::check_session(&key, second.clone())])
        .await;
    ensure!(error.refused()?.op_failed(0));
    let pair = at
        .client
        .get(&key)
        .await?
        .value
        .context("the key is gone")?;
    ensure!(pair.value == b"2" && pair.lock_index == 1, "{pair:?}");
    at.client.session_destroy(&first).await?;
    at.client.session_destroy(&second).await?;
    Ok(())
}

async fn the_end_of_a_session_releases_its_lock(at: &Place) -> Result<()> {
    let key = at.key("a");
    let session = at.client.session_create("test", TTL).await?;
    at.client
        .txn("test", &[TxnOp::lock(&key, b"1", session.clone())])
        .await?;
    ensure!(at.client.session_renew(&session).await?);
    at.client.session_destroy(&session).await?;
    ensure!(!at.client.session_renew(&session).await?);
    ensure!(
        holder(at, &key).await?.is_none(),
        "the lock outlived its session"
    );
    // No lock delay.
    let next = at.client.session_create("next", TTL).await?;
    at.client
        .txn("test", &[TxnOp::lock(&key, b"2", next.clone())])
        .await?;
    at.client.session_destroy(&next).await?;
    at.client.session_destroy(&next).await?;
    Ok(())
}

async fn a_plain_write_keeps_the_lock(at: &Place) -> Result<()> {
    let key = at.key("a");
    let session = at.client.session_create("test", TTL).await?;
    at.client
        .txn("test", &[TxnOp::lock(&key, b"1", session.clone())])
        .await?;
    at.client.put(&key, b"2".to_vec()).await?;
    ensure!(holder(at, &key).await?.as_ref() == Some(&session));
    at.client.session_destroy(&session).await?;
    Ok(())
}

async fn an_unknown_session_cannot_lock(at: &Place) -> Result<()> {
    let nobody = SessionId::new("01234567-89ab-cdef-0123-456789abcdef");
    ensure!(!at.client.session_renew(&nobody).await?);
    let error = at
        .client
        .txn("test", &[TxnOp::lock(at.key("a"), b"1", nobody)])
        .await;
    ensure!(error.refused()?.op_failed(0));
    ensure!(at.client.get(&at.key("a")).await?.value.is_none());
    Ok(())
}

fn kept(at: &Place, resume: Option<SessionId>) -> Session {
    Session::spawn(at.client.clone(), "test".to_owned(), TTL, resume)
}

/// The next session other than `old`.
async fn another(session: &Session, old: Option<&SessionId>) -> Result<SessionId> {
    let mut current = session.subscribe();
    let new = current
        .wait_for(|id| id.is_some() && id.as_ref() != old)
        .await?
        .clone();
    new.context("no session")
}

async fn a_kept_session_is_replaced_when_lost(at: &Place) -> Result<()> {
    let session = kept(at, None);
    let first = another(&session, None).await?;
    at.client.session_destroy(&first).await?;
    let second = another(&session, Some(&first)).await?;
    ensure!(at.client.session_renew(&second).await?);
    session.end().await?;
    Ok(())
}

async fn a_session_can_be_resumed_and_ended(at: &Place) -> Result<()> {
    let session = kept(at, None);
    let id = another(&session, None).await?;
    drop(session);
    let resumed = kept(at, Some(id.clone()));
    ensure!(another(&resumed, None).await? == id);
    resumed.end().await?;
    ensure!(!at.client.session_renew(&id).await?);
    let fresh = kept(at, Some(id.clone()));
    ensure!(another(&fresh, None).await? != id);
    fresh.end().await?;
    Ok(())
}
