//! oEmbed: what everybody may know of one post by its address. It has neither counts nor a time.

use serde_json::Value;
use url::{Host, Url};

use crate::profiles::handles;
use crate::tiktok::calls::{CallError, encoded};
use crate::tiktok::post::{self, Author, Post};
use crate::tiktok::{Tiktok, words};

/// Hosts that addresses of posts have.
pub const HOSTS: [&str; 5] =
    ["tiktok.com", "www.tiktok.com", "m.tiktok.com", "vm.tiktok.com", "vt.tiktok.com"];
/// Characters of an address.
pub const URL_MAX: usize = 500;

/// The address of a post, if `text` is one on a host of `TikTok`'s: https, no user, no port of its own.
#[must_use]
pub fn link(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok().filter(|_| text.len() <= URL_MAX)?;
    let is_host = matches!(url.host(), Some(Host::Domain(host)) if HOSTS.contains(&host));
    let is_plain = url.username().is_empty() && url.password().is_none() && url.port().is_none();
    (url.scheme() == "https" && is_host && is_plain && url.path().len() > 1).then_some(url)
}

/// What oEmbed says of the post at `link`; nothing if it says too little to tell whose it is and when it was made.
pub async fn look_up(tiktok: &Tiktok, link: &Url) -> Result<Option<Post>, CallError> {
    let url = format!("{}/oembed?{}", tiktok.settings.urls.www, encoded(&[("url", link.as_str())]));
    Ok(read(link, &words::scrubbed(tiktok.calls.open(&url).await?)))
}

fn read(link: &Url, answer: &Value) -> Option<Post> {
    let page = answer["author_url"].as_str();
    let handle = answer["author_unique_id"].as_str().and_then(handles::normalised);
    let author_handle = handle.or_else(|| post::handle_of(page?))?;
    let html = answer["html"].as_str().unwrap_or_default();
    let of_html = html.split_once("data-video-id=\"").and_then(|(_, rest)| rest.split_once('"'));
    let told = words::thing(&answer["embed_product_id"]).or_else(|| of_html.map(|(id, _)| id.to_owned()));
    let in_link = in_path(link);
    // An answer about another post than was asked for proves nothing.
    if told.is_some() && in_link.is_some() && told != in_link {
        return None;
    }
    let external_id = told.or(in_link).filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(Post {
        posted_at: post::time_of_id(&external_id)?,
        url: Some(format!("https://www.tiktok.com/@{author_handle}/video/{external_id}")),
        external_id,
        caption: words::text(&answer["title"], post::CAPTION_MAX).unwrap_or_default(),
        hashtags: Vec::new(),
        like_count: None,
        comment_count: None,
        author: Author { name: words::text(&answer["author_name"], URL_MAX), ..Author::default() },
        open_id: None,
        author_handle,
    })
}

/// The id in an address like `/@handle/video/7…`.
fn in_path(link: &Url) -> Option<String> {
    let mut parts = link.path_segments()?;
    parts.find(|part| matches!(*part, "video" | "photo"))?;
    parts.next().filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_posts_on_tiktoks_hosts_are_looked_up() {
        for text in [
            "https://www.tiktok.com/@miarunsoslo/video/7709406013564211501",
            "https://TikTok.com/@miarunsoslo/video/7709406013564211501?is_from_webapp=1",
            "https://m.tiktok.com/v/7709406013564211501.html",
            " https://vm.tiktok.com/ZM8AbCdEf/ ",
            "https://vt.tiktok.com/ZS8AbCdEf/",
        ] {
            assert!(link(text).is_some(), "{text}");
        }
        for text in [
            "",
            "http://www.tiktok.com/@a/video/1",
            "https://www.tiktok.com",
            "https://www.tiktok.com/",
            "https://www.tiktok.com.evil.example/@a/video/1",
            "https://evil.example/?u=https://www.tiktok.com/@a/video/1",
            "https://www.tiktok.com@evil.example/@a/video/1",
            "https://user@www.tiktok.com/@a/video/1",
            "https://www.tiktok.com:8443/@a/video/1",
            "https://ads.tiktok.com/@a/video/1",
            "https://127.0.0.1/@a/video/1",
            "https://[::1]/@a/video/1",
            "file:///etc/passwd",
            "javascript:alert(1)",
        ] {
            assert!(link(text).is_none(), "{text}");
        }
    }
}
