//! `dump`: what the maps hold. They are pinned, so no agent is needed, but to say what they should hold.

mod document;
mod text;

use anyhow::Result;
use clap::Args;

use super::output::Format;
use crate::api::client::Client;
use crate::config::Config;
use crate::datapath::{Datapath, Difference, Paths};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Only what is not as the agent wants it: `-` is there, `+` should be
    #[arg(long)]
    diff: bool,
    #[command(flatten)]
    format: Format,
}

pub(super) async fn exec(arguments: Arguments, config: &Config) -> Result<()> {
    let Arguments { diff, format } = arguments;
    if diff {
        let client = Client::new(&config.agent_socket())?;
        let found: Vec<Difference> = client.get(&["plan"]).await?;
        return format.print(&found, |found| lines(found));
    }
    let tables = Datapath::maps_only(&Paths::new(&config.bpffs_dir))?;
    let document = document::read(&tables)?;
    format.print(&document, text::text)
}

/// As diff(1) has it.
fn lines(found: &[Difference]) -> String {
    let mut lines = Vec::new();
    for Difference {
        map,
        key,
        is,
        should_be,
    } in found
    {
        for (sign, row) in [('-', is), ('+', should_be)] {
            if let Some(row) = row {
                lines.push(format!("{sign} {map} {key}: {row}"));
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_and_what_should_be() {
        let row = |is: Option<&str>, should_be: Option<&str>| Difference {
            map: "FDB".to_owned(),
            key: "vni 1 mac 02:00:00:00:00:01".to_owned(),
            is: is.map(str::to_owned),
            should_be: should_be.map(str::to_owned),
        };
        let found = [
            row(Some("peer 1"), Some("peer 2")),
            row(None, Some("peer 3")),
        ];
        assert_eq!(
            lines(&found),
            "- FDB vni 1 mac 02:00:00:00:00:01: peer 1\n\
             + FDB vni 1 mac 02:00:00:00:00:01: peer 2\n\
             + FDB vni 1 mac 02:00:00:00:00:01: peer 3"
        );
        assert_eq!(lines(&[]), "");
    }
}
