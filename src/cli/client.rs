//! How does a command ask a running gate's admin listener?

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::tools::read_line;
use crate::config::files::Files;

/// Where the admin listener is.
#[derive(Debug, clap::Args)]
pub(super) struct AdminPlace {
    /// The gate's admin listener
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// A PEM file with the certificates to trust, where it speaks TLS (`admin.tls`)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The name that its certificate must have [default: the address]
    #[arg(long, value_name = "NAME", requires = "ca")]
    ca_name: Option<String>,
}

/// Who asks.
#[derive(Debug, clap::Args)]
pub(super) struct Operator {
    /// Ask as this operator, of `admin.users_file`; the password is read from standard input
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
}

impl Operator {
    /// Puts the operator's credentials into a request, if one is named (RFC 7617).
    pub(super) fn sign(
        self,
        mut request: Request<Full<Bytes>>,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let Some(name) = self.operator else {
            return Ok(request);
        };
        let password = read_line("the operator's password")?;
        let pair = Zeroizing::new(format!("{name}:{}", *password));
        let pair = Zeroizing::new(STANDARD.encode(&*pair));
        let value = Zeroizing::new(format!("Basic {}", *pair));
        let mut value = HeaderValue::from_str(&value)?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(request)
    }
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

impl AdminPlace {
    /// What is answered, if it is a success.
    pub(super) fn ask(&self, request: Request<Full<Bytes>>) -> anyhow::Result<String> {
        self.ask_within(request, PATIENCE)
    }

    /// As [`AdminPlace::ask`], within so much time.
    pub(super) fn ask_within(
        &self,
        mut request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> anyhow::Result<String> {
        let admin = self.admin;
        let host = HeaderValue::from_str(&admin.to_string())?;
        request.headers_mut().insert(HOST, host);
        let tls = self.ca.as_deref().map(trusting).transpose()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(async { timeout(patience, self.reach(request, tls)).await });
        answer.with_context(|| format!("no answer from {admin} in {patience:?}"))?
    }

    async fn reach(
        &self,
        request: Request<Full<Bytes>>,
        tls: Option<ClientConfig>,
    ) -> anyhow::Result<String> {
        let admin = self.admin;
        let tcp = TcpStream::connect(admin).await;
        let tcp = tcp.with_context(|| format!("cannot reach the admin listener at {admin}"))?;
        let Some(tls) = tls else {
            return exchange(tcp, request).await;
        };
        let name = match &self.ca_name {
            Some(name) => ServerName::try_from(name.clone()).context("--ca-name is no name")?,
            None => ServerName::from(admin.ip()),
        };
        let connector = TlsConnector::from(Arc::new(tls));
        let stream = connector.connect(name, tcp).await;
        exchange(stream.context("no TLS with the admin listener")?, request).await
    }
}

/// TLS that trusts what is in this file alone.
fn trusting(file: &Path) -> anyhow::Result<ClientConfig> {
    let name = file.file_name().map_or(file, Path::new);
    let pem = Files::beside(file).read(name)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.context("--ca holds no certificates in PEM")?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder?.with_root_certificates(roots).with_no_client_auth())
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&body);
    if !status.is_success() {
        bail!("the gate answered {status}: {}", text.trim());
    }
    Ok(text.into_owned())
}
