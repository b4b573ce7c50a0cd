//! `demo`: the whole service on this machine with a site to play with, and beside it an external system that receives and
//! verifies its webhooks.
//!
//! Nothing is pretended: the service is the one that `serve` runs, on a real port with a real database file, and the demo
//! is its client over HTTP. The file and the keys are new each time and gone afterwards; settings of a service that may
//! be installed here are left alone, apart from where to listen.

mod brand;
mod client;
mod receiver;
mod screen;
mod service;
mod site;
mod social;
mod story;

use std::pin::pin;

use followpoints::config::Settings;
use followpoints::server;
use http::Method;

use self::brand::Brand;
use self::client::{Api, Call};
use self::receiver::Receiver;
use self::screen::Screen;
use self::service::{Folder, Service};
use self::site::Site;

/// Everything that the demo consists of, running.
struct Stage {
    service: Service,
    api: Api,
    site: Site,
    receiver: Receiver,
    brand: Brand,
}

impl Stage {
    async fn set(folder: &Folder, listen: Option<String>, once: bool) -> Result<Self, String> {
        let brand = Brand::start().await?;
        let service = Service::start(folder, listen, once, brand.settings()?).await?;
        let api = Api::new(service.address)?;
        let (site, receiver) = site::seed(&api, &service.admin_key).await?;
        social::set_up(&api, &site.key, &site.member).await?;
        brand::connect(&service.app, &site.id).await?;
        Ok(Self { service, api, site, receiver, brand })
    }
}

/// Serves until it is asked to stop, or with `once` plays one follow and its consequences and fails unless everything
/// is as it should be.
pub(super) async fn run(settings: Settings, once: bool) -> Result<(), String> {
    if settings.database_url.is_some() || settings.public_url.is_some() {
        return Err(
            "the demo has a database and an address of its own; leave out --database-url and --public-url"
                .to_owned(),
        );
    }
    // Only on request: the log would bury what the demo has to show.
    if service::setting("FOLLOWPOINTS_LOG").is_some() {
        super::serve::start_log()?;
    }
    let screen = Screen::new();
    let folder = Folder::create()?;
    let mut stop = pin!(server::stop_signal());
    let mut stage = tokio::select! {
        stage = Stage::set(&folder, settings.listen, once) => stage?,
        () = &mut stop => return Err("stopped before it was ready".to_owned()),
    };
    if once {
        let told = tokio::select! {
            told = story::tell(&mut stage, &screen) => told,
            () = &mut stop => Err("stopped before the story was over".to_owned()),
        };
        stage.service.ask_to_stop();
        return told.and(stage.service.ended().await);
    }
    introduce(&screen, &folder, &stage);
    let mut has_asked = false;
    loop {
        tokio::select! {
            () = &mut stop, if !has_asked => {
                screen.line("");
                screen.line("Stopping …");
                has_asked = true;
                stage.service.ask_to_stop();
            }
            // Also while it stops: what is under way still arrives.
            Some(arrival) = stage.receiver.arrivals.recv() => screen.arrival(&arrival),
            ended = stage.service.ended() => return ended,
        }
    }
}

fn introduce(screen: &Screen, folder: &Folder, stage: &Stage) {
    let Stage { api, site, .. } = stage;
    if let Some(taken) = stage.service.instead_of {
        screen.line(&format!("Port {} is taken, so the demo listens on another one.", taken.port()));
        screen.line("");
    }
    screen.heading("Followpoints demo");
    screen.fact("address", &api.base);
    screen.fact("reference", &format!("{}/docs", api.base));
    screen.fact("site", &format!("{}  {}", site.id, site.name));
    screen.fact("member", &format!("{}  {}", site.member_id, site.member_name));
    screen.fact("channels", &site.channels_in_words());
    screen.fact("front-end", &format!("{}  (the SDK's clientId)", site.client_id));
    screen.fact("app", &format!("{}  secret {}", site.app_id, site.app_secret));
    screen.fact("installed", &format!("{}  (the SDK's instanceId)", site.instance_id));
    screen.fact("receiver", &format!("{}  verifies with key {}", stage.receiver.url, site.key_id));
    screen.fact("data", &format!("{}  removed at the end", folder.path.display()));
    screen.line("");
    screen.heading("Try this in another terminal; the tokens are real and last four hours");
    for (about, call) in suggestions(site) {
        screen.line("");
        screen.faint(&format!("# {about}"));
        screen.line(&api.curl(&call));
    }
    let social = social::suggestions(api, &site.member, &site.key, &stage.brand.secret);
    for (about, line) in social {
        screen.line("");
        screen.faint(&format!("# {about}"));
        screen.line(&line);
    }
    screen.line("");
    screen.heading("Webhooks appear here as they arrive; Ctrl-C stops");
}

/// What to try, in an order that tells the story.
fn suggestions(site: &Site) -> Vec<(String, Call<'_>)> {
    let (member, key) = (&site.member, &site.key);
    let points = site.points(site::FOLLOWED).unwrap_or(0);
    vec![
        (
            "What does the member follow? Nothing yet: 200".to_owned(),
            Call::get(site::FOLLOWED_CHANNELS, member),
        ),
        (format!("Follow {}: 200 and {points} points", site::FOLLOWED), site.follow(site::FOLLOWED)),
        ("Once more: 409 ALREADY_EXISTS, no points, no webhook".to_owned(), site.follow(site::FOLLOWED)),
        (format!("A channel that is off: 428 CHANNEL_NOT_ENABLED ({})", site::OFF), site.follow(site::OFF)),
        ("The member's points".to_owned(), Call::get(site::MY_ACCOUNT, member)),
        ("Owner: every webhook and how far it is".to_owned(), Call::get("/admin/v1/webhook-deliveries", key)),
        ("Owner: everything that happened".to_owned(), Call::get("/admin/v1/events", key)),
        (
            "A visitor's token, as the Wix SDK asks for it".to_owned(),
            Call::open(
                Method::POST,
                "/oauth2/token",
                Some(serde_json::json!({"grantType": "anonymous", "clientId": site.client_id})),
            ),
        ),
        (
            "The public key that verifies the webhooks".to_owned(),
            Call::open(Method::GET, format!("/.well-known/jwks.json?appId={}", site.app_id), None),
        ),
        ("The OpenAPI document; read it at /docs".to_owned(), Call::open(Method::GET, "/openapi.json", None)),
    ]
}
