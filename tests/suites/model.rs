//! A reference model of the data path on the host, against the programs in the kernel: the same
//! random and mutated frames, the same tables, and verdict, bytes and counters have to be equal.
//!
//! `OVERLAY_MODEL_SEED` repeats a run, `OVERLAY_MODEL_PACKETS` sets its length (docs/testing.md).

mod compare;
mod frames;
mod mutate;
mod reference;
mod worlds;

use overlay_common::layout::vtep_flags;
use overlay_common::maps::{FROM_ENDPOINT, FROM_FALLBACK, FROM_UNDERLAY, TO_UNDERLAY};
use overlay_common::{DropReason, FallbackCause};

use self::compare::{Program, Seen};
use crate::datapath::fixture::A;

#[test]
fn from_endpoint_is_as_the_model_says() {
    let seen = compare::run(&Program {
        packets: 200_000,
        kernel: |programs, input| {
            programs.classify_segments(FROM_ENDPOINT, &input.frame, input.segments)
        },
        model: reference::from_endpoint,
        frame: |rng| {
            let frame = frames::inner(rng, A);
            mutate::sometimes(rng, frame)
        },
        tables: |_| {},
    });
    seen.demand_drops(&[
        DropReason::UnknownInterface,
        DropReason::SourceMac,
        DropReason::Vlan,
        DropReason::Llc,
        DropReason::BadArp,
        DropReason::UnknownNeighbor,
        DropReason::FloodDisabled,
        DropReason::UnknownDestination,
        DropReason::NoRoute,
        DropReason::TooBig,
        DropReason::SourceIp,
        DropReason::BadInner,
        DropReason::BadNeighbor,
        DropReason::Mpls,
        DropReason::RouterAdvertisement,
        DropReason::TimeExceeded,
        DropReason::Unroutable,
        DropReason::VtepPort,
    ]);
    seen.demand_fallbacks(&[FallbackCause::InnerNotIp, FallbackCause::RoomRefused]);
    seen.demand(Seen::CHANGED, "encapsulated or answered");
}

#[test]
fn from_underlay_is_as_the_model_says() {
    let seen = compare::run(&Program {
        packets: 200_000,
        kernel: |programs, input| {
            programs.classify_segments(FROM_UNDERLAY, &input.frame, input.segments)
        },
        model: reference::from_underlay,
        frame: frames::outer,
        tables: |_| {},
    });
    seen.demand_drops(&[
        DropReason::OuterChecksum,
        DropReason::Truncated,
        DropReason::NoVni,
        DropReason::UnknownPeer,
        DropReason::UnknownVni,
        DropReason::InnerSource,
        DropReason::UnknownDestination,
        DropReason::NotLocal,
        DropReason::FloodDisabled,
    ]);
    seen.demand_fallbacks(&[
        FallbackCause::OuterFragment,
        FallbackCause::OuterOptions,
        FallbackCause::OuterChecksum,
        FallbackCause::OuterLength,
        FallbackCause::InnerNotIp,
        FallbackCause::InnerAggregate,
        FallbackCause::RoomRefused,
    ]);
    seen.demand(Seen::CHANGED, "decapsulated");
}

#[test]
fn underlay_filter_is_as_the_model_says() {
    let seen = compare::run(&Program {
        packets: 100_000,
        kernel: |programs, input| programs.filter(&input.frame),
        model: reference::underlay_filter,
        frame: frames::outer,
        tables: |_| {},
    });
    seen.demand_drops(&[
        DropReason::OuterChecksum,
        DropReason::Truncated,
        DropReason::NoVni,
        DropReason::UnknownPeer,
        DropReason::UnknownVni,
    ]);
    seen.demand(Seen::UNCHANGED, "let pass");
}

/// What it hands over is equal, too.
#[test]
fn underlay_filter_decapsulates_as_the_model_says() {
    let seen = compare::run(&Program {
        packets: 100_000,
        kernel: |programs, input| programs.filter(&input.frame),
        model: reference::underlay_filter,
        frame: frames::outer,
        tables: |world| {
            world.vtep.flags = vtep_flags::XDP_DECAP;
            world.vtep.cookie = 0x1234_5678;
        },
    });
    seen.demand_drops(&[
        DropReason::OuterChecksum,
        DropReason::Truncated,
        DropReason::NoVni,
        DropReason::UnknownPeer,
        DropReason::UnknownVni,
        DropReason::InnerSource,
        DropReason::UnknownDestination,
        DropReason::NotLocal,
    ]);
    seen.demand(Seen::UNCHANGED, "let pass");
    seen.demand(Seen::CHANGED, "decapsulated");
}

#[test]
fn to_underlay_is_as_the_model_says() {
    let seen = compare::run(&Program {
        packets: 100_000,
        kernel: |programs, input| {
            programs.classify_segments(TO_UNDERLAY, &input.frame, input.segments)
        },
        model: reference::to_underlay,
        frame: frames::from_host,
        tables: |_| {},
    });
    seen.demand_drops(&[DropReason::Forged]);
    seen.demand(Seen::UNCHANGED, "let pass");
}

/// Without tunnel metadata, which `BPF_PROG_TEST_RUN` cannot give, nothing passes.
#[test]
fn from_fallback_is_as_the_model_says() {
    let seen = compare::run(&Program {
        packets: 10_000,
        kernel: |programs, input| {
            programs.classify_segments(FROM_FALLBACK, &input.frame, input.segments)
        },
        model: reference::from_fallback,
        frame: |rng| {
            let frame = frames::inner(rng, A);
            mutate::sometimes(rng, frame)
        },
        tables: |_| {},
    });
    seen.demand_drops(&[DropReason::NoVni]);
}
