//! Which tests to run.

use anyhow::{Result, bail};

/// Each private module that it declares is a suite.
const MAIN: &str = include_str!("../../../tests/suites/main.rs");

const UNIT: &str = "unit";

/// What `cargo xtask test <suites>` means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) unit: bool,
    /// Modules of the test binary `suites`.
    modules: Vec<&'static str>,
    all: bool,
}

impl Selection {
    /// No name at all: everything.
    pub(super) fn new(names: &[String]) -> Result<Self> {
        let known = modules(MAIN);
        if names.is_empty() {
            return Ok(Self {
                unit: true,
                modules: known,
                all: true,
            });
        }
        let mut selection = Self {
            unit: false,
            modules: Vec::new(),
            all: false,
        };
        for name in names {
            if name == UNIT {
                selection.unit = true;
            } else if let Some(module) = known.iter().find(|module| *module == name) {
                selection.modules.push(module);
            } else {
                bail!("no suite `{name}`; there are: {UNIT} {}", known.join(" "));
            }
        }
        Ok(selection)
    }

    /// The suites make network namespaces; unit tests need nothing.
    pub(super) fn needs_root(&self) -> bool {
        !self.modules.is_empty()
    }

    /// Arguments of the test binary.
    pub(super) fn filters(&self) -> Vec<String> {
        if self.all {
            return Vec::new();
        }
        self.modules
            .iter()
            .map(|module| format!("{module}::"))
            .collect()
    }
}

fn modules(source: &'static str) -> Vec<&'static str> {
    source
        .lines()
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Selection, modules};

    fn select(names: &[&str]) -> anyhow::Result<Selection> {
        Selection::new(
            &names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn suites_are_the_private_modules() {
        let source = "//! mod no;\nmod a;\npub(crate) mod helpers;\nmod b;\n";
        assert_eq!(modules(source), ["a", "b"]);
    }

    #[test]
    fn all_are_run_without_a_name() -> anyhow::Result<()> {
        let all = select(&[])?;
        assert!(all.unit && all.needs_root() && all.filters().is_empty());
        Ok(())
    }

    #[test]
    fn named_suites_are_run_alone() -> anyhow::Result<()> {
        let unit = select(&["unit"])?;
        assert!(unit.unit && !unit.needs_root());
        let harness = select(&["harness"])?;
        assert!(!harness.unit && harness.filters() == ["harness::"]);
        Ok(())
    }

    #[test]
    fn unknown_suite_is_refused_with_the_list() {
        let refused = select(&["unit", "nonsense"]).map_err(|error| error.to_string());
        let said = refused.expect_err("there is no such suite");
        for part in ["`nonsense`", " unit ", " harness"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains("support"), "{said}");
    }
}
