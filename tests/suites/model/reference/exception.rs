//! What an endpoint sends that is not plain unicast.

use overlay_common::DropReason;
use overlay_common::decide::Refusal;
use overlay_common::decide::endpoint::{self, Exception, Sender};
use overlay_common::layout::{EndpointValue, FdbKey};
use overlay_common::net::MacAddr;
use overlay_common::packet::arp::Arp;
use overlay_common::packet::icmp::{
    ERROR_V4_LEN, ERROR_V6_LEN, Problem, echo_v4, echo_v6, error_v4, error_v6, quote_len,
};
use overlay_common::packet::nd::{self, Neighbor};
use overlay_common::packet::{ETH_LEN, Ethernet, IPV6_LEN};

use super::{Counters, Direction, Input, Outcome, REDIRECT, Remote, SHOT, World, local, to_peer};

pub(super) fn endpoint(world: &World, input: &Input, sender: &Sender<'_>) -> Outcome {
    let drop = |refusal| Outcome::drop(SHOT, input, Direction::Tx, refusal);
    let endpoint = sender.endpoint;
    let refusal = |reason| Refusal::new(reason, endpoint.vni, 0);
    let frame = &input.frame[..];
    let mut mac = MacAddr::default();
    let decision = match endpoint::exception(frame, sender, world, &mut mac) {
        Ok(Exception::Discovery) => endpoint::discovery(frame, sender, world, &mut mac),
        decision => decision,
    };
    let tell = |problem: Problem| {
        told(
            world,
            input,
            endpoint,
            refusal(problem.kind.reason()),
            problem,
        )
    };
    match decision {
        Err(reason) => drop(refusal(reason)),
        Ok(Exception::Arp) => arp(input, mac),
        Ok(Exception::Neighbor) => neighbor(input, mac, false),
        Ok(Exception::Router) => neighbor(input, mac, true),
        Ok(Exception::Echo) => echo(input),
        Ok(Exception::TimeExceeded) => tell(Problem::TIME_EXCEEDED),
        Ok(Exception::Unreachable) => tell(Problem::UNREACHABLE),
        // There is no agent.
        Ok(Exception::Service) => tell(Problem::NO_SERVICE),
        // No endpoint of these worlds is on a network that floods.
        Ok(Exception::Flood) => drop(refusal(DropReason::FloodDisabled)),
        Ok(Exception::Send) => unicast(world, input, endpoint, mac),
        Ok(Exception::Route) => {
            let input = Input {
                frame: aged(&input.frame, mac),
                segments: input.segments,
            };
            unicast(world, &input, endpoint, mac)
        }
        Ok(Exception::Discovery) => unreachable!("it is decided"),
    }
}

fn unicast(world: &World, input: &Input, endpoint: &EndpointValue, mac: MacAddr) -> Outcome {
    let entry = world.fdb[&FdbKey::new(endpoint.vni, mac)];
    if entry.ifindex != 0 {
        return local(entry.stats, input);
    }
    let ethernet = Ethernet::read(&input.frame[..], 0).expect("read before");
    let remote = Remote {
        endpoint,
        peer: entry.peer,
        stats: entry.stats,
    };
    to_peer(world, input, ethernet, &remote)
}

fn arp(input: &Input, mac: MacAddr) -> Outcome {
    let mut outcome = Outcome::unchanged(REDIRECT, input, Counters::new());
    let arp = Arp::read(&input.frame[..], ETH_LEN).expect("only ARP is answered so");
    let reply = arp.reply(mac);
    outcome.frame[..reply.len()].copy_from_slice(&reply);
    outcome
}

fn neighbor(input: &Input, mac: MacAddr, router: bool) -> Outcome {
    let mut outcome = Outcome::unchanged(REDIRECT, input, Counters::new());
    let ethernet = Ethernet::read(&input.frame[..], 0).expect("read before");
    let asked = Neighbor::read(&input.frame[..], ETH_LEN + IPV6_LEN, ethernet.source);
    let mut answer = [0; nd::FRAME_LEN];
    asked
        .expect("only a solicitation is answered so")
        .advertisement(ethernet.source, mac, router, &mut answer);
    outcome.frame = answer.to_vec();
    outcome
}

fn echo(input: &Input) -> Outcome {
    let mut outcome = Outcome::unchanged(REDIRECT, input, Counters::new());
    let mut put = |at: usize, bytes: &[u8]| {
        outcome.frame[at..at + bytes.len()].copy_from_slice(bytes);
    };
    if let Some(echo) = echo_v4(&input.frame[..]) {
        put(0, &echo.head);
        put(echo.offset, &echo.message);
    } else {
        let echo = echo_v6(&input.frame[..]).expect("only an echo request is answered so");
        put(0, &echo.head);
        put(echo.offset, &echo.message);
    }
    outcome
}

/// Dropped; the sender gets what an error may be sent about.
pub(super) fn told(
    world: &World,
    input: &Input,
    endpoint: &EndpointValue,
    refusal: Refusal,
    problem: Problem,
) -> Outcome {
    let mut outcome = Outcome::drop(SHOT, input, Direction::Tx, refusal);
    let frame = &input.frame[..];
    let ethernet = Ethernet::read(frame, 0).expect("read before");
    let gateway = world.vnis.get(&endpoint.vni).map(|vni| vni.gateway_mac);
    let mac = gateway
        .filter(|mac| !mac.is_zero())
        .unwrap_or(ethernet.destination);
    let mut v4 = [0; ERROR_V4_LEN];
    let mut v6 = [0; ERROR_V6_LEN];
    let headers = match ethernet.ethertype {
        0x0800 => error_v4(frame, ethernet, mac, endpoint.gateway4, problem, &mut v4)
            .map(|()| v4.to_vec()),
        0x86dd => error_v6(frame, ethernet, mac, endpoint.gateway6, problem, &mut v6)
            .map(|()| v6.to_vec()),
        _ => None,
    };
    if let Some(headers) = headers {
        let quote = &frame[ETH_LEN..ETH_LEN + quote_len(frame.len())];
        outcome.verdict = REDIRECT;
        outcome.frame = [&headers, quote].concat();
    }
    outcome
}

/// To another MAC, one hop older. What is wrong with an IPv4 header's checksum stays wrong by as much.
fn aged(frame: &[u8], mac: MacAddr) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&mac.0);
    if frame[12..14] != [8, 0] {
        frame[21] -= 1;
        return frame;
    }
    frame[22] -= 1;
    let check = u32::from(u16::from_be_bytes([frame[24], frame[25]])) + 0x100;
    let check = (check + u32::from(check >= 0xffff)) as u16;
    frame[24..26].copy_from_slice(&check.to_be_bytes());
    frame
}
