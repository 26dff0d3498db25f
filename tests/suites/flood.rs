//! Broadcast, multicast and unknown unicast between containers, in each flood mode.

mod linux_peer;
mod modes;
mod replicate;
mod underlay_group;

use std::cell::Cell;

use anyhow::{Result, ensure};
use overlay_common::net::MacAddr;
use tests::wait::until;

use crate::support::{CONVERGE, Container, PacketSocket, send_raw};

/// Of all protocols (`ETH_P_ALL`).
const EVERYTHING: u16 = 3;

/// For experiments (IEEE 802, local experimental ethertype 1).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

const VLAN: [u8; 2] = [0x81, 0x00];

/// A container that listens to all that reaches it.
struct Listener {
    container: Container,
    socket: PacketSocket,
    markers: Cell<u32>,
}

impl Listener {
    fn new(container: Container) -> Result<Self> {
        let socket = container.netns.run(|| PacketSocket::open(EVERYTHING))?;
        Ok(Self {
            container,
            socket,
            markers: Cell::new(0),
        })
    }

    /// How often `frame` has come since the last call. What was sent before this call has arrived
    /// when unicast frames that `from` sends now arrive.
    fn heard(&self, frame: &[u8], from: &Container) -> Result<usize> {
        let mut heard = 0;
        for _ in 0..2 {
            self.markers.set(self.markers.get() + 1);
            let text = format!("marker {:040}", self.markers.get());
            let marker = ethernet(from.mac, self.container.mac, text.as_bytes());
            send_raw(&from.netns, &marker)?;
            until(CONVERGE, || {
                while let Some(received) = self.socket.receive()? {
                    heard += usize::from(received == shown(frame));
                    if received == marker {
                        return Ok(());
                    }
                }
                anyhow::bail!("no unicast frame from {}", from.ip)
            })?;
        }
        Ok(heard)
    }
}

/// A frame as a packet socket shows it: a tag is not in it any more.
fn shown(frame: &[u8]) -> Vec<u8> {
    if frame[12..14] == VLAN {
        [&frame[..12], &frame[16..]].concat()
    } else {
        frame.to_vec()
    }
}

/// An Ethernet frame of no protocol that a host knows.
fn ethernet(source: MacAddr, destination: MacAddr, payload: &[u8]) -> Vec<u8> {
    let mut frame = [destination.0, source.0].concat();
    frame.extend(ETHERTYPE);
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// Sends the frame until every listener has it: flooding starts when the agents have heard of
/// each other. From then on each has it exactly once.
fn reaches_each_once(from: &Container, frame: &[u8], to: &[&Listener]) -> Result<()> {
    until(CONVERGE, || {
        send_raw(&from.netns, frame)?;
        for listener in to {
            let heard = listener.heard(frame, from)?;
            ensure!(heard == 1, "{} has it {heard} times", listener.container.ip);
        }
        Ok(())
    })
}

/// Nobody has the frame.
fn reaches_none(from: &Container, frame: &[u8], to: &[&Listener]) -> Result<()> {
    send_raw(&from.netns, frame)?;
    for listener in to {
        let heard = listener.heard(frame, from)?;
        ensure!(heard == 0, "{} has it {heard} times", listener.container.ip);
    }
    Ok(())
}
