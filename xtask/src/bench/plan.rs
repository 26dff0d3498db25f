//! What is measured: by default, and by what was asked for.

use std::collections::BTreeSet;

use clap::ValueEnum as _;

use super::{
    arms::Arm,
    link::Link,
    metric::{Metric, Probe},
};

/// What was asked for; `None`: the usual.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    pub(super) quick: bool,
    pub(super) arms: Option<&'a [Arm]>,
    pub(super) metrics: Option<&'a [Metric]>,
    pub(super) links: Option<&'a [Link]>,
}

/// What comes of it, in the order of the report.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) metrics: BTreeSet<Metric>,
    pub(super) links: Vec<Link>,
    /// Those that take part in anything.
    pub(super) arms: BTreeSet<Arm>,
}

impl Plan {
    /// # Errors
    /// Something was asked for that nothing can come of: what, and why.
    pub(super) fn new(wanted: Wanted<'_>) -> Result<Self, String> {
        let all: &[Metric] = if wanted.quick {
            &Metric::QUICK
        } else {
            Metric::value_variants()
        };
        let links = wanted.links.map_or_else(
            || {
                // Junk needs the other link, whatever else is left out.
                let junk = wanted.metrics.is_some_and(|metrics| {
                    metrics.iter().any(|metric| metric.probe() == Probe::Junk)
                });
                if wanted.quick && !junk {
                    vec![Link::Offload]
                } else {
                    Link::value_variants().to_vec()
                }
            },
            distinct,
        );
        let arms = wanted
            .arms
            .map_or_else(|| Arm::DEFAULT.to_vec(), <[Arm]>::to_vec);
        let metrics = wanted.metrics.unwrap_or(all);

        let feasible = |metric: &Metric| {
            let probe = metric.probe();
            // Asked for, or nothing was chosen that it has not.
            probe == Probe::Programs
                && (wanted.metrics.is_some() || wanted.arms.is_none() && wanted.links.is_none())
                || arms.iter().any(|arm| probe.takes(*arm))
                    && links.iter().any(|link| probe.crosses(*link))
        };
        if let Some(asked) = wanted.metrics
            && let Some(metric) = asked.iter().find(|metric| !feasible(metric))
        {
            return Err(why_not(*metric));
        }
        let metrics: BTreeSet<Metric> = metrics.iter().copied().filter(feasible).collect();
        let takes_part = |arm: &Arm| metrics.iter().any(|metric| metric.probe().takes(*arm));
        if let Some(asked) = wanted.arms
            && let Some(arm) = asked.iter().find(|arm| !takes_part(arm))
        {
            return Err(format!(
                "the arm {} takes part in none of the metrics",
                arm.letter()
            ));
        }
        let crossed = |link: &Link| metrics.iter().any(|metric| metric.probe().crosses(*link));
        if let Some(asked) = wanted.links
            && let Some(link) = asked.iter().find(|link| !crossed(link))
        {
            return Err(format!(
                "none of the metrics is measured over the link `{}`",
                link.name()
            ));
        }
        Ok(Self {
            arms: arms.into_iter().filter(takes_part).collect(),
            links: links.into_iter().filter(crossed).collect(),
            metrics,
        })
    }

    /// The rounds over a link: what is run, in order, without [`Probe::Junk`].
    pub(super) fn rounds(&self, link: Link) -> Vec<Probe> {
        let probes: BTreeSet<Probe> = self.metrics.iter().map(|metric| metric.probe()).collect();
        probes
            .into_iter()
            .filter(|probe| *probe != Probe::Junk && probe.crosses(link))
            .collect()
    }

    pub(super) fn includes(&self, probe: Probe) -> bool {
        self.metrics.iter().any(|metric| metric.probe() == probe)
    }
}

fn why_not(metric: Metric) -> String {
    let name = metric.name();
    match metric.probe() {
        Probe::Junk => format!("{name} is of the arms K, S and X over the link `wire`"),
        _ => format!("none of the arms takes part in {name}"),
    }
}

/// In the order of the report, whatever was typed.
fn distinct<T: Copy + Ord>(chosen: &[T]) -> Vec<T> {
    let sorted: BTreeSet<T> = chosen.iter().copied().collect();
    sorted.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{Arm, Link, Metric, Plan, Probe, Wanted};

    fn letters(plan: &Plan) -> String {
        plan.arms.iter().map(|arm| arm.letter()).collect()
    }

    #[test]
    fn everything_by_default() {
        let plan = Plan::new(Wanted::default()).unwrap();
        assert_eq!(letters(&plan), "BRKSX");
        assert_eq!(plan.links, [Link::Offload, Link::Wire]);
        assert!(plan.includes(Probe::Junk) && plan.includes(Probe::Programs));
        assert_eq!(plan.rounds(Link::Wire).len(), 8);
    }

    #[test]
    fn quick_is_less_of_it() {
        let quick = Wanted {
            quick: true,
            ..Wanted::default()
        };
        let plan = Plan::new(quick).unwrap();
        assert_eq!(letters(&plan), "BRKS");
        assert_eq!(plan.links, [Link::Offload]);
        // The two figures of one stream come from one probe.
        assert_eq!(plan.rounds(Link::Offload).len(), 5);
        let junk = Wanted {
            metrics: Some(&[Metric::JunkFloodRtt]),
            ..quick
        };
        let plan = Plan::new(junk).unwrap();
        assert_eq!(
            (letters(&plan).as_str(), plan.links),
            ("KSX", vec![Link::Wire])
        );
    }

    #[test]
    fn what_was_chosen_takes_away_the_rest() {
        let plan = Plan::new(Wanted {
            arms: Some(&[Arm::S, Arm::B, Arm::S]),
            links: Some(&[Link::Offload]),
            ..Wanted::default()
        })
        .unwrap();
        assert_eq!(letters(&plan), "BS");
        assert!(!plan.includes(Probe::Junk) && !plan.includes(Probe::Programs));
    }

    #[test]
    fn nonsense_is_told() {
        let rtt = [Metric::TcpRttUs];
        let junk = [Metric::JunkFloodRtt];
        let programs = [Metric::ProgramNs];
        for (arms, metrics, links, why) in [
            (Some(&[Arm::X][..]), &rtt[..], None, "none of the arms"),
            (Some(&[Arm::B, Arm::X]), &rtt, None, "the arm X"),
            (Some(&[Arm::B]), &junk, None, "K, S and X"),
            (Some(&[Arm::B, Arm::K]), &junk, None, "the arm B"),
            (None, &junk, Some(&[Link::Offload][..]), "`wire`"),
            (None, &junk, Some(&[Link::Offload, Link::Wire]), "`offload`"),
            (Some(&[Arm::S]), &programs, None, "the arm S"),
            (None, &programs, Some(&[Link::Wire]), "`wire`"),
        ] {
            let wanted = Wanted {
                quick: false,
                arms,
                metrics: Some(metrics),
                links,
            };
            let error = Plan::new(wanted).unwrap_err();
            assert!(error.contains(why), "{wanted:?}: {error}");
        }
    }
}
