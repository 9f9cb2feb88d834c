//! The connections whose request has not arrived completely.
//!
//! Guarantees:
//! * At most [`MAX_WAITING`] connections wait for a request or the rest of one. When one more does,
//!   the one that has waited longest is closed.
//! * None of the TLS handshake, the head and the body of a request may take longer than
//!   [`REQUEST_TIMEOUT`]; the server and the extractors see to that.
//!
//! So clients that send slowly can only take the place of each other, and a client that sends its
//! request at once is served, whatever they do.

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// Connections that wait for a request, or the rest of one.
pub(super) const MAX_WAITING: usize = 128;

/// The time-out of a client to shake hands, again to send the head of a request, and again for its
/// body.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The waiting connections, longest first.
#[derive(Clone, Default)]
pub(super) struct WaitingConnections(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    last: u64,
    /// The id of each connection, and its socket.
    connections: VecDeque<(u64, Arc<TcpStream>)>,
}

/// A connection. Dropping it, it waits no more.
pub(super) struct Connection {
    id: u64,
    /// A duplicate of its socket, of either kind, to shut it down.
    socket: Arc<TcpStream>,
    all: WaitingConnections,
}

impl WaitingConnections {
    /// Adds a new connection, which waits for its handshake and its first request. `None` when no
    /// descriptor is left: the connection is then bounded by its time-outs alone.
    pub(super) fn accept(&self, socket: &impl AsFd) -> Option<Rc<Connection>> {
        let socket = socket.as_fd().try_clone_to_owned().ok()?;
        let id = {
            let mut waiting = self.0.lock();
            waiting.last += 1;
            waiting.last
        };
        let connection = Connection { id, socket: Arc::new(socket.into()), all: self.clone() };
        connection.wait();
        Some(Rc::new(connection))
    }
}

impl Connection {
    /// It waits for a request, or the rest of one.
    pub(super) fn wait(&self) {
        let mut waiting = self.all.0.lock();
        waiting.connections.push_back((self.id, Arc::clone(&self.socket)));
        if waiting.connections.len() > MAX_WAITING
            && let Some((_, longest)) = waiting.connections.pop_front()
        {
            // The server sees its end and drops it.
            let _ = longest.shutdown(Shutdown::Both);
        }
    }

    /// Its request has arrived, as far as it is needed.
    pub(super) fn arrived(&self) {
        self.all.0.lock().connections.retain(|(id, _)| *id != self.id);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.arrived();
    }
}
