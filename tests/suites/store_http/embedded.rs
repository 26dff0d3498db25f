//! An embedded store on a port of its own, for as long as a test needs it.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;

use overlay_agent::store::embedded::{EmbeddedError, EmbeddedStore};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub(crate) struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), EmbeddedError>>>,
}

impl Running {
    pub(crate) fn start(file: &Path) -> Self {
        let store = EmbeddedStore::open(file).expect("open the store");
        let (tell_address, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                tell_address
                    .send(listener.local_addr().expect("an address"))
                    .expect("a test that listens");
                let stopped = async {
                    // Also when the test has panicked and dropped the sender.
                    let _ = stopped.await;
                };
                store.serve_tcp(listener, stopped).await
            })
        });
        Self {
            address: address.recv().expect("a server that starts"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops the server and gives what its `serve` returned.
    pub(crate) fn stop(mut self) -> Result<(), EmbeddedError> {
        drop(self.stop.take());
        let thread = self.thread.take().expect("a server that runs");
        thread.join().expect("a server that does not panic")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
