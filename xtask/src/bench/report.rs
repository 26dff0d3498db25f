//! All that was measured, and the machine-readable form of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    arms::Arm, costs::ProgramCost, junk::Junk, link::Link, machine::Machine, metric::Metric,
    stats::median, targets,
};

/// What a figure is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) metric: Metric,
    pub(super) link: Link,
    /// Where a metric has several: which.
    pub(super) of: Option<Junk>,
}

/// The values of all rounds.
pub(super) type Runs = BTreeMap<Arm, Vec<f64>>;

/// All values measured so far.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) machine: Machine,
    rows: BTreeMap<Row, Runs>,
    pub(super) programs: Vec<ProgramCost>,
}

impl Report {
    pub(super) fn new(machine: Machine) -> Self {
        Self {
            machine,
            rows: BTreeMap::new(),
            programs: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, row: Row, arm: Arm, value: f64) {
        self.rows
            .entry(row)
            .or_default()
            .entry(arm)
            .or_default()
            .push(value);
    }

    /// Forgets what came along with a metric and was not asked for.
    pub(super) fn keep(&mut self, metrics: &BTreeSet<Metric>) {
        self.rows.retain(|row, _| metrics.contains(&row.metric));
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&Row, &Runs)> {
        self.rows.iter()
    }

    /// None if it was not measured.
    pub(super) fn median(&self, row: &Row, arm: Arm) -> Option<f64> {
        self.rows.get(row)?.get(&arm).map(|values| median(values))
    }

    /// `{"machine":{…},"rows":[{"metric":"tcp_rtt_us","link":"offload","median":{"B":…},"runs":{"B":[…]}}],"targets":[…]}`
    pub(super) fn json(&self) -> Value {
        let arms = self.rows.iter().map(|(row, runs)| {
            let medians: BTreeMap<&str, f64> = runs
                .iter()
                .map(|(arm, values)| (arm.letter(), median(values)))
                .collect();
            let runs: BTreeMap<&str, &Vec<f64>> = runs
                .iter()
                .map(|(arm, values)| (arm.letter(), values))
                .collect();
            let mut said = json!({
                "metric": row.metric.name(),
                "link": row.link.name(),
                "median": medians,
                "runs": runs,
            });
            if let Some(of) = &row.of {
                said["of"] = json!(of.to_string());
            }
            said
        });
        let programs = self.programs.iter().map(ProgramCost::json);
        let rows: Vec<Value> = arms.chain(programs).collect();
        let targets: Vec<Value> = targets::outcomes(self)
            .iter()
            .map(targets::Outcome::json)
            .collect();
        json!({ "machine": self.machine.json(), "rows": rows, "targets": targets })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::{Arm, Junk, Link, Machine, Metric, Report, Row};
    use crate::bench::junk::{Kind, Rate};

    impl Row {
        pub(in crate::bench) fn of(metric: Metric, link: Link) -> Self {
            Self {
                metric,
                link,
                of: None,
            }
        }
    }

    /// A report of one round.
    pub(in crate::bench) fn report(rows: &[(Row, &[(Arm, f64)])]) -> Report {
        let mut report = Report::new(Machine::default());
        for (row, values) in rows {
            for (arm, value) in *values {
                report.add(row.clone(), *arm, *value);
            }
        }
        report
    }

    #[test]
    fn report_has_the_agreed_shape() {
        let rtt = Row::of(Metric::TcpRttUs, Link::Offload);
        let mut report = report(&[(
            rtt.clone(),
            &[(Arm::B, 9.0), (Arm::K, 15.0), (Arm::S, 11.0)],
        )]);
        report.add(rtt, Arm::S, 12.0);
        let json = report.json();
        assert_eq!(
            json["rows"],
            json!([{
                "metric": "tcp_rtt_us",
                "link": "offload",
                "median": {"B": 9.0, "K": 15.0, "S": 11.5},
                "runs": {"B": [9.0], "K": [15.0], "S": [11.0, 12.0]},
            }])
        );
        assert!(json["machine"].is_object(), "{json}");
    }

    #[test]
    fn rows_of_one_metric_say_which() {
        let row = Row {
            of: Some(Junk::new(Kind::Malformed, Rate::Most)),
            ..Row::of(Metric::JunkFloodRtt, Link::Wire)
        };
        let json = report(&[(row, &[(Arm::K, 0.5)])]).json();
        assert_eq!(json["rows"][0]["of"], "malformed, maximum");
    }
}
