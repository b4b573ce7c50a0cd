//! The calls that no lookup makes: messages, the own account, subscriptions.

use entity::kinds::ConnectionLogin;
use followpoints::instagram::brands;
use followpoints::instagram::graph::Access;
use followpoints::instagram::graph_error::GraphError;
use serde_json::json;

use super::stage::Stage;
use crate::on_both;
use crate::support::graph::{BRAND, Fault, Graph, PAGE};

impl Stage<'_> {
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
        access.token = crate::support::graph::PAGE_TOKEN.to_owned();
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
