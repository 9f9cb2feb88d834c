//! The actor of the API: its HTTP server starts and stops with the incarnation.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use forebay_schemas::pipeline::Pipeline;

use super::auth::Authenticator;
use super::server;
use super::tls::ApiTls;
use crate::broker::Access;
use crate::consumer::ResetHandle;
use crate::fetcher::FetcherHandle;
use crate::ledger::Ledger;
use crate::observers::SnapshotSource;
use forebay_dataplane::transform::Transform;
use forebay_kernel::{ActorTree, Cx, Exit, Service, SharedClock};

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
    /// TLS of the connections, if the pipeline file has it.
    pub tls: Option<ApiTls>,
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
        match server::start(&self.params) {
            Ok(server) => {
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
