//! Understanding what Instagram sent: whose it is, what it means, and what must be looked up.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use entity::kinds::{ConnectionLogin, Platform};
use entity::{connection, item};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sea_orm::DbErr;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::brands::{self, Notes};
use super::fates::{self, Known};
use super::graph::{Access, Graph};
use super::graph_error::GraphError;
use super::lookups::{Answers, Lookups, Question};
use super::meaning::{self, Meaning};
use crate::activities::{Fate, Understood};
use crate::db::Db;
use crate::profiles::handles;
use crate::seal::Sealer;
use crate::sources::Understand;

/// Brands that are worked for at a time.
const BRANDS_AT_ONCE: usize = 8;
/// After this time of a batch no lookup is begun: together with those under way it must end before the lease.
const LOOKUPS_TIME: Duration = Duration::from_secs(35);
/// The permission without which nothing public can be looked up.
const DISCOVERY_PERMISSION: &str = "instagram_manage_insights";

/// Understands what Instagram sends. Cheap to clone.
#[derive(Clone)]
pub struct Instagram {
    db: Db,
    sealer: Sealer,
    lookups: Lookups,
    /// One round of answers at a time: whoever asks for one when it ends has all tried that were due.
    pub(super) answering: Arc<Mutex<()>>,
}

impl Instagram {
    /// Understands with the connections in `db`, looking up through `graph`.
    #[must_use]
    pub fn new(db: Db, sealer: Sealer, graph: Graph) -> Self {
        Self { db, sealer, lookups: Lookups::new(graph), answering: Arc::default() }
    }

    /// The database.
    pub(super) const fn db(&self) -> &Db {
        &self.db
    }

    /// What opens tokens.
    pub(super) const fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The Graph API.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        self.lookups.graph()
    }

    async fn work(&self, items: Vec<item::Model>) -> Result<Vec<Understood>, DbErr> {
        let until = Instant::now() + LOOKUPS_TIME;
        let mut by_account: BTreeMap<String, Vec<(item::Model, Meaning)>> = BTreeMap::new();
        for item in items {
            let meaning = meaning::read(&item);
            by_account.entry(item.account.clone()).or_default().push((item, meaning));
        }
        let accounts: Vec<String> = by_account.keys().cloned().collect();
        let mut rows = brands::of_accounts(self.db.read(), &accounts).await?;
        let brands: Vec<_> = by_account
            .into_iter()
            .map(|(account, things)| self.clone().of_account(rows.remove(&account), things, until))
            .collect();
        let understood: Vec<Vec<Understood>> =
            stream::iter(brands).buffer_unordered(BRANDS_AT_ONCE).try_collect().await?;
        Ok(understood.into_iter().flatten().collect())
    }

    /// What the things of one account mean.
    async fn of_account(
        self,
        row: Option<connection::Model>,
        things: Vec<(item::Model, Meaning)>,
        until: Instant,
    ) -> Result<Vec<Understood>, DbErr> {
        let mut rest = Vec::with_capacity(things.len());
        let mut understood = Vec::with_capacity(things.len());
        for (item, meaning) in things {
            match (&meaning, &row) {
                (Meaning::Permission { name, is_revoked, accounts }, _) => {
                    let fate = self.permission(&item, name, *is_revoked, accounts).await?;
                    understood.push((item, fate));
                }
                (Meaning::Nothing(reason), None) => {
                    let fate = Fate::Ignored { site: None, reason: (*reason).to_owned() };
                    understood.push((item, fate));
                }
                (_, None) => {
                    let reason = "no account with this id is connected".to_owned();
                    understood.push((item, Fate::Ignored { site: None, reason }));
                }
                (_, Some(_)) => rest.push((item, meaning)),
            }
        }
        if let Some(row) = row.filter(|_| !rest.is_empty()) {
            understood.extend(self.of_brand(&row, rest, until).await?);
        }
        Ok(understood)
    }

    async fn of_brand(
        &self,
        row: &connection::Model,
        things: Vec<(item::Model, Meaning)>,
        until: Instant,
    ) -> Result<Vec<Understood>, DbErr> {
        let now = self.db.now();
        let mut notes =
            Notes { has_sent: things.iter().any(|(item, _)| item.kind != "tag"), ..Notes::default() };
        if let Some((_, Meaning::Policy(text))) =
            things.iter().find(|(_, meaning)| matches!(meaning, Meaning::Policy(_)))
        {
            notes.problem = Some(text.clone());
        }
        let access = brands::access(&self.sealer, row, now);
        let answers = match &access {
            Ok(access) => self.look_up(row, access, &things, until).await,
            Err(_) => Answers::new(),
        };
        for (question, answer) in &answers {
            if let Err(error) = answer {
                notes.take(error, question.permissions(), now);
                alert(row, question, error);
            }
        }
        notes.take_gate(self.graph(), row.id, now);
        brands::note(&self.db, row, &notes).await?;
        let username = row.username.as_deref().and_then(handles::normalised);
        let known = Known {
            site: row.site_id,
            username: username.as_deref(),
            refused: access.as_ref().err(),
            answers: &answers,
            now,
        };
        let fate = |(item, meaning): (item::Model, Meaning)| {
            let fate = match unknowable(row, &meaning) {
                Some(reason) => Fate::Ignored { site: Some(row.site_id), reason: reason.to_owned() },
                None => fates::fate(&item, &meaning, &known),
            };
            (item, fate)
        };
        Ok(things.into_iter().map(fate).collect())
    }

    /// Everything that `things` need to be looked up, each question once.
    async fn look_up(
        &self,
        row: &connection::Model,
        access: &Access,
        things: &[(item::Model, Meaning)],
        until: Instant,
    ) -> Answers {
        let now = self.db.now();
        let may_discover = row.login == ConnectionLogin::Facebook
            && !brands::missing_permissions(row).iter().any(|name| name == DISCOVERY_PERMISSION);
        let asked = things.iter().filter(|(_, meaning)| unknowable(row, meaning).is_none());
        let first: BTreeSet<Question> =
            asked.clone().filter_map(|(_, meaning)| fates::first_question(meaning)).collect();
        let mut answers = self.lookups.ask(access, first, (now, until)).await;
        let own = row.username.as_deref().and_then(handles::normalised);
        let is_wanted = |question: &Question| match question {
            Question::Discovery(handle) => may_discover && Some(handle) != own.as_ref(),
            _ => true,
        };
        let second: BTreeSet<Question> = asked
            .filter_map(|(_, meaning)| fates::second_question(meaning, &answers))
            .filter(is_wanted)
            .collect();
        let more = self.lookups.ask(access, second, (now, until)).await;
        answers.extend(more);
        answers
    }

    /// Notes that a permission was given or taken, on every connection that it is about.
    async fn permission(
        &self,
        item: &item::Model,
        name: &str,
        is_revoked: bool,
        accounts: &[String],
    ) -> Result<Fate, DbErr> {
        let rows = brands::of_owner(self.db.read(), &item.account, accounts).await?;
        let names = vec![name.to_owned()];
        let notes = if is_revoked {
            let problem = Some(format!("the permission {name} was revoked; reconnect the account"));
            Notes { missing: names, problem, ..Notes::default() }
        } else {
            Notes { granted: names, ..Notes::default() }
        };
        for row in &rows {
            brands::note(&self.db, row, &notes).await?;
        }
        let reason = match (rows.is_empty(), is_revoked) {
            (true, _) => "no connection is about it".to_owned(),
            (false, true) => format!("the permission {name} of the connection was revoked"),
            (false, false) => format!("the permission {name} of the connection was granted"),
        };
        Ok(Fate::Ignored { site: rows.first().map(|row| row.site_id), reason })
    }
}

/// Why what `meaning` is cannot be looked up with this login at all.
fn unknowable(row: &connection::Model, meaning: &Meaning) -> Option<&'static str> {
    let is_mention = matches!(meaning, Meaning::Caption(_) | Meaning::CommentMention { .. });
    (is_mention && row.login != ConnectionLogin::Facebook)
        .then_some("mentions cannot be looked up with Instagram Login; connect the account through Facebook")
}

/// Tells the operator of what no connection is to blame for.
fn alert(row: &connection::Model, question: &Question, error: &GraphError) {
    if matches!(error, GraphError::Refused(_) | GraphError::Blocked) {
        tracing::error!(connection = %row.id, ?question, %error, "a lookup was refused");
    }
}

impl Understand for Instagram {
    fn platform(&self) -> Platform {
        Platform::Instagram
    }

    /// Nearly everything asks for the person or the post.
    fn is_clear(&self, _item: &item::Model) -> bool {
        false
    }

    fn understand<'a>(
        &'a self,
        items: Vec<item::Model>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Understood>, DbErr>> + Send + 'a>> {
        Box::pin(self.work(items))
    }
}
