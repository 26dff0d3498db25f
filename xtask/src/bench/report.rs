//! Medians, as a table and as JSON.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Value, json};

use super::{arms::Arm, measure::Metric};

/// Super-packets cross the underlay whole, as over a NIC with segmentation offload.
const LINK: &str = "offload";

/// What this project is compared with.
const YARDSTICKS: [Arm; 2] = [Arm::K, Arm::D];

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

    /// The usual ones, measured or not, and what else was measured.
    fn columns(&self) -> Vec<Arm> {
        let measured = self.values.values().flat_map(BTreeMap::keys).copied();
        let all: BTreeSet<Arm> = Arm::DEFAULT.into_iter().chain(measured).collect();
        all.into_iter().collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.columns();
        let yardsticks = YARDSTICKS.into_iter().filter(|arm| columns.contains(arm));
        write!(f, "{:<28}", "medians")?;
        for arm in &columns {
            write!(f, "{:>10}", arm.letter())?;
        }
        for arm in yardsticks.clone() {
            write!(f, "{:>20}", format!("S against {}", arm.letter()))?;
        }
        writeln!(f)?;
        for (metric, arms) in &self.values {
            write!(f, "{:<28}", metric.title())?;
            let of = |arm| arms.get(&arm).map(|values| median(values));
            for &arm in &columns {
                match of(arm) {
                    Some(value) => write!(f, "{value:>10.2}")?,
                    None => write!(f, "{:>10}", "-")?,
                }
            }
            for arm in yardsticks.clone() {
                let said = match (of(arm), of(Arm::S)) {
                    (Some(other), Some(ours)) => compared(*metric, ours, other),
                    _ => "-".to_owned(),
                };
                write!(f, "{said:>20}")?;
            }
            writeln!(f)?;
        }
        for arm in columns {
            writeln!(f, "{}", arm.title())?;
        }
        Ok(())
    }
}

fn compared(metric: Metric, ours: f64, other: f64) -> String {
    let better = if metric.is_cost() {
        ours < other
    } else {
        ours > other
    };
    let verdict = if better { "better" } else { "not better" };
    format!("{:.2} ({verdict})", ours / other)
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
        assert!(!report.to_string().contains("S against D"), "{report}");
    }

    #[test]
    fn docker_is_there_if_measured() {
        let mut report = Report::default();
        for (arm, value) in [(Arm::K, 10.0), (Arm::D, 20.0), (Arm::S, 15.0)] {
            report.add(Metric::Udp64Kpps, arm, value);
        }
        let text = report.to_string();
        assert!(text.contains("S against K         S against D"), "{text}");
        assert!(text.contains("1.50 (better)   0.75 (not better)"), "{text}");
        assert!(report.json().to_string().contains(r#""D":20.0"#), "{text}");
    }
}
