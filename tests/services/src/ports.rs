//! Ports for servers, below the range that the kernel uses for outgoing connections, so that a port
//! stays free while its server is down and can be bound again at its restart.
//!
//! Does not reserve a port: another process may bind it between choice and use.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// Returns a free port of 127.0.0.1 that this process has not returned before.
pub(crate) fn free() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let port = u16::try_from(port).expect("the range ends below 65,536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port of 127.0.0.1 between {FIRST} and {} is free", FIRST + COUNT)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_ports_differ_even_before_anything_listens() {
        assert_ne!(super::free(), super::free());
    }
}
