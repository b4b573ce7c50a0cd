//! What must not work: a link twice, a state twice or in another browser, another site's account, hostile parameters.

use entity::connection_invitation;
use entity::id::InvitationId;
use entity::kinds::InvitationStatus;
use followpoints::connections::invitations::{KEPT_MS, LIFE_MS, delete_expired};
use sea_orm::{EntityTrait as _, PaginatorTrait as _};
use serde_json::json;

use super::{Browser, INVITATIONS, agree, hidden, parameter};
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::callers::UNKNOWN_ID;
use crate::support::graph::{BRAND, Graph, PAGE};
use crate::support::sources::insert;

/// A token that nobody has.
const UNKNOWN: &str = "/connect/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

on_both! {
    options: Graph::options().await,
    async fn a_link_works_once(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let invitation = app.invite(&site, "FACEBOOK").await;
        // Whatever looks at links before people do uses nothing up.
        for _ in 0..3 {
            assert_eq!(Browser::new(app).get(&invitation.path).await.status.as_u16(), 200);
        }
        assert_eq!(app.invited(&site, &invitation).await["status"], "PENDING");
        let browser = Browser::new(app);
        let page = browser.get(&invitation.path).await;
        let nonce = hidden(&page.text, "nonce").remove(0);
        browser.connect(&graph, &invitation).await;

        for browser in [&browser, &Browser::new(app)] {
            let used = browser.get(&invitation.path).await;
            assert_eq!(used.status.as_u16(), 410);
            assert!(used.text.contains("This link was already used"), "{}", used.text);
            let used = browser.post(&invitation.path, &[("nonce", &nonce)]).await;
            assert_eq!(used.status.as_u16(), 410);
            assert!(used.text.contains("This link was already used"), "{}", used.text);
        }
        assert_eq!(app.stored_connections().await.len(), 1);
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_state_is_taken_once(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let browser = Browser::new(app);
        let dialog = browser.begin(&invitation).await;
        let (first, second) = (agree(&graph, &dialog), agree(&graph, &dialog));
        assert!(browser.get(&first).await.text.contains("<h1>Done</h1>"));
        graph.forget_calls();
        for path in [&first, &second] {
            let again = browser.get(path).await;
            assert_eq!(again.status.as_u16(), 410, "{}", again.text);
            assert!(again.text.contains("This link was already used"), "{}", again.text);
        }
        assert!(graph.calls().is_empty(), "no code is exchanged");

        // One whose login failed is not good again either.
        let invitation = app.invite(&site, "FACEBOOK").await;
        let dialog = browser.begin(&invitation).await;
        let path = agree(&graph, &dialog);
        let state = parameter(&dialog, "state").unwrap();
        browser.get(&format!("/connect/callback/facebook?error=access_denied&state={state}")).await;
        let again = browser.get(&path).await;
        assert_eq!(again.status.as_u16(), 409, "{}", again.text);
        assert_eq!(app.stored_connections().await.len(), 1);
    }
}

on_both! {
    options: Graph::options().await,
    async fn parallel_answers_make_one_connection(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let browser = Browser::new(app);
        let dialog = browser.begin(&invitation).await;
        let paths: Vec<String> = (0..6).map(|_| agree(&graph, &dialog)).collect();
        let answers = futures_util::future::join_all(paths.iter().map(|path| browser.get(path))).await;
        let done = answers.iter().filter(|answer| answer.text.contains("<h1>Done</h1>")).count();
        assert_eq!(done, 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
        assert!(answers.iter().all(|answer| matches!(answer.status.as_u16(), 200 | 409 | 410)));
        assert_eq!(app.stored_connections().await.len(), 1);

        // Two invitations for one account at the same moment: it is connected once, and both logins went well.
        let two = [app.invite(&site, "FACEBOOK").await, app.invite(&site, "FACEBOOK").await];
        let browsers = [Browser::new(app), Browser::new(app)];
        let paths = [agree(&graph, &browsers[0].begin(&two[0]).await), agree(&graph, &browsers[1].begin(&two[1]).await)];
        let (one, other) = tokio::join!(browsers[0].get(&paths[0]), browsers[1].get(&paths[1]));
        assert!(one.text.contains("<h1>Done</h1>") && other.text.contains("<h1>Done</h1>"));
        assert_eq!(app.stored_connections().await.len(), 1);
    }
}

on_both! {
    options: Graph::options().await,
    async fn g5_an_account_is_connected_to_one_site_even_when_two_try_at_once(app: &TestApp) {
        let graph = Graph::of(app);
        let sites = [app.site().await, app.site().await];
        let invitations = [app.invite(&sites[0], "FACEBOOK").await, app.invite(&sites[1], "FACEBOOK").await];
        let browsers = [Browser::new(app), Browser::new(app)];
        let paths = [
            agree(&graph, &browsers[0].begin(&invitations[0]).await),
            agree(&graph, &browsers[1].begin(&invitations[1]).await),
        ];
        let (one, other) = tokio::join!(browsers[0].get(&paths[0]), browsers[1].get(&paths[1]));
        let mut statuses = [one.status.as_u16(), other.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{} {}", one.text, other.text);
        assert_eq!(app.stored_connections().await.len(), 1);
    }
}

on_both! {
    options: Graph::options().await,
    async fn g5_another_sites_account_is_refused_and_left_as_it_is(app: &TestApp) {
        let graph = Graph::of(app);
        let (site, other) = (app.site().await, app.site().await);
        Browser::new(app).connect(&graph, &app.invite(&site, "FACEBOOK").await).await;
        let before = app.stored_connections().await;
        graph.forget_calls();
        for login in ["FACEBOOK", "INSTAGRAM"] {
            let invitation = app.invite(&other, login).await;
            let refused = Browser::new(app).connect(&graph, &invitation).await;
            assert_eq!(refused.status.as_u16(), 409);
            assert!(refused.text.contains("connected to another site of this installation"), "{}", refused.text);
            assert!(!refused.text.contains(&site.id), "which one is nobody's business");
            let invited = app.invited(&other, &invitation).await;
            assert_eq!(invited["status"], "FAILED");
            assert!(invited["problem"].as_str().unwrap().contains("another site of this installation"));
        }
        assert_eq!(graph.calls_about("subscribed_apps").len(), 0);
        assert_eq!(app.stored_connections().await, before);
        assert_eq!(app.connections(&other).await.len(), 0);
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_state_is_good_in_its_own_browser_and_for_its_own_login(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let browser = Browser::new(app);
        let dialog = browser.begin(&invitation).await;
        let path = agree(&graph, &dialog);
        let stranger = Browser::new(app);
        stranger.get(&app.invite(&site, "FACEBOOK").await.path).await;
        graph.forget_calls();
        for browser in [&stranger, &Browser::new(app)] {
            let refused = browser.get(&path).await;
            assert_eq!(refused.status.as_u16(), 400, "{}", refused.text);
            assert!(refused.text.contains("This login was not begun here"), "{}", refused.text);
        }
        let elsewhere = path.replace("/callback/facebook", "/callback/instagram");
        assert_eq!(browser.get(&elsewhere).await.status.as_u16(), 400);
        for state in ["", "x", &"A".repeat(43), &"A".repeat(5_000), "%00", "%FF%FE", "..%2F"] {
            let refused = browser.get(&format!("/connect/callback/facebook?code=x&state={state}")).await;
            assert_eq!(refused.status.as_u16(), 400, "{state}");
        }
        assert!(graph.calls().is_empty());
        assert_eq!(app.stored_connections().await, []);

        // A newer login takes the place of an older one.
        let newer = browser.begin(&invitation).await;
        assert_eq!(browser.get(&path).await.status.as_u16(), 400);
        assert!(browser.get(&agree(&graph, &newer)).await.text.contains("<h1>Done</h1>"));
    }
}

on_both! {
    options: Graph::options().await,
    async fn the_button_works_only_from_the_page_that_this_browser_was_given(app: &TestApp) {
        let site = app.site().await;
        let (invitation, other) = (app.invite(&site, "FACEBOOK").await, app.invite(&site, "FACEBOOK").await);
        let browser = Browser::new(app);
        let nonce = hidden(&browser.get(&invitation.path).await.text, "nonce").remove(0);
        let stranger = Browser::new(app);
        stranger.get(&invitation.path).await;
        for (who, path, form) in [
            (&stranger, &invitation.path, vec![("nonce", nonce.as_str())]),
            (&Browser::new(app), &invitation.path, vec![("nonce", nonce.as_str())]),
            (&browser, &other.path, vec![("nonce", nonce.as_str())]),
            (&browser, &invitation.path, vec![]),
            (&browser, &invitation.path, vec![("nonce", "x.y")]),
        ] {
            let refused = who.post(path, &form).await;
            assert_eq!(refused.status.as_u16(), 400, "{}", refused.text);
            assert!(refused.text.contains("This page is too old"), "{}", refused.text);
        }
        assert_eq!(app.invited(&site, &invitation).await["status"], "PENDING");
        let begun = browser.post(&invitation.path, &[("nonce", &nonce)]).await;
        assert_eq!(begun.status.as_u16(), 303);
    }
}

on_both! {
    options: Graph::options().await,
    async fn an_invitation_ends_after_seven_days(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let browser = Browser::new(app);
        app.clock.advance_ms(7 * 24 * 3_600_000 - 1);
        let page = browser.get(&invitation.path).await;
        let nonce = hidden(&page.text, "nonce").remove(0);
        let dialog = browser.begin(&invitation).await;
        app.clock.advance_ms(1);
        assert_eq!(app.invited(&site, &invitation).await["status"], "EXPIRED");
        for answer in [
            browser.get(&invitation.path).await,
            browser.post(&invitation.path, &[("nonce", &nonce)]).await,
            browser.get(&agree(&graph, &dialog)).await,
        ] {
            assert_eq!(answer.status.as_u16(), 410);
            assert!(answer.text.contains("This link has expired"), "{}", answer.text);
        }
        assert_eq!(app.stored_connections().await, []);

        // The owner sees for a month what became of it.
        let tidy = async || {
            let tx = app.app.db.write().await.unwrap();
            let deleted = delete_expired(&tx).await.unwrap();
            tx.commit().await.unwrap();
            deleted
        };
        app.clock.advance_ms(KEPT_MS - 1);
        assert_eq!(tidy().await, 0);
        app.clock.advance_ms(1);
        app.invite(&site, "FACEBOOK").await;
        assert_eq!((tidy().await, connection_invitation::Entity::find().count(app.app.db.read()).await.unwrap()), (1, 1));
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_site_has_at_most_two_hundred_invitations_that_can_still_be_used(app: &TestApp) {
        let site = app.site().await;
        let first = app.invite(&site, "FACEBOOK").await;
        let like = app.stored_invitations().await.remove(0);
        let tx = app.app.db.write().await.unwrap();
        let rows = (0..199).map(|number| {
            let id = InvitationId(tx.new_id());
            let status = if number == 0 { InvitationStatus::Used } else { like.status };
            connection_invitation::Model { id, status, token_hash: id.0.as_bytes().to_vec(), ..like.clone() }
        });
        insert(&tx, rows).await;
        tx.commit().await.unwrap();
        let body = json!({"invitation": {"platform": "INSTAGRAM", "login": "FACEBOOK"}});
        let invite = async || app.call("POST", INVITATIONS).key(ADMIN_KEY, &site.id).json(&body).send().await;

        assert_eq!(invite().await.status.as_u16(), 200, "one was used");
        let what = "a site can have at most 200 invitations that can still be used; revoke some";
        let refusal = json!({"message": what, "details": {"applicationError": {
            "code": "TOO_MANY_CONNECTION_INVITATIONS", "description": what, "data": {},
        }}});
        let refused = invite().await;
        assert_eq!((refused.status.as_u16(), refused.json()), (428, refusal));
        let path = format!("{INVITATIONS}/{}", first.id);
        app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!([invite().await, invite().await].map(|answer| answer.status.as_u16()), [200, 428]);
        app.clock.advance_ms(LIFE_MS);
        assert_eq!(invite().await.status.as_u16(), 200, "those before have ended");
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_revoked_invitation_leads_nowhere_even_from_the_middle_of_a_login(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let browser = Browser::new(app);
        let dialog = browser.begin(&invitation).await;
        let path = format!("{INVITATIONS}/{}", invitation.id);
        app.call("DELETE", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(browser.get(&agree(&graph, &dialog)).await.status.as_u16(), 400);
        let unknown = browser.get(UNKNOWN).await;
        let revoked = browser.get(&invitation.path).await;
        assert_eq!((revoked.status.as_u16(), &revoked.text), (404, &unknown.text));
        assert_eq!(app.stored_connections().await, []);
        let again = app.call("DELETE", &path).key(ADMIN_KEY, &site.id).send().await;
        assert_eq!(again.error(), (404, "CONNECTION_INVITATION_NOT_FOUND".to_owned()));
    }
}

on_both! {
    options: Graph::options().await,
    async fn g5_what_is_not_there_is_answered_alike(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let connection = app.stored_connection(&site).await;
        for (path, id) in [
            ("/admin/v1/connection-invitations", invitation.id.clone()),
            ("/admin/v1/connections", connection.id.to_string()),
        ] {
            for method in ["GET", "DELETE"] {
                let foreign = app.call(method, &format!("{path}/{id}")).key(ADMIN_KEY, &other.id).send().await;
                let unknown = app.call(method, &format!("{path}/{UNKNOWN_ID}")).key(ADMIN_KEY, &other.id).send().await;
                assert_eq!((foreign.status.as_u16(), &foreign.text), (404, &unknown.text), "{method} {path}");
            }
        }
        assert_eq!(app.stored_connections().await.len(), 1);
        let browser = Browser::new(app);
        for path in [UNKNOWN, "/connect/x", "/connect/%3Cscript%3E", "/connect/callback", "/connect/callback/x"] {
            let answer = browser.get(path).await;
            assert_eq!(answer.status.as_u16(), 404, "{path}");
            assert!(!answer.text.contains("<script"), "{path}: {}", answer.text);
            assert!(answer.text.contains("There is no such link"), "{path}");
        }
    }
}

on_both! {
    options: Graph::options().await,
    async fn hostile_parameters_are_text_and_pages_take_nothing_from_elsewhere(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let hostile = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'";
        let body = json!({"site": {"name": hostile}});
        app.call("PATCH", &format!("/admin/v1/sites/{}", site.id)).auth(ADMIN_KEY).json(&body).ok().await;
        let invitation = app.invite(&site, "FACEBOOK").await;
        let browser = Browser::new(app);
        let page = browser.get(&invitation.path).await;
        assert!(page.text.contains("&lt;script&gt;alert(1)"), "{}", page.text);
        let encoded: String = url::form_urlencoded::byte_serialize(hostile.as_bytes()).collect();
        let dialog = browser.begin(&invitation).await;
        let state = parameter(&dialog, "state").unwrap();
        let mut pages = vec![page];
        for query in [
            format!("state={encoded}&code={encoded}&error={encoded}"),
            format!("state={state}&error={encoded}&error_description={encoded}&error_reason={encoded}"),
        ] {
            pages.push(browser.get(&format!("/connect/callback/facebook?{query}")).await);
        }
        assert!(pages[2].text.contains("answered without a code"), "{}", pages[2].text);
        pages.push(browser.post("/connect/choose", &[("state", hostile), ("account", hostile)]).await);
        pages.push(browser.post("/connect/again", &[("state", hostile)]).await);
        pages.push(browser.post(&invitation.path, &[("nonce", hostile)]).await);
        pages.push(browser.get(&format!("/privacy/deletion?code={encoded}")).await);
        pages.push(browser.get(&format!("/connect/{encoded}")).await);
        for page in pages {
            assert!(!page.text.contains("<script") && !page.text.contains("<img"), "{}", page.text);
            let header = |name: &str| page.headers[name].to_str().unwrap().to_owned();
            let policy = header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
            assert!(policy.contains("base-uri 'none'; frame-ancestors 'none'; form-action 'self'"), "{policy}");
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert_eq!(header("x-frame-options"), "DENY");
            assert_eq!(header("referrer-policy"), "no-referrer");
            assert_eq!(header("cache-control"), "no-store");
            assert_eq!(header("content-type"), "text/html; charset=utf-8");
        }
        // A code is passed on as it is, whatever it holds.
        let dialog = browser.begin(&invitation).await;
        let state = parameter(&dialog, "state").unwrap();
        graph.forget_calls();
        let failed = browser.get(&format!("/connect/callback/facebook?state={state}&code={encoded}")).await;
        assert_eq!(failed.status.as_u16(), 200);
        assert!(!failed.text.contains("<script"), "{}", failed.text);
        assert_eq!(graph.calls()[0].query["code"], hostile);
        assert_eq!(app.stored_connections().await, []);
    }
}

on_both! {
    options: Graph::options().await,
    async fn the_session_cookie_is_kept_from_scripts_and_other_sites(app: &TestApp) {
        let site = app.site().await;
        let page = app.call("GET", &app.invite(&site, "INSTAGRAM").await.path).send().await;
        let cookie = page.headers["set-cookie"].to_str().unwrap();
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        assert_eq!((name, value.len()), ("followpoints_connect", 43));
        assert_eq!(attributes, "Path=/connect; Max-Age=86400; HttpOnly; SameSite=Lax");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        let platform = app.config.platforms.meta.urls.instagram.trim_end_matches("/instagram");
        assert!(policy.ends_with(&format!("form-action 'self' {platform}")), "{policy}");
    }
}

on_both! {
    options: Graph::options().await,
    async fn an_invitation_is_for_a_login_of_its_platform(app: &TestApp) {
        let site = app.site().await;
        let make = |body: serde_json::Value| {
            app.call("POST", INVITATIONS).key(ADMIN_KEY, &site.id).json(&json!({"invitation": body})).send()
        };
        for (platform, login) in [("INSTAGRAM", "TIKTOK_BUSINESS"), ("TIKTOK", "FACEBOOK"), ("TIKTOK", "INSTAGRAM")] {
            let refused = make(json!({"platform": platform, "login": login})).await;
            let expected = [("invitation.login".to_owned(), "INVALID_ENUM_VALUE".to_owned())];
            assert_eq!(refused.violations(), expected);
        }
        let missing = make(json!({"login": "FACEBOOK"})).await;
        assert_eq!(missing.violations(), [("invitation.platform".to_owned(), "REQUIRED_FIELD".to_owned())]);
        let without_app = make(json!({"platform": "TIKTOK"})).await;
        assert_eq!(without_app.error(), (428, "PLATFORM_NOT_CONFIGURED".to_owned()));
        assert!(without_app.text.contains("FOLLOWPOINTS_TIKTOK_BUSINESS_APP_ID"));

        let first = make(json!({"platform": "INSTAGRAM"})).await.json();
        assert_eq!(first["invitation"]["login"], "FACEBOOK");
        assert_eq!(first["invitation"]["status"], "PENDING");
        assert_eq!(first["invitation"]["expiresDate"], "2024-08-08T11:51:41.431Z");
        let url = first["invitation"]["url"].as_str().unwrap();
        assert!(url.starts_with("http://127.0.0.1/connect/"), "{url}");
        // Newest first, page by page.
        for _ in 0..2 {
            make(json!({"platform": "INSTAGRAM", "login": "INSTAGRAM"})).await;
        }
        let page = app.call("GET", &format!("{INVITATIONS}?limit=2")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(page["invitations"][0]["login"], "INSTAGRAM");
        assert_eq!(page["pagingMetadata"]["hasNext"], true);
        let cursor = page["pagingMetadata"]["cursors"]["next"].as_str().unwrap();
        let page = app.call("GET", &format!("{INVITATIONS}?cursor={cursor}")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(page["invitations"].as_array().unwrap().len(), 1);
        assert_eq!(page["invitations"][0]["id"], first["invitation"]["id"]);
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_choice_that_nobody_makes_is_forgotten(app: &TestApp) {
        let (graph, site) = (Graph::of(app), app.site().await);
        let mut accounts = crate::support::graph::payload("graph_me_accounts.json")["data"].as_array().cloned().unwrap();
        accounts[1]["instagram_business_account"] = json!({"id": "17841460998870002"});
        graph.accounts(accounts);
        let invitation = app.invite(&site, "FACEBOOK").await;
        let browser = Browser::new(app);
        let page = browser.connect(&graph, &invitation).await;
        let state = hidden(&page.text, "state").remove(0);
        let kept = || async {
            let all = connection_invitation::Entity::find().all(app.app.db.read()).await.unwrap();
            all[0].candidates.is_some()
        };
        app.clock.advance_ms(3_599_999);
        app.app.connections.check_due().await.unwrap();
        assert!(kept().await);
        app.clock.advance_ms(1);
        app.app.connections.check_due().await.unwrap();
        assert!(!kept().await);
        let late = browser.post("/connect/choose", &[("state", &state), ("account", BRAND)]).await;
        assert_eq!(late.status.as_u16(), 400, "{}", late.text);
        assert_eq!(graph.subscribed(PAGE), None);
    }
}
