//! The shell: the server starts with the incarnation and ends with it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};

use super::routes::{self, LoopbackHost, State, Triggers};
use crate::kernel::{Actor, Cx, Exit};
use crate::ledger::Ledger;
use crate::pipeline::Viewer;

/// The most connections at once.
const CONNECTIONS_MOST: usize = 256;
/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What the API is made of.
#[derive(Clone)]
pub struct ApiParts {
    /// The pipeline's name.
    pub pipeline: String,
    /// Where it listens: bound before the pipeline starts, so that a taken port is an error then.
    pub listener: Arc<TcpListener>,
    /// Takes the looks.
    pub viewer: Viewer,
    /// Knows the runs.
    pub ledger: Arc<Ledger>,
    /// Where its journal is, if it has one.
    pub journal: Option<PathBuf>,
    /// The fetcher, when this process has one.
    pub(crate) triggers: Option<Arc<dyn Triggers>>,
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

impl Actor for Api {
    type Message = ();

    fn started(&mut self, cx: &mut Cx<'_, Self>) {
        let state = State {
            pipeline: self.parts.pipeline.clone(),
            viewer: self.parts.viewer.clone(),
            ledger: Arc::clone(&self.parts.ledger),
            journal: self.parts.journal.clone(),
            triggers: self.parts.triggers.clone(),
        };
        let app = move || {
            App::new()
                .app_data(web::Data::new(state.clone()))
                .service(web::scope("").guard(LoopbackHost).configure(routes::configure))
                .default_service(web::to(routes::foreign_host))
        };
        let server = HttpServer::new(app)
            .workers(1)
            .max_connections(CONNECTIONS_MOST)
            .client_request_timeout(HEAD_TIMEOUT)
            .shutdown_timeout(1)
            .disable_signals();
        let listening = self.parts.listener.try_clone().and_then(|listener| server.listen(listener));
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

    fn handle(&mut self, (): (), _: &mut Cx<'_, Self>) {}

    fn stopping(&mut self, cx: &mut Cx<'_, Self>) {
        match self.server.take() {
            Some(server) => cx.spawn(async move { server.stop(false).await }, |_, (), cx| cx.exit(Exit::Shutdown)),
            None => cx.exit(Exit::Shutdown),
        }
    }
}
