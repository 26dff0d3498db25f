//! Reading the agent's metrics, and the kernel's.

use std::fs;

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// One scrape in the Prometheus text format.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Sample lines (not HELP and TYPE) of one metric.
    pub fn lines(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.lines().filter(move |line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        })
    }

    /// Sum over all samples of `name` that carry all of `labels`; `None` if there is no such
    /// sample, which is not the same as 0.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Result<Option<f64>> {
        let mut sum = None;
        for line in self.lines(name) {
            let (sample, value) = line.rsplit_once(' ').context("a sample has a value")?;
            if labels
                .iter()
                .all(|(label, wanted)| has_label(sample, label, wanted))
            {
                let value: f64 = value
                    .parse()
                    .with_context(|| format!("value of `{line}`"))?;
                *sum.get_or_insert(0.0) += value;
            }
        }
        Ok(sum)
    }
}

fn has_label(sample: &str, label: &str, value: &str) -> bool {
    let pair = format!("{label}=\"{value}\"");
    [format!("{{{pair}"), format!(",{pair}")]
        .iter()
        .any(|wanted| sample.contains(wanted))
}

/// A counter of `/proc/net/snmp`, as in `snmp(&netns, "Tcp", "RetransSegs")`.
pub fn snmp(netns: &Netns, protocol: &str, name: &str) -> Result<u64> {
    // The file shows the namespace of the thread that opens it.
    let text = netns
        .run(|| fs::read_to_string("/proc/thread-self/net/snmp").context("read /proc/net/snmp"))?;
    let title = format!("{protocol}:");
    // A line of names, then one of values.
    let mut lines = text.lines().filter(|line| line.starts_with(&title));
    let names = lines.next().unwrap_or_default().split_whitespace();
    let values = lines.next().unwrap_or_default().split_whitespace();
    let (_, value) = names
        .zip(values)
        .find(|(candidate, _)| *candidate == name)
        .with_context(|| format!("the kernel counts no {protocol} {name}"))?;
    value.parse().with_context(|| format!("{protocol} {name}"))
}
