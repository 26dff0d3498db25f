//! Medians, as a table and as JSON.

use std::{collections::BTreeMap, fmt};

use serde_json::{Value, json};

use super::{arms::Arm, measure::Metric};

/// Super-packets cross the underlay whole, as over a NIC with segmentation offload.
const LINK: &str = "offload";

/// All values measured so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    values: BTreeMap<Metric, BTreeMap<Arm, Vec<f64>>>,
}

impl Report {
    pub(super) fn add(&mut self, metric: Metric, arm: Arm, value: f64) {
        self.values
            .entry(metric)
            .or_default()
            .entry(arm)
            .or_default()
            .push(value);
    }

    /// `{"rows":[{"metric":"tcp_rtt_us","link":"offload","median":{"B":…,"K":…,"S":…}}]}`
    pub(super) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .values
            .iter()
            .map(|(metric, arms)| {
                let medians: BTreeMap<&str, f64> = arms
                    .iter()
                    .map(|(arm, values)| (arm.letter(), median(values)))
                    .collect();
                json!({ "metric": metric.name(), "link": LINK, "median": medians })
            })
            .collect();
        json!({ "rows": rows })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<28}", "medians")?;
        for arm in [Arm::B, Arm::K, Arm::S] {
            write!(f, "{:>10}", arm.letter())?;
        }
        writeln!(f, "   S against K")?;
        for (metric, arms) in &self.values {
            write!(f, "{:<28}", metric.title())?;
            let of = |arm| arms.get(&arm).map(|values| median(values));
            for arm in [Arm::B, Arm::K, Arm::S] {
                match of(arm) {
                    Some(value) => write!(f, "{value:>10.2}")?,
                    None => write!(f, "{:>10}", "-")?,
                }
            }
            if let (Some(kernel), Some(ours)) = (of(Arm::K), of(Arm::S)) {
                let better = if metric.is_cost() {
                    ours < kernel
                } else {
                    ours > kernel
                };
                let verdict = if better { "better" } else { "not better" };
                write!(f, "   {:.2} ({verdict})", ours / kernel)?;
            }
            writeln!(f)?;
        }
        for arm in [Arm::B, Arm::K, Arm::S] {
            writeln!(f, "{}", arm.title())?;
        }
        Ok(())
    }
}

/// Of no values: NaN, which JSON writes as null.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => f64::NAN,
        Some(&upper) if sorted.len() % 2 == 1 => upper,
        Some(&upper) => f64::midpoint(sorted[middle - 1], upper),
    }
}

#[cfg(test)]
mod tests {
    use super::{Arm, Metric, Report, median};

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 100.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn report_has_the_agreed_shape() {
        let mut report = Report::default();
        for (arm, value) in [
            (Arm::B, 9.0),
            (Arm::K, 15.0),
            (Arm::S, 11.0),
            (Arm::S, 12.0),
        ] {
            report.add(Metric::TcpRttUs, arm, value);
        }
        assert_eq!(
            report.json().to_string(),
            r#"{"rows":[{"link":"offload","median":{"B":9.0,"K":15.0,"S":11.5},"metric":"tcp_rtt_us"}]}"#
        );
        assert!(report.to_string().contains("0.77 (better)"), "{report}");
    }
}
