//! `plan`

use anyhow::Result;

use super::output::{Format, or_dash, table};
use crate::api::client::Client;
use crate::datapath::Difference;

pub(super) async fn exec(format: Format, client: &Client) -> Result<()> {
    let found: Vec<Difference> = client.get(&["plan"]).await?;
    format.print(&found, |found| {
        if found.is_empty() {
            return "nothing: the data path is as it should be".to_owned();
        }
        table(
            ["CHANGE", "MAP", "KEY", "FROM", "TO"],
            found.iter().map(row),
        )
    })
}

fn row(found: &Difference) -> [String; 5] {
    let change = match (&found.is, &found.should_be) {
        (None, _) => "add",
        (Some(_), Some(_)) => "change",
        (Some(_), None) => "remove",
    };
    [
        change.to_owned(),
        found.map.clone(),
        found.key.clone(),
        or_dash(found.is.as_ref()),
        or_dash(found.should_be.as_ref()),
    ]
}
