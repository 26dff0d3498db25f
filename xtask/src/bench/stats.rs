//! Numbers about numbers.

/// Of no values: NaN, which JSON writes as null.
pub(super) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// How far the middle half of the values reaches, as a share of the median: one slow round does not
/// count, several do. Nothing can be said of less than four.
pub(super) fn spread(values: &[f64]) -> Option<f64> {
    (values.len() >= 4).then(|| (quantile(values, 0.75) - quantile(values, 0.25)) / median(values))
}

/// Between two values: on the line that joins them.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = share * last as f64;
    let below = at.floor();
    let (low, high) = (sorted[below as usize], sorted[at.ceil() as usize]);
    low + (high - low) * (at - below)
}

#[cfg(test)]
mod tests {
    use super::{median, spread};

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 100.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn spread_is_that_of_the_middle_half() {
        assert_eq!(spread(&[9.0, 10.0, 11.0, 10.0, 500.0]), Some(0.1));
        assert_eq!(spread(&[10.0; 5]), Some(0.0));
        assert_eq!(spread(&[1.0, 2.0, 3.0]), None);
    }
}
