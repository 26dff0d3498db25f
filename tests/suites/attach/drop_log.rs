//! The programs' words about drops.

use std::io;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use overlay_agent::datapath::{Datapath, Settings, XdpMode};
use tokio::time::{sleep, timeout};

use super::world::{self, HOST_IP, PORT, UNDERLAY, World};

/// A VXLAN header of VNI 42.
const VXLAN: [u8; 8] = [8, 0, 0, 0, 0, 0, 42, 0];

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn drops_are_logged_when_asked_for() {
    let world = World::new();
    let lines = Lines::default();
    world.on_host(async || {
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        let _default = tracing::subscriber::set_default(subscriber);
        let settings = Settings {
            log_drops: true,
            ..world::settings(UNDERLAY, XdpMode::Off).await
        };
        let _datapath = Datapath::open(&settings, world.paths()).await.unwrap();
        world
            .neighbor
            .run(|| {
                // Long enough for the inner headers.
                let frame = [VXLAN.as_slice(), &[0; 64]].concat();
                UdpSocket::bind("0.0.0.0:0")?.send_to(&frame, (HOST_IP, PORT))?;
                Ok(())
            })
            .unwrap();
        let wanted = "drops: dropped: rx unknown_peer vni 0 peer 0 count 1";
        let logged = timeout(Duration::from_secs(5), async {
            while !lines.text().contains(wanted) {
                sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(logged.await.is_ok(), "{}", lines.text());
    });
}
