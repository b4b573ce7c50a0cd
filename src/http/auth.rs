//! Callers as handlers get them. Recognising a caller also counts against its rate limit.

use std::sync::{Arc, OnceLock};

use entity::id::{AccountId, MemberId, SiteId};
use poem::Request;
use poem_openapi::SecurityScheme;
use poem_openapi::auth::ApiKey;
use uuid::Uuid;

use super::problem::Problem;
use crate::access::authenticator::AuthError;
use crate::access::{Caller, Identity, Scope};
use crate::app::App;
use crate::apps::Viewer;
use crate::follows::Subject;

/// The header that names the site of an API key's call.
pub const SITE_HEADER: &str = "wix-site-id";

/// A visitor's, member's or app's access token, or an API key together with `wix-site-id`. Sent raw, as the Wix SDK does, or
/// behind `Bearer`.
#[derive(SecurityScheme)]
#[oai(rename = "token", ty = "api_key", key_name = "Authorization", key_in = "header", checker = "recognise")]
pub struct SiteCaller(pub Arc<Caller>);

/// An API key; for what belongs to a site together with `wix-site-id`.
#[derive(SecurityScheme)]
#[oai(
    rename = "apiKey",
    ty = "api_key",
    key_name = "Authorization",
    key_in = "header",
    checker = "recognise_admin"
)]
pub struct AdminCaller(Arc<Caller>);

/// The site of a call, noted for the edge, which must know it to answer a browser.
#[derive(Clone, Default)]
pub struct CallSite(pub Arc<OnceLock<SiteId>>);

async fn recognise(request: &Request, key: ApiKey) -> poem::Result<Arc<Caller>> {
    let app: &Arc<App> = request.data().ok_or_else(|| Problem::internal(std::fmt::Error))?;
    let site = match request.headers().get(SITE_HEADER) {
        None => None,
        Some(value) => {
            let id = value.to_str().ok().and_then(|text| Uuid::try_parse(text).ok());
            Some(id.ok_or_else(|| Problem::invalid(SITE_HEADER, "FORMAT", "is not a GUID"))?)
        }
    };
    let caller = app.authenticator.authenticate(&key.key, site).await.map_err(|error| match error {
        AuthError::Missing | AuthError::Invalid => Problem::unauthenticated(error.to_string()),
        AuthError::UnknownSite => Problem::not_found("SITE_NOT_FOUND", error.to_string()),
        AuthError::Store(error) => Problem::from(error),
    })?;
    if let (Some(CallSite(noted)), Some(site)) = (request.data::<CallSite>(), caller.site()) {
        let _ = noted.set(site);
    }
    app.limits.check(&caller).map_err(Problem::too_many)?;
    Ok(caller)
}

async fn recognise_admin(request: &Request, key: ApiKey) -> poem::Result<Arc<Caller>> {
    let caller = recognise(request, key).await?;
    if !matches!(*caller, Caller::ApiKey { .. }) || !caller.has(Scope::SiteAdmin) {
        return Err(Problem::forbidden("this needs an API key that may administer the site").into());
    }
    Ok(caller)
}

impl AdminCaller {
    /// The site that the call is about.
    pub fn site(&self) -> Result<SiteId, Problem> {
        self.0.site().ok_or_else(|| {
            Problem::invalid(
                SITE_HEADER,
                "REQUIRED_FIELD",
                "an instance-wide key must say which site is meant",
            )
        })
    }

    /// The site, if the call names one.
    #[must_use]
    pub fn optional_site(&self) -> Option<SiteId> {
        self.0.site()
    }

    /// Whether the key is instance-wide.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        matches!(*self.0, Caller::ApiKey { is_instance: true, .. }) && self.0.has(Scope::InstanceAdmin)
    }

    /// Who causes what the call brings about.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.0.identity()
    }

    /// Fails unless the key is instance-wide.
    pub fn operator(&self) -> Result<(), Problem> {
        if self.is_operator() {
            Ok(())
        } else {
            Err(Problem::forbidden("this needs an instance-wide API key"))
        }
    }

    /// Whose apps the caller sees.
    pub fn viewer(&self) -> Result<Viewer, Problem> {
        if self.is_operator() { Ok(Viewer::Operator) } else { Ok(Viewer::Site(self.site()?)) }
    }
}

impl SiteCaller {
    /// The member who calls; nobody else has a profile of their own.
    pub fn member(&self) -> Result<(SiteId, MemberId), Problem> {
        match *self.0 {
            Caller::Member { site, member } => Ok((site, member)),
            Caller::Visitor { .. } | Caller::App { .. } | Caller::ApiKey { .. } => {
                Err(Problem::forbidden("this needs a member's token"))
            }
        }
    }

    /// The site of the call, if the caller may use `scope` there. Members and visitors have their own rights, which the
    /// feature knows.
    pub fn site_with(&self, scope: Scope) -> Result<SiteId, Problem> {
        if !self.0.has(scope) {
            return Err(Problem::forbidden(format!("this needs scope {}", scope.as_str())));
        }
        self.0.site().ok_or_else(|| {
            Problem::invalid(
                SITE_HEADER,
                "REQUIRED_FIELD",
                "an instance-wide key must say which site is meant",
            )
        })
    }

    /// Whose account the call is about: a member's own, or the one that an app or key names in `field`. `None` for a
    /// visitor, who has none.
    pub fn subject(
        &self,
        scope: Scope,
        named: Option<&str>,
        field: &'static str,
    ) -> Result<Option<(SiteId, Subject)>, Problem> {
        match &*self.0 {
            Caller::Visitor { .. } => Ok(None),
            Caller::Member { site, member } => Ok(Some((*site, Subject::Member(*member)))),
            Caller::App { .. } | Caller::ApiKey { .. } => {
                let site = self.site_with(scope)?;
                let Some(named) = named else {
                    let description = "must name the account: the caller is not a member";
                    return Err(Problem::invalid(field, "REQUIRED_FIELD", description));
                };
                let id =
                    Uuid::try_parse(named).map_err(|_| Problem::invalid(field, "FORMAT", "is not a GUID"))?;
                Ok(Some((site, Subject::Account(AccountId(id)))))
            }
        }
    }
}
