//! The whole way from the invitation to the connection, with both logins of Instagram.

use serde_json::json;

use super::{Browser, agree, hidden, parameter};
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::graph::{
    APP, BRAND, Fault, Graph, INSTAGRAM_APP, OWNER, PAGE, PAGE_TOKEN, SCOPED_BRAND, app_secret_proof, payload,
};

on_both! {
    options: Graph::options().await,
    async fn facebook_login_connects_the_account_behind_the_page(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let invitation = app.invite(&site, "FACEBOOK").await;
        assert_eq!(app.invited(&site, &invitation).await["status"], "PENDING");

        let browser = Browser::new(app);
        let dialog = browser.begin(&invitation).await;
        assert!(dialog.starts_with(&format!("{}/facebook/v26.0/dialog/oauth?", graph.url)), "{dialog}");
        assert_eq!(parameter(&dialog, "client_id").unwrap(), APP.0);
        assert_eq!(parameter(&dialog, "response_type").unwrap(), "code");
        assert_eq!(parameter(&dialog, "redirect_uri").unwrap(), "http://127.0.0.1/connect/callback/facebook");
        assert_eq!(
            parameter(&dialog, "scope").unwrap(),
            "instagram_basic,instagram_manage_comments,instagram_manage_messages,instagram_manage_insights,\
             pages_show_list,pages_manage_metadata,pages_read_engagement,pages_messaging,business_management"
        );
        assert_eq!(app.invited(&site, &invitation).await["status"], "OPENED");

        let done = browser.get(&agree(&graph, &dialog)).await;
        assert_eq!(done.status.as_u16(), 200, "{}", done.text);
        assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
        assert!(done.text.contains("@nordbrew.coffee is connected"), "{}", done.text);

        let connections = app.connections(&site).await;
        assert_eq!(connections.len(), 1);
        let shown = &connections[0];
        assert_eq!(shown["platform"], "INSTAGRAM");
        assert_eq!(shown["login"], "FACEBOOK");
        assert_eq!(shown["externalId"], BRAND);
        assert_eq!(shown["username"], "nordbrew.coffee");
        assert_eq!(shown["pageId"], PAGE);
        assert_eq!(shown["state"], "CONNECTED");
        assert_eq!(shown["stateDescription"], "The account is connected.");
        assert_eq!(shown["missingPermissions"], json!([]));
        let invited = app.invited(&site, &invitation).await;
        assert_eq!((&invited["status"], &invited["connectionId"]), (&json!("USED"), &shown["id"]));

        let stored = app.stored_connections().await.remove(0);
        assert_eq!(app.token_of(&stored).as_deref(), Some(PAGE_TOKEN), "the page's token, which does not end");
        assert_eq!(stored.token_expires_at, None);
        assert_eq!(stored.owner_id.as_deref(), Some(OWNER));
        assert_eq!(graph.subscribed(PAGE), Some(vec!["feed".to_owned()]));
        let asked = graph.calls_about("me/accounts");
        let (token, proof) = (asked[0].token.clone().unwrap(), &asked[0].query["appsecret_proof"]);
        assert!(token.starts_with("EAAP-long-"), "asked with the long-lived token: {token}");
        assert_eq!(*proof, app_secret_proof(APP.1, &token));
    }
}

on_both! {
    options: Graph::options().await,
    async fn instagram_login_connects_the_account_itself(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let invitation = app.invite(&site, "INSTAGRAM").await;
        let browser = Browser::new(app);
        let dialog = browser.begin(&invitation).await;
        assert!(dialog.starts_with(&format!("{}/instagram/oauth/authorize?", graph.url)), "{dialog}");
        assert_eq!(parameter(&dialog, "client_id").unwrap(), INSTAGRAM_APP.0);
        assert_eq!(
            parameter(&dialog, "scope").unwrap(),
            "instagram_business_basic,instagram_business_manage_messages,instagram_business_manage_comments"
        );
        let done = browser.get(&agree(&graph, &dialog)).await;
        assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
        let stored = app.stored_connections().await.remove(0);
        assert_eq!(stored.external_id, BRAND, "user_id, and not the id of the app's own");
        assert_eq!(stored.owner_id.as_deref(), Some(SCOPED_BRAND));
        assert_eq!(stored.page_id, None);
        assert!(app.token_of(&stored).unwrap().starts_with("IGAA-long-"));
        let end = stored.token_expires_at.unwrap();
        assert_eq!(end, app.app.db.now().plus_ms(5_183_944_000));
        let fields = graph.subscribed(BRAND).unwrap();
        for field in ["comments", "messages", "messaging_postbacks"] {
            assert!(fields.iter().any(|known| known == field), "{fields:?}");
        }
        assert_eq!(app.connections(&site).await[0]["state"], "CONNECTED");
    }
}

on_both! {
    options: Graph::options().await,
    async fn the_documented_form_of_instagrams_answer_is_read_too(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        graph.token("ig", "IGAA-short-of-the-list");
        let mut answer = payload("oauth_ig_short_token_wrapped.json");
        answer["data"][0]["access_token"] = json!("IGAA-short-of-the-list");
        answer["data"][0]["permissions"] = json!("instagram_business_basic,instagram_business_manage_comments");
        graph.fail("oauth/access_token", Some(1), Fault::answer(200, answer.to_string()));
        let done = Browser::new(app).connect(&graph, &app.invite(&site, "INSTAGRAM").await).await;
        assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
        assert!(done.text.contains("instagram_business_manage_messages"), "{}", done.text);
        let shown = app.connections(&site).await.remove(0);
        assert_eq!(shown["state"], "PERMISSION_MISSING");
        assert_eq!(shown["missingPermissions"], json!(["instagram_business_manage_messages"]));
    }
}

on_both! {
    options: Graph::options().await,
    async fn declined_permissions_are_named_and_those_that_all_needs_end_the_login(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        graph.permission("instagram_manage_messages", "declined");
        graph.permission("instagram_manage_insights", "declined");
        let done = Browser::new(app).connect(&graph, &app.invite(&site, "FACEBOOK").await).await;
        assert!(done.text.contains("instagram_manage_messages, instagram_manage_insights"), "{}", done.text);
        let shown = app.connections(&site).await.remove(0);
        assert_eq!(shown["state"], "PERMISSION_MISSING");
        assert_eq!(
            shown["missingPermissions"],
            json!(["instagram_manage_messages", "instagram_manage_insights"])
        );

        graph.permission("pages_show_list", "declined");
        let invitation = app.invite(&site, "FACEBOOK").await;
        let (browser, connected) = (Browser::new(app), app.stored_connections().await);
        let failed = browser.connect(&graph, &invitation).await;
        assert!(failed.text.contains("the permission pages_show_list was not granted"), "{}", failed.text);
        let invited = app.invited(&site, &invitation).await;
        assert_eq!(invited["status"], "FAILED");
        assert!(invited["problem"].as_str().unwrap().contains("pages_show_list"));
        assert_eq!(app.stored_connections().await, connected);

        // From the page itself, without the link.
        graph.permission("pages_show_list", "granted");
        let state = hidden(&failed.text, "state").remove(0);
        let again = browser.post("/connect/again", &[("state", &state)]).await;
        assert_eq!(again.status.as_u16(), 303, "{}", again.text);
        let dialog = again.headers["location"].to_str().unwrap().to_owned();
        let done = browser.get(&agree(&graph, &dialog)).await;
        assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
        assert_eq!(app.invited(&site, &invitation).await["status"], "USED");
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_subscription_that_is_not_permitted_is_a_missing_permission(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        graph.permission("pages_manage_metadata", "declined");
        graph.fail("subscribed_apps", None, Fault::sample("graph_error_200_permission.json"));
        let done = Browser::new(app).connect(&graph, &app.invite(&site, "FACEBOOK").await).await;
        assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
        let shown = app.connections(&site).await.remove(0);
        assert_eq!(shown["missingPermissions"], json!(["pages_manage_metadata"]));
    }
}

on_both! {
    options: Graph::options().await,
    async fn somebody_who_declines_may_try_again(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let browser = Browser::new(app);
        let dialog = browser.begin(&invitation).await;
        let state = parameter(&dialog, "state").unwrap();
        let path = format!(
            "/connect/callback/facebook?error=access_denied&error_code=200&error_reason=user_denied&state={state}"
        );
        let denied = browser.get(&path).await;
        assert_eq!(denied.status.as_u16(), 200);
        assert!(denied.text.contains("You declined at the platform"), "{}", denied.text);
        assert_eq!(app.invited(&site, &invitation).await["problem"], "the login was declined");
        // The link works as well as the page's button.
        let done = browser.connect(&graph, &invitation).await;
        assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
        let invited = app.invited(&site, &invitation).await;
        assert_eq!((&invited["status"], invited.get("problem")), (&json!("USED"), None));
    }
}

on_both! {
    options: Graph::options().await,
    async fn without_an_account_the_page_says_what_to_do(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        graph.accounts(vec![]);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let failed = Browser::new(app).connect(&graph, &invitation).await;
        assert!(failed.text.contains("no Instagram account was found"), "{}", failed.text);
        assert!(failed.text.contains("linked to a Facebook page"), "{}", failed.text);
        assert_eq!(app.invited(&site, &invitation).await["status"], "FAILED");
        assert_eq!(app.stored_connections().await, []);
    }
}

on_both! {
    options: Graph::options().await,
    async fn pages_of_a_business_are_found_where_the_person_has_none(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let pages = payload("graph_me_accounts.json");
        graph.token("fb", pages["data"][0]["access_token"].as_str().unwrap());
        graph.accounts(vec![]);
        graph.fail("me/businesses", Some(1), Fault::answer(200, r#"{"data":[{"id":"55","name":"Nordbrew AS"}]}"#));
        graph.fail("55/owned_pages", Some(1), Fault::sample("graph_error_10_permission.json"));
        graph.fail("55/client_pages", Some(1), Fault::answer(200, pages.to_string()));
        let done = Browser::new(app).connect(&graph, &app.invite(&site, "FACEBOOK").await).await;
        assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
        assert_eq!(app.connections(&site).await[0]["externalId"], BRAND);
    }
}

on_both! {
    options: Graph::options().await,
    async fn one_of_several_accounts_is_chosen(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        graph.token("fb", "EAAP-second-page");
        let mut accounts = payload("graph_me_accounts.json")["data"].as_array().cloned().unwrap();
        accounts[0]["access_token"] = json!(PAGE_TOKEN);
        // More than one answer's worth, and the second account on the last.
        for index in 0..110 {
            accounts.push(json!({"id": format!("9{index:05}"), "name": "Empty", "access_token": "x"}));
        }
        accounts.push(json!({
            "id": "104500112239999", "name": "<b>Nordbrew</b> Bergen", "access_token": "EAAP-second-page",
            "instagram_business_account": {"id": "17841460998870002", "username": "nordbrew.bergen"},
        }));
        graph.accounts(accounts);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let browser = Browser::new(app);
        let page = browser.connect(&graph, &invitation).await;
        assert!(page.text.contains("<h1>Choose an account</h1>"), "{}", page.text);
        assert!(page.text.contains("@nordbrew.bergen (&lt;b&gt;Nordbrew&lt;/b&gt; Bergen)"), "{}", page.text);
        assert_eq!(hidden(&page.text, "account"), [BRAND, "17841460998870002"]);
        assert_eq!(app.invited(&site, &invitation).await["status"], "OPENED");
        assert_eq!(app.stored_connections().await, []);
        let state = hidden(&page.text, "state").remove(0);

        // Neither what was not offered, nor another browser.
        for account in ["17841460998879999", "", "' OR 1=1 --"] {
            let refused = browser.post("/connect/choose", &[("state", &state), ("account", account)]).await;
            assert_eq!(refused.status.as_u16(), 400, "{account}");
        }
        let choice = [("state", state.as_str()), ("account", "17841460998870002")];
        assert_eq!(Browser::new(app).post("/connect/choose", &choice).await.status.as_u16(), 400);
        assert_eq!(app.stored_connections().await, []);

        let done = browser.post("/connect/choose", &choice).await;
        assert!(done.text.contains("@nordbrew.bergen is connected"), "{}", done.text);
        let stored = app.stored_connections().await;
        assert_eq!(stored.len(), 1);
        assert_eq!(stored[0].external_id, "17841460998870002");
        assert_eq!(app.token_of(&stored[0]).as_deref(), Some("EAAP-second-page"));
        assert_eq!(graph.subscribed("104500112239999"), Some(vec!["feed".to_owned()]));
        assert_eq!(graph.subscribed(PAGE), None, "the one that was not chosen");
        let invitation = app.stored_invitations().await.remove(0);
        assert_eq!(invitation.candidates, None, "nobody needs the other account's token");
        let again = browser.post("/connect/choose", &choice).await;
        assert_eq!(again.status.as_u16(), 410, "{}", again.text);
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_choice_is_shown_again_until_it_is_made(app: &TestApp) {
        let (graph, site, other) = (Graph::of(app), app.site().await, app.site().await);
        let mut accounts = payload("graph_me_accounts.json")["data"].as_array().cloned().unwrap();
        accounts[0]["access_token"] = json!(PAGE_TOKEN);
        accounts[1]["instagram_business_account"] = json!({"id": "17841460998870002"});
        graph.accounts(accounts);
        app.store(app.blank_connection(&other, "17841460998870002")).await;
        let browser = Browser::new(app);
        let back = agree(&graph, &browser.begin(&app.invite(&site, "FACEBOOK").await).await);
        let first = browser.get(&back).await;
        assert_eq!(hidden(&first.text, "account"), [BRAND, "17841460998870002"]);
        let state = hidden(&first.text, "state").remove(0);
        let again = browser.get(&back).await;
        assert_eq!((again.status.as_u16(), &again.text), (200, &first.text), "reloaded");
        assert_eq!(Browser::new(app).get(&back).await.status.as_u16(), 400, "in another browser");

        // One that cannot be connected leaves the others to choose.
        let choose = async |account: &str| browser.post("/connect/choose", &[("state", &state), ("account", account)]).await;
        let elsewhere = choose("17841460998870002").await;
        assert_eq!(elsewhere.status.as_u16(), 409, "{}", elsewhere.text);
        assert!(elsewhere.text.contains("connected elsewhere"), "{}", elsewhere.text);
        assert_eq!(browser.get(&back).await.text, first.text, "gone back to");
        let done = choose(BRAND).await;
        assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
        assert_eq!(browser.get(&back).await.status.as_u16(), 410, "it was used");
        assert!(app.stored_invitations().await.iter().all(|invitation| invitation.candidates.is_none()));
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_platform_that_fails_fails_the_login_and_not_the_page(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let browser = Browser::new(app);
        for (about, fault, says) in [
            ("oauth/access_token", Fault::code(400, 100, 36009), "refused the request (code 100, 36009)"),
            ("me/permissions", Fault::answer(502, "<html>bad gateway"), "cannot be reached at the moment"),
            ("me/accounts", Fault::sample("graph_error_190_expired.json"), "no longer accepts the token (code 190, 463)"),
            ("me/accounts", Fault::sample("graph_error_4_app_rate_limit.json"), "wants fewer calls"),
            ("me", Fault::answer(200, r#"{"id":"a/../b"}"#), "lacks what is needed: the id of the person"),
            ("oauth/access_token", Fault::answer(200, "{}"), "lacks what is needed: a token"),
            ("subscribed_apps", Fault::code(500, 2, 0), "cannot be reached at the moment"),
        ] {
            graph.fail(about, Some(1), fault);
            let failed = browser.connect(&graph, &invitation).await;
            graph.recover();
            assert_eq!(failed.status.as_u16(), 200);
            assert!(failed.text.contains(says), "{about}: {}", failed.text);
            assert!(failed.text.contains("Try again"), "{about}");
            assert_eq!(app.invited(&site, &invitation).await["status"], "FAILED", "{about}");
        }
        assert_eq!(app.stored_connections().await, []);
        let done = browser.connect(&graph, &invitation).await;
        assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
    }
}

on_both! {
    options: Graph::options().await,
    async fn connecting_again_renews_what_there_is(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        Browser::new(app).connect(&graph, &app.invite(&site, "FACEBOOK").await).await;
        let before = app.stored_connections().await.remove(0);
        graph.kill(PAGE_TOKEN, 460);
        app.clock.advance_ms(3_600_000);
        assert_eq!(app.app.connections.check_due().await.unwrap(), 1);
        let shown = app.connections(&site).await.remove(0);
        assert_eq!(shown["state"], "REVOKED");
        assert!(shown["problem"].as_str().unwrap().contains("code 190, 460"));
        assert_eq!(app.stored_connections().await[0].token, None);

        graph.token("fb", "EAAP-page-token-2");
        let mut accounts = payload("graph_me_accounts.json")["data"].as_array().cloned().unwrap();
        accounts[0]["access_token"] = json!("EAAP-page-token-2");
        graph.accounts(accounts);
        let done = Browser::new(app).connect(&graph, &app.invite(&site, "FACEBOOK").await).await;
        assert!(done.text.contains("<h1>Done</h1>"), "{}", done.text);
        let after = app.stored_connections().await;
        assert_eq!(after.len(), 1);
        assert_eq!((after[0].id, after[0].created_at), (before.id, before.created_at));
        assert_eq!(app.token_of(&after[0]).as_deref(), Some("EAAP-page-token-2"));
        assert_eq!((after[0].dead_since, after[0].problem.clone()), (None, None));
        assert_eq!(app.connections(&site).await[0]["state"], "CONNECTED");
    }
}

on_both! {
    options: Graph::options().await,
    async fn disconnecting_deletes_the_token_and_ends_the_subscription(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        for (login, subscribed) in [("FACEBOOK", PAGE), ("INSTAGRAM", BRAND)] {
            Browser::new(app).connect(&graph, &app.invite(&site, login).await).await;
            assert!(graph.subscribed(subscribed).is_some());
            let id = app.connections(&site).await[0]["id"].as_str().unwrap().to_owned();
            let path = format!("/admin/v1/connections/{id}");
            if login == "INSTAGRAM" {
                // The platform's failure is not the owner's.
                graph.fail("subscribed_apps", Some(1), Fault::code(500, 1, 0));
            }
            app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
            assert_eq!(graph.subscribed(subscribed).is_some(), login == "INSTAGRAM");
            assert_eq!(app.stored_connections().await, []);
            let gone = app.call("GET", &path).key(ADMIN_KEY, &site.id).send().await;
            assert_eq!(gone.error(), (404, "CONNECTION_NOT_FOUND".to_owned()));
        }
    }
}
