//! The certificate that a subscription shows to its receiver, which knows us by it.
//!
//! It is stored in one column: the certificates as they are, since everybody may see them, and behind them the private key,
//! sealed for the site. So a list of subscriptions opens no seal, and a key is opened once for as long as it is not changed.

use std::sync::Arc;

use entity::id::{SiteId, Timestamp};
use quick_cache::sync::Cache;

use crate::outbound::{CertificateFacts, ClientIdentity, IdentityError, SendError};
use crate::seal::{self, SealError, Sealer};
use crate::sites::config::Target;

/// Certificates whose keys stay open in memory.
const OPENED_MAX: usize = 1_000;

/// Why a certificate is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Itself.
    #[error("{0}")]
    Certificate(String),
    /// Its private key.
    #[error("{0}")]
    PrivateKey(&'static str),
    /// It is not the one that is stored, and a new one needs both.
    #[error("must not be empty")]
    Missing {
        /// Whether the certificate is missing.
        certificate: bool,
        /// Whether its private key is.
        private_key: bool,
    },
    /// It could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl From<IdentityError> for CertificateError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Certificate(what) => Self::Certificate(what.to_owned()),
            IdentityError::Key(what) => Self::PrivateKey(what),
        }
    }
}

/// A certificate as it is given: with its private key, or as the one that is stored.
#[derive(Debug)]
pub struct GivenCertificate {
    /// The certificates in PEM.
    pub certificate: Option<String>,
    /// The private key in PEM.
    pub private_key: Option<String>,
    /// SHA-256 of the certificate in hexadecimal.
    pub sha256_fingerprint: Option<String>,
}

/// Makes of a certificate of `site`, which had that of `earlier`, what is stored. A new one is checked with its private key; one
/// whose time is over at `now` is refused. Without a private key it must be the one that is stored, which stays.
pub fn store(
    sealer: &Sealer,
    site: SiteId,
    now: Timestamp,
    given: &GivenCertificate,
    earlier: Option<Vec<u8>>,
) -> Result<Vec<u8>, CertificateError> {
    let GivenCertificate { certificate, private_key, sha256_fingerprint } = given;
    if let (Some(certificate), Some(private_key)) = (certificate, private_key) {
        return sealed(sealer, site, now, (certificate.as_str(), private_key.as_str()));
    }
    let is_stored = |stored: &Vec<u8>| match certificate {
        Some(certificate) => seal::apart(stored).is_some_and(|(known, _)| known.trim() == certificate.trim()),
        None => {
            let facts = facts(stored).filter(|_| private_key.is_none());
            facts.is_some_and(|facts| Some(&facts.sha256_fingerprint) == sha256_fingerprint.as_ref())
        }
    };
    let missing =
        CertificateError::Missing { certificate: certificate.is_none(), private_key: private_key.is_none() };
    earlier.filter(is_stored).ok_or(missing)
}

/// Checks a certificate of `site` and its private key, and makes of them what is stored.
fn sealed(
    sealer: &Sealer,
    site: SiteId,
    now: Timestamp,
    (certificate, private_key): (&str, &str),
) -> Result<Vec<u8>, CertificateError> {
    let identity = ClientIdentity::from_pem(certificate, private_key)?;
    let not_after = Timestamp(identity.facts().not_after_ms);
    if not_after <= now {
        return Err(CertificateError::Certificate(format!("expired on {}", not_after.to_rfc3339())));
    }
    let private = sealer.seal(&purpose(site), private_key.as_bytes())?;
    seal::beside(certificate, &private).ok_or_else(|| CertificateError::Certificate("is too long".to_owned()))
}

/// What a stored certificate says of itself.
#[must_use]
pub fn facts(stored: &[u8]) -> Option<CertificateFacts> {
    seal::apart(stored).and_then(|(certificate, _)| ClientIdentity::facts_of_pem(certificate))
}

fn purpose(site: SiteId) -> String {
    format!("client-certificate:{site}")
}

/// Certificates ready for use. Cheap to clone.
#[derive(Clone)]
pub struct ClientCertificates {
    sealer: Sealer,
    opened: Arc<Cache<Arc<[u8]>, Arc<ClientIdentity>>>,
}

impl ClientCertificates {
    /// Opens them with `sealer`.
    #[must_use]
    pub fn new(sealer: Sealer) -> Self {
        Self { sealer, opened: Arc::new(Cache::new(OPENED_MAX)) }
    }

    /// The certificate that `target` is shown, if one is. It is opened when it is first used after a change.
    pub fn of(&self, target: &Target) -> Result<Option<Arc<ClientIdentity>>, SendError> {
        let Some(stored) = &target.client_certificate else { return Ok(None) };
        if let Some(identity) = self.opened.get(stored) {
            return Ok(Some(identity));
        }
        let identity = self.open(target.site_id, stored).ok_or_else(|| {
            tracing::error!(
                subscription.id = %target.subscription_id,
                "a client certificate cannot be opened: was it sealed under another FOLLOWPOINTS_MASTER_KEY?"
            );
            SendError::Tls("the client certificate of the subscription cannot be opened".to_owned())
        })?;
        let identity = Arc::new(identity);
        self.opened.insert(Arc::clone(stored), Arc::clone(&identity));
        Ok(Some(identity))
    }

    fn open(&self, site: SiteId, stored: &[u8]) -> Option<ClientIdentity> {
        let (certificate, sealed) = seal::apart(stored)?;
        let private_key = self.sealer.open(&purpose(site), sealed).ok()?;
        ClientIdentity::from_pem(certificate, std::str::from_utf8(&private_key).ok()?).ok()
    }
}
