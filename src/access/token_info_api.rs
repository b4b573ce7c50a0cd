//! What a token stands for, for back ends that ask (Wix's `token-info`).

use std::sync::Arc;

use poem::{FromRequest, Request, RequestBody};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use super::{Caller, oauth_clients};
use crate::app::App;
use crate::apps;
use crate::http::Tag;
use crate::http::body::Body;
use crate::http::client_address::ClientAddress;
use crate::http::problem::Problem;

/// The operations.
pub struct TokenInfoApi {
    /// The running service.
    pub app: App,
}

/// What a token says.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct TokenInfo {
    /// Whether it is valid now; if not, nothing else is said.
    active: bool,
    /// `APP`, `USER`, `MEMBER`, `VISITOR` or `UNKNOWN`.
    subject_type: Option<String>,
    /// Whom it stands for.
    subject_id: Option<Uuid>,
    /// When it ends, in seconds.
    exp: Option<String>,
    /// When it was issued, in seconds.
    iat: Option<String>,
    /// The app or front-end that it was issued to.
    client_id: Option<Uuid>,
    /// The site.
    site_id: Option<Uuid>,
    /// The app's installation.
    instance_id: Option<Uuid>,
}

#[derive(Debug, Object)]
struct TokenInfoRequest {
    /// The token.
    token: String,
}

/// That a request was counted against the limit of its address, before its body is read.
struct Counted;

impl<'a> FromRequest<'a> for Counted {
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> poem::Result<Self> {
        let client = <ClientAddress as FromRequest>::from_request(request, body).await?;
        let app: &Arc<App> = request.data().ok_or_else(|| Problem::internal(std::fmt::Error))?;
        app.limits.check_introspector(&client).map_err(Problem::too_many)?;
        Ok(Self)
    }
}

#[OpenApi(tag = "Tag::Tokens")]
impl TokenInfoApi {
    /// Describe a token
    #[oai(path = "/oauth2/token-info", method = "post", operation_id = "getTokenInfo")]
    async fn get_token_info(
        &self,
        _counted: Counted,
        body: Body<TokenInfoRequest>,
    ) -> Result<Json<TokenInfo>, Problem> {
        let mut info = TokenInfo {
            active: false,
            subject_type: None,
            subject_id: None,
            exp: None,
            iat: None,
            client_id: None,
            site_id: None,
            instance_id: None,
        };
        let Some(claims) = self.app.authenticator.own_claims(&body.0.token) else {
            return Ok(Json(info));
        };
        let Some(caller) = claims.caller() else {
            return Ok(Json(info));
        };
        if let Caller::App { site, instance, .. } = &caller
            && apps::find_instance(self.app.db.read(), *site, *instance).await?.is_none()
        {
            return Ok(Json(info));
        }
        if let Caller::Visitor { client, .. } = &caller
            && oauth_clients::find_oauth_client(self.app.db.read(), *client).await?.is_none()
        {
            return Ok(Json(info));
        }
        info.active = true;
        info.exp = Some(claims.exp.to_string());
        info.iat = Some(claims.iat.to_string());
        info.site_id = caller.site().map(|site| site.0);
        let (kind, subject) = match &caller {
            Caller::Visitor { visitor, client, .. } => {
                info.client_id = Some(client.0);
                ("VISITOR", visitor.0)
            }
            Caller::Member { member, .. } => ("MEMBER", member.0),
            Caller::App { app, instance, .. } => {
                info.client_id = Some(app.0);
                info.instance_id = Some(instance.0);
                ("APP", app.0)
            }
            Caller::ApiKey { key, .. } => ("USER", key.0),
        };
        info.subject_type = Some(kind.to_owned());
        info.subject_id = Some(subject);
        Ok(Json(info))
    }
}
