//! A TCP proxy in front of a server, which spoils the connections on command.
//!
//! Guarantees:
//! * A fault holds for open and for new connections, from the moment it is set until another is.
//! * Bytes that pass are unchanged and in order.
//!
//! Does not cover lost or repeated packets: TCP hides them. What TCP can't hide is a delay, a
//! connection that ends, and one on which nothing arrives any more.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::ports;

/// How long a read waits before it checks whether the fault has changed.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The largest piece that passes at once, bytes.
const CHUNK: usize = 16 << 10;

/// What the proxy does to every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkFault {
    /// Passes the bytes.
    #[default]
    None,
    /// Passes them late and few at a time, in both directions.
    Slow {
        /// The delay of each piece.
        delay: Duration,
        /// Bytes per second of each direction; more than zero.
        bandwidth: u32,
    },
    /// Passes them in pieces of at most seven bytes.
    Sliced,
    /// Passes nothing and closes nothing, as when a cable is unplugged: what is sent meanwhile
    /// arrives when the fault ends. New connections are accepted.
    Silent,
    /// Passes requests and drops what the server answers. Its end resets the connections, which
    /// have gaps.
    LostAnswers,
    /// Passes answers and drops what the client sends. Its end resets the connections, which have
    /// gaps.
    LostRequests,
    /// Passes nothing more on the connections that are open when it begins, and closes none of
    /// them, even when it ends: as when a firewall forgets them. New connections pass.
    HalfOpen,
    /// Resets each connection when so many bytes have passed in one direction, in the middle of
    /// whatever is being sent.
    ResetAfter(usize),
    /// Resets every connection, including new ones.
    Reset,
}

/// A running proxy at a port of 127.0.0.1. Its threads end with the test process.
pub struct Proxy {
    port: u16,
    fault: Arc<Mutex<NetworkFault>>,
}

impl Proxy {
    /// Starts a proxy in front of a port of 127.0.0.1, where nothing needs to listen yet.
    ///
    /// # Panics
    /// If it can't listen.
    #[must_use]
    #[track_caller]
    pub fn to(server: u16) -> Self {
        let port = ports::free();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
        let fault = Arc::new(Mutex::new(NetworkFault::None));
        let of_threads = Arc::clone(&fault);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let fault = Arc::clone(&of_threads);
                std::thread::spawn(move || connect(client, server, &fault));
            }
        });
        Self { port, fault }
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port of the proxy.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Sets the fault; [`NetworkFault::None`] heals it.
    pub fn set(&self, fault: NetworkFault) {
        *self.fault.lock() = fault;
    }
}

/// One client's connection.
struct Connection<'a> {
    fault: &'a Mutex<NetworkFault>,
    /// The fault when it was opened.
    opened_under: NetworkFault,
    /// Nothing passes any more.
    forgotten: AtomicBool,
    /// Both ends are to be reset.
    broken: AtomicBool,
}

/// Connects a client with the server, and passes bytes until one of them ends the connection.
fn connect(client: TcpStream, server: u16, fault: &Mutex<NetworkFault>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { return reset(&client) };
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return reset(&client) };
    let opened_under = *fault.lock();
    let connection = Connection { fault, opened_under, forgotten: AtomicBool::new(false), broken: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        scope.spawn(|| connection.pass(client_too, server_too, NetworkFault::LostRequests));
        connection.pass(server, client, NetworkFault::LostAnswers);
    });
}

impl Connection<'_> {
    /// Passes bytes in one direction until it ends. `loss` is the fault that drops them.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, loss: NetworkFault) {
        let _ = from.set_read_timeout(Some(POLL_INTERVAL));
        let _ = to.set_write_timeout(Some(POLL_INTERVAL));
        let _ = to.set_nodelay(true);
        if self.pass_all(&mut from, &mut to, loss).is_ok() {
            // Passes the end on; the other direction may continue.
            let _ = to.shutdown(Shutdown::Write);
        } else {
            self.broken.store(true, Ordering::Relaxed);
            reset(&from);
            reset(&to);
        }
    }

    /// Fails if the connection is to be reset.
    fn pass_all(&self, from: &mut TcpStream, to: &mut TcpStream, loss: NetworkFault) -> io::Result<()> {
        let mut passed = 0;
        let mut has_gap = false;
        let mut chunk = [0; CHUNK];
        loop {
            let fault = self.check()?;
            if has_gap && fault != loss {
                return Err(ErrorKind::ConnectionReset.into());
            }
            let many = match from.read(&mut chunk) {
                Ok(0) => return self.check().map(|_| ()),
                Ok(many) => many,
                Err(error) if is_timeout(&error) => continue,
                Err(error) => return Err(error),
            };
            let bytes = &chunk[..many];
            match self.wait_while_silent()? {
                _ if self.forgotten.load(Ordering::Relaxed) => continue,
                fault if fault == loss => {
                    has_gap = true;
                    continue;
                }
                NetworkFault::Slow { delay, bandwidth } => self.write_slowly(to, bytes, delay, bandwidth)?,
                NetworkFault::Sliced => bytes.chunks(7).try_for_each(|slice| self.write(to, slice))?,
                NetworkFault::ResetAfter(limit) if passed + many >= limit => {
                    self.write(to, &bytes[..limit.saturating_sub(passed)])?;
                    return Err(ErrorKind::ConnectionReset.into());
                }
                _ => self.write(to, bytes)?,
            }
            passed += many;
        }
    }

    /// Returns the fault of now; fails if the connection is to be reset.
    fn check(&self) -> io::Result<NetworkFault> {
        match *self.fault.lock() {
            _ if self.broken.load(Ordering::Relaxed) => Err(ErrorKind::ConnectionReset.into()),
            NetworkFault::Reset => Err(ErrorKind::ConnectionReset.into()),
            fault => {
                if fault == NetworkFault::HalfOpen && self.opened_under != fault {
                    self.forgotten.store(true, Ordering::Relaxed);
                }
                Ok(fault)
            }
        }
    }

    fn wait_while_silent(&self) -> io::Result<NetworkFault> {
        loop {
            match self.check()? {
                NetworkFault::Silent => std::thread::sleep(POLL_INTERVAL),
                fault => return Ok(fault),
            }
        }
    }

    /// Writes all bytes, however long the receiver takes.
    fn write(&self, to: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match to.write(bytes) {
                Ok(many) => bytes = &bytes[many..],
                Err(error) if is_timeout(&error) => self.check().map(|_| ())?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_slowly(&self, to: &mut TcpStream, bytes: &[u8], delay: Duration, bandwidth: u32) -> io::Result<()> {
        let began = Instant::now() + delay;
        let mut sent = 0_u32;
        for piece in bytes.chunks(1 << 10) {
            std::thread::sleep((began + Duration::from_secs(1) * sent / bandwidth).saturating_duration_since(Instant::now()));
            self.write(to, piece)?;
            sent += u32::try_from(piece.len()).expect("a piece is small");
        }
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Makes the end of a connection a reset, also if bytes are still to be read.
fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each byte with the same byte.
    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || io::copy(&mut stream.try_clone().expect("a second handle"), &mut stream));
            }
        });
        port
    }

    /// Sends `bytes` and returns what comes back within half a second.
    fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(bytes)?;
        let mut answer = vec![0; bytes.len()];
        stream.read_exact(&mut answer).map(|()| answer)
    }

    fn client(fault: NetworkFault) -> (Proxy, TcpStream) {
        let proxy = Proxy::to(echo());
        let mut stream = TcpStream::connect(proxy.address()).expect("the proxy accepts");
        assert_eq!(exchange(&mut stream, b"hello").expect("it passes"), b"hello");
        proxy.set(fault);
        (proxy, stream)
    }

    fn failure(answer: io::Result<Vec<u8>>) -> ErrorKind {
        answer.expect_err("nothing comes back").kind()
    }

    #[test]
    fn slices_and_a_slow_link_change_no_byte() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3_000).collect();
        for fault in [NetworkFault::Sliced, NetworkFault::Slow { delay: Duration::from_millis(20), bandwidth: 100_000 }] {
            let (_proxy, mut stream) = client(fault);
            let began = Instant::now();
            assert_eq!(exchange(&mut stream, &bytes).expect("it passes"), bytes);
            assert!(fault == NetworkFault::Sliced || began.elapsed() >= Duration::from_millis(40), "a delay in each direction");
        }
    }

    #[test]
    fn a_silent_link_delivers_when_it_heals() {
        let (proxy, mut stream) = client(NetworkFault::Silent);
        assert_eq!(failure(exchange(&mut stream, b"later")), ErrorKind::WouldBlock);
        proxy.set(NetworkFault::None);
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("it passes");
        assert_eq!(&answer, b"later");
    }

    #[test]
    fn a_lost_direction_ends_in_a_reset() {
        for fault in [NetworkFault::LostAnswers, NetworkFault::LostRequests] {
            let (proxy, mut stream) = client(fault);
            assert_eq!(failure(exchange(&mut stream, b"lost")), ErrorKind::WouldBlock);
            proxy.set(NetworkFault::None);
            std::thread::sleep(POLL_INTERVAL * 20);
            assert_eq!(failure(exchange(&mut stream, b"more")), ErrorKind::ConnectionReset);
            let mut again = TcpStream::connect(proxy.address()).expect("the proxy accepts");
            assert_eq!(exchange(&mut again, b"hello").expect("it passes"), b"hello");
        }
    }

    #[test]
    fn a_half_open_connection_stays_silent_and_a_new_one_passes() {
        let (proxy, mut stream) = client(NetworkFault::HalfOpen);
        std::thread::sleep(POLL_INTERVAL * 5);
        let mut again = TcpStream::connect(proxy.address()).expect("the proxy accepts");
        assert_eq!(exchange(&mut again, b"hello").expect("it passes"), b"hello");
        proxy.set(NetworkFault::None);
        assert_eq!(failure(exchange(&mut stream, b"lost")), ErrorKind::WouldBlock);
        assert_eq!(exchange(&mut again, b"hello").expect("it passes"), b"hello");
    }

    #[test]
    fn a_reset_cuts_what_is_being_sent() {
        let (_proxy, mut stream) = client(NetworkFault::ResetAfter(8));
        stream.write_all(b"123456").expect("it is sent");
        let mut answer = Vec::new();
        let error = stream.read_to_end(&mut answer).expect_err("the connection is reset");
        assert_eq!((error.kind(), answer.len() <= 3), (ErrorKind::ConnectionReset, true), "{answer:?}");
    }
}
