//! The HTTP edge: every feature's operations behind one set of manners. From the outside in: request id, `/_api` prefix,
//! preflight, deadline, panic catch, error rendering, browser headers, log and metrics.

pub mod auth;
pub mod body;
pub mod client_address;
pub mod limits;
pub mod named;
pub mod openapi;
pub mod operations;
pub mod paging;
pub mod problem;
mod reader;
mod refusals;
pub mod wire;
pub mod written;

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use poem::http::uri::PathAndQuery;
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use poem::{Endpoint, EndpointExt as _, Middleware, Request, Response, Route};
use poem_openapi::{OpenApiService, OperationId, Tags};

use self::auth::CallSite;
use self::named::named;
use self::operations::OperationsApi;
use self::problem::Problem;
use crate::access::api::AccessApi;
use crate::access::oauth_client_api::OauthClientsApi;
use crate::access::token_api::{self, OauthProblem, TokenApi};
use crate::access::token_info_api::TokenInfoApi;
use crate::accounts::api::AccountsApi;
use crate::activities::api::ActivitiesApi;
use crate::activities::rule_api::ActivityRulesApi;
use crate::app::App;
use crate::apps::api::AppsApi;
use crate::channels::api::ChannelsApi;
use crate::connections::api::ConnectionsApi;
use crate::connections::connect_api;
use crate::connections::invitation_api::ConnectionInvitationsApi;
use crate::follows::api::FollowsApi;
use crate::follows::evidence_api::FollowEvidenceApi;
use crate::instagram::api::InstagramApi;
use crate::instagram::ingest_api::{self, Login};
use crate::members::api::MembersApi;
use crate::profiles::api::ProfilesApi;
use crate::profiles::me_api::MeApi;
use crate::programs::api::ProgramsApi;
use crate::sites::api::SitesApi;
use crate::tiktok::hashtags_api::TiktokHashtagsApi;
use crate::tiktok::login_api::CallbackEndpoint;
use crate::tiktok::logins::CALLBACK_PATH;
use crate::tiktok::me_api::MyTiktokApi;
use crate::tiktok::push;
use crate::tiktok::push_api::TiktokPostsApi;
use crate::tiktok::webhook::Entrance;
use crate::tiktok::webhook_api::WebhookEndpoint;
use crate::webhooks::api::WebhookSubscriptionsApi;
use crate::webhooks::by_hand_api::WebhookDeliveriesApi;
use crate::webhooks::dry_run_api::WebhookDryRunApi;
use crate::webhooks::export_api::WebhookExportApi;
use crate::webhooks::expunge_api::ExpungeApi;
use crate::webhooks::log_api::WebhookLogApi;
use crate::webhooks::replay_api::WebhookReplaysApi;
use crate::webhooks::secret_api::WebhookSecretsApi;
use crate::webhooks::trial_api::WebhookTestsApi;

/// How long browsers may remember a preflight, in seconds.
const PREFLIGHT_MAX_AGE: &str = "600";
/// The header that names a request in answers and in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-wix-request-id");
/// Where Wix's own gateway mounts every service a second time.
const SECOND_MOUNT: &str = "/_api";
/// What the gateway mounts there.
const MOUNTED_TWICE: [&str; 3] = ["/loyalty-", "/oauth2/", "/oauth/"];

/// Operations without parameters: nothing of their query is looked at.
const WITHOUT_PARAMETERS: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];
/// Operations whose answers hold tokens or codes, which nobody may keep (RFC 6749, 5.1).
const TOKEN_OPERATIONS: [&str; 4] =
    ["createToken", "createAccessToken", "createMemberTokens", "createLinkCode"];

/// The operations that take in what platforms and providers send, with the entrance of each as raw deliveries name it.
const INGEST: [(&str, &str); 5] = [
    ("receiveFacebookLoginWebhook", Login::Facebook.source()),
    ("receiveInstagramLoginWebhook", Login::Instagram.source()),
    ("receiveTiktokWebhook", Entrance::Developer.source()),
    ("receiveTiktokBusinessWebhook", Entrance::Business.source()),
    ("pushTiktokPosts", push::SOURCE),
];

/// How the document groups operations.
#[derive(Tags)]
pub enum Tag {
    /// Followed channels, wire-compatible with Wix Loyalty Social Media.
    #[oai(rename = "Social media")]
    SocialMedia,
    /// Loyalty accounts, wire-compatible with Wix Loyalty Accounts.
    Accounts,
    /// The loyalty program, wire-compatible with Wix Loyalty Programs.
    Programs,
    /// Tokens, in Wix spelling.
    Tokens,
    /// For owners and operators: sites, settings, members, keys, apps.
    Admin,
    /// For owners and operators: webhook subscriptions, deliveries, events.
    Webhooks,
    /// For owners: brands' accounts on social platforms, and what comes from there.
    #[oai(rename = "Social sources")]
    Sources,
    /// For members themselves: their profile, the codes that prove a handle, the channels as they see them.
    Me,
    /// For machines that watch over this one.
    Operations,
}

type Apis = (
    FollowsApi,
    AccountsApi,
    ProgramsApi,
    TokenApi,
    TokenInfoApi,
    SitesApi,
    ChannelsApi,
    MembersApi,
    AccessApi,
    OauthClientsApi,
    AppsApi,
    WebhookApis,
    SourceApis,
    OperationsApi,
);

type SourceApis = (
    ActivitiesApi,
    ActivityRulesApi,
    InstagramApi,
    ProfilesApi,
    MeApi,
    FollowEvidenceApi,
    ConnectionInvitationsApi,
    ConnectionsApi,
    TiktokHashtagsApi,
    TiktokPostsApi,
    MyTiktokApi,
);

type WebhookApis = (
    WebhookSubscriptionsApi,
    WebhookSecretsApi,
    WebhookDryRunApi,
    WebhookTestsApi,
    WebhookReplaysApi,
    WebhookLogApi,
    WebhookDeliveriesApi,
    WebhookExportApi,
    ExpungeApi,
);

fn service(app: &App) -> OpenApiService<Apis, ()> {
    let app = || app.clone();
    let webhooks = (
        WebhookSubscriptionsApi { app: app() },
        WebhookSecretsApi { app: app() },
        WebhookDryRunApi { app: app() },
        WebhookTestsApi { app: app() },
        WebhookReplaysApi { app: app() },
        WebhookLogApi { app: app() },
        WebhookDeliveriesApi { app: app() },
        WebhookExportApi { app: app() },
        ExpungeApi { app: app() },
    );
    let sources = (
        ActivitiesApi { app: app() },
        ActivityRulesApi { app: app() },
        InstagramApi { app: app() },
        ProfilesApi { app: app() },
        MeApi { app: app() },
        FollowEvidenceApi { app: app() },
        ConnectionInvitationsApi { app: app() },
        ConnectionsApi { app: app() },
        TiktokHashtagsApi { app: app() },
        TiktokPostsApi { app: app() },
        MyTiktokApi { app: app() },
    );
    let apis = (
        FollowsApi { app: app() },
        AccountsApi { app: app() },
        ProgramsApi { app: app() },
        TokenApi { app: app() },
        TokenInfoApi { app: app() },
        SitesApi { app: app() },
        ChannelsApi { app: app() },
        MembersApi { app: app() },
        AccessApi { app: app() },
        OauthClientsApi { app: app() },
        AppsApi { app: app() },
        webhooks,
        sources,
        OperationsApi { app: app() },
    );
    OpenApiService::new(apis, "Followpoints", env!("CARGO_PKG_VERSION"))
}

/// The whole HTTP surface.
pub fn endpoint(app: &App) -> impl Endpoint<Output = Response> + 'static {
    let tiktok = |entrance, name| poem::post(named(name, WebhookEndpoint { app: app.clone(), entrance }));
    connect_api::routes(Route::new())
        .at("/docs", poem::get(named("getDocs", reader::endpoint())))
        .at("/ingest/instagram/facebook-login", ingest_api::entrance(Login::Facebook))
        .at("/ingest/instagram/instagram-login", ingest_api::entrance(Login::Instagram))
        .at("/ingest/tiktok/webhook", tiktok(Entrance::Developer, "receiveTiktokWebhook"))
        .at("/ingest/tiktok/business-webhook", tiktok(Entrance::Business, "receiveTiktokBusinessWebhook"))
        .at(CALLBACK_PATH, poem::get(named("returnFromTiktokLogin", CallbackEndpoint { app: app.clone() })))
        .nest("/", service(app))
        .data(Arc::new(app.clone()))
        .with(Edge { app: app.clone() })
}

struct Edge {
    app: App,
}

impl<E: Endpoint + 'static> Middleware<E> for Edge {
    type Output = EdgeEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        EdgeEndpoint { inner, app: self.app.clone() }
    }
}

struct EdgeEndpoint<E> {
    inner: E,
    app: App,
}

impl<E: Endpoint + 'static> Endpoint for EdgeEndpoint<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let started = Instant::now();
        let request_id = self.app.db.new_id().to_string();
        let origin = request.headers().get(header::ORIGIN).cloned();
        let is_preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let site = CallSite::default();
        let mut response = if is_preflight {
            Response::builder().status(StatusCode::NO_CONTENT).finish()
        } else {
            unmount(&mut request);
            if origin.is_some() {
                request.extensions_mut().insert(site.clone());
            }
            self.answer(request, &request_id, started).await
        };
        if let Some(origin) = origin {
            Box::pin(self.share(response.headers_mut(), &origin, &site, is_preflight)).await;
        }
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        Ok(response)
    }
}

impl<E: Endpoint + 'static> EdgeEndpoint<E> {
    async fn answer(&self, request: Request, request_id: &str, started: Instant) -> Response {
        let (method, path) = (request.method().clone(), shown_path(request.uri().path()));
        let has_nul = request.uri().query().is_some_and(|query| query.contains("%00"));
        let refuse = |problem: Problem| {
            if token_api::is_at(&path) { OauthProblem::from(&problem).into() } else { problem.into() }
        };
        let result = if has_nul && !WITHOUT_PARAMETERS.contains(&path.as_str()) {
            Err(refuse(Problem::invalid("query", "FORMAT", "must not contain the character NUL")))
        } else {
            let call = pin!(AssertUnwindSafe(self.inner.call(request)).catch_unwind());
            match self.app.db.within(self.app.request_timeout, call).await {
                Some(Ok(result)) => result.map(poem::IntoResponse::into_response),
                Some(Err(_)) => Err(refuse(Problem::internal(std::io::Error::other("the handler panicked")))),
                None => Err(refuse(Problem::timed_out())),
            }
        };
        let (mut response, operation, cause) = match result {
            Ok(response) => {
                let operation = response.data::<OperationId>().map(|id| id.0);
                (response, operation, None)
            }
            Err(error) => {
                let operation = error.data::<OperationId>().map(|id| id.0);
                let (response, cause) = token_api::render(&error).unwrap_or_else(|| {
                    let problem = Problem::from_framework(&error);
                    (problem.render(), problem.cause_chain())
                });
                (response, operation, cause)
            }
        };
        if response.status() == StatusCode::METHOD_NOT_ALLOWED
            && let Ok(allow) = HeaderValue::from_str(&openapi::methods(&path).join(", "))
        {
            response.headers_mut().insert(header::ALLOW, allow);
        }
        if TOKEN_OPERATIONS.contains(&operation.unwrap_or_default()) {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        let (status, took) = (response.status(), started.elapsed());
        let operation = operation.unwrap_or("none");
        self.app.metrics.observe_request(operation, status.as_u16(), took);
        if let Some((_, source)) = INGEST.iter().find(|(name, _)| *name == operation) {
            self.app.metrics.observe_ingest(source, status.as_u16());
        }
        log(&Answered { method, path, request_id, status, took, operation }, cause.as_deref());
        response
    }

    /// The headers that let a browser use the answer, if the owner allows its origin.
    async fn share(
        &self,
        headers: &mut HeaderMap,
        origin: &HeaderValue,
        site: &CallSite,
        is_preflight: bool,
    ) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        let Ok(text) = origin.to_str() else { return };
        let allowed = self.app.origins.allow(text, site.0.get().copied()).await;
        if !allowed.unwrap_or(false) {
            return;
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
        set(header::ACCESS_CONTROL_EXPOSE_HEADERS, "x-wix-request-id, x-wix-consistent, retry-after");
        if is_preflight {
            set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PATCH, PUT, DELETE");
            set(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "authorization, content-type, idempotency-key, x-wix-bi-gateway, wix-site-id, wix-account-id, \
                 x-wix-consistent",
            );
            set(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
        }
    }
}

/// The path as the log has it: what stands behind `/connect/` and is no word of ours may be the secret of an invitation's link.
fn shown_path(path: &str) -> String {
    const WORDS: [&str; 7] = ["", "again", "callback", "choose", "facebook", "instagram", "tiktok"];
    let Some((before, rest)) = path.split_once("/connect/") else { return path.to_owned() };
    let shown = rest.split('/').map(|part| if WORDS.contains(&part) { part } else { "***" });
    format!("{before}/connect/{}", shown.collect::<Vec<_>>().join("/"))
}

struct Answered<'a> {
    method: Method,
    path: String,
    request_id: &'a str,
    status: StatusCode,
    took: Duration,
    operation: &'a str,
}

fn log(answered: &Answered<'_>, cause: Option<&str>) {
    let Answered { method, path, request_id, status, took, operation } = answered;
    let (status, took_us) = (status.as_u16(), took.as_micros());
    // Who is turned away for load leaves no cause.
    if status >= 500 && (status != 503 || cause.is_some()) {
        tracing::error!(
            request.id = request_id, %method, path, operation, status, took_us,
            cause = cause.unwrap_or(""), "request failed"
        );
    } else {
        tracing::debug!(request.id = request_id, %method, path, operation, status, took_us, "request");
    }
}

/// Takes `/_api` off the paths that Wix mounts under it too.
fn unmount(request: &mut Request) {
    let Some(path) = request.uri().path_and_query().map(PathAndQuery::as_str) else {
        return;
    };
    let Some(rest) = path.strip_prefix(SECOND_MOUNT) else {
        return;
    };
    if MOUNTED_TWICE.iter().any(|service| rest.starts_with(service))
        && let Ok(uri) = rest.parse::<Uri>()
    {
        *request.uri_mut() = uri;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_link_is_not_shown_whatever_stands_around_it() {
        for (path, shown) in [
            ("/connect/secret", "/connect/***"),
            ("/connect/secret/", "/connect/***/"),
            ("/connect/secret/again", "/connect/***/again"),
            ("/connect//secret", "/connect//***"),
            ("/points/connect/secret", "/points/connect/***"),
            ("/connect/callback/secret", "/connect/callback/***"),
        ] {
            assert_eq!(shown_path(path), shown);
        }
        for path in ["/connect/callback/facebook", "/connect/tiktok/callback", "/connect/choose", "/docs"] {
            assert_eq!(shown_path(path), path);
        }
    }
}
