//! What the data path is meant to reach, and whether it did.

use std::fmt;

use serde_json::{Value, json};

use super::{
    arms::Arm,
    junk::Rate,
    link::Link,
    metric::Metric,
    report::{Report, Row},
};

/// What is made of the medians of a row.
#[derive(Debug, Clone, Copy)]
enum Figure {
    Of(Arm),
    /// The first over the second.
    Ratio(Arm, Arm),
    /// Ours over the floor, as a share of what the kernel's overlay takes over it.
    Overhead,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// None as a link: each that was measured.
type Target = (Metric, Option<Link>, Figure, Bound);

const TARGETS: &[Target] = {
    use Bound::{AtLeast, AtMost};
    use Figure::{Overhead, Ratio};
    use Link::{Offload, Wire};
    let of_b = Ratio(Arm::S, Arm::B);
    let of_r = Ratio(Arm::S, Arm::R);
    let of_k = Ratio(Arm::S, Arm::K);
    &[
        (Metric::TcpRttUs, Some(Offload), Overhead, AtMost(0.15)),
        (Metric::UdpRttUs, None, Overhead, AtMost(0.10)),
        (Metric::Udp64Kpps, None, of_r, AtLeast(0.95)),
        (Metric::Udp64Kpps, None, of_k, AtLeast(1.8)),
        (Metric::Tcp1Gbps, Some(Offload), of_b, AtLeast(0.97)),
        (Metric::Tcp1Gbps, Some(Offload), of_k, AtLeast(1.3)),
        (Metric::Tcp1Gbps, Some(Wire), of_k, AtLeast(1.15)),
        (Metric::TcpCrrPerS, None, of_k, AtLeast(1.3)),
        (Metric::SoftirqSPerGbit, None, of_k, AtMost(0.7)),
    ]
};

/// With junk at a steady rate, of the arm with XDP.
const KEPT: Bound = Bound::AtLeast(0.9);
/// With all the junk there is, of that arm against the kernel's.
const KEPT_AT_MOST: Bound = Bound::AtLeast(3.0);
/// Of each program: with 100 000 endpoints against with one.
const GROWTH: Bound = Bound::AtMost(1.2);

/// What became of a target.
#[derive(Debug)]
pub(super) struct Outcome {
    what: String,
    link: Option<Link>,
    bound: Bound,
    figure: f64,
}

impl Outcome {
    pub(super) fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost(bound) => self.figure <= bound,
            Bound::AtLeast(bound) => self.figure >= bound,
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "target": self.what,
            "link": self.link.map(Link::name),
            "bound": self.bound.to_string(),
            "figure": self.figure,
            "met": self.is_met(),
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, bound, .. } = self;
        let link = self.link.map_or("", Link::name);
        let met = if self.is_met() { "met" } else { "**missed**" };
        write!(
            f,
            "| {what} | {link} | {bound} | {:.2} | {met} |",
            self.figure
        )
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "≤ {bound:.2}"),
            Self::AtLeast(bound) => write!(f, "≥ {bound:.2}"),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(arm) => write!(f, "{}", arm.letter()),
            Self::Ratio(one, other) => write!(f, "{} ÷ {}", one.letter(), other.letter()),
            Self::Overhead => write!(f, "(S − R) ÷ (K − R)"),
        }
    }
}

/// All targets that something was measured for.
pub(super) fn outcomes(report: &Report) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (row, _) in report.rows() {
        let of_row = TARGETS.iter().filter(|(metric, link, _, _)| {
            *metric == row.metric && link.is_none_or(|link| link == row.link)
        });
        for (_, _, figure, bound) in of_row {
            outcomes.extend(outcome(report, row, *figure, *bound));
        }
        if row.metric == Metric::JunkFloodRtt {
            outcomes.extend(match row.of.map(|junk| junk.rate) {
                Some(Rate::Steady) => outcome(report, row, Figure::Of(Arm::X), KEPT),
                Some(Rate::Most) => {
                    let ratio = Figure::Ratio(Arm::X, Arm::K);
                    outcome(report, row, ratio, KEPT_AT_MOST)
                }
                None => None,
            });
        }
        outcomes.extend(against_docker(report, row));
    }
    outcomes.extend(report.programs.iter().map(|program| Outcome {
        what: format!("`{}`, 100 000 ÷ 1 endpoints", program.name),
        link: None,
        bound: GROWTH,
        figure: program.ratio,
    }));
    outcomes
}

fn outcome(report: &Report, row: &Row, figure: Figure, bound: Bound) -> Option<Outcome> {
    let of = |arm| report.median(row, arm);
    let value = match figure {
        Figure::Of(arm) => of(arm)?,
        Figure::Ratio(one, other) => of(one)? / of(other)?,
        Figure::Overhead => {
            let floor = of(Arm::R)?;
            (of(Arm::S)? - floor) / (of(Arm::K)? - floor)
        }
    };
    Some(Outcome {
        what: format!("{row} {figure}"),
        link: Some(row.link),
        bound,
        figure: value,
    })
}

/// Docker's own has all that the kernel's has, and more: we are better against it in every row.
fn against_docker(report: &Report, row: &Row) -> Option<Outcome> {
    let of = |arm| report.median(row, arm);
    let (ours, docker, kernel) = (of(Arm::S)?, of(Arm::D)?, of(Arm::K)?);
    let kernel = ours / kernel;
    Some(Outcome {
        what: format!("{row} S ÷ D, better than S ÷ K"),
        link: Some(row.link),
        bound: if row.metric.is_cost() {
            Bound::AtMost(kernel)
        } else {
            Bound::AtLeast(kernel)
        },
        figure: ours / docker,
    })
}

#[cfg(test)]
mod tests {
    use super::{Arm, Link, Metric, Row, outcomes};
    use crate::bench::{
        costs::ProgramCost,
        junk::{Junk, Kind, Rate},
        report::tests::report,
    };

    fn said(rows: &[(Row, &[(Arm, f64)])]) -> Vec<String> {
        let outcomes = outcomes(&report(rows));
        outcomes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn overhead_is_over_the_floor() {
        let row = Row::of(Metric::TcpRttUs, Link::Offload);
        let values = [(Arm::R, 10.0), (Arm::K, 20.0), (Arm::S, 11.5)];
        assert_eq!(
            said(&[(row, &values)]),
            ["| `tcp_rtt_us` (S − R) ÷ (K − R) | offload | ≤ 0.15 | 0.15 | met |"]
        );
        // There is no such target of the other link, and none where an arm is missing.
        let row = Row::of(Metric::TcpRttUs, Link::Wire);
        assert!(said(&[(row, &values)]).is_empty());
        let row = Row::of(Metric::TcpRttUs, Link::Offload);
        assert!(said(&[(row, &values[1..])]).is_empty());
    }

    #[test]
    fn bounds_have_a_direction() {
        let row = |metric| Row::of(metric, Link::Wire);
        let values = [(Arm::K, 10.0), (Arm::S, 11.0)];
        assert_eq!(
            said(&[
                (row(Metric::Tcp1Gbps), &values),
                (row(Metric::SoftirqSPerGbit), &values),
            ]),
            [
                "| `tcp_1_gbps` S ÷ K | wire | ≥ 1.15 | 1.10 | **missed** |",
                "| `softirq_s_per_gbit` S ÷ K | wire | ≤ 0.70 | 1.10 | **missed** |",
            ]
        );
        let values = [(Arm::K, 10.0), (Arm::D, 8.0), (Arm::S, 14.0)];
        assert_eq!(
            said(&[
                (row(Metric::Tcp4Gbps), &values),
                (row(Metric::RttP50Us), &values)
            ]),
            [
                "| `rtt_p50_us` S ÷ D, better than S ÷ K | wire | ≤ 1.40 | 1.75 | **missed** |",
                "| `tcp_4_gbps` S ÷ D, better than S ÷ K | wire | ≥ 1.40 | 1.75 | met |",
            ]
        );
    }

    #[test]
    fn junk_is_judged_by_its_rate() {
        let row = |rate| Row {
            of: Some(Junk::new(Kind::Malformed, rate)),
            ..Row::of(Metric::JunkFloodRtt, Link::Wire)
        };
        let values = [(Arm::K, 0.2), (Arm::S, 0.5), (Arm::X, 0.85)];
        assert_eq!(
            said(&[(row(Rate::Steady), &values), (row(Rate::Most), &values)]),
            [
                "| `junk_flood_rtt` (malformed, 200 kpps) X | wire | ≥ 0.90 | 0.85 | **missed** |",
                "| `junk_flood_rtt` (malformed, maximum) X ÷ K | wire | ≥ 3.00 | 4.25 | met |",
            ]
        );
    }

    #[test]
    fn programs_may_not_grow() {
        let mut report = report(&[]);
        report.programs = vec![ProgramCost {
            name: "from_endpoint".to_owned(),
            ratio: 1.3,
            ..ProgramCost::default()
        }];
        let outcomes = outcomes(&report);
        assert!(matches!(outcomes.as_slice(), [missed] if !missed.is_met()));
    }
}
