//! `doctor`

use anyhow::{Result, bail};
use clap::Args;

use super::output::{Format, table};
use crate::config::{Config, Settings};
use crate::doctor::{self, Finding, Outcome};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) settings: Settings,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(super) async fn exec(config: Config, format: Format) -> Result<()> {
    let found = doctor::examine(&config).await;
    format.print(&found, |found| {
        table(["CHECK", "", "FOUND"], found.iter().map(row))
    })?;
    let failed = found.iter().filter(|one| one.outcome == Outcome::Failed);
    match failed.count() {
        0 => Ok(()),
        1 => bail!("1 check failed"),
        n => bail!("{n} checks failed"),
    }
}

fn row(found: &Finding) -> [String; 3] {
    let outcome = match found.outcome {
        Outcome::Ok => "ok",
        Outcome::Warning => "warning",
        Outcome::Failed => "FAILED",
    };
    [
        found.what.to_owned(),
        outcome.to_owned(),
        found.said.split_whitespace().collect::<Vec<_>>().join(" "),
    ]
}
