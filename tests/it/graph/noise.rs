//! Answers of the Graph API, changed at random: whatever they are, they are read without a panic, and what is read of them can be
//! stored. `SEED=7` plays another run.

use followpoints::instagram::answers::{Comment, Media, OwnAccount, Profile, Story, TagsPage, discovered};
use followpoints::instagram::graph_error::problem;
use followpoints::instagram::usage::Usage;
use serde_json::Value;

use crate::ingest::mutations::dice;

/// Changed answers of each sample.
const ROUNDS: usize = 400;
const SAMPLES: [&str; 13] = [
    include_str!("../payloads/instagram/graph_business_discovery.json"),
    include_str!("../payloads/instagram/graph_error_190_expired.json"),
    include_str!("../payloads/instagram/graph_error_613_custom_rate_limit.json"),
    include_str!("../payloads/instagram/graph_error_ig_login.json"),
    include_str!("../payloads/instagram/graph_ig_user_me.json"),
    include_str!("../payloads/instagram/graph_me_accounts.json"),
    include_str!("../payloads/instagram/graph_me_permissions.json"),
    include_str!("../payloads/instagram/graph_mentioned_comment.json"),
    include_str!("../payloads/instagram/graph_mentioned_media.json"),
    include_str!("../payloads/instagram/graph_message_story.json"),
    include_str!("../payloads/instagram/graph_rate_limit_headers.json"),
    include_str!("../payloads/instagram/graph_tags_page1.json"),
    include_str!("../payloads/instagram/graph_user_profile_following.json"),
];

/// Reads `answer` as everything that it could be; gives the texts that may be stored.
fn read(answer: &Value) -> Vec<String> {
    let usage = Usage::parse(Some(&answer.to_string()), Some(&answer.to_string()));
    let problems = [200, 400, 500].map(|status| format!("{:?}", problem(status, Some(answer), usage)));
    let (profile, media, comment) = (Profile::read(answer), Media::read(answer), Comment::read(answer));
    let (story, own) = (Story::read(answer), OwnAccount::read(answer));
    let mut texts = problems.to_vec();
    texts.extend([
        format!("{:?}", discovered(answer)),
        format!("{profile:?}"),
        format!("{comment:?}"),
        format!("{story:?}"),
        format!("{own:?}"),
        media.media_type().to_owned(),
        format!("{media:?}"),
    ]);
    for value in TagsPage::read(answer.clone()).media {
        texts.push(format!("{:?}", Media::read(&value)));
    }
    texts
}

#[test]
fn whatever_the_graph_api_answers_can_be_read() {
    let (mut dice, seed) = dice();
    for (index, sample) in SAMPLES.iter().enumerate() {
        let sample: Value = serde_json::from_str(sample).unwrap();
        for round in 0..ROUNDS {
            let mut answer = sample.clone();
            for _ in 0..=round % 5 {
                dice.change(&mut answer);
            }
            for text in read(&answer) {
                // PostgreSQL stores no NUL; `Debug` writes it so.
                assert!(
                    !text.contains("\\0"),
                    "SEED={seed}, sample {index}, round {round}: {text} of {answer}"
                );
            }
            // Whatever stands somewhere may stand alone.
            if let Some(fields) = answer.as_object() {
                fields.values().for_each(|value| drop(read(value)));
            }
        }
    }
}
