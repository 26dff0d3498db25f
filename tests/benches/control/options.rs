//! What was asked for.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    Idle,
    Map,
    Packet,
    Heal,
    Burst,
    Cold,
    Bytes,
    LargeHeal,
}

impl Figure {
    const ALL: [(&str, Self); 8] = [
        ("idle", Self::Idle),
        ("map", Self::Map),
        ("packet", Self::Packet),
        ("heal", Self::Heal),
        ("burst", Self::Burst),
        ("cold", Self::Cold),
        ("bytes", Self::Bytes),
        ("large-heal", Self::LargeHeal),
    ];

    fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        let Some((_, figure)) = found else {
            let all = Self::ALL.map(|(known, _)| known).join(", ");
            bail!("no figure is called `{name}`: there are {all}");
        };
        Ok(*figure)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Fewer samples.
    pub quick: bool,
    pub json: Option<PathBuf>,
    /// None: all.
    figures: Vec<Figure>,
}

impl Options {
    pub fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                // Cargo says so to every bench.
                "--bench" => {}
                "--quick" => options.quick = true,
                "--json" => {
                    let path = args.next().context("--json needs a file")?;
                    options.json = Some(path.into());
                }
                "--figures" => {
                    let names = args.next().context("--figures needs names")?;
                    options.figures = names.split(',').map(Figure::parse).collect::<Result<_>>()?;
                }
                other => bail!("`{other}` is no option of this benchmark"),
            }
        }
        Ok(options)
    }

    pub fn has(&self, figure: Figure) -> bool {
        self.figures.is_empty() || self.figures.contains(&figure)
    }
}
