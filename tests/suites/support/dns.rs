//! Questions to name servers, and a name server that answers what it is told to.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tests::netns::Netns;

/// Where endpoints ask.
pub const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 53, 53)), 53);

const PATIENCE: Duration = Duration::from_secs(5);

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: ResponseCode,
    /// In the order of their texts.
    pub data: Vec<String>,
}

impl Reply {
    pub fn of(data: &[&str]) -> Self {
        Self {
            code: ResponseCode::NoError,
            data: data.iter().map(|data| (*data).to_owned()).collect(),
        }
    }

    pub fn failed(code: ResponseCode) -> Self {
        let data = Vec::new();
        Self { code, data }
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let message = Message::from_vec(bytes).context("read the answer")?;
        ensure!(
            message.metadata.recursion_available,
            "no recursion: {message}"
        );
        let mut data: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
        data.sort();
        Ok(Self {
            code: message.metadata.response_code,
            data,
        })
    }
}

fn question(name: &str, kind: RecordType) -> Result<Vec<u8>> {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_utf8(name)?, kind));
    message.to_vec().context("write a question")
}

/// Asks the service by UDP.
pub fn ask(from: &Netns, name: &str, kind: RecordType) -> Result<Reply> {
    ask_at(from, SERVICE, name, kind)
}

/// Asks by UDP.
pub fn ask_at(from: &Netns, server: SocketAddr, name: &str, kind: RecordType) -> Result<Reply> {
    let question = question(name, kind)?;
    let socket = from.run(|| UdpSocket::bind("0.0.0.0:0").context("bind"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(&question).context("ask")?;
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).context("no answer")?;
    Reply::read(&answer[..length])
}

/// Asks the service by TCP.
pub fn ask_tcp(from: &Netns, name: &str, kind: RecordType) -> Result<Reply> {
    let question = question(name, kind)?;
    let connect = || TcpStream::connect_timeout(&SERVICE, PATIENCE).context("connect");
    let mut stream = from.run(connect)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&u16::try_from(question.len())?.to_be_bytes())?;
    stream.write_all(&question)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).context("no answer")?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Reply::read(&answer)
}

/// A name server out there: every name under `example.` has one address, no other name is known.
pub struct Upstream {
    pub address: Ipv4Addr,
    asked: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    pub const ANSWER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

    pub fn start(netns: &Netns, address: Ipv4Addr) -> Result<Self> {
        let socket = netns.run(|| UdpSocket::bind((address, 53)).context("bind port 53"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (asked, end) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let thread = {
            let (asked, end) = (Arc::clone(&asked), Arc::clone(&end));
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while !end.load(Ordering::Relaxed) {
                    let Ok((length, from)) = socket.recv_from(&mut bytes) else {
                        continue;
                    };
                    asked.fetch_add(1, Ordering::Relaxed);
                    if let Some(answer) = Self::answer(&bytes[..length]) {
                        let _ = socket.send_to(&answer, from);
                    }
                }
            })
        };
        Ok(Self {
            address,
            asked,
            end,
            thread: Some(thread),
        })
    }

    fn answer(question: &[u8]) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        let query = question.queries.first()?.clone();
        let mut answer = question.into_response();
        answer.metadata.recursion_available = true;
        let name = query.name().clone();
        if !name.to_lowercase().to_utf8().ends_with("example.") {
            answer.metadata.response_code = ResponseCode::NXDomain;
        } else if query.query_type() == RecordType::A {
            answer.add_answer(Record::from_rdata(name, 60, RData::A(Self::ANSWER.into())));
        }
        answer.to_vec().ok()
    }

    /// How many questions arrived.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The content of a `resolv.conf` that names it.
    pub fn resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.address)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
