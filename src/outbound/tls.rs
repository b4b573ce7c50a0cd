//! The trust that outgoing TLS connections rest on: Mozilla's roots, and what the operator adds. And who we say we are.

use std::sync::Arc;

use quick_cache::sync::Cache;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::ClientIdentity;

/// Client certificates whose configuration is kept in memory.
const IDENTITIES_MAX: usize = 1_000;

/// What is offered, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a client could not be set up.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SetupError {
    /// The extra roots are not certificates in PEM form.
    #[error("the extra root certificates cannot be read: {0}")]
    UnreadableRoots(String),
    /// The extra roots were given but contain no certificate.
    #[error("the extra root certificates contain no certificate")]
    NoRoots,
    /// The cryptography provider does not offer what TLS needs.
    #[error("TLS cannot be set up")]
    Provider(#[source] rustls::Error),
}

/// The configurations of TLS: without a client certificate, and one for each that is in use.
pub(super) struct TlsConfigs {
    anonymous: Arc<ClientConfig>,
    by_identity: Cache<[u8; 32], Arc<ClientConfig>>,
}

impl TlsConfigs {
    /// As [`client_config`] has it.
    pub(super) fn new(extra_roots: &[u8]) -> Result<Self, SetupError> {
        let anonymous = Arc::new(client_config(extra_roots)?);
        Ok(Self { anonymous, by_identity: Cache::new(IDENTITIES_MAX) })
    }

    /// The configuration under which `identity` is shown, if the receiver asks for one.
    pub(super) fn config(&self, identity: Option<&ClientIdentity>) -> Arc<ClientConfig> {
        let Some(identity) = identity else { return Arc::clone(&self.anonymous) };
        if let Some(config) = self.by_identity.get(&identity.id()) {
            return config;
        }
        let mut config = (*self.anonymous).clone();
        config.client_auth_cert_resolver = identity.resolver();
        // A session that was begun as somebody else must not be resumed.
        config.resumption = Resumption::default();
        let config = Arc::new(config);
        self.by_identity.insert(identity.id(), Arc::clone(&config));
        config
    }
}

/// TLS 1.2 and later, with Mozilla's roots and the certificates in `extra_roots` (PEM; empty for none).
fn client_config(extra_roots: &[u8]) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    add_roots(&mut roots, extra_roots)?;
    // Named instead of taken from the process, so that no other crate's choice of a default changes ours.
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Provider)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// The same trust for a protocol other than HTTP.
pub fn trust(extra_roots: &[u8]) -> Result<ClientConfig, SetupError> {
    let mut config = client_config(extra_roots)?;
    config.alpn_protocols.clear();
    Ok(config)
}

fn add_roots(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), SetupError> {
    if pem.trim_ascii().is_empty() {
        return Ok(());
    }
    let count_before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| SetupError::UnreadableRoots(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| SetupError::UnreadableRoots(error.to_string()))?;
    }
    if roots.len() == count_before {
        return Err(SetupError::NoRoots);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_extra_roots_is_fine_and_unreadable_ones_are_not() {
        assert!(client_config(b"").is_ok());
        assert!(client_config(b" \n").is_ok());
        assert!(matches!(client_config(b"hello"), Err(SetupError::NoRoots)));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(client_config(broken), Err(SetupError::UnreadableRoots(_))));
    }
}
