//! The HTTP server: from a socket, through the TLS handshake, to the router.
//!
//! Guarantees:
//! * A connection counts as waiting from the moment that it is accepted, so slow handshakes have
//!   the limits of slow requests.
//! * With `[api] tls`, a client that sends plain HTTP gets one answer, which names the remedy, and
//!   its request is not read.
//! * HTTP is 1.1.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::HttpService;
use actix_http::error::DispatchError;
use actix_service::{ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::{AppConfig, Extensions, Server};
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use forebay_schemas::problem;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::actor::{ApiParams, Listener};
use super::auth::authenticate;
use super::error::ApiError;
use super::events::{CHUNK_BYTES, MAX_SUBSCRIBERS};
use super::tls::ApiTls;
use super::waiting_connections::{Connection, MAX_WAITING, REQUEST_TIMEOUT, WaitingConnections};
use super::{State, router};

/// Connections at once: every event stream, those that wait for a request, and other requests.
const MAX_CONNECTIONS: usize = MAX_SUBSCRIBERS + MAX_WAITING + 128;
/// The time-out of sending the end of a connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of a plain request is read before it is refused.
const MAX_REFUSED_BYTES: usize = 8 << 10;

/// Starts the server on its socket.
///
/// # Errors
/// The error of the operating system.
pub(super) fn start(params: &ApiParams) -> io::Result<Server> {
    let state = web::Data::new(State::new(params.clone()));
    let (waiting, tls) = (WaitingConnections::default(), params.tls.clone());
    let builder = Server::build().workers(1).max_concurrent_connections(MAX_CONNECTIONS).shutdown_timeout(1).disable_signals();
    let builder = match &params.listener {
        Listener::Tcp(listener) => builder.listen("api", listener.try_clone()?, move || {
            let (waiting, tls) = (waiting.clone(), tls.clone());
            fn_service(move |socket: TcpStream| accept_tcp(socket, waiting.clone(), tls.clone())).and_then(http(state.clone()))
        }),
        Listener::Unix(listener) => builder.listen_uds("api", listener.try_clone()?, move || {
            let waiting = waiting.clone();
            fn_service(move |socket: UnixStream| accept_unix(socket, waiting.clone())).and_then(http(state.clone()))
        }),
    };
    Ok(builder?.run())
}

/// Serves the requests of a connection.
fn http(
    state: web::Data<State>,
) -> impl ServiceFactory<(Stream, Option<SocketAddr>), Config = (), Response = (), Error = DispatchError, InitError = ()> {
    let app = App::new().app_data(state).wrap(from_fn(authenticate)).configure(router::configure);
    HttpService::build()
        .client_request_timeout(REQUEST_TIMEOUT)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        // Bounds the buffer of a slow client.
        .h1_write_buffer_size(CHUNK_BYTES)
        // A client that closes its end frees its slot, also while it waits for an event.
        .h1_allow_half_closed(false)
        .on_connect_ext(|stream: &Stream, data: &mut Extensions| {
            if let Some(connection) = &stream.connection {
                data.insert(Rc::clone(connection));
            }
        })
        .h1(map_config(app, |()| AppConfig::default()))
}

type Accepted = Result<(Stream, Option<SocketAddr>), DispatchError>;

async fn accept_unix(socket: UnixStream, waiting: WaitingConnections) -> Accepted {
    Ok((Stream { connection: waiting.accept(&socket), io: Box::new(socket) }, None))
}

async fn accept_tcp(socket: TcpStream, waiting: WaitingConnections, tls: Option<ApiTls>) -> Accepted {
    let (connection, peer) = (waiting.accept(&socket), socket.peer_addr().ok());
    let Some(tls) = tls else { return Ok((Stream { connection, io: Box::new(socket) }, peer)) };
    let socket = match tokio::time::timeout(REQUEST_TIMEOUT, shake_hands(socket, &tls)).await {
        Ok(result) => result?,
        Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    };
    Ok((Stream { connection, io: Box::new(socket) }, peer))
}

/// Makes a TLS connection of a socket, or refuses its plain request.
async fn shake_hands(socket: TcpStream, tls: &ApiTls) -> io::Result<TlsStream<TcpStream>> {
    // The answer is not held back for an acknowledgement of the handshake's last message.
    socket.set_nodelay(true)?;
    let mut first = [0];
    // A method of HTTP; TLS begins with another byte.
    if socket.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        refuse(socket).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP at a port with TLS"));
    }
    // As of the plain bytes: bounds the buffer of a slow client.
    TlsAcceptor::from(tls.config()).accept_with(socket, |connection| connection.set_buffer_limit(Some(CHUNK_BYTES))).await
}

/// Answers a plain request, in plain HTTP, without serving it.
async fn refuse(mut socket: TcpStream) -> io::Result<()> {
    // A socket that is closed with unread bytes resets the connection, and the answer may be lost.
    let _ = socket.read(&mut [0; MAX_REFUSED_BYTES]).await?;
    let body = ApiError::new(&problem::TLS_REQUIRED, "the request came without TLS").body();
    let head = format!(
        "HTTP/1.1 {} Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        problem::TLS_REQUIRED.status,
        body.len()
    );
    socket.write_all(&[head.as_bytes(), &body].concat()).await?;
    socket.shutdown().await
}

trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// The bytes of a connection, decrypted.
struct Stream {
    io: Box<dyn Io>,
    connection: Option<Rc<Connection>>,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}
