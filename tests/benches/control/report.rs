//! The figures, as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::process::Used;

/// What a figure must not exceed.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    Mean(f64),
    P50(f64),
    P99(f64),
    /// Each single value.
    Each(f64),
}

impl Limit {
    fn is_met(self, row: &Row) -> bool {
        match self {
            Self::Mean(limit) => row.mean() <= limit,
            Self::P50(limit) => row.percentile(0.5) <= limit,
            Self::P99(limit) => row.percentile(0.99) <= limit,
            Self::Each(limit) => row.percentile(1.0) <= limit,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mean(limit) => write!(f, "mean ≤ {limit}"),
            Self::P50(limit) => write!(f, "p50 ≤ {limit}"),
            Self::P99(limit) => write!(f, "p99 ≤ {limit}"),
            Self::Each(limit) => write!(f, "≤ {limit}"),
        }
    }
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Row {
    /// **Contract**.
    metric: &'static str,
    /// Under which conditions.
    of: String,
    /// In order.
    samples: Vec<f64>,
    limits: Vec<Limit>,
    /// The store's processor time meanwhile.
    store: Used,
    note: String,
}

impl Row {
    pub fn new(metric: &'static str, of: impl Into<String>, samples: &[f64], store: Used) -> Self {
        let mut samples = samples.to_vec();
        samples.sort_by(f64::total_cmp);
        Self {
            metric,
            of: of.into(),
            samples,
            limits: Vec::new(),
            store,
            note: String::new(),
        }
    }

    pub fn target(mut self, limits: &[Limit]) -> Self {
        self.limits = limits.to_vec();
        self
    }

    /// What else was seen.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// The nearest rank; NaN of no values, which meets no limit.
    fn percentile(&self, part: f64) -> f64 {
        let rank = (self.samples.len() as f64 * part).ceil() as usize;
        let sample = self.samples.get(rank.saturating_sub(1));
        sample.copied().unwrap_or(f64::NAN)
    }

    fn mean(&self) -> f64 {
        self.samples.iter().sum::<f64>() / self.samples.len() as f64
    }

    fn targets(&self) -> String {
        let limits: Vec<String> = self.limits.iter().map(ToString::to_string).collect();
        limits.join(", ")
    }

    /// None without a target.
    fn is_met(&self) -> Option<bool> {
        let met = self.limits.iter().all(|limit| limit.is_met(self));
        (!self.limits.is_empty()).then_some(met)
    }

    fn json(&self) -> Value {
        json!({
            "metric": self.metric,
            "of": self.of,
            "p50": self.percentile(0.5),
            "p99": self.percentile(0.99),
            "max": self.percentile(1.0),
            "mean": self.mean(),
            "samples": self.samples.len(),
            "target": self.targets(),
            "met": self.is_met(),
            "store_cpu_s": self.store.cpu,
            "clock_s": self.store.clock,
            "note": self.note,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        write!(
            f,
            "{:<24}{:<24}{:>6}{:>11.2}{:>11.2}{:>11.2}  {:<22}{:<8}{:>8.2}{:>8.1}  {}",
            self.metric,
            self.of,
            self.samples.len(),
            self.percentile(0.5),
            self.percentile(0.99),
            self.percentile(1.0),
            self.targets(),
            verdict,
            self.store.cpu,
            self.store.clock,
            self.note,
        )
    }
}

#[derive(Debug, Default)]
pub struct Report(Vec<Row>);

impl Report {
    /// Says it as well: the whole takes minutes.
    pub fn add(&mut self, row: Row) {
        eprintln!("{row}");
        self.0.push(row);
    }

    /// `{"rows":[{"metric":"endpoint_to_map_ms","of":"20 interested","p50":…,"p99":…,"max":…,…}]}`
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.0.iter().map(Row::json).collect();
        json!({ "rows": rows })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24}{:<24}{:>6}{:>11}{:>11}{:>11}  {:<22}{:<8}{:>8}{:>8}",
            "", "", "count", "p50", "p99", "max", "target", "", "store s", "of s"
        )?;
        for row in &self.0 {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}
