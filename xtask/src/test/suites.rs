//! Which tests to run.

/// Each private module that it declares is a suite.
const MAIN: &str = include_str!("../../../tests/suites/main.rs");

const UNIT: &str = "unit";

/// The tests, of whatever suite, that need a real Consul server.
const CONSUL: &str = "consul";

/// What takes half of the time.
const HALF: [&str; 2] = ["docker::", "faults::"];

/// What `cargo xtask test` takes.
pub(super) fn names() -> Vec<&'static str> {
    [UNIT, CONSUL].into_iter().chain(modules(MAIN)).collect()
}

/// What `cargo xtask test <suites>` means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) unit: bool,
    /// What the names of the tests begin with or contain; empty and `suites`: all.
    filters: Vec<String>,
    suites: bool,
}

impl Selection {
    /// No name at all: everything. Names are those of [`names`].
    pub(super) fn new(chosen: &[String]) -> Self {
        let in_namespaces = chosen.iter().filter(|name| *name != UNIT);
        let filters: Vec<String> = in_namespaces
            .map(|name| match name.as_str() {
                CONSUL => CONSUL.to_owned(),
                module => format!("{module}::"),
            })
            .collect();
        Self {
            unit: chosen.is_empty() || chosen.iter().any(|name| name == UNIT),
            suites: chosen.is_empty() || !filters.is_empty(),
            filters,
        }
    }

    /// The suites make network namespaces; unit tests need nothing.
    pub(super) fn needs_root(&self) -> bool {
        self.suites
    }

    /// Arguments of the test binary, for each run of it. All suites are run by two at a time, which takes
    /// half as long: a test waits most of the time. Not by two threads of one: what a thread has open is for a
    /// moment open in every program that another one starts, so a port that was just freed is not free yet.
    pub(super) fn runs(&self) -> Vec<Vec<String>> {
        if !self.filters.is_empty() {
            return vec![self.filters.clone()];
        }
        let half = HALF.map(str::to_owned);
        let rest = half.clone().map(|suite| ["--skip".to_owned(), suite]);
        vec![half.to_vec(), rest.into_iter().flatten().collect()]
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
    use super::{Selection, modules, names};

    fn select(names: &[&str]) -> Selection {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        Selection::new(&names)
    }

    #[test]
    fn suites_are_the_private_modules() {
        let source = "//! mod no;\nmod a;\npub(crate) mod helpers;\nmod b;\n";
        assert_eq!(modules(source), ["a", "b"]);
    }

    #[test]
    fn names_are_those_of_the_suites() {
        let names = names();
        for name in ["unit", "consul", "datapath", "faults", "overlay"] {
            assert!(names.contains(&name), "{name}");
        }
        assert!(!names.contains(&"support"));
    }

    #[test]
    fn all_are_run_without_a_name() {
        let all = select(&[]);
        assert!(all.unit && all.needs_root());
        let [half, rest] = &all.runs()[..] else {
            panic!("{:?}", all.runs());
        };
        assert_eq!(half, &["docker::", "faults::"]);
        assert_eq!(rest, &["--skip", "docker::", "--skip", "faults::"]);
    }

    #[test]
    fn named_suites_are_run_alone() {
        let unit = select(&["unit"]);
        assert!(unit.unit && !unit.needs_root());
        let harness = select(&["harness", "consul"]);
        assert!(!harness.unit && harness.needs_root());
        assert_eq!(harness.runs(), [["harness::", "consul"]]);
    }
}
