//! An HTTP/2 client that breaks the rules which libraries keep: frames built by hand (RFC 9113), header blocks without
//! a dynamic table (RFC 7541, section 6.2.2).

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// Default maximum of a frame's payload in bytes.
pub const FRAME_BYTES: usize = 16_384;

/// Connects from the loopback address `from`, so that one machine can act as several.
pub async fn dial(from: &str, to: &str) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{from}:0").parse().expect("an address"))?;
    socket.connect(to.parse().expect("an address")).await
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a payload of a few bytes").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A SETTINGS frame that sets the initial window of each stream to `window` bytes.
pub fn settings(window: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat())
}

/// The header block of a gRPC call.
pub fn call(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "node"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    usual.iter().chain(more).flat_map(|(name, value)| [&[0][..], &text(name), &text(value)].concat()).collect()
}

/// A string literal without Huffman coding: the length as an integer with a 7-bit prefix, then the bytes.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match text.len().checked_sub(127) {
        None => bytes.push(text.len() as u8),
        Some(mut rest) => {
            bytes.push(127);
            while rest >= 128 {
                bytes.push(rest as u8 | 128);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A gRPC message whose length prefix says `announced`, whatever the length of `bytes`.
pub fn message(announced: u32, bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &announced.to_be_bytes(), bytes].concat()
}

/// What the node has sent on a connection so far.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Whether its SETTINGS, which widen the windows of streams, have arrived.
    pub settings: bool,
    /// Flow-control credit of the connection in bytes, since its start.
    pub room: usize,
    /// Streams answered, those answered by trailers alone (a refusal), and those reset.
    pub answers: usize,
    pub refusals: usize,
    pub resets: usize,
    /// Bytes of answer bodies.
    pub bytes: usize,
    /// The debug data of its GOAWAY.
    pub goaway: Option<String>,
    pub closed: bool,
}

/// A connection that looks alive but takes no answers: it acknowledges PING and SETTINGS and reads every frame, but
/// never grants flow-control credit.
pub struct Connection {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    heard: watch::Receiver<Heard>,
    next_stream: Mutex<u32>,
    spent: Mutex<usize>,
    attending: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.attending.abort();
    }
}

impl Connection {
    /// Opens a connection whose streams may send `window` bytes to this side.
    pub async fn open(from: &str, to: &str, window: u32) -> io::Result<Self> {
        let (reader, mut writer) = dial(from, to).await?.into_split();
        writer.write_all(&[PREFACE, &settings(window)].concat()).await?;
        let writer = Arc::new(tokio::sync::Mutex::new(writer));
        let (tell, heard) = watch::channel(Heard { room: 65_535, ..Heard::default() });
        let attending = tokio::spawn(attend(reader, Arc::clone(&writer), tell));
        let connection = Self { writer, heard, next_stream: Mutex::new(1), spent: Mutex::new(0), attending };
        connection.hears("SETTINGS", |heard| heard.settings || heard.closed).await;
        Ok(connection)
    }

    pub fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// Waits until what the node has sent fits.
    pub async fn hears(&self, what: &str, fits: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = self.heard.clone();
        let found = tokio::time::timeout(Duration::from_secs(30), heard.wait_for(|heard| fits(heard))).await;
        match found {
            Ok(Ok(heard)) => heard.clone(),
            _ => panic!("{what}: not in time: {:?}", self.heard()),
        }
    }

    fn stream(&self) -> MutexGuard<'_, u32> {
        self.next_stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next stream id.
    pub fn next(&self) -> u32 {
        let mut next = self.stream();
        *next += 2;
        *next - 2
    }

    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.writer.lock().await.write_all(bytes).await
    }

    /// Starts a call and sends the first bytes of its body.
    pub async fn begin(&self, headers: &[u8], body: &[u8], ends: bool) -> io::Result<u32> {
        let stream = self.next();
        self.send(&frame(HEADERS, END_HEADERS, stream, headers)).await?;
        let mut pieces = body.chunks(FRAME_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            self.data(stream, piece, ends && pieces.peek().is_none()).await?;
        }
        Ok(stream)
    }

    /// Sends more of a body, as soon as the connection has credit for it.
    pub async fn data(&self, stream: u32, piece: &[u8], ends: bool) -> io::Result<()> {
        let spent = {
            let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
            *spent += piece.len();
            *spent
        };
        let heard = self.hears("room", |heard| heard.room >= spent || heard.closed).await;
        if heard.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.send(&frame(DATA, if ends { END_STREAM } else { 0 }, stream, piece)).await
    }
}

async fn attend(
    mut reader: OwnedReadHalf,
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    tell: watch::Sender<Heard>,
) {
    while let Ok((kind, flags, stream, payload)) = next_frame(&mut reader).await {
        let answer = match kind {
            PING | SETTINGS if flags & ACK == 0 => {
                let echo = if kind == PING { &payload[..] } else { &[] };
                Some(frame(kind, ACK, 0, echo))
            }
            _ => None,
        };
        if let Some(answer) = answer
            && writer.lock().await.write_all(&answer).await.is_err()
        {
            break;
        }
        tell.send_modify(|heard| match kind {
            HEADERS => {
                heard.answers += 1;
                heard.refusals += usize::from(flags & END_STREAM > 0);
            }
            RST_STREAM => heard.resets += 1,
            SETTINGS => heard.settings = true,
            WINDOW_UPDATE if stream == 0 => {
                heard.room += payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes) as usize);
            }
            DATA => heard.bytes += payload.len(),
            GOAWAY => heard.goaway = Some(String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned()),
            _ => {}
        });
    }
    tell.send_modify(|heard| heard.closed = true);
}

async fn next_frame(reader: &mut OwnedReadHalf) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).await?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    reader.read_exact(&mut payload).await?;
    Ok((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}
