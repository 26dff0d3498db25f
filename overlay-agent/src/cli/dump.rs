//! `dump`: what the maps hold. They are pinned, so no agent is needed.

mod document;
mod text;

use anyhow::Result;

use super::output::Format;
use crate::config::Config;
use crate::datapath::{Datapath, Paths};

pub(super) fn exec(format: Format, config: &Config) -> Result<()> {
    let tables = Datapath::maps_only(&Paths::new(&config.bpffs_dir))?;
    let document = document::read(&tables)?;
    format.print(&document, text::text)
}
