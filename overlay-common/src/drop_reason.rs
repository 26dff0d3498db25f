//! Why a frame was not delivered. The numbers are kept in maps that outlive the agent and the
//! labels in other people's dashboards: both are append-only.

macro_rules! labelled {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal => $label:literal,)+ }) => {
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant = $number,)+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The metric label.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            /// The variant of a number found in a map; `None` for one that a newer version wrote.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

labelled! {
    /// One name for every drop.
    DropReason {
        /// The frame ends before the headers it announces.
        Truncated = 1 => "truncated",
        /// The outer IPv4 header checksum is wrong.
        OuterChecksum = 2 => "outer_checksum",
        /// The VXLAN header has no valid VNI: I flag clear (RFC 7348, section 5) or VNI 0.
        NoVni = 3 => "no_vni",
        /// The outer source is not a VTEP of this overlay.
        UnknownPeer = 4 => "unknown_peer",
        /// No endpoint of this VNI is on this host.
        UnknownVni = 5 => "unknown_vni",
        /// The inner source MAC does not belong to the VTEP that sent the frame.
        InnerSource = 6 => "inner_source",
        /// No endpoint has the destination MAC.
        UnknownDestination = 7 => "unknown_destination",
        /// The inner destination is an endpoint of another host: tunnelled frames are not forwarded on.
        NotLocal = 8 => "not_local",
        /// Broadcast or multicast on a network whose flood mode is `drop`.
        FloodDisabled = 9 => "flood_disabled",
        /// The interface has no endpoint record.
        UnknownInterface = 10 => "unknown_interface",
        /// An endpoint sent from a MAC that is not its own.
        SourceMac = 11 => "source_mac",
        /// A frame with a VLAN tag on a network that carries none.
        Vlan = 12 => "vlan",
        /// An 802.3 frame with a length instead of an ethertype (LLC).
        Llc = 13 => "llc",
        /// ARP that is not Ethernet/IPv4 or whose sender MAC is not the endpoint's.
        BadArp = 14 => "bad_arp",
        /// Nobody has the address that was asked for.
        UnknownNeighbor = 15 => "unknown_neighbor",
        /// The frame and its outer headers exceed the underlay's MTU.
        TooBig = 16 => "too_big",
        /// The peer has no tunnel header: no route to it is known.
        NoRoute = 17 => "no_route",
        /// The outer headers could not be written.
        EncapFailed = 18 => "encap_failed",
        /// The inner Ethernet header could not be restored.
        DecapFailed = 19 => "decap_failed",
        /// The kernel refused the tunnel metadata of a fallback frame.
        FallbackFailed = 20 => "fallback_failed",
        /// An endpoint sent from an IP address that is not its own.
        SourceIp = 21 => "source_ip",
        /// An MPLS frame.
        Mpls = 22 => "mpls",
        /// An endpoint sent an IPv6 router advertisement.
        RouterAdvertisement = 23 => "router_advertisement",
        /// An endpoint sent UDP to the VXLAN port of a VTEP.
        VtepPort = 24 => "vtep_port",
        /// A process of this host sent VXLAN to a peer.
        Forged = 25 => "forged",
        /// The outer source is this host's own VTEP.
        OwnSource = 26 => "own_source",
        /// The network's flood rate is exceeded.
        FloodRate = 27 => "flood_rate",
        /// The outer header is marked CE and the inner transport knows no ECN (RFC 6040, section 4.2).
        Congestion = 28 => "congestion",
        /// The TTL or hop limit ended at the gateway.
        TimeExceeded = 29 => "time_exceeded",
        /// The gateway knows no endpoint with the destination address.
        Unroutable = 30 => "unroutable",
        /// Neighbour discovery that is malformed or speaks for somebody else's MAC or address.
        BadNeighbor = 31 => "bad_neighbor",
        /// The inner IP header is malformed.
        BadInner = 32 => "bad_inner",
        /// The outer destination is another network's multicast group.
        OuterDestination = 33 => "outer_destination",
        /// The program for what is not plain unicast is not there.
        NoProgram = 34 => "no_program",
        /// The kernel did not let the question be turned into its answer.
        AnswerFailed = 35 => "answer_failed",
        /// VXLAN that has not come in through the underlay device.
        OtherDevice = 36 => "other_device",
        /// A copy of a flooded frame could not be handed to an endpoint of this host.
        CopyFailed = 37 => "copy_failed",
        /// Nobody answers at the service address: the agent does not run.
        NoService = 38 => "no_service",
        /// An answer from the service address to nobody.
        ServiceAnswer = 39 => "service_answer",
    }
}

labelled! {
    /// Which way a frame was going.
    Direction {
        /// From an endpoint of this host.
        Tx = 1 => "tx",
        /// From the underlay.
        Rx = 2 => "rx",
    }
}

labelled! {
    /// Why a frame took the kernel's vxlan device instead of the fast path.
    FallbackCause {
        /// An outer fragment: the UDP header is elsewhere.
        OuterFragment = 1 => "outer_fragment",
        /// Outer IPv4 options or IPv6 extension headers.
        OuterOptions = 2 => "outer_options",
        /// The outer UDP checksum is used, and nobody has verified it yet.
        OuterChecksum = 3 => "outer_checksum",
        /// The outer length fields disagree with the frame; the kernel decides.
        OuterLength = 4 => "outer_length",
        /// Not counted any more: the fast path merges congestion marks.
        OuterCongestion = 5 => "outer_congestion",
        /// `bpf_skb_adjust_room` takes IPv4 and IPv6 only.
        InnerNotIp = 6 => "inner_not_ip",
        /// An aggregate whose inner protocol is not TCP: its segmentation state would be lost.
        InnerAggregate = 7 => "inner_aggregate",
        /// With the outer headers the IP length would pass 65535.
        Oversize = 8 => "oversize",
        /// `bpf_skb_adjust_room` refused, and the frame is as it was: an endpoint's own tunnel,
        /// segmentation other than TCP's and UDP's.
        RoomRefused = 9 => "room_refused",
        /// Outer UDP checksums are wanted.
        ChecksumWanted = 10 => "checksum_wanted",
        /// An aggregate for an endpoint that forwards.
        Forwarding = 11 => "forwarding",
        /// The frame has a VLAN tag, and its network carries those.
        Vlan = 12 => "vlan",
        /// The next hop's MAC is not known yet: the kernel resolves it.
        NoNeighbor = 13 => "no_neighbor",
        /// The outer frame has a priority tag (IEEE 802.1Q, VLAN 0).
        OuterPriority = 14 => "outer_priority",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_labels_are_unique_and_documented() {
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(DropReason::from_number(*reason as u8), Some(*reason));
            assert!(
                DropReason::ALL[..i]
                    .iter()
                    .all(|r| r.label() != reason.label())
            );
        }
        let documented = include_str!("../../docs/drops.md");
        let labels = DropReason::ALL.iter().map(|reason| reason.label());
        let causes = FallbackCause::ALL.iter().map(|cause| cause.label());
        for label in labels.chain(causes) {
            assert!(documented.contains(&format!("`{label}`")), "{label}");
        }
        assert_eq!(DropReason::from_number(0), None);
        assert_eq!(DropReason::from_number(255), None);
    }
}
