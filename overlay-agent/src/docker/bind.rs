//! From what Docker shows of a network that was made there to its record in the store.

use super::driver::made_of;
use super::engine::Seen;
use super::error::DockerError;
use super::options::Options;
use crate::store::registry::{NewNetwork, Reservation};

/// The network as its user has described it.
pub(super) fn described(seen: &Seen, reservation: Reservation) -> Result<NewNetwork, DockerError> {
    let options = Options::parse(&seen.options)?;
    let configs = || seen.configs.iter();
    Ok(NewNetwork {
        subnets: configs().filter_map(|config| config.subnet).collect(),
        gateways: configs().filter_map(|config| config.gateway).collect(),
        ranges: configs().filter_map(|config| config.range).collect(),
        reserved: configs()
            .flat_map(|config| config.reserved.iter().copied())
            .collect(),
        internal: seen.internal,
        reservation: Some(reservation),
        ..made_of(seen.name.clone(), &options)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::engine::SeenConfig;
    use crate::store::schema::NodeId;

    #[test]
    fn everything_that_was_said_is_kept() {
        let seen = Seen {
            id: "a".into(),
            name: "blue".into(),
            options: [("vni".into(), "7".into()), ("mtu".into(), "1400".into())].into(),
            internal: true,
            configs: vec![SeenConfig {
                subnet: Some("10.1.0.0/16".parse().unwrap()),
                range: Some("10.1.2.0/24".parse().unwrap()),
                gateway: Some("10.1.0.9".parse().unwrap()),
                reserved: vec!["10.1.2.7".parse().unwrap()],
            }],
            ..Seen::default()
        };
        let reservation = Reservation {
            node: NodeId::new(1),
            docker: "a".into(),
        };
        let new = described(&seen, reservation.clone()).unwrap();
        assert_eq!(new.name, "blue");
        assert_eq!((new.vni.unwrap().get(), new.mtu), (7, Some(1400)));
        assert!(new.internal);
        assert_eq!(new.subnets.len(), 1);
        assert_eq!(
            new.gateways,
            ["10.1.0.9".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(new.ranges.len(), 1);
        assert_eq!(new.reserved.len(), 1);
        assert_eq!(new.reservation, Some(reservation));
    }
}
