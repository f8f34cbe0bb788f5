//! Opens sockets: TCP, TLS, Unix.

use super::config::{Address, ConnectError, TlsConfig};
use crate::limits;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// A connection of any sort.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections to servers of one kind.
#[derive(Clone)]
pub(super) struct Dialer {
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dialer {
    /// `host`: the configured one, which certificates are checked against.
    pub(super) fn new(tls: Option<&TlsConfig>, host: &str) -> Result<Self, ConnectError> {
        let Some(tls) = tls else { return Ok(Self { tls: None }) };
        let wrong = |why: String| ConnectError::Config(format!("TLS to Redis: {why}"));
        let mut roots = RootCertStore::empty();
        if let Some(file) = &tls.ca_file {
            let in_file = |e: &dyn std::fmt::Display| wrong(format!("{}: {e}", file.display()));
            for cert in CertificateDer::pem_file_iter(file).map_err(|e| in_file(&e))? {
                roots.add(cert.map_err(|e| in_file(&e))?).map_err(|e| in_file(&e))?;
            }
        } else {
            let (good, _) =
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            tracing::debug!(good, "authorities of the system");
        }
        if roots.is_empty() {
            return Err(wrong("no authority to trust".into()));
        }
        let config =
            ClientConfig::builder_with_provider(crypto::aws_lc_rs::default_provider().into())
                .with_safe_default_protocol_versions()
                .map_err(|e| wrong(e.to_string()))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|e| wrong(e.to_string()))?;
        Ok(Self { tls: Some((TlsConnector::from(Arc::new(config)), name)) })
    }

    /// Opens one. The caller bounds the time of it and of the greeting.
    pub(super) async fn open(&self, address: &Address) -> io::Result<Box<dyn Stream>> {
        let tcp = match address {
            Address::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp(host, port) => TcpStream::connect((host.as_str(), *port)).await?,
        };
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), tcp).await?)),
        }
    }
}

/// Bounds the making of a link.
pub(super) async fn within<T>(
    work: impl Future<Output = Result<T, ConnectError>>,
    address: &Address,
) -> Result<T, ConnectError> {
    match tokio::time::timeout(Duration::from_millis(limits::CONNECT_MS), work).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Unreachable {
            broker: address.to_string(),
            why: "no answer in time".into(),
        }),
    }
}
