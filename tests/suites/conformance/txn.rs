use anyhow::{Context as _, Result, ensure};
use overlay_agent::store::ErrorKind;
use overlay_agent::store::client::{MAX_TXN_OPS, TxnOp};

use super::{Place, Refused as _};

super::cases![
    all_or_none,
    every_failure_is_named,
    reads_come_in_order,
    an_absent_key_fails_get_and_not_get_tree,
    conditions,
    trees_are_deleted,
    limits,
];

async fn all_or_none(at: &Place) -> Result<()> {
    let ops = [
        TxnOp::set(at.key("a"), b"1"),
        TxnOp::cas(at.key("b"), b"2", 99),
    ];
    let error = at.client.txn("test", &ops).await.refused()?;
    ensure!(
        error.is_conflict() && error.op_failed(1) && !error.op_failed(0),
        "{error:?}"
    );
    ensure!(at.client.get(&at.key("a")).await?.value.is_none());
    at.client.txn("test", &ops[..1]).await?;
    let pair = at.client.get(&at.key("a")).await?.value;
    ensure!(pair.is_some_and(|pair| pair.value == b"1"));
    Ok(())
}

async fn every_failure_is_named(at: &Place) -> Result<()> {
    let ops = [
        TxnOp::get(at.key("none")),
        TxnOp::check_index(at.key("none"), 7),
        TxnOp::set(at.key("a"), b"1"),
        TxnOp::check_not_exists(at.key("a")),
    ];
    let error = at.client.txn("test", &ops).await.refused()?;
    let failed: Vec<_> = (0..ops.len()).filter(|op| error.op_failed(*op)).collect();
    ensure!(failed == [0, 1, 3], "{error:?}");
    Ok(())
}

async fn reads_come_in_order(at: &Place) -> Result<()> {
    at.client.put(&at.key("a"), b"1".to_vec()).await?;
    at.client.put(&at.key("d/x"), b"2".to_vec()).await?;
    let ops = [
        TxnOp::get_tree(at.key("d/")),
        TxnOp::set(at.key("d/y"), b"3"),
        TxnOp::get(at.key("a")),
        TxnOp::delete(at.key("a")),
        TxnOp::get_tree(at.key("d/")),
    ];
    let pairs = at.client.txn("test", &ops).await?;
    let found: Vec<_> = pairs
        .iter()
        .map(|pair| (pair.key.as_str(), &*pair.value))
        .collect();
    let key = |name| at.key(name);
    let (a, x, y) = (key("a"), key("d/x"), key("d/y"));
    let wanted: [(&str, &[u8]); 5] = [(&x, b"2"), (&y, b""), (&a, b"1"), (&x, b"2"), (&y, b"3")];
    ensure!(found == wanted, "{found:?}");
    Ok(())
}

async fn an_absent_key_fails_get_and_not_get_tree(at: &Place) -> Result<()> {
    let pairs = at
        .client
        .txn("test", &[TxnOp::get_tree(at.key("none"))])
        .await?;
    ensure!(pairs.is_empty());
    let error = at
        .client
        .txn("test", &[TxnOp::get(at.key("none"))])
        .await
        .refused()?;
    ensure!(error.op_failed(0), "{error:?}");
    Ok(())
}

async fn conditions(at: &Place) -> Result<()> {
    let key = at.key("a");
    at.client.put(&key, b"1".to_vec()).await?;
    let index = at
        .client
        .get(&key)
        .await?
        .value
        .context("not written")?
        .modify_index;
    for (op, holds) in [
        (TxnOp::check_index(&key, index), true),
        (TxnOp::check_index(&key, index + 1), false),
        (TxnOp::check_not_exists(&key), false),
        (TxnOp::check_not_exists(at.key("none")), true),
        (TxnOp::cas(&key, b"1", 0), false),
        (TxnOp::delete_cas(&key, index + 1), false),
        (TxnOp::delete(at.key("none")), true),
        (TxnOp::delete_cas(&key, index), true),
    ] {
        let result = at.client.txn("test", std::slice::from_ref(&op)).await;
        match result {
            Ok(_) => ensure!(holds, "{op:?} held"),
            Err(error) => ensure!(!holds && error.is_conflict(), "{op:?}: {error:?}"),
        }
    }
    ensure!(at.client.get(&key).await?.value.is_none());
    Ok(())
}

async fn trees_are_deleted(at: &Place) -> Result<()> {
    for name in ["d/a", "d/b/c", "d2"] {
        at.client.put(&at.key(name), Vec::new()).await?;
    }
    at.client
        .txn("test", &[TxnOp::delete_tree(at.key("d/"))])
        .await?;
    ensure!(at.client.keys(&at.key("d")).await?.value == [at.key("d2")]);
    Ok(())
}

async fn limits(at: &Place) -> Result<()> {
    let ops: Vec<_> = (0..MAX_TXN_OPS)
        .map(|n| TxnOp::set(at.key(&n.to_string()), b""))
        .collect();
    at.client.txn("test", &ops).await?;
    let large = vec![b'x'; 300_000];
    let ops = [
        TxnOp::set(at.key("a"), &large),
        TxnOp::set(at.key("b"), &large),
    ];
    let error = at.client.txn("test", &ops).await.refused()?;
    ensure!(error.kind() == ErrorKind::TooLarge, "{error:?}");
    Ok(())
}
