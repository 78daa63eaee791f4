//! What is the demo's back end? A legacy service on loopback that knows only Basic auth.
//!
//! | path | what it is |
//! |---|---|
//! | `POST /stations/<name>/produce/{single,batch}` | a broker's REST gateway |
//! | `GET /stations/<name>/messages` | the last messages of a station |
//! | `/console` | a page for people |
//! | `/api/client`, `/api/client/<id>` | STS-MQTT's clients; a bad login is a 302 to `/login` |
//! | `GET /api` | what datarhei Core tells of itself to who is logged in |
//! | `GET /ws/echo` | a WebSocket that echoes |
//! | `GET /headers` | the request's headers as this service saw them |
//! | `GET /public/status`, `GET /login` | the only pages without a login |
//!
//! It is for the demo and for tests. All that it holds is bounded, in memory, and lost with it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use self::account::Account;
use self::account::Login;
use self::clients::Clients;
use self::echo::Echo;
use self::reply::Reply;
use self::stations::Stations;

mod account;
mod clients;
mod echo;
mod reply;
mod stations;

/// Serves the legacy service on `listener` until the future is dropped, which ends its connections too.
pub async fn serve(listener: TcpListener, account: Account) {
    let legacy = Arc::new(Legacy {
        clients: Clients::new(account.username()),
        account,
        stations: Stations::default(),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((socket, _)) => {
                    connections.spawn(connection(socket, Arc::clone(&legacy)));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection; it becomes a WebSocket where a request was answered with 101.
async fn connection(socket: TcpStream, legacy: Arc<Legacy>) {
    let (upgraded, mut echo) = mpsc::channel(1);
    let service = service_fn(move |request| {
        let (legacy, upgraded) = (Arc::clone(&legacy), upgraded.clone());
        async move { Ok::<_, Infallible>(legacy.answer(request, &upgraded).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    if served.is_ok()
        && let Ok(echo) = echo.try_recv()
    {
        Echo::run(echo).await;
    }
}

/// The service's state, shared by its connections.
struct Legacy {
    account: Account,
    clients: Clients,
    stations: Stations,
}

impl Legacy {
    async fn answer(&self, request: Request<Incoming>, upgraded: &mpsc::Sender<Echo>) -> Reply {
        let login = self.account.check(request.headers());
        if login == Login::Repeated {
            // RabbitMQ's Cowboy does the same: a gate that appends its header is found out.
            return reply::empty(StatusCode::BAD_REQUEST);
        }
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let known = login == Login::Good;
        match segments.as_slice() {
            ["public", "status"] => {
                reply::json(StatusCode::OK, &serde_json::json!({"status": "ok"}))
            }
            ["login"] => reply::login_page(StatusCode::OK),
            ["api", "client", ..] if !known => reply::to_login_page(),
            ["api"] | ["console" | "headers" | "stations" | "ws", ..] if !known => {
                reply::unauthorized()
            }
            ["api"] => reply::json(StatusCode::OK, &about()),
            ["console"] => reply::console(),
            ["api", "client", id @ ..] => self.clients.answer(request, id).await,
            ["stations", name, what @ ..] => self.stations.answer(request, name, what).await,
            ["ws", "echo"] => echo::answer(request, upgraded),
            ["headers"] if request.method() == Method::GET => {
                reply::json(StatusCode::OK, &account::seen(request.headers()))
            }
            _ => reply::message(StatusCode::NOT_FOUND, "Not Found"),
        }
    }
}

/// Its clients ask for the application, the id and the version before they do anything.
fn about() -> serde_json::Value {
    serde_json::json!({
        "app": "datarhei-core", "auths": ["localjwt"], "name": "demo", "id": "tollgate-demo",
        "created_at": "2026-01-01T00:00:00Z", "uptime_seconds": 0,
        "version": {
            "number": "16.16.0", "repository_commit": "", "repository_branch": "",
            "build_date": "", "arch": "", "compiler": "",
        },
    })
}

/// Reads a body of at most [`MAX_BODY`]; the error is the answer to send instead.
async fn body(request: Request<Incoming>) -> Result<bytes::Bytes, Reply> {
    use http_body_util::{BodyExt as _, LengthLimitError, Limited};

    let limited = Limited::new(request.into_body(), MAX_BODY);
    match timeout(BODY_TIMEOUT, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(reply::message(
            StatusCode::PAYLOAD_TOO_LARGE,
            "a body may have 1 MiB",
        )),
        Ok(Err(_)) => Err(reply::message(
            StatusCode::BAD_REQUEST,
            "the body broke off",
        )),
        Err(_) => Err(reply::message(
            StatusCode::REQUEST_TIMEOUT,
            "the body took too long",
        )),
    }
}

const MAX_CONNECTIONS: usize = 512;
const MAX_BODY: usize = 1024 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Also bounds an idle connection; longer than the gate's pool keeps one, so that the gate closes first.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
