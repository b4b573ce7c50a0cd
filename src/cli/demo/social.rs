//! The second part of the story: what happens on Instagram and `TikTok` becomes a verified follow, activities and points.

use followpoints::profiles::link_codes;
use serde_json::{Value, json};

use super::brand;
use super::client::{Api, Call, Credentials};
use super::site::{FOLLOWED_CHANNELS, MY_ACCOUNT, POST_POINTS, SOCIAL_CHANNEL, TAG};
use super::story::{Story, same};

/// A post's id holds the time at which it was made, in its upper half.
const POST_ID_SHIFT: u32 = 32;

/// What to try with Instagram and `TikTok`.
pub(super) fn suggestions(
    api: &Api,
    member: &Credentials,
    key: &Credentials,
    secret: &str,
) -> Vec<(String, String)> {
    let code =
        Call::post("/me/v1/link-codes", member, Some(json!({"linkCode": {"channel": SOCIAL_CHANNEL}})));
    let body = brand::message("demo-message-1", "CODE", 0).to_string();
    let body = body
        .replace("CODE", "'\"$code\"'")
        // Another message each time: the same one would count once.
        .replace("demo-message-1", "demo-message-'\"$(date +%s)\"'")
        .replace(":0}", ":'\"$(date +%s)\"'000}")
        .replace(":0,", ":'\"$(date +%s)\"'000,");
    let url = format!("{}{}", api.base, brand::ENTRANCE);
    let signed = format!(
        "code=$({code} | grep -o '\"code\":\"[^\"]*' | cut -d'\"' -f4); body='{body}'; \
         signature=$(printf %s \"$body\" | openssl dgst -sha256 -hmac {secret} | sed 's/.* //'); \
         curl -s -w '\\n%{{http_code}}\\n' {url} -H \"{header}: sha256=$signature\" -d \"$body\"",
        code = api.curl(&code).replace(" -w '\\n%{http_code}\\n'", ""),
        header = brand::SIGNATURE,
    );
    let posts = format!(
        "now=$(date +%s); {}",
        api.curl(&Call::post("/ingest/tiktok/posts", key, Some(posts("POST_ID", "POSTED_AT"))))
            .replace("POST_ID", "'$((now << 32))'")
            .replace("POSTED_AT", "'$(date -u +%FT%TZ)'")
    );
    vec![
        (
            "Instagram: ask for a link code, and send it as a signed direct message: a verified follow"
                .to_owned(),
            signed,
        ),
        (format!("TikTok: a provider has found a post with {TAG}"), posts),
        ("Owner: what came of it".to_owned(), api.curl(&Call::get("/admin/v1/activities", key))),
        ("The member's profile".to_owned(), api.curl(&Call::get("/me/v1/profile", member))),
    ]
}

/// A provider's batch with one post.
fn posts(id: &str, posted_at: &str) -> Value {
    json!({"source": "demo", "items": [{
        "platform": "tiktok",
        "external_id": id,
        "kind": "hashtag_post",
        "author_handle": format!("@{}", brand::TIKTOK_HANDLE),
        "posted_at": posted_at,
        "caption": format!("Cortado after 21k {TAG}"),
        "like_count": 231,
        "comment_count": 18,
    }]})
}

impl Story<'_> {
    /// Plays the second part.
    pub(super) async fn play_social(&mut self) -> Result<(), String> {
        let code = self.ask_for_a_code().await?;
        let message = self.write_to_the_brand(&code).await?;
        self.follow_verified().await?;
        self.repeat_the_message(message).await?;
        self.post_with_the_hashtag().await?;
        self.hear_of_activities().await
    }

    async fn ask_for_a_code(&mut self) -> Result<String, String> {
        self.begin("the member asks for a code that proves an Instagram handle");
        let body = json!({"linkCode": {"channel": SOCIAL_CHANNEL}});
        let call = Call::post("/me/v1/link-codes", &self.stage.site.member, Some(body));
        let reply = self.stage.api.send(&call).await?;
        self.told(&call, &reply, &reply.body);
        same("status", &reply.status, &200)?;
        let code = reply.body["linkCode"]["code"].as_str().unwrap_or_default().to_owned();
        same("codes in it", &link_codes::candidates(&code).len(), &1)?;
        self.ok("a code for half an hour, to be used once");
        Ok(code)
    }

    async fn write_to_the_brand(&mut self, code: &str) -> Result<Call<'static>, String> {
        self.begin("the member sends it to the brand, and Instagram tells so, signed");
        let now = self.stage.service.app.db.now().0;
        let body = brand::message("demo-message", &format!("Hi! {code}"), now);
        let signature = self.stage.brand.sign(&body.to_string());
        let call = Call::signed(brand::ENTRANCE, body, (brand::SIGNATURE, signature));
        let reply = self.stage.api.send(&call).await?;
        self.told(&call, &reply, &reply.body);
        same("status", &reply.status, &200)?;
        self.work_off().await?;
        self.ok("stored before it was acknowledged");
        Ok(call)
    }

    async fn follow_verified(&mut self) -> Result<(), String> {
        self.begin("that is a verified follow, and the member has its points");
        let site = &self.stage.site;
        let call = Call::get(FOLLOWED_CHANNELS, &site.member);
        let reply = self.stage.api.send(&call).await?;
        self.told(&call, &reply, &reply.body);
        same("channel", &reply.body["followedChannels"][0]["channel"], &json!(SOCIAL_CHANNEL))?;
        let call = Call::get("/admin/v1/followed-channels", &site.key);
        let follows = self.stage.api.send(&call).await?;
        let newest = &follows.body["followedChannels"][0];
        self.told(&call, &follows, newest);
        same("evidence", &newest["evidence"], &json!("VERIFIED"))?;
        let expected = self.points_so_far(&[SOCIAL_CHANNEL]);
        self.balance(expected).await?;
        self.ok("proven by the code, confirmed by Instagram");
        Ok(())
    }

    async fn repeat_the_message(&mut self, message: Call<'static>) -> Result<(), String> {
        self.begin("the same message once more changes nothing");
        let reply = self.stage.api.send(&message).await?;
        self.told(&message, &reply, &reply.body);
        same("status", &reply.status, &200)?;
        self.work_off().await?;
        let expected = self.points_so_far(&[SOCIAL_CHANNEL]);
        self.balance(expected).await?;
        self.ok("known by its id");
        Ok(())
    }

    async fn post_with_the_hashtag(&mut self) -> Result<(), String> {
        self.begin("the member posts on TikTok with the brand's hashtag");
        let now = self.stage.service.app.db.now();
        let id = (now.seconds() << POST_ID_SHIFT).to_string();
        let body = posts(&id, &now.to_rfc3339());
        let call = Call::post("/ingest/tiktok/posts", &self.stage.site.key, Some(body));
        let reply = self.stage.api.send(&call).await?;
        self.told(&call, &reply, &reply.body);
        same("status", &reply.body["results"][0]["status"], &json!("accepted"))?;
        self.work_off().await?;
        let expected = self.points_so_far(&[SOCIAL_CHANNEL]) + POST_POINTS;
        self.balance(expected).await?;
        self.ok(&format!("{POST_POINTS} points by the owner's rule"));
        Ok(())
    }

    async fn hear_of_activities(&mut self) -> Result<(), String> {
        self.begin("every activity is told by a webhook");
        let call = Call::get("/admin/v1/activities", &self.stage.site.key);
        let reply = self.stage.api.send(&call).await?;
        let rows = reply.body["activities"].as_array().cloned().unwrap_or_default();
        let types: Vec<&Value> = rows.iter().map(|row| &row["type"]).collect();
        self.told(&call, &reply, &json!(types));
        let mut missing: Vec<String> =
            rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect();
        same("activities", &missing.len(), &3)?;
        for webhook in self.arrived().await? {
            missing.retain(|id| webhook.entity["id"] != id.as_str());
        }
        same("activities without a webhook", &missing.len(), &0)?;
        self.ok("a message, a follow and a post");
        Ok(())
    }

    /// The points of the first follow and of those on `channels`.
    fn points_so_far(&self, channels: &[&str]) -> i64 {
        let site = &self.stage.site;
        let of = |channel: &str| site.points(channel).unwrap_or(0);
        of(super::site::FOLLOWED) + channels.iter().map(|channel| of(channel)).sum::<i64>()
    }

    async fn balance(&self, expected: i64) -> Result<(), String> {
        let call = Call::get(MY_ACCOUNT, &self.stage.site.member);
        let reply = self.stage.api.send(&call).await?;
        let points = &reply.body["account"]["points"];
        self.told(&call, &reply, points);
        same("balance", &points["balance"], &json!(expected))
    }

    async fn work_off(&self) -> Result<(), String> {
        let worked = self.stage.service.app.sources.work_off().await;
        worked.map(drop).map_err(|error| format!("what the platform sent was not worked on: {error}"))
    }
}

/// What the owner sets up for the second part.
pub(super) async fn set_up(api: &Api, key: &Credentials, member: &Credentials) -> Result<(), String> {
    let hashtag = json!({"tiktokHashtag": {"hashtag": TAG}});
    api.get_ok(&Call::post("/admin/v1/tiktok-hashtags", key, Some(hashtag))).await?;
    let rule = json!({"activityRule": {
        "type": "MENTIONED_YOU_SOCIAL",
        "platform": "TIKTOK",
        "mentionType": "hashtag",
        "points": POST_POINTS,
        "limits": {"perMember": {"count": 1, "every": "P1D"}},
    }});
    api.get_ok(&Call::post("/admin/v1/activity-rules", key, Some(rule))).await?;
    let profile = json!({"profile": {"tiktokHandle": brand::TIKTOK_HANDLE}});
    let claim = Call::patch("/me/v1/profile", member, profile);
    api.get_ok(&claim).await?;
    Ok(())
}
