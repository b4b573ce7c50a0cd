//! Client certificates, by which a receiver knows who calls.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::CertificateFacts;

/// Certificates of a chain.
const CHAIN_MAX: usize = 8;

/// Why a certificate and a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate.
    #[error("{0}")]
    Certificate(&'static str),
    /// The private key.
    #[error("{0}")]
    Key(&'static str),
}

/// A client certificate with its private key, which it never shows. Cheap to clone.
#[derive(Clone)]
pub struct ClientIdentity {
    id: [u8; 32],
    facts: Arc<CertificateFacts>,
    resolver: Arc<dyn ResolvesClientCert>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl ClientIdentity {
    /// Reads a certificate, followed by those between it and a root if there are any, and its unencrypted private key, both
    /// in PEM.
    pub fn from_pem(certificate: &str, private_key: &str) -> Result<Self, IdentityError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| IdentityError::Certificate("is not a certificate in PEM form"))?;
        let facts = facts_of(&chain)?;
        let key = PrivateKeyDer::from_pem_slice(private_key.as_bytes())
            .map_err(|_| IdentityError::Key("is not an unencrypted private key in PEM form"))?;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|_| {
            IdentityError::Key("is not a key of a supported kind: RSA, P-256, P-384, P-521 or Ed25519")
        })?;
        let mut id = Context::new(&SHA256);
        for certificate in &chain {
            id.update(certificate);
        }
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                return Err(IdentityError::Key("does not belong to the certificate"));
            }
            Err(_) => return Err(IdentityError::Certificate("cannot be read")),
        }
        let mut whole = [0; 32];
        whole.copy_from_slice(id.finish().as_ref());
        Ok(Self { id: whole, facts: Arc::new(facts), resolver: Arc::new(SingleCertAndKey::from(certified)) })
    }

    /// What a chain of certificates in PEM says of its first.
    pub fn facts_of_pem(certificate: &str) -> Option<CertificateFacts> {
        let first = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
        CertificateFacts::read(&first)
    }

    /// What the certificate says of itself.
    #[must_use]
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// Tells this identity from every other.
    pub(super) const fn id(&self) -> [u8; 32] {
        self.id
    }

    pub(super) fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.resolver)
    }
}

fn facts_of(chain: &[CertificateDer<'_>]) -> Result<CertificateFacts, IdentityError> {
    let first = chain.first().ok_or(IdentityError::Certificate("contains no certificate in PEM form"))?;
    if chain.len() > CHAIN_MAX {
        return Err(IdentityError::Certificate("contains more than 8 certificates"));
    }
    CertificateFacts::read(first).ok_or(IdentityError::Certificate("cannot be read"))
}
