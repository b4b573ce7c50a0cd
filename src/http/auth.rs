//! Callers as handlers get them. Recognising a caller also counts against its rate limit. A handler that takes one of the narrower
//! kinds is only reached by those: whoever may not call it learns that before the rest of the request is looked at.

use std::sync::{Arc, OnceLock};

use entity::id::{MemberId, SiteId};
use poem::Request;
use poem_openapi::SecurityScheme;
use poem_openapi::auth::ApiKey;
use uuid::Uuid;

use super::problem::Problem;
use crate::access::authenticator::AuthError;
use crate::access::{Caller, Identity, Scope};
use crate::app::App;
use crate::apps::Viewer;

/// The header that names the site of an API key's call.
pub const SITE_HEADER: &str = "wix-site-id";

/// A kind of caller: a handler that takes it is reached by whom its checker lets pass.
macro_rules! caller {
    ($(#[$doc:meta])* $name:ident($vis:vis $what:ty), $credentials:tt, $checker:tt) => {
        $(#[$doc])*
        #[derive(SecurityScheme)]
        #[oai(
            rename = $credentials,
            ty = "api_key",
            key_name = "Authorization",
            key_in = "header",
            checker = $checker
        )]
        pub struct $name($vis $what);
    };
}

caller! {
    /// A visitor's, member's or app's access token, or an API key together with `wix-site-id`. Sent raw, as the Wix SDK does, or
    /// behind `Bearer`.
    SiteCaller(pub Arc<Caller>), "token", "recognise"
}

caller! {
    /// A member's access token.
    MemberCaller(pub (SiteId, MemberId)), "token", "recognise_member"
}

caller! {
    /// An app's access token or an API key that may read the site's loyalty program.
    ReaderCaller(pub OnSite), "token", "recognise_reader"
}

caller! {
    /// An app's access token or an API key that may change the site's loyalty program.
    ManagerCaller(pub OnSite), "token", "recognise_manager"
}

caller! {
    /// Whoever can follow: a member for itself, or one who may change the site's loyalty program for others.
    FollowerCaller(pub (OnSite, Option<MemberId>)), "token", "recognise_follower"
}

caller! {
    /// An API key; for what belongs to a site together with `wix-site-id`.
    AdminCaller(Arc<Caller>), "apiKey", "recognise_admin"
}

caller! {
    /// An instance-wide API key.
    OperatorCaller(pub AdminCaller), "apiKey", "recognise_operator"
}

/// Who calls, and the site on which that caller has the right that the operation asks for.
#[derive(Debug, Clone, Copy)]
pub struct OnSite {
    /// The site.
    pub site: SiteId,
    /// Who causes what the call brings about.
    pub identity: Identity,
}

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

async fn recognise_member(request: &Request, key: ApiKey) -> poem::Result<(SiteId, MemberId)> {
    match *recognise(request, key).await? {
        Caller::Member { site, member } => Ok((site, member)),
        Caller::Visitor { .. } | Caller::App { .. } | Caller::ApiKey { .. } => {
            Err(Problem::forbidden("this needs a member's token").into())
        }
    }
}

async fn recognise_reader(request: &Request, key: ApiKey) -> poem::Result<OnSite> {
    Ok(SiteCaller(recognise(request, key).await?).on_site(Scope::ReadLoyalty)?)
}

async fn recognise_manager(request: &Request, key: ApiKey) -> poem::Result<OnSite> {
    Ok(SiteCaller(recognise(request, key).await?).on_site(Scope::ManageLoyalty)?)
}

async fn recognise_follower(request: &Request, key: ApiKey) -> poem::Result<(OnSite, Option<MemberId>)> {
    let caller = SiteCaller(recognise(request, key).await?);
    match *caller.0 {
        Caller::Member { site, member } => Ok((OnSite { site, identity: caller.0.identity() }, Some(member))),
        Caller::Visitor { .. } => {
            Err(Problem::forbidden("a visitor has no account; sign in as a member").into())
        }
        Caller::App { .. } | Caller::ApiKey { .. } => Ok((caller.on_site(Scope::ManageLoyalty)?, None)),
    }
}

async fn recognise_operator(request: &Request, key: ApiKey) -> poem::Result<AdminCaller> {
    let caller = AdminCaller(recognise_admin(request, key).await?);
    caller.operator()?;
    Ok(caller)
}

async fn recognise_admin(request: &Request, key: ApiKey) -> poem::Result<Arc<Caller>> {
    let caller = recognise(request, key).await?;
    if !matches!(*caller, Caller::ApiKey { .. }) || !caller.has(Scope::SiteAdmin) {
        return Err(Problem::forbidden("this needs an API key that may administer the site").into());
    }
    Ok(caller)
}

fn which_site() -> Problem {
    Problem::invalid(SITE_HEADER, "REQUIRED_FIELD", "an instance-wide key must say which site is meant")
}

impl AdminCaller {
    /// The site that the call is about.
    pub fn site(&self) -> Result<SiteId, Problem> {
        self.0.site().ok_or_else(which_site)
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
    /// The site of the call, if the caller may use `scope` there. Members and visitors have their own rights, which the
    /// feature knows.
    pub fn on_site(&self, scope: Scope) -> Result<OnSite, Problem> {
        if !self.0.has(scope) {
            return Err(Problem::forbidden(format!("this needs scope {}", scope.as_str())));
        }
        Ok(OnSite { site: self.0.site().ok_or_else(which_site)?, identity: self.0.identity() })
    }
}
