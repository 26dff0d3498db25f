//! The report as one reads it, and as Markdown has it.

use std::{collections::BTreeSet, fmt};

use super::{
    arms::Arm,
    metric::Metric,
    report::{Report, Row, Runs},
    stats::{median, spread},
    targets,
};

/// What this project is compared with.
const YARDSTICKS: [Arm; 3] = [Arm::R, Arm::K, Arm::D];

/// Where the middle half of B's rounds reaches further than this, the machine was busy with something else.
const NOISE: f64 = 0.1;

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.of {
            Some(of) => write!(f, "`{}` ({of})", self.metric.name()),
            None => write!(f, "`{}`", self.metric.name()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        let measured: BTreeSet<Arm> = self
            .rows()
            .flat_map(|(_, runs)| runs.keys())
            .copied()
            .collect();
        if !measured.is_empty() {
            medians(f, self, &measured)?;
            noise(f, self)?;
        }
        if !self.programs.is_empty() {
            programs(f, self)?;
        }
        let outcomes = targets::outcomes(self);
        if !outcomes.is_empty() {
            writeln!(
                f,
                "\n| target | link | wanted | is | |\n|---|---|---|---|---|"
            )?;
            for outcome in outcomes {
                writeln!(f, "{outcome}")?;
            }
        }
        Ok(())
    }
}

fn medians(f: &mut fmt::Formatter<'_>, report: &Report, arms: &BTreeSet<Arm>) -> fmt::Result {
    let yardsticks: Vec<Arm> = YARDSTICKS
        .into_iter()
        .filter(|arm| arms.contains(arm) && arms.contains(&Arm::S))
        .collect();
    let titles = arms.iter().map(|arm| arm.letter().to_owned());
    let against = yardsticks.iter().map(|arm| format!("S ÷ {}", arm.letter()));
    let titles: Vec<String> = titles.chain(against).collect();
    writeln!(
        f,
        "| medians | | link | {} | spread of B |\n|---|---|---|{}---|",
        titles.join(" | "),
        "---|".repeat(titles.len())
    )?;
    for (row, runs) in report.rows() {
        let of = |arm: &Arm| runs.get(arm).map(|values| median(values));
        let number = |value: Option<f64>| value.map_or_else(String::new, significant);
        let values = arms.iter().map(|arm| number(of(arm)));
        let against = yardsticks.iter().map(|arm| {
            let ratio = of(&Arm::S).zip(of(arm)).map(|(ours, other)| ours / other);
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
        });
        let cells: Vec<String> = values.chain(against).collect();
        let spread = b_spread(runs).map_or_else(String::new, percent);
        writeln!(
            f,
            "| {} | {row} | {} | {} | {spread} |",
            row.metric.title(),
            row.link.name(),
            cells.join(" | ")
        )?;
    }
    writeln!(f)?;
    for arm in arms {
        writeln!(f, "- {}", arm.title())?;
    }
    Ok(())
}

fn b_spread(runs: &Runs) -> Option<f64> {
    spread(runs.get(&Arm::B)?)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Whether the figures are worth anything.
fn noise(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let steady = report.rows().filter(|(row, _)| !row.metric.is_tail());
    let spreads: Vec<(&Row, f64)> = steady
        .filter_map(|(row, runs)| Some((row, b_spread(runs)?)))
        .collect();
    if spreads.is_empty() {
        return writeln!(f, "\nNoise: unknown, for B was not measured often enough.");
    }
    let noisy: Vec<String> = spreads
        .iter()
        .filter(|(_, spread)| *spread > NOISE)
        .map(|(row, spread)| format!("{row} {} {}", row.link.name(), percent(*spread)))
        .collect();
    if noisy.is_empty() {
        writeln!(
            f,
            "\nNoise: no figure of B spreads by more than {}.",
            percent(NOISE)
        )
    } else {
        writeln!(
            f,
            "\n**A bad run**: the machine was busy with something else. B spreads by more than {}: {}.",
            percent(NOISE),
            noisy.join(", ")
        )
    }
}

fn programs(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(
        f,
        "\n| `{}`, remote endpoints: | 1 | 1000 | 100 000 | 100 000 ÷ 1 | random of 100 000 |\n|---|---|---|---|---|---|",
        Metric::ProgramNs.name()
    )?;
    for program in &report.programs {
        let [one, thousand, many, random] = program.ns;
        writeln!(
            f,
            "| {} | {one:.0} | {thousand:.0} | {many:.0} | {:.2} | {random:.0} |",
            program.name, program.ratio
        )?;
    }
    Ok(())
}

/// Three or four digits that say something.
pub(super) fn significant(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else if value >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Arm, Metric, Row, significant};
    use crate::bench::{link::Link, report::tests::report};

    #[test]
    fn table_is_markdown() {
        let rtt = Row::of(Metric::TcpRttUs, Link::Offload);
        let udp = Row::of(Metric::Udp64Kpps, Link::Wire);
        let text = report(&[
            (rtt, &[(Arm::R, 10.0), (Arm::K, 15.0), (Arm::S, 12.0)]),
            (udp, &[(Arm::K, 100.0), (Arm::S, 150.0)]),
        ])
        .to_string();
        for line in [
            "| medians | | link | R | K | S | S ÷ R | S ÷ K | spread of B |",
            "|---|---|---|---|---|---|---|---|---|",
            "| TCP 1-byte round trip, µs | `tcp_rtt_us` | offload | 10.0 | 15.0 | 12.0 | 1.20 | 0.80 |  |",
            "| UDP 64 B received, kpps | `udp64_kpps` | wire |  | 100 | 150 |  | 1.50 |  |",
            "| `tcp_rtt_us` (S − R) ÷ (K − R) | offload | ≤ 0.15 | 0.40 | **missed** |",
        ] {
            assert!(text.lines().any(|said| said == line), "{line}\n{text}");
        }
        assert!(!text.contains("program_ns"), "{text}");
    }

    #[test]
    fn a_bad_run_is_said_to_be_one() {
        let run = |values: [f64; 5], metric| {
            let mut report = report(&[]);
            for value in values {
                report.add(Row::of(metric, Link::Offload), Arm::B, value);
            }
            report.to_string()
        };
        let quiet = [10.0, 10.1, 10.2, 9.9, 30.0];
        let busy = [10.0, 12.0, 14.0, 9.0, 10.0];
        assert!(run(quiet, Metric::TcpRttUs).contains("no figure of B spreads"));
        let text = run(busy, Metric::TcpRttUs);
        assert!(text.contains("A bad run"), "{text}");
        assert!(text.contains("`tcp_rtt_us` offload 20 %"), "{text}");
        // What rarely happens is never the same twice.
        assert!(!run(busy, Metric::RttP999Us).contains("A bad run"));
    }

    #[test]
    fn numbers_are_short() {
        let said = [12_345.6, 99.94, 9.994, 0.1234, 0.01234].map(significant);
        assert_eq!(said, ["12346", "99.9", "9.99", "0.12", "0.0123"]);
    }
}
