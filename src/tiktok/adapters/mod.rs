//! Where posts are fetched from, behind one seam: [`Poll`].

pub mod business;
pub mod login_kit;
pub mod oembed;

use std::future::Future;

use super::calls::CallError;
use super::post::Post;

/// Pages that are read in one go.
pub const PAGES_MAX: usize = 10;

/// A page of what a source has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// What is on it, newest first where the source has an order.
    pub posts: Vec<Post>,
    /// Where the next begins.
    pub next: Option<String>,
    /// Whether there is a next.
    pub has_more: bool,
}

/// Somewhere posts are fetched from, page by page.
pub trait Poll: Send + Sync {
    /// The page at `cursor`, or the first one.
    fn poll(&self, cursor: Option<&str>) -> impl Future<Output = Result<Page, CallError>> + Send;
}

/// Everything on the first pages of `source`, each post once. It always begins anew, as a post may come late or be changed until it counts; what
/// is known by its key counts no more.
pub async fn read(source: &impl Poll) -> Result<Vec<Post>, CallError> {
    let (mut posts, mut cursor): (Vec<Post>, Option<String>) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let page = source.poll(cursor.as_deref()).await?;
        posts.extend(page.posts);
        // A cursor that stays where it is would lead round in a circle.
        if !page.has_more || page.next.is_none() || page.next == cursor {
            break;
        }
        cursor = page.next;
    }
    posts.sort_by(|one, other| one.external_id.cmp(&other.external_id));
    posts.dedup_by(|one, other| one.external_id == other.external_id);
    Ok(posts)
}
