//! Charts: bars of medians with the range of all rounds, as SVG.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

use super::{
    arms::Arm,
    metric::Metric,
    report::{Report, Row, Runs},
    stats::median,
};

const WIDTH: f64 = 720.0;
/// From the top to the first bar.
const HEAD: f64 = 44.0;
/// For names to the left, and for numbers to the right of the longest bar.
const LEFT: f64 = 40.0;
const RIGHT: f64 = 80.0;
const BAR: f64 = 20.0;
/// Between two groups, with the name of the next.
const GROUP: f64 = 26.0;

/// One file for each metric: `<metric>.svg`.
pub(super) fn write(report: &Report, folder: &Path) -> Result<()> {
    let mut metrics: BTreeMap<Metric, Vec<(&Row, &Runs)>> = BTreeMap::new();
    for (row, runs) in report.rows() {
        metrics.entry(row.metric).or_default().push((row, runs));
    }
    for (metric, rows) in metrics {
        let path = folder.join(format!("{}.svg", metric.name()));
        fs::write(&path, chart(metric, &rows))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// A group for each row, in it a bar for each arm.
fn chart(metric: Metric, rows: &[(&Row, &Runs)]) -> String {
    let longest = rows
        .iter()
        .flat_map(|(_, runs)| runs.values().flatten())
        .fold(f64::MIN_POSITIVE, |longest, value| longest.max(*value));
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let mut bars = String::new();
    let mut y = HEAD;
    for (row, runs) in rows {
        let of = row.of.map_or_else(String::new, |of| format!(": {of}"));
        text(
            &mut bars,
            LEFT,
            y + 14.0,
            "start",
            &format!("{}{of}", row.link.name()),
        );
        y += GROUP;
        for (arm, values) in *runs {
            bar(&mut bars, y, *arm, values, scale);
            y += BAR;
        }
    }
    let better = if metric.is_cost() { "less" } else { "more" };
    let mut title = String::new();
    let said = format!("{} ({better} is better)", metric.title());
    text(&mut title, LEFT, 24.0, "start", &said);
    let height = y + GROUP;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{title}{bars}</svg>\n"
    )
}

/// Median, and a line from the lowest round to the highest.
fn bar(svg: &mut String, y: f64, arm: Arm, values: &[f64], scale: f64) {
    let middle = median(values);
    let end = LEFT + middle * scale;
    let low = values.iter().copied().fold(f64::INFINITY, f64::min) * scale + LEFT;
    let high = values.iter().copied().fold(0.0, f64::max) * scale + LEFT;
    let (text_y, line_y, height) = (y + 14.0, y + 9.0, BAR - 3.0);
    text(svg, LEFT - 8.0, text_y, "end", arm.letter());
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{height}\" fill=\"{}\"/>\n\
         <path d=\"M{low:.1} {line_y}H{high:.1}\" stroke=\"black\" stroke-width=\"1.5\"/>",
        end - LEFT,
        color(arm),
    );
    let number = super::table::significant(middle);
    text(svg, end.max(high) + 6.0, text_y, "start", &number);
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, said: &str) {
    // As above. Nothing that is said has a character that XML would read.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{said}</text>"
    );
}

/// Ours stands out.
fn color(arm: Arm) -> &'static str {
    match arm {
        Arm::B | Arm::R => "#c9ced6",
        Arm::K | Arm::D => "#8fa3bf",
        Arm::S | Arm::X => "#e07b39",
    }
}

#[cfg(test)]
mod tests {
    use super::{Arm, Metric, Row, chart};
    use crate::bench::{link::Link, report::tests::report};

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let row = Row::of(Metric::TcpRttUs, Link::Offload);
        let mut report = report(&[(row.clone(), &[(Arm::K, 20.0), (Arm::S, 10.0)])]);
        report.add(row.clone(), Arm::S, 20.0);
        report.add(row, Arm::S, 5.0);
        let rows: Vec<_> = report.rows().collect();
        let svg = chart(Metric::TcpRttUs, &rows);
        for wanted in [
            "TCP 1-byte round trip, µs (less is better)",
            // The longest value has all the width, 600; half of it has half.
            "width=\"600.0\" height=\"17\" fill=\"#8fa3bf\"",
            "width=\"300.0\" height=\"17\" fill=\"#e07b39\"",
            // From 5 to 20.
            "d=\"M190.0 99H640.0\"",
            ">10.0</text>",
        ] {
            assert!(svg.contains(wanted), "{wanted}\n{svg}");
        }
    }
}
