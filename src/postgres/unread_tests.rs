//! Tests that a server receives our status updates while nobody reads its bytes. The server is a
//! thread of the test. The sockets are real, and the kernel decides about their windows.

use super::inbox::Inbox;
use super::outbox::StandbyStatus;
use super::socket::{Socket, connect_to_stream};
use super::stream::Stream;
use crate::lsn::{Lsn, PgMicros};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Sizes in bytes of the small frames. Some lists are those of a walsender that sends small
/// transactions.
const SMALL: [&[usize]; 4] = [&[40], &[100], &[51, 160, 56], &[40, 80, 120, 250, 900]];
/// Number and size of the frames that are read first. Frames of this size make the kernel open its
/// receive window far.
const LARGE: (usize, usize) = (128, 60_000);
const UPDATE_BYTES: usize = 39;
const UPDATES: usize = 12;
/// The pause between updates. It is longer than the kernel's first retransmission timeout, after
/// which the kernel sends one segment at a time.
const BETWEEN: Duration = Duration::from_millis(250);
const DEADLINE: Duration = Duration::from_secs(20);

/// One XLogData frame of `size` bytes, tag and length included.
fn frame(size: usize) -> Vec<u8> {
    let length = u32::try_from(size - 1).unwrap();
    let mut frame = [b"d".as_slice(), &length.to_be_bytes(), b"w"].concat();
    frame.resize(size, 0);
    frame
}

/// The server: sends the large frames, and then small ones until all updates have arrived or
/// `DEADLINE` is over. Reports to `full` when the socket accepts no more bytes. Returns the number
/// of updates that arrived.
fn serve(
    stream: &mut TcpStream,
    sizes: &[usize],
    full: &mpsc::Sender<()>,
) -> std::io::Result<usize> {
    stream.set_nodelay(true)?;
    for _ in 0..LARGE.0 {
        stream.write_all(&frame(LARGE.1))?;
    }
    stream.set_nonblocking(true)?;
    let (began, mut heard) = (Instant::now(), 0);
    let mut sizes = sizes.iter().cycle();
    let mut rest: Vec<u8> = Vec::new();
    while heard < UPDATES * UPDATE_BYTES && began.elapsed() < DEADLINE {
        // Few frames are sent at a time, so that each is a segment of its own.
        for size in sizes.by_ref().take(20) {
            if rest.is_empty() {
                rest = frame(*size);
            }
            match stream.write(&rest) {
                Ok(bytes) => drop(rest.drain(..bytes)),
                Err(_) => {
                    let _ = full.send(());
                    break;
                }
            }
        }
        match stream.read(&mut [0; 4096]) {
            Ok(bytes) => heard += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1))
            }
            Err(error) => return Err(error),
        }
    }
    Ok(heard / UPDATE_BYTES)
}

/// The agent: reads the large frames, waits until the server can send no more, and then sends the
/// updates. It then reads only the bytes that `flush_unread` reads with each update.
async fn go_quiet(mut stream: Stream, is_full: mpsc::Receiver<()>) -> Stream {
    let mut large = 0;
    while large < LARGE.0 {
        stream.fill().await.unwrap();
        while stream.next_frame().unwrap().is_some() {
            large += 1;
        }
    }
    let is_full = tokio::task::spawn_blocking(move || is_full.recv_timeout(DEADLINE));
    is_full.await.unwrap().unwrap();
    for _ in 0..UPDATES {
        let status =
            StandbyStatus { write: Lsn::ZERO, flush: Lsn::ZERO, apply: Lsn::ZERO, reply: false };
        stream.queue_status(status, PgMicros(1));
        stream.flush_unread().await.unwrap();
        tokio::time::sleep(BETWEEN).await;
    }
    stream
}

/// Goal: an agent that back-pressure keeps from reading does not lose its walsender. Method: status
/// updates that must all arrive while nobody reads. If the kernel has taken its window back and
/// nothing is read, no more than the first two updates arrive.
#[tokio::test]
async fn a_stream_that_nobody_reads_is_still_heard() {
    let mut streams = Vec::new();
    for sizes in SMALL {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (full, is_full) = mpsc::channel();
        let server =
            tokio::task::spawn_blocking(move || serve(&mut listener.accept()?.0, sizes, &full));
        let tcp = connect_to_stream(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let stream = Stream::new(Socket::Tcp(tcp), Inbox::new(1 << 20), 7, 1 << 20);
        streams.push((sizes, server, tokio::spawn(go_quiet(stream, is_full))));
    }
    for (sizes, server, client) in streams {
        let heard = server.await.unwrap().unwrap();
        assert_eq!(heard, UPDATES, "between frames of {sizes:?} bytes");
        drop(client.await.unwrap());
    }
}
