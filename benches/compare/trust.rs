//! Which certificate do contenders show, and who believes it?

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

/// What clients speak and believe: TLS 1.3 with X25519 alone, one self-signed certificate.
pub(crate) struct Trust {
    pub(crate) http1: Arc<ClientConfig>,
    pub(crate) http2: Arc<ClientConfig>,
}

impl Trust {
    /// Writes a certificate for 127.0.0.1 with a P-256 key into `folder`.
    pub(crate) fn establish(folder: &Path) -> anyhow::Result<Self> {
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        fs::write(folder.join(CERTIFICATE), &certificate)?;
        fs::write(folder.join(PRIVATE_KEY), &key)?;
        fs::write(folder.join(BUNDLE), format!("{certificate}{key}"))?;

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certified.cert.der().to_vec()))?;
        // Some servers would rather agree on something dearer, and ask again for it.
        let provider = Arc::new(CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        });
        let config = |protocol: &[u8]| -> anyhow::Result<_> {
            let mut config = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok(Arc::new(config))
        };
        Ok(Self {
            http1: config(b"http/1.1")?,
            http2: config(b"h2")?,
        })
    }
}

pub(crate) const CERTIFICATE: &str = "tls.crt";
pub(crate) const PRIVATE_KEY: &str = "tls.key";
/// Both in one file, as HAProxy wants it.
pub(crate) const BUNDLE: &str = "tls.pem";
