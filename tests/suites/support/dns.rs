//! Questions to name servers, and a name server that answers what it is told to.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
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

/// With room for so many bytes of an answer by UDP; by itself there is room for 512.
pub fn question(name: &str, kind: RecordType, room: Option<u16>) -> Result<Vec<u8>> {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_utf8(name)?, kind));
    if let Some(room) = room {
        message
            .edns
            .get_or_insert_with(Edns::new)
            .set_max_payload(room);
    }
    message.to_vec().context("write a question")
}

/// Asks the service by UDP.
pub fn ask(from: &Netns, name: &str, kind: RecordType) -> Result<Reply> {
    ask_at(from, SERVICE, name, kind)
}

/// Asks by UDP.
pub fn ask_at(from: &Netns, server: SocketAddr, name: &str, kind: RecordType) -> Result<Reply> {
    Reply::read(&exchange(from, server, &question(name, kind, None)?)?)
}

/// Asks the service by UDP with room for an answer; also whether that was cut short.
pub fn ask_with_room(from: &Netns, name: &str, room: Option<u16>) -> Result<(Reply, bool)> {
    let answer = exchange(from, SERVICE, &question(name, RecordType::A, room)?)?;
    let cut = Message::from_vec(&answer)?.metadata.truncation;
    Ok((Reply::read(&answer)?, cut))
}

fn exchange(from: &Netns, server: SocketAddr, question: &[u8]) -> Result<Vec<u8>> {
    let socket = from.run(|| UdpSocket::bind("0.0.0.0:0").context("bind"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(question).context("ask")?;
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).context("no answer")?;
    answer.truncate(length);
    Ok(answer)
}

/// A connection to the service.
pub fn connect(from: &Netns) -> Result<TcpStream> {
    let connect = || TcpStream::connect_timeout(&SERVICE, PATIENCE).context("connect");
    let stream = from.run(connect)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks the service by TCP.
pub fn ask_tcp(from: &Netns, name: &str, kind: RecordType) -> Result<Reply> {
    let mut stream = connect(from)?;
    ask_on(&mut stream, name, kind)
}

/// Asks on a connection.
pub fn ask_on(stream: &mut TcpStream, name: &str, kind: RecordType) -> Result<Reply> {
    let question = question(name, kind, None)?;
    stream.write_all(&u16::try_from(question.len())?.to_be_bytes())?;
    stream.write_all(&question)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).context("no answer")?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Reply::read(&answer)
}

/// A name server out there. Every name under `example.` has one address, `many.example.` a hundred, those
/// under `silent.example.` get no answer and those under `refused.example.` no good one; no other name is known.
pub struct Upstream {
    pub address: Ipv4Addr,
    asked: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Upstream {
    pub const ANSWER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
    pub const MANY: usize = 100;

    pub fn start(netns: &Netns, address: Ipv4Addr) -> Result<Self> {
        let at = (address, 53);
        let udp = netns.run(|| UdpSocket::bind(at).context("bind port 53"))?;
        udp.set_read_timeout(Some(TICK))?;
        let tcp = netns.run(|| TcpListener::bind(at).context("bind port 53"))?;
        tcp.set_nonblocking(true)?;
        let (asked, end) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let by_udp = {
            let (asked, end) = (Arc::clone(&asked), Arc::clone(&end));
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while !end.load(Ordering::Relaxed) {
                    let Ok((length, from)) = udp.recv_from(&mut bytes) else {
                        continue;
                    };
                    asked.fetch_add(1, Ordering::Relaxed);
                    if let Some(answer) = answer(&bytes[..length], false) {
                        let _ = udp.send_to(&answer, from);
                    }
                }
            })
        };
        let by_tcp = {
            let end = Arc::clone(&end);
            std::thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    match tcp.accept() {
                        // Whoever breaks off knows.
                        Ok((stream, _)) => drop(answer_on(stream)),
                        Err(_) => std::thread::sleep(TICK),
                    }
                }
            })
        };
        Ok(Self {
            address,
            asked,
            end,
            threads: vec![by_udp, by_tcp],
        })
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
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

const TICK: Duration = Duration::from_millis(50);

fn answer_on(mut stream: TcpStream) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut question = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut question)?;
    let answer = answer(&question, true).context("no answer")?;
    stream.write_all(&u16::try_from(answer.len())?.to_be_bytes())?;
    Ok(stream.write_all(&answer)?)
}

fn answer(question: &[u8], whole: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let mut answer = question.into_response();
    answer.metadata.recursion_available = true;
    let name = query.name().clone();
    let text = name.to_lowercase().to_utf8();
    let addresses = match text.as_str() {
        text if text.ends_with("silent.example.") => return None,
        text if text.ends_with("refused.example.") => {
            answer.metadata.response_code = ResponseCode::Refused;
            0
        }
        "many.example." if whole => Upstream::MANY,
        "many.example." => {
            answer.metadata.truncation = true;
            0
        }
        text if text.ends_with("example.") => 1,
        _ => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            0
        }
    };
    if query.query_type() == RecordType::A {
        for k in 0..u32::try_from(addresses).ok()? {
            let ip = Ipv4Addr::from_bits(Upstream::ANSWER.to_bits() + k);
            answer.add_answer(Record::from_rdata(name.clone(), 60, RData::A(ip.into())));
        }
    }
    answer.to_vec().ok()
}
