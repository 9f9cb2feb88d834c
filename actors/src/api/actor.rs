//! The actor of the API: its HTTP server starts and stops with the incarnation.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use forebay_schemas::pipeline::Pipeline;

use super::auth::{Authenticator, authenticate};
use super::events::{CHUNK_BYTES, MAX_SUBSCRIBERS};
use super::waiting_connections::{MAX_WAITING, REQUEST_TIMEOUT, WaitingConnections};
use super::{State, router};
use crate::broker::Access;
use crate::consumer::ResetHandle;
use crate::fetcher::FetcherHandle;
use crate::ledger::Ledger;
use crate::observers::SnapshotSource;
use forebay_dataplane::transform::Transform;
use forebay_kernel::{ActorTree, Cx, Exit, Service, SharedClock};

/// Connections at once: every event stream, those that wait for a request, and other requests.
const MAX_CONNECTIONS: usize = MAX_SUBSCRIBERS + MAX_WAITING + 128;

/// The socket of the API, bound before the pipeline starts, so that a taken port is an error then.
#[derive(Debug, Clone)]
pub enum Listener {
    /// A TCP address.
    Tcp(Arc<TcpListener>),
    /// A Unix socket, which only its owner can open.
    Unix(Arc<UnixListener>),
}

/// What the API is built from.
#[derive(Clone)]
pub struct ApiParams {
    /// The pipeline file.
    pub pipeline: Arc<Pipeline>,
    /// The compiled SQL, if the pipeline writes.
    pub transform: Option<Arc<Transform>>,
    /// The socket.
    pub listener: Listener,
    /// Authenticates requests.
    pub authenticator: Authenticator,
    /// The source of snapshots.
    pub snapshots: SnapshotSource,
    /// The supervision tree.
    pub actor_tree: ActorTree,
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// The directory of its journal, if it has one.
    pub journal: Option<PathBuf>,
    /// How Kafka is reached.
    pub access: Access,
    /// The clock.
    pub clock: SharedClock,
    /// Resets offsets in the running consumer, if this process has one.
    pub resets: Option<ResetHandle>,
    /// The fetcher, if this process has one.
    pub(crate) fetcher: Option<FetcherHandle>,
}

/// The actor that serves the API.
pub struct Api {
    params: ApiParams,
    /// Set while it serves and is not stopping.
    server: Option<ServerHandle>,
}

impl Api {
    /// An API that serves when it is started.
    pub fn new(params: ApiParams) -> Self {
        Self { params, server: None }
    }
}

impl Service for Api {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let state = web::Data::new(State::new(self.params.clone()));
        let app = move || App::new().app_data(state.clone()).wrap(from_fn(authenticate)).configure(router::configure);
        let waiting = WaitingConnections::default();
        let server = HttpServer::new(app)
            .workers(1)
            .on_connect(move |socket, data| waiting.accept(socket, data))
            // Bounds the buffer of a slow client.
            .h1_write_buffer_size(CHUNK_BYTES)
            // A client that closes its end frees its slot, also while it waits for an event.
            .h1_allow_half_closed(false)
            .max_connections(MAX_CONNECTIONS)
            .client_request_timeout(REQUEST_TIMEOUT)
            .shutdown_timeout(1)
            .disable_signals();
        let listening = match &self.params.listener {
            Listener::Tcp(listener) => listener.try_clone().and_then(|listener| server.listen(listener)),
            Listener::Unix(listener) => listener.try_clone().and_then(|listener| server.listen_uds(listener)),
        };
        match listening {
            Ok(server) => {
                let server = server.run();
                self.server = Some(server.handle());
                cx.spawn(server, |this, end, cx| {
                    cx.exit(match end {
                        Ok(()) if this.server.is_none() => Exit::Shutdown,
                        Ok(()) => Exit::Failed("the API server stopped".to_owned()),
                        Err(cause) => Exit::Failed(format!("the API server failed: {cause}")),
                    });
                });
            }
            Err(cause) => cx.exit(Exit::Failed(format!("the API can't listen: {cause}"))),
        }
    }

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        match self.server.take() {
            Some(server) => cx.spawn(async move { server.stop(false).await }, |_, (), cx| cx.exit(Exit::Shutdown)),
            None => cx.exit(Exit::Shutdown),
        }
    }
}
