use super::*;
use crate::store::KvPair;
use crate::store::schema::Keys;

const GRACE: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(2);
const OWN: NodeId = NodeId::new(1);
const OTHER: NodeId = NodeId::new(2);

fn pair(id: NodeId, more: &str, session: bool) -> KvPair {
    let value = format!(r#"{{"name":"n","vteps":["192.0.2.1"],"port":4789{more}}}"#);
    let session = session.then_some("s");
    let json = serde_json::json!({
        "Key": Keys::new("overlay/").node(id), "CreateIndex": 1, "ModifyIndex": 1, "LockIndex": 0,
        "Flags": 0, "Session": session,
    });
    KvPair {
        value: value.into(),
        ..serde_json::from_value(json).unwrap()
    }
}

/// This host, and another one: what its record says besides, and whether it is locked.
fn view(more: &str, session: bool) -> View {
    let mut view = View::default();
    let own = pair(OWN, r#","agent":true"#, true);
    view.set_nodes(&Keys::new("overlay/"), &[own, pair(OTHER, more, session)]);
    view
}

struct Clock {
    liveness: Liveness,
    now: Instant,
}

impl Clock {
    fn missing() -> Self {
        let mut liveness = Liveness::default();
        liveness.update(&view(r#","agent":true"#, false), OWN);
        Self {
            liveness,
            now: Instant::now(),
        }
    }

    /// A look every second; those whose time is over at the last.
    fn seconds(&mut self, seconds: u64, sure: bool, heard: u64) -> Vec<NodeId> {
        let mut over = Vec::new();
        for _ in 0..seconds {
            over = self.after(Duration::from_secs(1), sure, heard);
        }
        over
    }

    fn after(&mut self, time: Duration, sure: bool, heard: u64) -> Vec<NodeId> {
        self.now += time;
        self.liveness.look(self.now, MOST, sure, |_| heard, GRACE)
    }
}

#[test]
fn dead_after_the_grace_period_and_back_at_once() {
    let mut clock = Clock::missing();
    // The first look begins to count.
    assert_eq!(clock.seconds(10, true, 7), []);
    assert_eq!(clock.seconds(1, true, 7), [OTHER]);
    assert!(clock.liveness.dead().is_empty(), "nobody has confirmed it");
    assert!(clock.liveness.bury(OTHER));
    assert!(!clock.liveness.bury(OTHER), "once");
    assert_eq!(clock.liveness.waiting().count(), 0);
    let missing = view(r#","agent":true"#, false);
    assert_eq!(clock.liveness.update(&missing, OWN), []);
    assert_eq!(clock.liveness.dead().len(), 1);

    let back = view(r#","agent":true"#, true);
    assert_eq!(clock.liveness.update(&back, OWN), [OTHER]);
    assert!(clock.liveness.dead().is_empty());
    // And what it was before does not count any more.
    clock.liveness.update(&missing, OWN);
    assert_eq!(clock.seconds(10, true, 7), []);
    // One that is no longer missing is not buried, whoever says so.
    clock.liveness.update(&back, OWN);
    assert!(!clock.liveness.bury(OTHER));
}

#[test]
fn only_time_in_which_this_host_is_sure_counts() {
    let mut clock = Clock::missing();
    assert_eq!(clock.seconds(6, true, 7), []);
    assert_eq!(clock.seconds(600, false, 7), []);
    assert_eq!(clock.seconds(4, true, 7), []);
    assert_eq!(clock.seconds(1, true, 7), [OTHER]);
    // Nor is anybody dead at a moment of doubt.
    assert_eq!(clock.seconds(1, false, 7), []);
}

#[test]
fn time_asleep_does_not_count() {
    let mut clock = Clock::missing();
    assert_eq!(clock.seconds(1, true, 7), []);
    for _ in 0..4 {
        assert_eq!(clock.after(Duration::from_secs(3600), true, 7), []);
    }
    assert_eq!(clock.after(Duration::from_secs(3600), true, 7), [OTHER]);
}

#[test]
fn nobody_is_missing_in_a_store_without_sessions() {
    let keys = Keys::new("overlay/");
    let missing = |own: bool, more: &str| {
        let pairs = [pair(OWN, "", own), pair(OTHER, more, false)];
        missing(&crate::store::schema::nodes(&keys, &pairs).items, OWN)
    };
    assert_eq!(missing(true, ""), [OTHER].into());
    assert_eq!(missing(true, r#","stopped":1700000000"#), [].into());
    assert_eq!(missing(false, ""), [].into());
}

#[test]
fn whoever_sends_is_not_dead() {
    let mut clock = Clock::missing();
    for frames in 0..100 {
        assert_eq!(clock.seconds(5, true, frames), []);
    }
    assert_eq!(clock.seconds(5, true, 99), []);
    assert_eq!(clock.seconds(1, true, 99), [OTHER]);
}

#[test]
fn neither_stopped_ones_nor_those_without_an_agent_are_missing() {
    for (more, session) in [
        ("", false),
        (r#","agent":true"#, true),
        (r#","agent":true,"stopped":1700000000"#, false),
    ] {
        let mut liveness = Liveness::default();
        liveness.update(&view(more, session), OWN);
        assert_eq!(liveness.waiting().count(), 0, "{more} {session}");
    }
    let mut liveness = Liveness::default();
    let mut none = view("", true);
    none.sessions.clear();
    liveness.update(&none, OWN);
    assert_eq!(liveness.waiting().count(), 0, "this host is never missing");
}

#[test]
fn states_are_told() {
    let mut clock = Clock::missing();
    let missing = view(r#","agent":true"#, false);
    let state = |liveness: &Liveness, record: &NodeRecord, alive| {
        let (state, since) = liveness.state_of(OTHER, record, alive)?;
        Some((state, since.is_some()))
    };
    let record = &missing.nodes[&OTHER];
    let now = |clock: &Clock, alive| state(&clock.liveness, record, alive);
    assert_eq!(now(&clock, true), Some((NodeState::Alive, false)));
    assert_eq!(now(&clock, false), Some((NodeState::Missing, true)));
    clock.liveness.bury(OTHER);
    assert_eq!(now(&clock, false), Some((NodeState::Dead, true)));
    let stopped = view(r#","agent":true,"stopped":1700000000"#, false);
    let said = state(&clock.liveness, &stopped.nodes[&OTHER], false);
    assert_eq!(said, Some((NodeState::Stopped, true)));
    let by_hand = view("", false);
    assert_eq!(state(&clock.liveness, &by_hand.nodes[&OTHER], false), None);
}

#[test]
fn of_two_with_one_address_none_is_heard() {
    let stats = |vni, peer, rx_packets| {
        let value = PathStats {
            rx_packets,
            tx_packets: 1000,
            ..PathStats::default()
        };
        (StatsKey { vni, peer }, value)
    };
    let stats = [
        stats(1, 0, 9),
        stats(1, 1, 2),
        stats(2, 1, 3),
        stats(1, 2, 5),
    ]
    .into();
    let nodes = |pairs: &[(u64, PeerIndex)]| {
        let pairs = pairs.iter().map(|(id, index)| (NodeId::new(*id), *index));
        heard(&pairs.collect(), &stats)
    };
    let expected = [(NodeId::new(2), 5), (NodeId::new(3), 5)];
    assert_eq!(nodes(&[(2, 1), (3, 2), (4, 3)]), expected.into());
    assert_eq!(
        nodes(&[(2, 1), (3, 2), (4, 2)]),
        expected[..1].iter().copied().collect()
    );
}
