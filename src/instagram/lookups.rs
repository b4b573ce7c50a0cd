//! The lookups of a batch: each once per brand, a few at a time, none after the batch's time is over.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use entity::id::Timestamp;
use futures_util::StreamExt as _;
use futures_util::stream;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::answers::{Comment, Media, Profile, Story};
use super::graph::{Access, Graph};
use super::graph_error::GraphError;
use crate::profiles::attributes::Facts;

/// Calls of one brand at a time.
const CALLS_AT_ONCE: usize = 4;
/// How long it is remembered that Instagram shows nothing of a handle, in milliseconds.
const UNKNOWN_FOR_MS: i64 = 24 * 3_600_000;
/// Handles of which that is remembered.
const UNKNOWN_MAX: usize = 10_000;

/// Something to be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question {
    /// Who a person is that wrote.
    Profile(String),
    /// A post or reel that mentions the brand.
    Media(String),
    /// A comment that mentions the brand.
    Comment(String),
    /// The story that a message is about.
    Story(String),
    /// What is public of a handle.
    Discovery(String),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Who a person is.
    Profile(Profile),
    /// A post or reel.
    Media(Media),
    /// A comment.
    Comment(Comment),
    /// A story.
    Story(Story),
    /// What is public of a handle.
    Discovery(Facts),
}

/// What was found, or why not.
pub type Answers = HashMap<Question, Result<Answer, GraphError>>;

impl Question {
    /// The permissions that the call needs, the likeliest to be missing first.
    #[must_use]
    pub const fn permissions(&self) -> &'static str {
        match self {
            Self::Profile(_) | Self::Story(_) => "instagram_manage_messages",
            Self::Media(_) | Self::Comment(_) => {
                "instagram_manage_comments,instagram_basic,pages_read_engagement"
            }
            Self::Discovery(_) => "instagram_manage_insights",
        }
    }
}

/// Looks things up. Cheap to clone.
#[derive(Clone)]
pub struct Lookups {
    graph: Graph,
    /// Handles of which Instagram shows nothing, with the instant at which they are asked for again.
    unknown: Arc<Cache<String, i64>>,
}

impl Lookups {
    /// Looks up through `graph`.
    #[must_use]
    pub fn new(graph: Graph) -> Self {
        Self { graph, unknown: Arc::new(Cache::new(UNKNOWN_MAX)) }
    }

    /// The Graph API.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Answers `questions`, beginning none of them after `until`.
    pub async fn ask(
        &self,
        access: &Access,
        questions: BTreeSet<Question>,
        (now, until): (Timestamp, Instant),
    ) -> Answers {
        let access = Arc::new(access.clone());
        // What stops one call stops those after it.
        let stopped: Arc<OnceLock<GraphError>> = Arc::default();
        let calls: Vec<_> = questions
            .into_iter()
            .map(|question| {
                let (lookups, access) = (self.clone(), Arc::clone(&access));
                let stopped = Arc::clone(&stopped);
                async move {
                    let answer = match stopped.get() {
                        Some(error) => Err(error.clone()),
                        None if Instant::now() >= until => {
                            Err(GraphError::Temporary("its answers take too long".to_owned()))
                        }
                        None => lookups.one(&access, &question, now).await,
                    };
                    if let Err(error @ (GraphError::Dead { .. } | GraphError::Blocked)) = &answer {
                        let _ = stopped.set(error.clone());
                    }
                    (question, answer)
                }
            })
            .collect();
        stream::iter(calls).buffer_unordered(CALLS_AT_ONCE).collect().await
    }

    async fn one(&self, access: &Access, question: &Question, now: Timestamp) -> Result<Answer, GraphError> {
        let graph = &self.graph;
        Ok(match question {
            Question::Profile(person) => Answer::Profile(graph.profile(access, person).await?),
            Question::Media(media) => Answer::Media(graph.mentioned_media(access, media).await?),
            Question::Comment(comment) => Answer::Comment(graph.mentioned_comment(access, comment).await?),
            Question::Story(message) => Answer::Story(graph.message_story(access, message).await?),
            Question::Discovery(handle) => {
                if self.unknown.get(handle).is_some_and(|until| until > now.0) {
                    return Err(GraphError::Nobody);
                }
                let found = graph.business_discovery(access, handle).await;
                if found == Err(GraphError::Nobody) {
                    self.unknown.insert(handle.clone(), now.plus_ms(UNKNOWN_FOR_MS).0);
                }
                Answer::Discovery(found?)
            }
        })
    }
}
