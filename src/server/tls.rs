//! Which certificate does a client see? By SNI, of those configured.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::files::Files;
use crate::config::problem::Problems;
use crate::mqtt::config::Spoken;

/// Certificates and versions of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// A PEM file with the certificate and those that lead to its root. Clients that name no
    /// host, or one that no certificate names, see this one.
    pub certificate: PathBuf,
    /// A PEM file with the certificate's private key.
    pub private_key: PathBuf,
    /// Further certificates; clients see them when they ask for a name in them (SNI).
    #[serde(default)]
    pub sni: Vec<CertificateConfig>,
    /// The oldest version that is spoken.
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// One more certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// A PEM file with the certificate and those that lead to its root.
    pub certificate: PathBuf,
    /// A PEM file with the certificate's private key.
    pub private_key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// RFC 5246, with the cipher suites that are still safe.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

/// A listener's TLS, ready for use.
#[derive(Debug)]
pub struct Tls {
    /// What rustls works with.
    pub config: Arc<ServerConfig>,
    /// What clients may see, the default first.
    certificates: Vec<Certificate>,
    min_version: TlsVersion,
}

#[derive(Debug)]
struct Certificate {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    not_after: i64,
}

impl Tls {
    /// For each certificate its first name, and when it expires in seconds since the epoch.
    pub fn expiries(&self) -> impl Iterator<Item = (&str, i64)> {
        self.certificates.iter().map(|certificate| {
            let name = certificate.names.first();
            (
                name.map_or("(no name)", String::as_str),
                certificate.not_after,
            )
        })
    }

    /// Whether clients could tell no difference. A certificate holds the public key, so that the
    /// private ones need not be looked at.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let chains = |tls: &Self| {
            let chains = tls.certificates.iter();
            chains
                .map(|certificate| certificate.key.cert.clone())
                .collect::<Vec<_>>()
        };
        self.min_version == other.min_version && chains(self) == chains(other)
    }
}

impl TlsConfig {
    /// Reads certificates and keys; notes every problem.
    #[must_use]
    pub fn build(
        &self,
        (at, spoken): (&str, Spoken),
        files: &Files,
        problems: &mut Problems,
    ) -> Option<Tls> {
        let default = read(at, &self.certificate, &self.private_key, files, problems);
        let others = self.sni.iter().enumerate().filter_map(|(index, other)| {
            let at = format!("{at}.sni[{index}]");
            read(&at, &other.certificate, &other.private_key, files, problems)
        });
        let mut certificates: Vec<_> = others.collect();
        let default = default?;
        let mut by_name = HashMap::new();
        for certificate in &certificates {
            for name in &certificate.names {
                by_name
                    .entry(name.clone())
                    .or_insert_with(|| Arc::clone(&certificate.key));
            }
        }
        let resolver = Resolver {
            by_name,
            default: Arc::clone(&default.key),
        };
        certificates.insert(0, default);
        let config = self.server_config(resolver, spoken);
        Some(Tls {
            config: Arc::new(problems.take(at, config)?),
            certificates,
            min_version: self.min_version,
        })
    }

    fn server_config(
        &self,
        resolver: Resolver,
        spoken: Spoken,
    ) -> Result<ServerConfig, rustls::Error> {
        let versions: &[_] = match self.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = match spoken {
            Spoken::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Spoken::Mqtt => vec![b"mqtt".to_vec()],
        };
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(config)
    }
}

#[derive(Debug)]
struct Resolver {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| {
            // rustls gives the name in lower case.
            let wildcard = || {
                let (_, parent) = name.split_once('.')?;
                self.by_name.get(&format!("*.{parent}"))
            };
            self.by_name.get(name).or_else(wildcard)
        });
        Some(Arc::clone(found.unwrap_or(&self.default)))
    }
}

fn read(
    at: &str,
    certificate: &Path,
    private_key: &Path,
    files: &Files,
    problems: &mut Problems,
) -> Option<Certificate> {
    let chain_at = format!("{at}.certificate");
    let key_at = format!("{at}.private_key");
    let pem = problems.take(&chain_at, files.read(certificate));
    let key_pem = problems.take(&key_at, files.read_secret(private_key));
    let chain = CertificateDer::pem_slice_iter(&pem?).collect::<Result<Vec<_>, _>>();
    let chain = problems.take(&chain_at, chain)?;
    let Some(first) = chain.first() else {
        problems.add(&chain_at, "holds no certificate in PEM");
        return None;
    };
    let parsed = X509Certificate::from_der(first).map_err(|_| "holds no valid certificate");
    let (_, parsed) = problems.take(&chain_at, parsed)?;
    let (names, not_after) = (names(&parsed), parsed.validity().not_after.timestamp());
    let key = PrivateKeyDer::from_pem_slice(key_pem?.expose());
    let key = problems.take(&key_at, key.map_err(|_| "holds no private key in PEM"))?;
    let provider = aws_lc_rs::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider);
    let key = key.map_err(|error| format!("does not fit the certificate: {error}"));
    let key = Arc::new(problems.take(&key_at, key)?);
    Some(Certificate {
        key,
        names,
        not_after,
    })
}

/// The names of a certificate, in lower case.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}
