//! What the things mean in particular: properties, persons, codes, follow flags, and what is looked up.

use entity::id::Timestamp;
use entity::kinds::{ConnectionLogin, MentionType};
use entity::{event, raw_delivery};
use followpoints::activities::Fate;
use followpoints::inbox::{self, Arrivals, Call};
use followpoints::profiles::attributes::Facts;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _, QueryOrder as _};
use serde_json::{Value, json};

use super::stage::{Stage, caption_mention, ignored, later, message, messaging, properties, seen, split};
use crate::on_both;
use crate::support::dump::dump;
use crate::support::graph::{BRAND, Fault, Graph, payload};

const MIA: &str = "5512034987760112";

on_both! {
    options: Graph::options().await,
    async fn a_message_tells_who_wrote_what_and_whether_they_follow(app: &TestApp) {
        let stage = Stage::new(app).await;
        let sighting = stage.sighting("webhook_message_text.json").await;
        assert_eq!(sighting.site, stage.site_id());
        assert_eq!(sighting.source, "INSTAGRAM_MESSAGE");
        assert!(sighting.is_message);
        assert_eq!(sighting.occurred_at, Timestamp(1_794_994_867_215));
        assert_eq!(sighting.code_texts, ["NORDBREW 7K4Q"]);
        assert_eq!(properties(&sighting), json!({"platform": "instagram", "message": "NORDBREW 7K4Q"}));
        assert!(sighting.activity.unwrap().external_id.starts_with("aWdfZAG1f"));
        assert_eq!(sighting.person.account, BRAND);
        assert_eq!(sighting.person.external_id.as_deref(), Some(MIA));
        assert_eq!(sighting.person.handle.as_deref(), Some("mia.runs.oslo"));
        assert!(!sighting.person.is_signed_in);
        let picture = "https://scontent.cdninstagram.com/v/t51.2885-19/4433_n.jpg?stp=dst-jpg_s150x150&oh=00_AfXyz&oe=67500000";
        let facts = Facts {
            name: Some("Mia Lindqvist".to_owned()),
            followers: Some(12_480),
            picture: Some(picture.to_owned()),
            blue_tick: Some(false),
            follows_brand: Some(true),
            ..Facts::default()
        };
        assert_eq!(sighting.person.facts, facts);
        stage.graph.person(MIA, payload("graph_user_profile_not_following.json"));
        let sighting = stage.sighting("webhook_message_text.json").await;
        assert_eq!(sighting.person.facts.follows_brand, Some(false));
    }
}

on_both! {
    options: Graph::options().await,
    /// Pitfall 6: a flag that is not there must not look like a no, or the next yes would look like news.
    async fn g7_a_flag_that_was_not_told_stays_unknown(app: &TestApp) {
        let stage = Stage::new(app).await;
        for flag in [json!(null), json!("true"), json!(1)] {
            let profile = json!({"username": "mia.runs.oslo", "is_user_follow_business": flag});
            stage.graph.person(MIA, profile);
            let sighting = stage.sighting("webhook_message_text.json").await;
            assert_eq!(sighting.person.facts.follows_brand, None, "{flag}");
            assert_eq!(sighting.person.handle.as_deref(), Some("mia.runs.oslo"));
        }
        // Who may not be looked up has written all the same.
        let refusals = [
            "graph_error_230_user_consent.json",
            "graph_error_200_permission.json",
            "graph_error_200_message_access_disabled.json",
            "graph_error_9010_no_matching_user.json",
            "graph_error_100_not_igsid.json",
        ];
        for refusal in refusals {
            stage.graph.fail(MIA, Some(1), Fault::sample(refusal));
            let sighting = stage.sighting("webhook_message_text.json").await;
            assert_eq!(sighting.person.facts, Facts::default(), "{refusal}");
            assert_eq!(sighting.person.handle, None);
            assert_eq!(sighting.person.external_id.as_deref(), Some(MIA));
            assert_eq!(sighting.code_texts, ["NORDBREW 7K4Q"]);
        }
    }
}

on_both! {
    options: Graph::options().await,
    async fn codes_are_looked_for_wherever_they_can_be(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.graph.person("7034551209981123", json!({"username": "anais.cafe"}));
        let codes = async |sample| stage.sighting(sample).await.code_texts;
        assert_eq!(codes("webhook_message_quick_reply.json").await, ["Link my account", "LINK_7K4Q"]);
        assert_eq!(codes("webhook_message_ads_referral.json").await, ["Can I join?", "campaign-autumn"]);
        assert_eq!(codes("webhook_postback.json").await, ["ICEBREAKER_JOIN"]);
        assert_eq!(codes("webhook_referral.json").await, ["link-7K4Q"]);
        assert_eq!(codes("webhook_message_attachments.json").await, [""; 0]);
        // A tap is the person's own; a link may have been followed by accident.
        assert_eq!(stage.sighting("webhook_postback.json").await.person.facts.follows_brand, Some(true));
        let referral = stage.sighting("webhook_referral.json").await;
        assert_eq!(referral.person.facts.follows_brand, None);
        assert!(referral.activity.is_none() && referral.is_message);
    }
}

on_both! {
    options: Graph::options().await,
    async fn an_answer_to_a_story_names_the_story(app: &TestApp) {
        let stage = Stage::new(app).await;
        let sighting = stage.sighting("webhook_message_story_reply.json").await;
        let expected =
            json!({"platform": "instagram", "message": "need this mug", "reply_to_story": "17988811122233344"});
        assert_eq!(properties(&sighting), expected);
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_mention_in_a_caption_is_looked_up(app: &TestApp) {
        let stage = Stage::new(app).await;
        let sighting = stage.sighting("webhook_mentions_caption.json").await;
        assert_eq!(properties(&sighting), json!({
            "platform": "instagram",
            "caption": "Sunday long run, then a cortado nordbrew.coffee #oslo",
            "media_url": "https://scontent.cdninstagram.com/v/t51.29350-15/471234567_1122334455_n.jpg?_nc_ht=scontent.cdninstagram.com&oh=00_AfAbc&oe=6743ABCD",
            "mention_type": "mention",
            "media_type": "post",
        }));
        assert_eq!(sighting.source, "INSTAGRAM_POST");
        let activity = sighting.activity.as_ref().unwrap();
        assert_eq!(activity.external_id, "18055512345678901");
        assert_eq!(activity.mention_type, Some(MentionType::Mention));
        assert_eq!(sighting.occurred_at, Timestamp(1_794_994_181_000));
        assert_eq!(sighting.person.handle.as_deref(), Some("mia.runs.oslo"));
        assert_eq!(sighting.person.external_id, None, "a mention names no id of a person");
        assert!(!sighting.is_message && sighting.code_texts.is_empty());
        // She has no professional account, so nothing is public of her.
        assert_eq!(sighting.person.facts, Facts::default());
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_film_is_a_reel_and_what_is_public_of_its_author_is_told(app: &TestApp) {
        let stage = Stage::new(app).await;
        let reel = seen(stage.fates(stage.things_of(&caption_mention("18055512345678902"))).await.remove(0));
        assert_eq!(properties(&reel)["media_type"], "reel");
        let facts = Facts {
            name: Some("Joe Park".to_owned()),
            followers: Some(20_411),
            follows: Some(512),
            posts: Some(318),
            bio: Some("coffee & trails\nOslo".to_owned()),
            picture: Some("https://scontent.cdninstagram.com/v/t51.2885-19/5544_n.jpg".to_owned()),
            ..Facts::default()
        };
        assert_eq!(reel.person.facts, facts);
        assert_eq!(reel.person.handle.as_deref(), Some("joe_brews"));
        // Where the product is known it decides.
        stage.app.clock.advance_ms(3_600_000);
        stage.graph.knows_product_type(true);
        let film = json!({"id": "1", "media_type": "VIDEO", "media_product_type": "FEED", "username": "joe_brews"});
        stage.graph.media("1", film);
        let post = seen(stage.fates(stage.things_of(&caption_mention("1"))).await.remove(0));
        let expected = json!({"platform": "instagram", "mention_type": "mention", "media_type": "post"});
        assert_eq!(properties(&post), expected, "what is missing stays absent");
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_field_that_was_refused_is_not_asked_for_again_at_once(app: &TestApp) {
        let stage = Stage::new(app).await;
        let ask = async || drop(stage.sighting("webhook_mentions_caption.json").await);
        let asked = || stage.graph.calls_about("mentioned_media").len();
        ask().await;
        assert_eq!(asked(), 2, "with the field that is not documented, and without");
        ask().await;
        assert_eq!(asked(), 3);
        stage.app.clock.advance_ms(3_600_000);
        ask().await;
        assert_eq!(asked(), 5);
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_mention_without_an_author_is_recorded_and_attributed_to_nobody(app: &TestApp) {
        let stage = Stage::new(app).await;
        let media = payload("graph_mentioned_media_no_username.json")["mentioned_media"].clone();
        stage.graph.media("18055512345678901", media);
        let sighting = stage.sighting("webhook_mentions_caption.json").await;
        assert_eq!((sighting.person.handle, sighting.person.external_id), (None, None));
        assert!(stage.graph.calls_about("business_discovery").is_empty());
        let comment = stage.sighting("webhook_mentions_comment.json").await;
        assert_eq!((&comment.person.handle, &comment.person.external_id), (&None, &None));
        assert_eq!(properties(&comment), json!({
            "platform": "instagram", "text": "@nordbrew.coffee you should stock this", "media_id": "18055512345678901",
        }));
        assert_eq!(comment.source, "INSTAGRAM_COMMENT");
        assert_eq!(comment.activity.unwrap().external_id, "17990011223344556");
        // Should Instagram tell who it was, nothing is lost.
        let told = json!({"id": "17990011223344556", "text": "hi", "username": "Joe_Brews"});
        stage.graph.comment("17990011223344556", told);
        let comment = stage.sighting("webhook_mentions_comment.json").await;
        assert_eq!(comment.person.handle.as_deref(), Some("joe_brews"));
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_mention_in_a_story_is_no_message_and_its_story_is_the_thing(app: &TestApp) {
        let stage = Stage::new(app).await;
        let sighting = stage.sighting("webhook_message_story_mention.json").await;
        let expected = json!({
            "platform": "instagram", "caption": "", "mention_type": "mention", "media_type": "story",
            "media_url": "https://lookaside.fbsbx.com/ig_messaging_cdn/?asset_id=18055500011122233&signature=AbkwAejmqJxLKVcbyA6Q1flGfMlAqwoROa1Cju9cIXCuGvs3FmdndShJGbbhqhuHwe1Fral292",
        });
        assert_eq!(properties(&sighting), expected);
        assert_eq!(sighting.source, "INSTAGRAM_STORY");
        assert!(!sighting.is_message);
        assert_eq!(sighting.activity.unwrap().external_id, "18055500011122233");
        assert_eq!(sighting.person.external_id.as_deref(), Some(MIA));
        assert_eq!(sighting.person.handle.as_deref(), Some("mia.runs.oslo"));
        assert_eq!(sighting.person.facts.follows_brand, None, "only who writes tells that");
        assert_eq!(sighting.person.facts.followers, Some(12_480));
        // Without a URL the message is asked, and as long as it answers the story is the same thing.
        let story = json!({"sender": {"id": MIA}, "recipient": {"id": BRAND}, "timestamp": 5, "message": {
            "mid": "m-9", "attachments": [{"type": "story_mention", "payload": {}}],
        }});
        stage.graph.story("m-9", payload("graph_message_story.json"));
        let asked = seen(stage.fates(stage.things_of(&messaging(&story))).await.remove(0));
        assert_eq!(asked.activity.as_ref().unwrap().external_id, "18055500011122233");
        assert!(properties(&asked)["media_url"].as_str().unwrap().starts_with("https://lookaside"));
        stage.graph.fail("m-9", None, Fault::sample("graph_error_100_object_missing.json"));
        let expired = seen(stage.fates(stage.things_of(&messaging(&story))).await.remove(0));
        assert_eq!(expired.activity.unwrap().external_id, "m-9");
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_mention_in_a_story_waits_for_consent(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.graph.fail(MIA, Some(1), Fault::sample("graph_error_230_user_consent.json"));
        let fate = stage.fate("webhook_message_story_mention.json").await;
        let Fate::Parked { site, reason } = fate else { panic!("{fate:?}") };
        assert_eq!(site, stage.site_id());
        assert_eq!(reason, "the person has not agreed to be looked up: they never wrote to the brand");
    }
}

on_both! {
    options: Graph::options().await,
    async fn comments_are_not_looked_up_and_those_of_the_brand_are_nothing(app: &TestApp) {
        let stage = Stage::new(app).await;
        let sighting = stage.sighting("webhook_comments_reply.json").await;
        assert_eq!(properties(&sighting), json!({
            "platform": "instagram", "text": "agree!", "media_id": "17990055566677788", "media_type": "reel",
        }));
        assert_eq!(sighting.person.external_id.as_deref(), Some("6120098345511209"));
        assert_eq!(sighting.person.handle.as_deref(), Some("joe_brews"));
        assert!(!sighting.is_message);
        let mut own = payload("webhook_comments_fb_login.json");
        own["entry"][0]["changes"][0]["value"]["from"]["self_ig_scoped_id"] = json!("8823456701234567");
        let mut named = payload("webhook_comments_fb_login.json");
        named["entry"][0]["changes"][0]["value"]["from"]["id"] = json!(BRAND);
        let mut nobody = payload("webhook_comments_fb_login.json");
        nobody["entry"][0]["changes"][0]["value"]["from"] = json!(null);
        for (body, reason) in [
            (own, "the brand commented itself"),
            (named, "the brand commented itself"),
            (nobody, "it does not say who commented"),
        ] {
            let fates = stage.fates(stage.things_of(&body)).await;
            assert_eq!(ignored(&fates[0]), reason);
        }
        assert_eq!(stage.graph.calls().len(), 0);
    }
}

on_both! {
    options: Graph::options().await,
    /// Pitfalls 4 and 5.
    async fn what_the_brand_does_and_what_is_not_tracked_is_nothing(app: &TestApp) {
        let stage = Stage::new(app).await;
        for (sample, reason) in [
            ("webhook_message_echo.json", "the brand sent it itself"),
            ("webhook_message_reaction.json", "reactions are not tracked"),
            ("webhook_message_unreact.json", "reactions are not tracked"),
            ("webhook_seen.json", "that a message was seen is not tracked"),
            ("webhook_optin.json", "opt-ins are not tracked"),
            ("webhook_story_insights.json", "figures of a story are about nobody"),
            ("webhook_mentions_dashboard_test.json", "a test from Meta's dashboard"),
            ("webhook_comments_dashboard_test.json", "a test from Meta's dashboard"),
            ("webhook_message_test_changes.json", "a test from Meta's dashboard"),
            (
                "webhook_referral_story_mention.json",
                "a hint of a mention in a story, which comes as a message of its own",
            ),
        ] {
            assert_eq!(ignored(&stage.fate(sample).await), reason, "{sample}");
        }
        // The splitter is not trusted to have seen it.
        for flag in ["is_echo", "is_self"] {
            let mut own = stage.things_of(&message("m-1", "hello"));
            let mut body: Value = serde_json::from_str(&own[0].payload).unwrap();
            body["message"][flag] = json!(true);
            own[0].payload = body.to_string();
            assert_eq!(ignored(&stage.fates(own).await[0]), "the brand sent it itself");
        }
        assert_eq!(stage.graph.calls().len(), 0);
        let mid = payload("webhook_message_text.json")["entry"][0]["messaging"][0]["message"]["mid"].clone();
        for (sample, expected) in
            [("webhook_message_deleted.json", true), ("webhook_message_edit.json", false)]
        {
            let fate = stage.fate(sample).await;
            let Fate::Changed { message_key, is_unsent, .. } = fate else { panic!("{fate:?}") };
            assert_eq!(message_key, format!("message:{}", mid.as_str().unwrap()));
            assert_eq!(is_unsent, expected, "{sample}");
        }
    }
}

on_both! {
    options: Graph::options().await,
    async fn whatever_a_payload_holds_there_is_an_answer(app: &TestApp) {
        let stage = Stage::new(app).await;
        let kinds = [
            "message", "story_mention", "message_edit", "message_unsend", "postback", "referral", "permissions",
            "mention_caption", "mention_comment", "comment", "live_comment", "tag", "policy_enforcement", "odd",
        ];
        let payloads = [
            "", "null", "7", "[]", "{", "{}", r#"{"value":null}"#, r#"{"value":{"from":7,"media":[],"id":{}}}"#,
            r#"{"message":{"mid":"a\u0000b","attachments":{}},"sender":{"id":"1\u0000"}}"#,
            r#"{"message":[],"postback":3,"referral":"x"}"#,
        ];
        for kind in kinds {
            for payload in payloads {
                let mut things = stage.things_of(&message("m-1", "x"));
                (things[0].kind, things[0].payload) = (kind.to_owned(), payload.to_owned());
                things[0].person = None;
                let fate = stage.fates(things).await.remove(0);
                let is_nothing = matches!(fate, Fate::Ignored { .. });
                assert!(is_nothing, "{kind} {payload}: {fate:?}");
            }
        }
    }
}

on_both! {
    options: Graph::options().await,
    async fn what_was_unsent_is_erased_from_the_call_that_brought_it(app: &TestApp) {
        let stage = Stage::new(app).await;
        // A member, so that what was said is told, too.
        let member = app.member(&stage.site, "u-1").await;
        let body = json!({"profile": {"instagramHandle": "mia.runs.oslo"}});
        app.call("PATCH", "/me/v1/profile").auth(&member.token).json(&body).ok().await;
        for (mid, text) in [("m-1", "i regret this"), ("m-2", "i stand by this")] {
            let body = message(mid, text);
            let call = Call { source: "instagram", items: split(&body), body: body.to_string().into() };
            inbox::store(&app.app.db, &Arrivals::of(&app.app.db, vec![call])).await.unwrap();
        }
        stage.work().await;
        let told = event::Entity::find().filter(event::Column::Data.contains("i regret this"));
        assert_eq!(told.count(app.app.db.read()).await.unwrap(), 1);
        stage.receive(&[messaging(&json!({
            "sender": {"id": "5512034987760112"}, "recipient": {"id": BRAND}, "timestamp": 1_722_513_101_000_i64,
            "message": {"mid": "m-1", "is_deleted": true},
        }))])
        .await;
        stage.work().await;
        let calls = raw_delivery::Entity::find().order_by_asc(raw_delivery::Column::Id).all(app.app.db.read());
        let bodies: Vec<bool> = calls.await.unwrap().into_iter().map(|call| call.body.is_some()).collect();
        assert_eq!(bodies, [false, true], "the call of the message that stands is kept");
        let rows = dump(&app.app.db).await.concat().to_lowercase();
        for (text, is_kept) in [("i regret this", false), ("i stand by this", true)] {
            // As bytes are written.
            let hex = text.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            assert_eq!((rows.contains(text), rows.contains(&hex)), (is_kept, is_kept), "{text}");
        }
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_person_is_looked_up_once_in_a_batch(app: &TestApp) {
        let stage = Stage::new(app).await;
        let bodies: Vec<Value> = (0..40).map(|number| message(&format!("m-{number}"), "hello")).collect();
        let things = bodies.iter().flat_map(|body| stage.things_of(body)).collect();
        let fates = stage.fates(things).await;
        let mids: Vec<String> = fates.into_iter().map(|fate| seen(fate).activity.unwrap().external_id).collect();
        assert_eq!(mids, (0..40).map(|number| format!("m-{number}")).collect::<Vec<_>>());
        assert_eq!(stage.graph.calls_about(MIA).len(), 1);
    }
}

on_both! {
    options: Graph::options().await,
    async fn without_a_connection_nothing_comes_of_it(app: &TestApp) {
        let stage = Stage::alone(app).await;
        let fates = stage.fates(stage.things("webhook_message_text.json")).await;
        let Fate::Ignored { site, reason } = &fates[0] else { panic!("{fates:?}") };
        assert_eq!((*site, reason.as_str()), (None, "no account with this id is connected"));
        let fate = stage.fate("webhook_seen.json").await;
        assert_eq!(ignored(&fate), "that a message was seen is not tracked");
        assert_eq!(stage.graph.calls().len(), 0);
    }
}

on_both! {
    options: Graph::options().await,
    async fn instagram_login_looks_up_persons_but_no_mentions(app: &TestApp) {
        let stage = Stage::alone(app).await;
        stage.connect(ConnectionLogin::Instagram).await;
        let sighting = stage.sighting("webhook_message_text.json").await;
        assert_eq!(sighting.person.facts.follows_brand, Some(true));
        for sample in ["webhook_mentions_caption.json", "webhook_mentions_comment.json"] {
            let fate = stage.fate(sample).await;
            let reason = "mentions cannot be looked up with Instagram Login; connect the account through Facebook";
            assert_eq!(ignored(&fate), reason);
        }
        let calls = stage.graph.calls();
        assert_eq!(calls.iter().map(|call| call.host.as_str()).collect::<Vec<_>>(), ["ig"]);
    }
}

on_both! {
    options: Graph::options().await,
    async fn every_call_has_its_token_in_a_header_and_its_proof(app: &TestApp) {
        let stage = Stage::new(app).await;
        stage.sighting("webhook_message_text.json").await;
        let calls = stage.graph.calls();
        assert_eq!(calls.len(), 1);
        assert_eq!((calls[0].path.as_str(), calls[0].token.as_deref()), (MIA, Some("EAAP-page-token")));
        // printf EAAP-page-token | openssl dgst -sha256 -hmac facebook-app-secret-0123456789abcdef
        let proof = "36d4da12f46054b540d7c300ccb197226efa6f141e63fc385e377dfe05a85438";
        assert_eq!(calls[0].query["appsecret_proof"], proof);
        assert!(calls[0].query.values().all(|value| !value.contains("EAAP")), "{calls:?}");
    }
}

on_both! {
    options: Graph::options().await,
    async fn permissions_and_measures_of_meta_are_noted_on_the_connection(app: &TestApp) {
        let stage = Stage::new(app).await;
        let fate = stage.fate("webhook_permissions_revoked.json").await;
        assert_eq!(ignored(&fate), "the permission instagram_basic of the connection was revoked");
        let row = stage.connection().await;
        assert_eq!(row.missing_permissions, r#"["instagram_basic"]"#);
        assert_eq!(
            row.problem.as_deref(),
            Some("the permission instagram_basic was revoked; reconnect the account")
        );
        let mut granted = payload("webhook_permissions_revoked.json");
        granted["entry"][0]["changes"][0]["value"]["verb"] = json!("granted");
        stage.fates(stage.things_of(&granted)).await;
        assert_eq!(stage.connection().await.missing_permissions, "[]");
        // Somebody else's.
        let mut other = payload("webhook_permissions_revoked.json");
        other["entry"][0]["id"] = json!("77");
        other["entry"][0]["changes"][0]["value"]["target_ids"] = json!(["78"]);
        let fates = stage.fates(stage.things_of(&other)).await;
        assert_eq!(ignored(&fates[0]), "no connection is about it");
        assert_eq!(stage.connection().await.missing_permissions, "[]");
        let fate = stage.fate("webhook_policy_enforcement.json").await;
        let text = "Meta has taken a measure against the account (warning): The bot violated our Platform Policies";
        assert_eq!(ignored(&fate), text);
        assert_eq!(stage.connection().await.problem.as_deref(), Some(text));
        assert_eq!(stage.connection().await.last_item_at, Some(stage.app.app.db.now()));
    }
}

on_both! {
    options: Graph::options().await,
    async fn a_connection_that_is_dead_or_limited_is_not_called(app: &TestApp) {
        let stage = Stage::new(app).await;
        let now = stage.app.app.db.now();
        stage.set(|row| row.limited_until = Set(Some(now.plus_ms(90_000)))).await;
        let fate = stage.fate("webhook_message_text.json").await;
        assert_eq!(later(&fate), ("Instagram wants fewer calls for a while", 90_000));
        // What needs no lookup goes on.
        stage.sighting("webhook_comments_fb_login.json").await;
        stage.set(|row| row.dead_since = Set(Some(now))).await;
        let fate = stage.fate("webhook_message_text.json").await;
        let reason =
            "Instagram no longer accepts the token (code none: the connection is dead); reconnect the account";
        assert_eq!(later(&fate), (reason, 30_000));
        assert_eq!(stage.graph.calls().len(), 0);
    }
}
