//! The shell: the server starts with the incarnation and ends with it.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use forebay_schemas::pipeline::Pipeline;

use super::auth::{Gate, gate};
use super::events::{CHUNK, FOLLOWERS_MOST};
use super::{State, router};
use crate::broker::Access;
use crate::consumer::ResetHandle;
use crate::fetcher::FetcherHandle;
use crate::ledger::Ledger;
use crate::observers::SnapshotSource;
use forebay_dataplane::transform::Transform;
use forebay_kernel::{ActorTree, Cx, Exit, Service, SharedClock};

/// The most connections at once: every stream of events, and room for those who ask for something.
const CONNECTIONS_MOST: usize = FOLLOWERS_MOST + 256;
/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the API listens: bound before the pipeline starts, so that a taken port is an error then.
#[derive(Debug, Clone)]
pub enum Listener {
    /// On an address.
    Tcp(Arc<TcpListener>),
    /// On a socket in the file system, which its owner alone can open.
    Unix(Arc<UnixListener>),
}

/// What the API is made of.
#[derive(Clone)]
pub struct ApiParts {
    /// The pipeline file.
    pub pipeline: Arc<Pipeline>,
    /// The SQL, planned; there when the pipeline writes.
    pub plan: Option<Arc<Transform>>,
    /// Where it listens.
    pub listener: Listener,
    /// Who is let in.
    pub gate: Gate,
    /// Takes snapshots.
    pub snapshots: SnapshotSource,
    /// The supervision tree.
    pub actor_tree: ActorTree,
    /// Knows the runs.
    pub ledger: Arc<Ledger>,
    /// Where its journal is, if it has one.
    pub journal: Option<PathBuf>,
    /// How Kafka is reached.
    pub access: Access,
    /// The clock.
    pub clock: SharedClock,
    /// Where the consumer is asked to set partitions back, when this process has one.
    pub resets: Option<ResetHandle>,
    /// The fetcher, when this process has one.
    pub(crate) fetcher: Option<FetcherHandle>,
}

/// The actor that serves the API.
pub struct Api {
    parts: ApiParts,
    /// There while it serves and is not asked to stop.
    server: Option<ServerHandle>,
}

impl Api {
    /// An API that serves once it is started.
    pub fn new(parts: ApiParts) -> Self {
        Self { parts, server: None }
    }
}

impl Service for Api {
    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let state = web::Data::new(State::new(self.parts.clone()));
        let app = move || App::new().app_data(state.clone()).wrap(from_fn(gate)).configure(router::configure);
        let server = HttpServer::new(app)
            .workers(1)
            // A client that reads slowly holds so much of what was already read for it.
            .h1_write_buffer_size(CHUNK)
            // A client that closed its end has gone, and its place is free, also while it waits for an event.
            .h1_allow_half_closed(false)
            .max_connections(CONNECTIONS_MOST)
            .client_request_timeout(HEAD_TIMEOUT)
            .shutdown_timeout(1)
            .disable_signals();
        let listening = match &self.parts.listener {
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
                        Ok(()) => Exit::Failed("the API's server ended".to_owned()),
                        Err(cause) => Exit::Failed(format!("the API's server failed: {cause}")),
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
