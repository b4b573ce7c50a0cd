//! Every sample of a webhook means what the index says that it means.

use entity::kinds::ActivityType;
use followpoints::activities::Fate;
use serde_json::Value;

use super::stage::Stage;
use crate::on_both;
use crate::support::graph::Graph;

/// The samples of webhooks that say what is expected of them.
fn expectations() -> Vec<(String, Value)> {
    let index = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/payloads/index.json");
    let index: Value = serde_json::from_str(&std::fs::read_to_string(index).unwrap()).unwrap();
    let fixtures = index["fixtures"].as_array().unwrap().iter();
    let of_webhooks = fixtures.filter_map(|fixture| {
        let name = fixture["file"].as_str().unwrap().strip_prefix("instagram/webhook_")?;
        Some((format!("webhook_{name}"), fixture["expect"].clone()))
    });
    of_webhooks.collect()
}

/// Whether `fate` is what is expected.
fn check(expect: &Value, fate: &Fate) -> Result<(), String> {
    let done = match fate {
        Fate::Seen(sighting) => sighting.activity.as_ref(),
        _ => None,
    };
    let event = expect["event"].as_str().or(expect["extension_event"].as_str());
    let found = done.map(|activity| activity.kind);
    if found != event.map(|event| ActivityType::parse(event).unwrap()) {
        return Err(format!("{event:?} is expected, {found:?} was understood"));
    }
    for (name, key) in
        [("mention_type", "mention_type"), ("media_type", "media_type"), ("message", "message")]
    {
        if let Some(expected) = expect[name].as_str() {
            let found = done.and_then(|activity| activity.properties.get(key)?.as_str());
            if found != Some(expected) {
                return Err(format!("{name} {expected:?} is expected, {found:?} was understood"));
            }
        }
    }
    let is_right = match expect["effect"].as_str().or(expect["reason"].as_str()) {
        Some("erase_message_text") => matches!(fate, Fate::Changed { is_unsent: true, .. }),
        Some("update_message_text") => matches!(fate, Fate::Changed { is_unsent: false, .. }),
        Some("link_attempt") => matches!(fate, Fate::Seen(sighting) if !sighting.code_texts.is_empty()),
        Some(_) => matches!(fate, Fate::Ignored { .. }),
        None => true,
    };
    if is_right { Ok(()) } else { Err(format!("{expect} is expected")) }
}

on_both! {
    options: Graph::options().await,
    async fn every_sample_means_what_the_index_says(app: &TestApp) {
        let stage = Stage::new(app).await;
        let joe = serde_json::json!({"username": "joe_brews", "id": "6120098345511209", "is_user_follow_business": true});
        stage.graph.person("6120098345511209", joe);
        stage.graph.person("7034551209981123", serde_json::json!({"username": "anais.cafe"}));
        let (mut wrong, expectations) = (Vec::new(), expectations());
        assert!(expectations.len() >= 35, "{}", expectations.len());
        for (sample, mut expect) in expectations {
            if expect["same_as"].is_string() {
                expect = serde_json::json!({"event": "MENTIONED_YOU_SOCIAL", "mention_type": "mention"});
            }
            stage.graph.forget_calls();
            let fate = stage.fate(&sample).await;
            if let Err(error) = check(&expect, &fate) {
                wrong.push(format!("{sample}: {error}: {fate:?}"));
            }
            let calls = stage.graph.calls();
            let asked = |text: &str| calls.iter().any(|call| call.fields().contains(text));
            let is_asked = match expect["lookup"].as_str() {
                Some("user_profile") => asked("is_user_follow_business"),
                Some(lookup) => asked(lookup),
                None => true,
            };
            if !is_asked {
                wrong.push(format!("{sample}: it was not looked up: {calls:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
