use super::*;

fn pairs(keys: &[&str]) -> Vec<KvPair> {
    let pair = |key: &&str| KvPair {
        key: (*key).to_owned(),
        value: Vec::new(),
        create_index: 1,
        modify_index: 1,
        lock_index: 0,
        flags: 0,
        session: None,
    };
    keys.iter().map(pair).collect()
}

#[test]
fn judgements() {
    for (asked, got, early, wanted) in [
        (None, 5, true, Judgement::Use),
        (Some(5), 6, true, Judgement::Use),
        (Some(5), 5, false, Judgement::Use),
        (Some(5), 5, true, Judgement::ReadAgain),
        (Some(5), 4, true, Judgement::ReadAgain),
        (Some(5), 4, false, Judgement::ReadAgain),
    ] {
        assert_eq!(judge(asked, got, early), wanted, "{asked:?} {got} {early}");
    }
}

#[test]
fn missing_keys_are_noticed() {
    for (before, after, kept) in [
        (&["a", "b"][..], &["a", "aa", "b", "c"][..], true),
        (&["a", "b"], &["a", "b"], true),
        (&["a", "b"], &["b", "c"], false),
        (&["a", "b"], &["a"], false),
        (&["a"], &[], false),
        (&[], &["a"], true),
    ] {
        assert_eq!(
            keeps_all(&pairs(before), &pairs(after)),
            kept,
            "{before:?} {after:?}"
        );
    }
}
