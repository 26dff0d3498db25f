//! Questions over UDP and TCP (RFC 1035, section 4.2), so many at a time and no more: whoever asks may be
//! anybody's container.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use hickory_server::net::BufDnsStreamHandle;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::MessageType;
use hickory_server::server::{Request, RequestHandler as _, ResponseHandle};
use hickory_server::zone_handler::Catalog;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

/// Questions and connections at a time, of all who ask and of each. Each may cost a few descriptors.
const MAX: usize = 256;
const MAX_EACH: usize = 32;

/// A connection without a question is closed.
const IDLE: Duration = Duration::from_secs(10);

/// Pause after the kernel refused a connection: it has no descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest question that is read: more is in no name.
const QUESTION: usize = 4096;

/// What is asked at this moment.
#[derive(Clone, Default)]
pub(super) struct Load(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Load {
    /// `None` when there is enough.
    fn place(&self, from: IpAddr) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().sum::<usize>() >= MAX {
            return None;
        }
        let own = all.entry(from).or_default();
        if *own >= MAX_EACH {
            return None;
        }
        *own += 1;
        Some(Place {
            load: self.clone(),
            from,
        })
    }
}

/// Dropping it makes place for another.
struct Place {
    load: Load,
    from: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.load.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(&self.from) {
            *own -= 1;
            if *own == 0 {
                all.remove(&self.from);
            }
        }
    }
}

/// Answers datagrams until the socket fails. What is too much is not answered.
pub(super) async fn datagrams(
    socket: UdpSocket,
    catalog: Arc<Catalog>,
    load: Load,
) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut question = vec![0; QUESTION];
    loop {
        let (len, from) = match socket.recv_from(&mut question).await {
            Ok(received) => received,
            // An error about an answer that nobody took.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        let Some(place) = load.place(from.ip()) else {
            continue;
        };
        let (socket, catalog) = (Arc::clone(&socket), Arc::clone(&catalog));
        let question = question[..len].to_vec();
        tokio::spawn(async move {
            if let Some(answer) = answer(&catalog, question, from, Protocol::Udp).await {
                let _ = socket.send_to(&answer, from).await;
            }
            drop(place);
        });
    }
}

/// Answers on connections, one question after the other.
pub(super) async fn connections(listener: TcpListener, catalog: Arc<Catalog>, load: Load) {
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        // The connection is closed when there are enough.
        let Some(place) = load.place(from.ip()) else {
            continue;
        };
        let catalog = Arc::clone(&catalog);
        tokio::spawn(async move {
            // Whoever breaks off knows.
            let _ = converse(stream, from, &catalog).await;
            drop(place);
        });
    }
}

async fn converse(mut stream: TcpStream, from: SocketAddr, catalog: &Catalog) -> io::Result<()> {
    loop {
        let question = timeout(IDLE, async {
            let len = stream.read_u16().await?;
            let mut question = vec![0; len.into()];
            stream.read_exact(&mut question).await?;
            io::Result::Ok(question)
        });
        let question = question.await??;
        let Some(answer) = answer(catalog, question, from, Protocol::Tcp).await else {
            return Ok(());
        };
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&len.to_be_bytes()[..], &answer].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

/// `None` to what is no question.
async fn answer(
    catalog: &Catalog,
    question: Vec<u8>,
    from: SocketAddr,
    protocol: Protocol,
) -> Option<Vec<u8>> {
    let request = Request::from_bytes(question, from, protocol).ok()?;
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let (handle, mut answers) = BufDnsStreamHandle::new(from);
    let response = ResponseHandle::new(from, handle, protocol);
    catalog
        .handle_request::<_, TokioTime>(&request, response)
        .await;
    Some(answers.next().await?.into_parts().0)
}
