//! How is the server asked, and how quickly is it clear that it cannot be?
//!
//! Connections live on the store's own thread and carry the questions of all workers side by
//! side. There is always one or none: without one, a question fails at once.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo as _, RedisConnectionInfo, RedisError, RedisResult, Script, ServerErrorKind,
    ToRedisArgs, cmd,
};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::config::{RedisMode, RedisSpec};
use crate::store::StoreError;

/// A connection that many can ask at once.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Connection {
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Single(connection) => command.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => {
                let mut connection = connection.clone();
                Box::pin(command.query_async(&mut connection)).await
            }
        }
    }

    pub(super) async fn run<T: FromRedisValue>(&self, call: &Call) -> RedisResult<T> {
        match self
            .ask(&call.command("EVALSHA", call.script.get_hash()))
            .await
        {
            // A server that was started again, or another one in its place. `SCRIPT LOAD` would ask all
            // nodes of a cluster, of which one may just be gone.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.ask(&call.command("EVAL", call.text)).await
            }
            outcome => outcome,
        }
    }
}

/// A script's text, and the script.
pub(super) type Lua = (&'static str, LazyLock<Script>);

/// A script with its keys and arguments.
pub(super) struct Call {
    text: &'static str,
    script: &'static Script,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Call {
    pub(super) fn new(lua: &'static Lua) -> Self {
        Self {
            text: lua.0,
            script: &lua.1,
            keys: Vec::new(),
            arguments: Vec::new(),
        }
    }

    pub(super) fn key(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    pub(super) fn keys(mut self, keys: impl IntoIterator<Item = String>) -> Self {
        self.keys.extend(keys);
        self
    }

    pub(super) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.arguments.extend(argument.to_redis_args());
        self
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(self.keys.len());
        command.arg(&self.keys).arg(&self.arguments);
        command
    }
}

/// The way to the server.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) spec: RedisSpec,
    current: ArcSwapOption<Connection>,
    /// Told when an answer makes it doubtful that the connection is good.
    pub(super) doubt: Notify,
}

impl Link {
    pub(super) fn new(spec: RedisSpec) -> Self {
        Self {
            spec,
            current: ArcSwapOption::empty(),
            doubt: Notify::new(),
        }
    }

    pub(super) fn current(&self) -> Option<Arc<Connection>> {
        self.current.load_full()
    }

    pub(super) fn set(&self, connection: Option<Arc<Connection>>) {
        self.current.store(connection);
    }

    /// Asks one command.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let connection = self.current().ok_or_else(unconnected)?;
        self.judge(timeout(self.spec.timeout, connection.ask(command)).await)
    }

    /// Runs one script.
    pub(super) async fn run<T: FromRedisValue>(&self, call: Call) -> Result<T, StoreError> {
        let connection = self.current().ok_or_else(unconnected)?;
        self.judge(timeout(self.spec.timeout, connection.run(&call)).await)
    }

    fn judge<T, E>(&self, outcome: Result<RedisResult<T>, E>) -> Result<T, StoreError> {
        match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.code() == Some("OOM") => Err(StoreError::Full),
            Ok(Err(error)) => {
                let is_demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
                if is_demoted && self.spec.mode != RedisMode::Cluster {
                    // It still answers, but another one has taken its place.
                    self.set(None);
                }
                self.doubt.notify_one();
                Err(StoreError::Unavailable(error.to_string()))
            }
            Err(_) => {
                self.doubt.notify_one();
                Err(StoreError::Unavailable(
                    "it did not answer in time".to_owned(),
                ))
            }
        }
    }
}

fn unconnected() -> StoreError {
    StoreError::Unavailable("it cannot be reached".to_owned())
}

impl RedisSpec {
    fn settings(&self) -> RedisConnectionInfo {
        let settings = RedisConnectionInfo::default().set_db(self.database.into());
        let settings = match &self.username {
            Some(username) => settings.set_username(username),
            None => settings,
        };
        match &self.password {
            Some(password) => settings.set_password(password.expose()),
            None => settings,
        }
    }

    /// A client of one node.
    fn client(&self, node: &ConnectionAddr) -> RedisResult<Client> {
        let info = self.info(node)?;
        match (&self.tls, node) {
            (Some(tls), ConnectionAddr::TcpTls { .. }) => Client::build_with_tls(info, tls.clone()),
            _ => Client::open(info),
        }
    }

    fn info(&self, node: &ConnectionAddr) -> RedisResult<ConnectionInfo> {
        let info = ("localhost", 0).into_connection_info()?;
        let info = info.set_addr(node.clone());
        Ok(info.set_redis_settings(self.settings()))
    }

    fn sentinel(&self) -> RedisResult<SentinelClient> {
        let nodes = self.nodes.iter().cloned();
        let name = &self.master_name;
        let mut builder = SentinelClientBuilder::new(nodes, name, SentinelServerType::Master)?
            .set_client_to_redis_db(self.database.into());
        if let Some(username) = &self.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_redis_password(password.expose());
        }
        if let Some(password) = &self.sentinel_password {
            builder = builder.set_client_to_sentinel_password(password.expose());
        }
        if matches!(self.nodes.first(), Some(ConnectionAddr::TcpTls { .. })) {
            builder = builder.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
            if let Some(tls) = &self.tls {
                builder = builder
                    .set_client_to_redis_certificates(tls.clone())
                    .set_client_to_sentinel_certificates(tls.clone());
            }
        }
        builder.build()
    }

    /// A client of the server behind these urls; of a cluster, of one of its nodes, another at
    /// every `turn`.
    async fn any_client(&self, turn: usize) -> RedisResult<Client> {
        match self.mode {
            RedisMode::Sentinel => Box::pin(self.sentinel()?.async_get_client()).await,
            RedisMode::Cluster | RedisMode::Single => {
                let index = turn.checked_rem(self.nodes.len()).unwrap_or(0);
                let none = || RedisError::from((ErrorKind::InvalidClientConfig, "no url"));
                self.client(self.nodes.get(index).ok_or_else(none)?)
            }
        }
    }

    /// Connects, within the time for it.
    pub(super) async fn connect(&self, turn: usize) -> RedisResult<Connection> {
        within(self.connect_timeout, async {
            if self.mode != RedisMode::Cluster {
                return Ok(Connection::Single(self.connect_to_one(turn).await?));
            }
            // Tells what is wrong with the config more clearly than a cluster's client does.
            let probe = Connection::Single(self.connect_to_one(turn).await?);
            probe
                .ask::<redis::Value>(cmd("CLUSTER").arg("SLOTS"))
                .await?;
            let infos = self.nodes.iter().map(|node| self.info(node));
            let infos = infos.collect::<RedisResult<Vec<_>>>()?;
            let mut builder = ClusterClientBuilder::new(infos)
                .connection_timeout(self.connect_timeout)
                .response_timeout(self.timeout)
                .retries(5)
                .min_retry_wait(10)
                .max_retry_wait(200);
            if let Some(tls) = &self.tls {
                builder = builder.certs(tls.clone());
            }
            let client = builder.build()?;
            let connection = Box::pin(client.get_async_connection()).await?;
            Ok(Connection::Cluster(connection))
        })
        .await
    }

    async fn connect_to_one(&self, turn: usize) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.timeout));
        let client = self.any_client(turn).await?;
        Box::pin(client.get_multiplexed_async_connection_with_config(&config)).await
    }

    /// A connection that hears of revocations, from now on.
    pub(super) async fn subscribe(&self, turn: usize) -> RedisResult<PubSub> {
        within(self.connect_timeout, async {
            let client = self.any_client(turn).await?;
            let mut pubsub = Box::pin(client.get_async_pubsub()).await?;
            pubsub.subscribe(self.keys.channel()).await?;
            Ok(pubsub)
        })
        .await
    }
}

async fn within<T>(span: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(span, Box::pin(work)).await.unwrap_or_else(|_| {
        let text = "it could not be connected to in time";
        Err(RedisError::from((ErrorKind::Io, text)))
    })
}
