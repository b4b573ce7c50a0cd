//! From a webhook's bytes to the things in it: every fixture, and the classes beyond them.

use std::collections::BTreeSet;

use entity::id::Timestamp;
use entity::kinds::Platform;
use followpoints::inbox::{KEY_MAX, NewItem};
use followpoints::instagram::payload::{ITEMS_MAX, UNKNOWN_BYTES_MAX, split};
use serde_json::{Value, json};

use super::{BRAND, message, messaging, webhooks};

const MIA: Option<&str> = Some("5512034987760112");
const JOE: Option<&str> = Some("6120098345511209");

/// One fixture, its kind, person, key and time. `{mid}` is the message id that occurs in it.
type Expected = (&'static str, &'static str, Option<&'static str>, &'static str, i64);

const EXPECTED: [Expected; 37] = [
    ("comments_ad", "comment", JOE, "comment:17990011223344602", 1_794_994_342_000),
    (
        "comments_dashboard_test",
        "dashboard_test",
        None,
        "dashboard_test:0cee5066fa4852496bf1ae22659417c79bdea9a5b32f42acd49a1147dc7f45dc",
        1_794_994_212_000,
    ),
    ("comments_fb_login", "comment", MIA, "comment:17990011223344600", 1_794_994_302_000),
    ("comments_ig_login_live", "comment", MIA, "comment:17990011223344603", 1_794_994_307_000),
    ("comments_reply", "comment", JOE, "comment:17990011223344601", 1_794_994_332_000),
    ("live_comments", "live_comment", JOE, "comment:17990011223344606", 1_794_994_362_000),
    ("mentions_caption", "mention_caption", None, "mention:18055512345678901", 1_794_994_212_000),
    ("mentions_comment", "mention_comment", None, "comment_mention:17990011223344556", 1_794_994_272_000),
    (
        "mentions_dashboard_test",
        "dashboard_test",
        None,
        "dashboard_test:ea427a62deffa746800e95d9579f8cc2b8037a9d337858d59ea4f397d74088f9",
        1_794_994_212_000,
    ),
    ("mentions_doc_array_wrapped", "mention_caption", None, "mention:18055512345678901", 1_794_994_212_000),
    ("message_ads_referral", "message", Some("7034551209981123"), "message:{mid}", 1_794_994_993_215),
    ("message_attachments", "message", MIA, "message:{mid}", 1_794_994_929_215),
    ("message_audio", "message", MIA, "message:{mid}", 1_794_994_929_715),
    ("message_deleted", "message_unsend", MIA, "unsend:{mid}", 1_794_994_927_215),
    ("message_echo", "message_echo", None, "echo:{mid}", 1_794_994_876_215),
    ("message_edit", "message_edit", MIA, "edit:{mid}:1", 1_794_994_998_215),
    ("message_ephemeral", "message", MIA, "message:{mid}", 1_794_994_930_015),
    ("message_ig_post_share", "message", JOE, "message:{mid}", 1_794_994_991_215),
    ("message_quick_reply", "message", MIA, "message:{mid}", 1_794_994_990_215),
    (
        "message_reaction",
        "reaction",
        MIA,
        "reaction:{mid}:5512034987760112:react:love:1794994994215",
        1_794_994_994_215,
    ),
    ("message_reply_to", "message", MIA, "message:{mid}", 1_794_994_989_215),
    ("message_share_legacy", "message", JOE, "message:{mid}", 1_794_994_991_715),
    ("message_story_mention", "story_mention", MIA, "story_mention:18055500011122233", 1_794_994_987_215),
    ("message_story_reply", "message", JOE, "message:{mid}", 1_794_994_988_215),
    (
        "message_test_changes",
        "dashboard_test",
        None,
        "dashboard_test:40ecbef8ee8876c20e9a26a8964e47f1d00fd89f787f9a1398dcd4e2f393dc12",
        1_527_459_824_000,
    ),
    ("message_text", "message", MIA, "message:{mid}", 1_794_994_867_215),
    (
        "message_unreact",
        "reaction",
        MIA,
        "reaction:{mid}:5512034987760112:unreact::1794994994715",
        1_794_994_994_715,
    ),
    ("message_unsupported", "message", JOE, "message:{mid}", 1_794_994_928_215),
    ("message_unsupported_attachment", "message", JOE, "message:{mid}", 1_794_994_928_715),
    (
        "optin",
        "optin",
        MIA,
        "optin:54e177f030c296f5447cd8c408410f6ac7608fe4e34a2f5ffeebccac3f0954bc",
        1_794_995_001_215,
    ),
    // The same permission may be revoked twice: the time is in the key.
    (
        "permissions_revoked",
        "permissions",
        None,
        "permissions:7793dfe827140abbfb09e95f0081c2047cdbd56dc6a39a21e0ccc741ad63c76f",
        1_794_994_382_000,
    ),
    (
        "policy_enforcement",
        "policy_enforcement",
        None,
        "policy_enforcement:ab64d552b94ec8b8e46ca749ce68a8fbbe036307cb4d027ea3acc2537f8e450f",
        1_794_995_002_215,
    ),
    ("postback", "postback", MIA, "postback:{mid}", 1_794_994_995_215),
    (
        "referral",
        "referral",
        MIA,
        "referral:cfc401825f723b0de325d0af6d092a20f4aadd3f3728ebdb961b11ba29cbb721",
        1_794_994_996_215,
    ),
    (
        "referral_story_mention",
        "referral",
        MIA,
        "referral:378dabfeabed8366483f8110ec3db65ce7a1511bdb0bbd4cee188d3bec44ddad",
        1_794_994_996_715,
    ),
    ("seen", "seen", MIA, "seen:{mid}:5512034987760112", 1_794_994_997_215),
    (
        "story_insights",
        "story_insights",
        None,
        "story_insights:4a3d120a289fdbc9e431a329e6cf1350d03ff5a604672541a3d722e718c34017",
        1_795_084_260_000,
    ),
];

/// The message id that everything in `value` has in one of these places.
fn mid(part: &Value) -> String {
    let holders = ["message", "message_edit", "reaction", "postback", "read"];
    holders.iter().find_map(|name| part[name]["mid"].as_str()).unwrap_or("").to_owned()
}

#[test]
fn every_fixture_becomes_what_it_is() {
    let webhooks = webhooks();
    let names: Vec<_> = webhooks.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, EXPECTED.map(|(name, ..)| name));
    for ((name, body), (_, kind, person, key, at)) in webhooks.iter().zip(EXPECTED) {
        let whole: Value = serde_json::from_slice(body).unwrap();
        let delivery = whole.as_array().map_or(&whole, |deliveries| &deliveries[0]);
        let entry = &delivery["entry"][0];
        let part = match (&entry["messaging"][0], &entry["changes"][0]) {
            (Value::Null, change) if change["field"] == "messages" => &change["value"],
            (Value::Null, change) => change,
            (message, _) => message,
        };
        let [item] = &split(body)[..] else { panic!("{name}: one thing") };
        let handle = match person {
            None => None,
            _ if !kind.ends_with("comment") => None,
            MIA => Some("mia.runs.oslo".to_owned()),
            _ => Some("joe_brews".to_owned()),
        };
        let expected = NewItem {
            platform: Platform::Instagram,
            account: entry["id"].as_str().unwrap().to_owned(),
            key: key.replace("{mid}", &mid(part)),
            kind: kind.to_owned(),
            person: person.map(str::to_owned),
            handle,
            site: None,
            occurred_at: Some(Timestamp(at)),
            payload: item.payload.clone(),
        };
        assert_eq!(*item, expected, "{name}");
        assert_eq!(&serde_json::from_str::<Value>(&item.payload).unwrap(), part, "{name}");
    }
}

#[test]
fn the_key_of_a_message_is_its_id_as_it_came() {
    let (_, body) = webhooks().into_iter().find(|(name, _)| name == "message_text").unwrap();
    assert_eq!(
        split(&body)[0].key,
        "message:aWdfZAG1faXRlbToxOklHTWVzc2FnZAUlEOjE3ODQxNDYwOTk4ODc3MDAxOjM0MDI4MjM2Njg0MTcxMDMwMTI0NDI25p1N\
         VECwBOYUftbsKNr3AOiDXANRWvGk86hNYJNlOGfbND25dL09jQ7nJ1Z3YxuWDEu5SVm4rmYpqJZvRrsVzoZD"
    );
}

/// Kind, account, person and key of everything in a body.
fn sorted(body: &Value) -> Vec<(String, String, Option<String>, String)> {
    split(body.to_string().as_bytes())
        .into_iter()
        .map(|item| (item.kind, item.account, item.person, item.key))
        .collect()
}

fn one(body: &Value) -> (String, String, Option<String>, String) {
    let mut all = sorted(body);
    assert_eq!(all.len(), 1, "{body}");
    all.remove(0)
}

fn change(field: &str, value: &Value) -> Value {
    let changes = json!([{"field": field, "value": value}]);
    json!({"object": "instagram", "entry": [{"id": BRAND, "time": 1_794_994_212, "changes": changes}]})
}

fn from_mia(name: &str, value: Value) -> Value {
    let mut entry = json!({
        "sender": {"id": MIA}, "recipient": {"id": BRAND}, "timestamp": 1_794_994_867_215_i64,
    });
    entry[name] = value;
    entry
}

#[test]
fn what_the_brand_writes_is_nobodys() {
    let mut echo = message("m1");
    echo["message"]["is_echo"] = json!(true);
    let mut to_itself = message("m2");
    to_itself["message"]["is_self"] = json!(true);
    let mut unmarked = message("m3");
    unmarked["sender"]["id"] = json!(BRAND);
    let mut unsent = message("m4");
    unsent["sender"]["id"] = json!(BRAND);
    unsent["message"]["is_deleted"] = json!(true);
    let mut mention = message("m5");
    mention["message"] = json!({
        "mid": "m5", "is_echo": true,
        "attachments": [{"type": "story_mention", "payload": {"url": "https://x.example/?asset_id=1"}}],
    });
    let expected = |kind: &str, key: &str| (kind.to_owned(), BRAND.to_owned(), None, key.to_owned());
    assert_eq!(
        sorted(&messaging(&[echo, to_itself, unmarked, unsent, mention])),
        [
            expected("message_echo", "echo:m1"),
            expected("message_echo", "echo:m2"),
            expected("message_echo", "echo:m3"),
            expected("message_unsend", "unsend:m4"),
            expected("message_echo", "echo:m5"),
        ]
    );
    for from in [json!({"id": "77", "self_ig_scoped_id": "88", "username": "nordbrew"}), json!({"id": BRAND})]
    {
        let body = change("comments", &json!({"id": "5", "from": from, "text": "x"}));
        assert_eq!(one(&body), expected("comment", "comment:5"));
        assert_eq!(split(body.to_string().as_bytes())[0].handle, None);
    }
}

#[test]
fn each_mention_of_a_message_is_a_thing_of_its_own() {
    let url = |asset: &str| {
        format!("https://lookaside.fbsbx.com/ig_messaging_cdn/?a=b&asset_id={asset}&signature=Ab")
    };
    let mention = |url: &str| json!({"type": "story_mention", "payload": {"url": url}});
    let mut entry = message("m1");
    let attachments = [
        mention(&url("11")),
        json!({"type": "image", "payload": {"url": "https://x.example"}}),
        mention(&url("22")),
        mention(&url("11")),
        mention("no url"),
        json!({"type": "story_mention"}),
        mention(&url("x")),
    ];
    entry["message"]["attachments"] = json!(attachments);
    let items = split(messaging(&[entry.clone(), message("m2")]).to_string().as_bytes());
    let keys: Vec<_> = items.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "story_mention:11",
            "story_mention:22",
            "story_mention:m1",
            "story_mention:m1:2",
            "story_mention:m1:3",
            "message:m2"
        ]
    );
    for (index, attachment) in [(0, 0), (1, 2), (2, 4), (3, 5), (4, 6)] {
        let mut expected = entry.clone();
        expected["message"]["attachments"] = json!([attachments[attachment]]);
        assert_eq!(serde_json::from_str::<Value>(&items[index].payload).unwrap(), expected);
        assert_eq!((items[index].kind.as_str(), items[index].person.as_deref()), ("story_mention", MIA));
    }
}

#[test]
fn standby_and_changes_bring_the_same_as_messaging() {
    let direct = one(&messaging(&[message("m1")]));
    assert_eq!(
        direct,
        ("message".to_owned(), BRAND.to_owned(), MIA.map(str::to_owned), "message:m1".to_owned())
    );
    let entry = |name: &str| json!({"id": BRAND, "time": 1, name: [message("m1")]});
    let standby = json!({"object": "instagram", "entry": [entry("standby")]});
    assert_eq!(one(&standby), direct);
    for field in ["messages", "standby", "message_echoes"] {
        assert_eq!(one(&change(field, &message("m1"))), direct, "{field}");
    }
    let body = change("messages", &message("m1")).to_string();
    assert_eq!(split(body.as_bytes())[0].payload, message("m1").to_string());
    let both = json!({"object": "instagram", "entry": [entry("standby"), entry("messaging")]});
    assert_eq!(one(&both), direct);
    let field = change("message_reactions", &from_mia("reaction", json!({"mid": "m", "action": "unreact"})));
    assert_eq!(one(&field).3, "reaction:m:5512034987760112:unreact::1794994867215");
}

#[test]
fn a_flat_field_is_a_change() {
    let value = json!({"id": "17", "from": {"id": "5", "username": "Mia"}, "text": "x"});
    let flat = json!({"object": "instagram", "entry": [
        {"id": BRAND, "time": 1_794_994_212, "field": "comments", "value": value},
    ]});
    assert_eq!(one(&flat), one(&change("comments", &value)));
    let item = &split(flat.to_string().as_bytes())[0];
    assert_eq!(item.payload, json!({"field": "comments", "value": value}).to_string());
    assert_eq!((item.person.as_deref(), item.handle.as_deref()), (Some("5"), Some("mia")));
    assert_eq!(item.occurred_at, Some(Timestamp(1_794_994_212_000)));
}

#[test]
fn ids_are_texts_or_numbers_of_any_size() {
    for id in ["9007199254740993", "18446744073709551616", "340282366920938463463374607431768211457"] {
        let text = format!(
            r#"{{"object":"instagram","entry":[{{"id":{id},"time":"1794994212","changes":[
                {{"field":"mentions","value":{{"media_id":{id},"comment_id":null}}}},
                {{"field":"comments","value":{{"comment_id":{id},"from":{{"id":{id}}}}}}}]}}]}}"#
        );
        for text in [text.clone(), text.replace(&format!(":{id}"), &format!(":\"{id}\""))] {
            let items = split(text.as_bytes());
            let keys: Vec<_> = items.iter().map(|item| item.key.clone()).collect();
            assert_eq!(keys, [format!("mention:{id}"), format!("comment:{id}")]);
            assert_eq!(items[0].account, id);
            assert_eq!(items[0].occurred_at, Some(Timestamp(1_794_994_212_000)));
            // The brand wrote the comment itself.
            assert_eq!(items[1].person, None);
        }
    }
    let body = messaging(&[json!({"sender": {"id": 5}, "timestamp": "1527459824", "message": {"mid": 7}})]);
    let items = split(body.to_string().as_bytes());
    assert_eq!((items[0].person.as_deref(), items[0].key.as_str()), (Some("5"), "message:7"));
    assert_eq!(items[0].occurred_at, Some(Timestamp(1_527_459_824_000)));
}

#[test]
fn everything_else_of_a_conversation_has_its_kind() {
    let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    for (name, value, kind, key) in [
        ("pass_thread_control", json!({"new_owner_app_id": "1"}), "handover", None),
        ("take_thread_control", json!({}), "handover", None),
        ("request_thread_control", json!({}), "handover", None),
        ("app_roles", json!({"1": ["primary_receiver"]}), "handover", None),
        ("policy-enforcement", json!({"action": "block"}), "policy_enforcement", None),
        ("response_feedback", json!({"feedback": "Good"}), "response_feedback", None),
        ("message_edit", json!({"mid": "m", "text": "x", "num_edit": 2}), "message_edit", Some("edit:m:2")),
        (
            "message_edit",
            json!({"mid": "m", "text": "hello"}),
            "message_edit",
            Some(&*format!("edit:m:{hello}")),
        ),
        ("message_edit", json!({}), "message_edit", None),
        ("message", json!({"text": "without an id"}), "message", None),
        ("reaction", json!({"action": "react"}), "reaction", None),
        ("read", json!({"watermark": 5}), "seen", None),
        ("postback", json!({"title": "Join"}), "postback", None),
        ("something_new", json!({"mid": "m"}), "unknown", None),
        ("message", json!("a text"), "unknown", None),
        ("read", json!(null), "unknown", None),
    ] {
        let found = one(&messaging(&[from_mia(name, value)]));
        let hashed = found.3.strip_prefix(&format!("{kind}:")).unwrap_or("");
        assert_eq!((found.0.as_str(), found.1.as_str()), (kind, BRAND), "{name}");
        match key {
            Some(key) => assert_eq!(found.3, key),
            None => assert!(hashed.len() == 64, "{name}: {}", found.3),
        }
        assert_eq!(found.2.as_deref(), MIA.filter(|_| kind != "unknown"), "{name}");
    }
}

#[test]
fn unknown_fields_and_objects_are_kept_as_they_came() {
    let follow = json!({"field": "follow", "value": {"from": {"id": "5"}, "verb": "follow"}});
    let entry = json!({"id": BRAND, "time": 1_794_994_212, "changes": [follow]});
    let body = json!({"object": "instagram", "entry": [entry]});
    let item = &split(body.to_string().as_bytes())[0];
    assert_eq!((item.kind.as_str(), item.account.as_str(), item.person.as_deref()), ("unknown", BRAND, None));
    assert_eq!(item.payload, follow.to_string());
    assert_eq!(item.occurred_at, Some(Timestamp(1_794_994_212_000)));

    // Messenger speaks the same language, about other people.
    let mut messenger = messaging(&[message("m1")]);
    messenger["object"] = json!("page");
    let found = one(&messenger);
    assert_eq!((found.0.as_str(), found.2), ("unknown", None));
    for (field, value) in
        [("mentions", json!({})), ("comments", json!(null)), ("comments", json!({"id": {}}))]
    {
        assert_eq!(one(&change(field, &value)).0, "unknown", "{field}");
    }
    for body in [
        json!({}),
        json!({"object": "instagram"}),
        json!({"object": "instagram", "entry": {}}),
        json!({"object": "instagram", "entry": [5]}),
        json!({"object": "instagram", "entry": [{"id": BRAND}]}),
        json!({"object": "instagram", "entry": [{"id": BRAND, "changes": {"field": "x"}}]}),
        json!({"object": "instagram", "entry": [{"id": BRAND, "changes": ["x"]}]}),
        json!({"object": 5, "entry": [{"id": BRAND, "messaging": [message("m1")]}]}),
        json!(5),
        json!(null),
        json!("text"),
        json!([[[]]]),
    ] {
        assert_eq!(one(&body).0, "unknown", "{body}");
    }
    for nothing in [json!([]), json!({"object": "instagram", "entry": []}), messaging(&[])] {
        assert_eq!(sorted(&nothing), [], "{nothing}");
    }
}

#[test]
fn permissions_without_details_are_permissions_still() {
    let entry = json!({"id": "102", "time": 1, "changed_fields": ["instagram_basic"]});
    let found = one(&json!({"object": "permissions", "entry": [entry]}));
    assert_eq!((found.0.as_str(), found.1.as_str()), ("permissions", "102"));
    let later = json!({"id": "102", "time": 2, "changed_fields": ["instagram_basic"]});
    assert_ne!(one(&json!({"object": "permissions", "entry": [later]})).3, found.3);
}

#[test]
fn the_dashboards_test_button_is_known_by_its_ids_too() {
    for body in [
        change("mentions", &json!({"media_id": "17887498072083520"})),
        change("comments", &json!({"id": "17865799348089039", "text": "This is an example."})),
        change("messages", &from_mia("message", json!({"mid": "m"})))
            .to_string()
            .replace("5512034987760112", "12334")
            .parse()
            .unwrap(),
        json!({"object": "instagram", "entry": [{"id": "0", "time": 1, "changes": [{"field": "new", "value": {}}]}]}),
        json!({"object": "instagram", "entry": [{"id": 0, "time": 1, "messaging": [message("m")]}]}),
        json!({"object": "permissions", "entry": [{"id": "0", "time": 1, "changes": [{"field": "x", "value": {}}]}]}),
    ] {
        let found = one(&body);
        assert_eq!((found.0.as_str(), found.2), ("dashboard_test", None), "{body}");
    }
}

#[test]
fn one_thing_that_cannot_be_read_does_not_spoil_the_others() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for bad in [deep.as_str(), r#"{"message":{"mid":1e999}}"#, "[]", r#""\ud800""#, "7"] {
        let good = [message("m1").to_string(), message("m2").to_string()];
        let text = format!(
            r#"{{"object":"instagram","entry":[{{"id":"{BRAND}","time":1794994212,"messaging":[{},{bad},{}]}}]}}"#,
            good[0], good[1]
        );
        let items = split(text.as_bytes());
        let kinds: Vec<_> = items.iter().map(|item| item.kind.as_str()).collect();
        assert_eq!(kinds, ["message", "unknown", "message"]);
        assert_eq!(items[1].account, BRAND);
        let payload: String = serde_json::from_str(&items[1].payload).unwrap();
        assert_eq!(payload, bad[..bad.len().min(UNKNOWN_BYTES_MAX)].replace("\\ud800", "\\ufffd"));
    }
    // A change of which everything but its depth is right.
    let text = format!(
        r#"{{"object":"instagram","entry":[{{"id":"{BRAND}","changes":[{{"field":"mentions","value":{{"media_id":"1","x":{deep}}}}}]}}]}}"#
    );
    assert_eq!(split(text.as_bytes())[0].kind, "unknown");
    assert_eq!(split(deep.as_bytes())[0].kind, "unknown");
    assert_eq!(split("[".repeat(1_000_000).as_bytes())[0].kind, "unknown");
}

#[test]
fn what_is_no_json_is_kept_as_text_up_to_a_limit() {
    for (body, text) in [
        (&b""[..], ""),
        (b"not json", "not json"),
        (b"{\"object\":", "{\"object\":"),
        (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        (b"a\0b", "a\u{fffd}b"),
    ] {
        let [item] = &split(body)[..] else { panic!("one thing") };
        assert_eq!((item.kind.as_str(), item.account.as_str(), item.occurred_at), ("unknown", "", None));
        assert_eq!(item.payload, json!(text).to_string());
        assert_eq!(item.key.len(), "unknown:".len() + 64);
    }
    let long = "é".repeat(UNKNOWN_BYTES_MAX);
    let payload = &split(long.as_bytes())[0].payload;
    assert_eq!(serde_json::from_str::<String>(payload).unwrap(), "é".repeat(UNKNOWN_BYTES_MAX / 2));
    let other = format!("{long}x");
    assert_ne!(split(other.as_bytes())[0].key, split(long.as_bytes())[0].key);
}

#[test]
fn characters_that_cannot_be_stored_are_replaced_and_nothing_else_is() {
    let text = |mid: &str, said: &str| {
        let body = messaging(&[from_mia("message", json!({"mid": "MID", "text": "SAID"}))]).to_string();
        body.replace("MID", mid).replace("SAID", said)
    };
    let broken = split(text("m1", r"a\u0000b\ud83cc\\u0000").as_bytes());
    assert_eq!(broken[0].key, "message:m1");
    let payload: Value = serde_json::from_str(&broken[0].payload).unwrap();
    assert_eq!(payload["message"]["text"], "a\u{fffd}b\u{fffd}c\\u0000");
    let odd = split(text(r"m\u0000", "x").as_bytes());
    assert!(odd[0].key.starts_with("message:") && odd[0].key.len() == 72, "{}", odd[0].key);
    assert_eq!(odd, split(text(r"m\u0000", "x").as_bytes()));
    let long = "m".repeat(KEY_MAX);
    assert_eq!(split(text(&long, "x").as_bytes())[0].key.len(), 72);
    assert_ne!(
        split(text(&long, "x").as_bytes())[0].key,
        split(text(&format!("{long}m"), "x").as_bytes())[0].key
    );
}

#[test]
fn more_things_than_there_may_be_leave_a_trace() {
    let all: Vec<_> = (0..=ITEMS_MAX).map(|number| message(&format!("m{number}"))).collect();
    let items = split(messaging(&all[..ITEMS_MAX]).to_string().as_bytes());
    assert_eq!((items.len(), items[ITEMS_MAX - 1].kind.as_str()), (ITEMS_MAX, "message"));
    let body = messaging(&all).to_string();
    let items = split(body.as_bytes());
    assert_eq!((items.len(), items[ITEMS_MAX - 1].kind.as_str()), (ITEMS_MAX, "unknown"));
    let payload: String = serde_json::from_str(&items[ITEMS_MAX - 1].payload).unwrap();
    assert_eq!(payload, body[..UNKNOWN_BYTES_MAX]);
    // One thing said often is one thing.
    let same = vec![message("m1"); ITEMS_MAX + 5];
    assert_eq!(split(messaging(&same).to_string().as_bytes()).len(), 1);
}

#[test]
fn several_accounts_in_one_call_stay_apart() {
    let entry = |id: &str| json!({"id": id, "time": 1, "messaging": [message("m1")]});
    let body = json!({"object": "instagram", "entry": [entry("1"), entry("2"), entry("1")]});
    let accounts: BTreeSet<_> =
        sorted(&body).into_iter().map(|(_, account, _, key)| (account, key)).collect();
    let expected = [("1", "message:m1"), ("2", "message:m1")];
    assert_eq!(accounts, expected.map(|(account, key)| (account.to_owned(), key.to_owned())).into());
    assert_eq!(sorted(&body).len(), 2);
}
