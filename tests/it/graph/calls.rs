//! The calls that no lookup makes: messages, the own account, subscriptions.

use entity::kinds::ConnectionLogin;
use followpoints::instagram::brands;
use followpoints::instagram::graph::Access;
use followpoints::instagram::graph_error::GraphError;
use followpoints::outbound::OutboundRequest;
use poem::http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::stage::Stage;
use crate::on_both;
use crate::support::ENOUGH;
use crate::support::graph::{
    APP, BRAND, Fault, Graph, INSTAGRAM_APP, INSTAGRAM_TOKEN, OWNER, PAGE, PAGE_TOKEN, SCOPED_BRAND,
    app_secret_proof,
};

impl Stage<'_> {
    /// Asks the stand-in itself, with the proof.
    async fn ask(&self, path: &str, token: &str, secret: &str) -> Value {
        let mark = if path.contains('?') { '&' } else { '?' };
        let url =
            format!("{}/{path}{mark}appsecret_proof={}", self.graph.url, app_secret_proof(secret, token));
        let client = &self.app.app.client;
        let request = OutboundRequest {
            method: "GET".parse().unwrap(),
            url: client.guard().check_url(&url).unwrap(),
            headers: vec![(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())],
            body: Vec::new().into(),
            timeout: ENOUGH,
            body_max: 1_000_000,
            identity: None,
        };
        serde_json::from_slice(&client.send(request).await.result.unwrap().body).unwrap()
    }

    async fn access(&self) -> Access {
        let app = &self.app.app;
        brands::access(&app.sealer, &self.connection().await, app.db.now()).unwrap()
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_message_is_sent_inside_the_window_only(app: &TestApp) {
        let stage = Stage::new(app).await;
        let (access, graph) = (stage.access().await, app.app.instagram.graph());
        assert_eq!(graph.send_message(&access, "5512034987760112", "You are linked.").await.unwrap(), "mid-of-brand-1");
        let call = stage.graph.calls().pop().unwrap();
        assert_eq!((call.host.as_str(), call.path.as_str()), ("fb", "me/messages"));
        let body = json!({"recipient": {"id": "5512034987760112"}, "message": {"text": "You are linked."}});
        assert_eq!(call.body, body);
        assert_eq!(graph.send_message(&access, "1", "hello").await, Err(GraphError::Nobody));
        stage.graph.fail("messages", Some(1), Fault::sample("graph_error_10_outside_window.json"));
        let late = graph.send_message(&access, "5512034987760112", "hello").await;
        assert_eq!(late, Err(GraphError::OutsideWindow));
    }
}

on_both! {
    options: Graph::options().await,
    async fn the_own_account_and_the_subscriptions_are_known_with_either_login(app: &TestApp) {
        let stage = Stage::alone(app).await;
        stage.connect(ConnectionLogin::Instagram).await;
        let (mut access, graph) = (stage.access().await, app.app.instagram.graph());
        let own = graph.own_account(&access).await.unwrap();
        // Webhooks name the account by `user_id`, not by `id`.
        assert_eq!(own.id.as_deref(), Some(BRAND));
        assert_eq!(own.username.as_deref(), Some("nordbrew.coffee"));
        graph.subscribe(&access, BRAND, &["messages", "comments"]).await.unwrap();
        assert_eq!(graph.subscribed_fields(&access, BRAND).await.unwrap(), ["messages", "comments"]);
        PAGE_TOKEN.clone_into(&mut access.token);
        access.login = ConnectionLogin::Facebook;
        assert_eq!(graph.own_account(&access).await.unwrap(), own);
        assert_eq!(graph.subscribed_fields(&access, PAGE).await.unwrap(), [""; 0]);
        graph.subscribe(&access, PAGE, &["feed"]).await.unwrap();
        assert_eq!(stage.graph.subscribed(PAGE).unwrap(), ["feed"]);
        // A page knows no fields of Instagram.
        let refused = graph.subscribe(&access, PAGE, &["messaging_seen"]).await;
        assert_eq!(refused, Err(GraphError::Refused("100".to_owned())));
    }
}

on_both! {
    options: Graph::options().await,
    /// What whoever connects an account is asked for.
    async fn the_stand_in_knows_permissions_pages_and_both_ids(app: &TestApp) {
        let stage = Stage::alone(app).await;
        stage.graph.permission("instagram_manage_messages", "declined");
        let permissions = stage.ask("fb/v26.0/me/permissions", PAGE_TOKEN, APP.1).await;
        let declined = json!({"permission": "instagram_manage_messages", "status": "declined"});
        assert!(permissions["data"].as_array().unwrap().contains(&declined), "{permissions}");
        assert_eq!(stage.ask("fb/v26.0/me", PAGE_TOKEN, APP.1).await, json!({"id": OWNER}));
        let pages = stage.ask("fb/v26.0/me/accounts?fields=access_token&limit=1", PAGE_TOKEN, APP.1).await;
        assert_eq!(pages["data"], json!([{"id": PAGE, "access_token": PAGE_TOKEN}]));
        assert!(pages["paging"]["next"].is_string());
        stage.graph.accounts(Vec::new());
        assert_eq!(stage.ask("fb/v26.0/me/accounts", PAGE_TOKEN, APP.1).await, json!({"data": []}));
        let me = stage.ask("ig/v26.0/me?fields=user_id", INSTAGRAM_TOKEN, INSTAGRAM_APP.1).await;
        assert_eq!(me, json!({"id": SCOPED_BRAND, "user_id": BRAND}));
        for (path, token, secret, code) in [
            ("fb/v25.0/me", PAGE_TOKEN, APP.1, 2635),
            ("fb/v26.0/me", PAGE_TOKEN, INSTAGRAM_APP.1, 100),
            ("fb/v26.0/me", INSTAGRAM_TOKEN, APP.1, 190),
            ("fb/v26.0/me", "unknown", APP.1, 190),
        ] {
            assert_eq!(stage.ask(path, token, secret).await["error"]["code"], code, "{path} {token}");
        }
    }
}
