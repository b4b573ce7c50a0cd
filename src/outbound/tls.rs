//! The trust that outgoing TLS connections rest on: Mozilla's roots, and what the operator adds.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

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

/// TLS 1.2 and later, with Mozilla's roots and the certificates in `extra_roots` (PEM; empty for none).
pub(super) fn client_config(extra_roots: &[u8]) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    add_roots(&mut roots, extra_roots)?;
    // Named instead of taken from the process, so that no other crate's choice of a default changes ours.
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(SetupError::Provider)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
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
