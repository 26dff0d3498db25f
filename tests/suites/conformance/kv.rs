use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use overlay_agent::store::ErrorKind;

use super::{Place, Refused as _};

super::cases![
    an_absent_key_has_an_index,
    values_come_back,
    any_key_can_be_used,
    lists_are_whole_and_in_order,
    compare_and_set,
    an_identical_value_bumps_nothing,
    deletion,
    a_change_wakes,
    a_deletion_wakes,
    other_prefixes_do_not_wake,
    a_wait_ends,
    a_value_can_be_too_large,
];

async fn an_absent_key_has_an_index(at: &Place) -> Result<()> {
    let answer = at.client.get(&at.key("none")).await?;
    ensure!(answer.value.is_none() && answer.index >= 1, "{answer:?}");
    let answer = at.client.list(&at.key("none/")).await?;
    ensure!(answer.value.is_empty() && answer.index >= 1, "{answer:?}");
    ensure!(at.client.keys(&at.key("none/")).await?.value.is_empty());
    Ok(())
}

async fn values_come_back(at: &Place) -> Result<()> {
    for value in [
        vec![],
        vec![0, 0xff, 0xfe, b'\n'],
        b"{}".to_vec(),
        vec![7; 500_000],
    ] {
        at.client.put(&at.key("a"), value.clone()).await?;
        let pair = at.client.get(&at.key("a")).await?.value;
        ensure!(
            pair.is_some_and(|pair| pair.value == value),
            "{} bytes",
            value.len()
        );
    }
    Ok(())
}

async fn any_key_can_be_used(at: &Place) -> Result<()> {
    for name in ["a b", "100%", "q?x=1&y#z", "ä/ö", "+", "folder/"] {
        let key = at.key(name);
        at.client.put(&key, b"1".to_vec()).await?;
        let pair = at.client.get(&key).await?.value;
        ensure!(pair.is_some_and(|pair| pair.key == key), "{key}");
    }
    Ok(())
}

async fn lists_are_whole_and_in_order(at: &Place) -> Result<()> {
    for name in ["d/b", "d/a/x", "d/", "d/a", "e", "d2/a"] {
        at.client
            .put(&at.key(name), name.as_bytes().to_vec())
            .await?;
    }
    let wanted = ["d/", "d/a", "d/a/x", "d/b"].map(|name| at.key(name));
    let pairs = at.client.list(&at.key("d/")).await?.value;
    let keys: Vec<_> = pairs.iter().map(|pair| &pair.key).collect();
    ensure!(keys == wanted.iter().collect::<Vec<_>>(), "{keys:?}");
    ensure!(
        pairs
            .iter()
            .all(|pair| at.key("").len() + pair.value.len() == pair.key.len())
    );
    ensure!(at.client.keys(&at.key("d/")).await?.value == wanted);
    Ok(())
}

async fn compare_and_set(at: &Place) -> Result<()> {
    let key = at.key("a");
    ensure!(
        !at.client.cas(&key, b"0".to_vec(), 1).await?,
        "set a key that is not there"
    );
    ensure!(at.client.cas(&key, b"1".to_vec(), 0).await?);
    ensure!(
        !at.client.cas(&key, b"2".to_vec(), 0).await?,
        "created twice"
    );
    let pair = at.client.get(&key).await?.value.context("not created")?;
    ensure!(
        at.client
            .cas(&key, b"3".to_vec(), pair.modify_index)
            .await?
    );
    ensure!(
        !at.client
            .cas(&key, b"4".to_vec(), pair.modify_index)
            .await?,
        "stale index"
    );
    let after = at.client.get(&key).await?.value.context("it is gone")?;
    ensure!(after.value == b"3" && after.modify_index > pair.modify_index);
    ensure!(after.create_index == pair.create_index);
    Ok(())
}

async fn an_identical_value_bumps_nothing(at: &Place) -> Result<()> {
    let key = at.key("a");
    at.client.put(&key, b"1".to_vec()).await?;
    let before = at.client.get(&key).await?.value;
    at.client.put(&key, b"1".to_vec()).await?;
    ensure!(at.client.get(&key).await?.value == before);
    Ok(())
}

async fn deletion(at: &Place) -> Result<()> {
    at.client.put(&at.key("a"), b"1".to_vec()).await?;
    at.client.delete(&at.key("a")).await?;
    ensure!(at.client.get(&at.key("a")).await?.value.is_none());
    at.client.delete(&at.key("a")).await?;
    Ok(())
}

/// Blocks on `d/`, does `change` after a while, and gives how long the query took and its keys.
async fn blocked(
    at: &Place,
    wait: Duration,
    change: impl Future<Output = Result<()>>,
) -> Result<(Duration, usize)> {
    let index = at.client.list(&at.key("d/")).await?.index;
    let start = Instant::now();
    let folder = at.key("d/");
    let query = at.client.list_blocking(&folder, index, wait);
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        change.await
    };
    let timed = async { (query.await, start.elapsed()) };
    let ((answer, took), changed) = tokio::join!(timed, later);
    changed?;
    Ok((took, answer?.value.len()))
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_secs(1);

async fn a_change_wakes(at: &Place) -> Result<()> {
    at.client.put(&at.key("d/a"), b"1".to_vec()).await?;
    let change = async { Ok(at.client.put(&at.key("d/b"), b"1".to_vec()).await?) };
    let (took, keys) = blocked(at, LONG, change).await?;
    ensure!(
        keys == 2 && took >= Duration::from_millis(300) && took < LONG / 2,
        "{took:?} {keys}"
    );
    Ok(())
}

async fn a_deletion_wakes(at: &Place) -> Result<()> {
    at.client.put(&at.key("d/a"), b"1".to_vec()).await?;
    at.client.put(&at.key("d/b"), b"1".to_vec()).await?;
    let change = async { Ok(at.client.delete(&at.key("d/b")).await?) };
    let (took, keys) = blocked(at, LONG, change).await?;
    ensure!(
        keys == 1 && took >= Duration::from_millis(300) && took < LONG / 2,
        "{took:?} {keys}"
    );
    Ok(())
}

async fn other_prefixes_do_not_wake(at: &Place) -> Result<()> {
    at.client.put(&at.key("d/a"), b"1".to_vec()).await?;
    let change = async { Ok(at.client.put(&at.key("e"), b"1".to_vec()).await?) };
    let (took, _) = blocked(at, SHORT, change).await?;
    ensure!(took >= SHORT, "{took:?}");
    Ok(())
}

async fn a_wait_ends(at: &Place) -> Result<()> {
    at.client.put(&at.key("d/a"), b"1".to_vec()).await?;
    let (took, _) = blocked(at, SHORT, async { Ok(()) }).await?;
    ensure!(took >= SHORT && took < SHORT * 3, "{took:?}");
    Ok(())
}

async fn a_value_can_be_too_large(at: &Place) -> Result<()> {
    let error = at
        .client
        .put(&at.key("a"), vec![b'x'; 513 * 1024])
        .await
        .refused()?;
    ensure!(
        error.kind() == ErrorKind::TooLarge && !error.is_unknown_outcome(),
        "{error:?}"
    );
    Ok(())
}
