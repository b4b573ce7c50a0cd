//! The login of whoever opened an invitation's link, from the button to the connection.
//!
//! Each step is bound to the one before: the page's button to the browser's session, the platform's answer to a state that this
//! session began, the choice among several accounts to a state that was answered. A state is taken once. What is written, is
//! written while the invitation's row is locked and still in the state that the step began with.

use std::time::Duration;

use entity::connection_invitation as invitation;
use entity::kinds::{ConnectionLogin, InvitationStatus};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QuerySelect as _,
};

use super::calls::is_id;
use super::facebook::Facebook;
use super::instagram_login::InstagramLogin;
use super::invitations::{Progress, TOKEN_LENGTH, progress};
use super::login::{self, Candidate, LoginError};
use super::tiktok_business::TiktokBusiness;
use super::{Connections, StoreError};
use crate::db::Tx;
use crate::{seal, sites};

/// What accounts are sealed for while somebody chooses.
pub const CANDIDATES_PURPOSE: &str = "connection-candidates";
/// How long the calls of a login may take together: less than a request.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(25);
/// Characters of a platform's code.
const CODE_MAX: usize = 1_000;

/// A browser's session and the state of a login in it: together they know an invitation.
#[derive(Clone, Copy)]
pub struct Bound<'a> {
    /// From the cookie.
    pub session: &'a str,
    /// From the platform, or from our own form.
    pub state: &'a str,
}

/// What a platform sends somebody back with.
pub struct Answered<'a> {
    /// The code to exchange.
    pub code: Option<&'a str>,
    /// Why there is none.
    pub error: Option<&'a str>,
}

/// What an invitation is for, as its page says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The site's name.
    pub site: String,
    /// How the account is connected.
    pub login: ConnectionLogin,
}

/// An account among several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The platform's id of the account.
    pub id: String,
    /// Its handle.
    pub username: Option<String>,
    /// Its page's name.
    pub page: Option<String>,
}

/// Where a login stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// On its way to the platform: the address there.
    Begun(String),
    /// The account is connected.
    Done {
        /// Its handle.
        username: Option<String>,
        /// Permissions that were declined.
        missing: Vec<String>,
    },
    /// There are several accounts.
    Choose(Vec<Choice>),
    /// The person declined, and may try again.
    Denied,
    /// It failed; the person may try again.
    Failed(String),
    /// The account belongs to another site of this installation.
    Elsewhere,
    /// There is no such invitation.
    Unknown,
    /// The invitation was used.
    Used,
    /// Its time is over.
    Expired,
    /// This browser did not begin such a login, or has begun another since.
    Strange,
    /// This answer was taken before.
    Repeated,
}

/// A state's place in a login: a hash of either kind says nothing of the other.
#[derive(Clone, Copy)]
enum Stage {
    /// The platform may answer.
    Asked,
    /// It has answered.
    Answered,
}

impl Bound<'_> {
    fn hash(self, stage: Stage) -> Vec<u8> {
        let stage = match stage {
            Stage::Asked => "asked",
            Stage::Answered => "answered",
        };
        seal::hash(&format!("{stage}.{}.{}", self.session, self.state)).to_vec()
    }

    fn is_possible(self) -> bool {
        is_token(self.session) && is_token(self.state)
    }
}

/// Whether `text` can be something random that was made here.
#[must_use]
pub fn is_token(text: &str) -> bool {
    text.len() == TOKEN_LENGTH && is_id(text)
}

impl Connections {
    /// What the invitation with this link's token is for, or why it is for nothing.
    pub async fn look(&self, token: &str) -> Result<Result<Shown, Outcome>, StoreError> {
        let Some(row) = by_token(self.db.read(), token).await? else { return Ok(Err(Outcome::Unknown)) };
        if let Some(closed) = closed(&row, self.db.now()) {
            return Ok(Err(closed));
        }
        let site = sites::find_site(self.db.read(), row.site_id).await?;
        Ok(site.map(|site| Shown { site: site.name, login: row.login }).ok_or(Outcome::Unknown))
    }

    /// Begins the login of the invitation with this link's token in the browser with this session.
    pub async fn begin(&self, token: &str, session: &str) -> Result<Outcome, StoreError> {
        let tx = self.db.write().await?;
        let Some(found) = by_token(tx.conn(), token).await? else { return Ok(Outcome::Unknown) };
        let row = invitation::Entity::find_by_id(found.id).lock_exclusive().one(tx.conn()).await?;
        let Some(row) = row else { return Ok(Outcome::Unknown) };
        self.set_out(tx, row, session).await
    }

    /// Begins it anew where one has failed.
    pub async fn begin_again(&self, bound: Bound<'_>) -> Result<Outcome, StoreError> {
        let tx = self.db.write().await?;
        let Some(row) = answered(&tx, bound).await? else { return Ok(Outcome::Strange) };
        self.set_out(tx, row, bound.session).await
    }

    async fn set_out(
        &self,
        tx: Tx,
        mut row: invitation::Model,
        session: &str,
    ) -> Result<Outcome, StoreError> {
        if let Some(closed) = closed(&row, tx.now()) {
            return Ok(closed);
        }
        if !is_token(session) {
            return Ok(Outcome::Strange);
        }
        let state = seal::new_secret("")?;
        let Some(address) = self.dialog(row.login, &state) else {
            return Ok(Outcome::Failed(LoginError::NotConfigured.to_string()));
        };
        row.state_hash = Some(Bound { session, state: &state }.hash(Stage::Asked));
        row.status = InvitationStatus::Opened;
        row.candidates = None;
        row.updated_at = tx.now();
        row.into_active_model().reset_all().update(tx.conn()).await?;
        tx.commit().await?;
        Ok(Outcome::Begun(address))
    }

    /// What comes of a platform's answer.
    pub async fn finish(
        &self,
        login: ConnectionLogin,
        bound: Bound<'_>,
        answer: Answered<'_>,
    ) -> Result<Outcome, StoreError> {
        let row = match self.take(login, bound).await? {
            Ok(row) => row,
            Err(outcome) => return Ok(outcome),
        };
        let code = match answer {
            Answered { error: Some("access_denied" | "user_denied"), .. } => {
                self.fail(&row, "the login was declined").await?;
                return Ok(Outcome::Denied);
            }
            Answered { error: None, code: Some(code) } if (1..=CODE_MAX).contains(&code.len()) => code,
            _ => return self.failed(&row, "the platform answered without a code; try again").await,
        };
        match self.candidates(login, code).await {
            Err(error) => self.failed(&row, &error.to_string()).await,
            Ok(mut candidates) if candidates.len() == 1 => {
                let only = candidates.remove(0);
                self.connect(&row, &only).await
            }
            Ok(candidates) => self.offer(&row, &candidates).await,
        }
    }

    /// Connects the account that was chosen among several.
    pub async fn choose(&self, bound: Bound<'_>, choice: &str) -> Result<Outcome, StoreError> {
        let tx = self.db.write().await?;
        let row = answered(&tx, bound).await?;
        drop(tx);
        let Some(row) = row else { return Ok(Outcome::Strange) };
        if let Some(closed) = closed(&row, self.db.now()) {
            return Ok(closed);
        }
        match self.offered(&row)?.iter().find(|candidate| candidate.id == choice) {
            Some(chosen) => self.connect(&row, chosen).await,
            None => Ok(Outcome::Strange),
        }
    }

    /// The accounts that somebody may choose among.
    fn offered(&self, row: &invitation::Model) -> Result<Vec<Candidate>, StoreError> {
        let sealed = row.candidates.as_deref();
        let candidates = sealed.map(|sealed| self.sealer.open(CANDIDATES_PURPOSE, sealed)).transpose()?;
        Ok(candidates.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default())
    }

    /// What an answer is told that was taken before: what came of it, or the choice that is still to be made.
    fn repeated(&self, row: &invitation::Model) -> Result<Outcome, StoreError> {
        if let Some(closed) = closed(row, self.db.now()) {
            return Ok(closed);
        }
        let candidates = self.offered(row)?;
        Ok(if candidates.is_empty() { Outcome::Repeated } else { choice(&candidates) })
    }

    /// Takes the state of a login, once.
    async fn take(
        &self,
        login: ConnectionLogin,
        bound: Bound<'_>,
    ) -> Result<Result<invitation::Model, Outcome>, StoreError> {
        if !bound.is_possible() {
            return Ok(Err(Outcome::Strange));
        }
        let tx = self.db.write().await?;
        let row = invitation::Entity::find()
            .filter(invitation::Column::StateHash.eq(bound.hash(Stage::Asked)))
            .filter(invitation::Column::Login.eq(login))
            .lock_exclusive()
            .one(tx.conn())
            .await?;
        let Some(mut row) = row else {
            let before = answered(&tx, bound).await?.filter(|row| row.login == login);
            let outcome = before.map(|row| self.repeated(&row)).transpose()?;
            return Ok(Err(outcome.unwrap_or(Outcome::Strange)));
        };
        if let Some(closed) = closed(&row, tx.now()) {
            return Ok(Err(closed));
        }
        row.state_hash = Some(bound.hash(Stage::Answered));
        row.updated_at = tx.now();
        row.clone().into_active_model().reset_all().update(tx.conn()).await?;
        tx.commit().await?;
        Ok(Ok(row))
    }

    /// The address that the platform sends people back to; it must be among those that the operator's app names there.
    fn redirect(&self, login: ConnectionLogin) -> String {
        format!("{}/connect/callback/{}", self.public_url, login::callback(login))
    }

    fn dialog(&self, login: ConnectionLogin, state: &str) -> Option<String> {
        let redirect = self.redirect(login);
        Some(match login {
            ConnectionLogin::Facebook => self.facebook()?.dialog(&redirect, state),
            ConnectionLogin::Instagram => self.instagram_login()?.dialog(&redirect, state),
            ConnectionLogin::TiktokBusiness => self.tiktok_business()?.dialog(&redirect, state),
        })
    }

    /// The accounts that can be connected with `code`.
    async fn candidates(&self, login: ConnectionLogin, code: &str) -> Result<Vec<Candidate>, LoginError> {
        let (redirect, now) = (self.redirect(login), self.db.now());
        let ask = async {
            match login {
                ConnectionLogin::Facebook => {
                    let facebook = self.facebook().ok_or(LoginError::NotConfigured)?;
                    facebook.accounts(&redirect, code).await
                }
                ConnectionLogin::Instagram => {
                    let instagram = self.instagram_login().ok_or(LoginError::NotConfigured)?;
                    Ok(vec![instagram.account(&redirect, code, now).await?])
                }
                ConnectionLogin::TiktokBusiness => {
                    let tiktok = self.tiktok_business().ok_or(LoginError::NotConfigured)?;
                    Ok(vec![tiktok.account(&redirect, code, now).await?])
                }
            }
        };
        tokio::time::timeout(LOGIN_TIMEOUT, ask).await.unwrap_or(Err(LoginError::Late))
    }

    pub(super) fn facebook(&self) -> Option<Facebook<'_>> {
        let app = login::app(&self.settings, ConnectionLogin::Facebook)?;
        Some(Facebook { calls: &self.calls, settings: &self.settings.meta, app })
    }

    pub(super) fn instagram_login(&self) -> Option<InstagramLogin<'_>> {
        let app = login::app(&self.settings, ConnectionLogin::Instagram)?;
        Some(InstagramLogin { calls: &self.calls, settings: &self.settings.meta, app })
    }

    pub(super) fn tiktok_business(&self) -> Option<TiktokBusiness<'_>> {
        let app = login::app(&self.settings, ConnectionLogin::TiktokBusiness)?;
        Some(TiktokBusiness { calls: &self.calls, settings: &self.settings.tiktok, app })
    }

    /// Where people log in, for the browser's rules on where a form may lead.
    pub(super) fn login_host(&self, login: ConnectionLogin) -> &str {
        login::host(&self.settings, login)
    }

    /// Keeps the accounts, sealed, while the person chooses.
    async fn offer(&self, row: &invitation::Model, candidates: &[Candidate]) -> Result<Outcome, StoreError> {
        let json = serde_json::to_vec(candidates).map_err(|error| DbErr::Custom(error.to_string()))?;
        let sealed = self.sealer.seal(CANDIDATES_PURPOSE, &json)?;
        let tx = self.db.write().await?;
        let kept = invitation::Entity::update_many()
            .col_expr(invitation::Column::Candidates, Expr::val(sealed))
            .col_expr(invitation::Column::UpdatedAt, Expr::val(tx.now().0))
            .filter(unchanged(row))
            .exec(tx.conn())
            .await?;
        tx.commit().await?;
        if kept.rows_affected == 0 {
            return Ok(Outcome::Strange);
        }
        Ok(choice(candidates))
    }

    /// Writes down why a login failed. If it was one among several accounts that failed, another may still be chosen.
    pub(super) async fn fail(&self, row: &invitation::Model, problem: &str) -> Result<(), StoreError> {
        let tx = self.db.write().await?;
        invitation::Entity::update_many()
            .col_expr(invitation::Column::Status, Expr::val(InvitationStatus::Failed.as_str()))
            .col_expr(invitation::Column::Problem, Expr::val(problem))
            .col_expr(invitation::Column::UpdatedAt, Expr::val(tx.now().0))
            .filter(unchanged(row))
            .exec(tx.conn())
            .await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn failed(&self, row: &invitation::Model, problem: &str) -> Result<Outcome, StoreError> {
        self.fail(row, problem).await?;
        Ok(Outcome::Failed(problem.to_owned()))
    }
}

fn choice(candidates: &[Candidate]) -> Outcome {
    let choices = candidates.iter().map(|candidate| Choice {
        id: candidate.id.clone(),
        username: candidate.username.clone(),
        page: candidate.page.clone().and_then(|(_, name)| name),
    });
    Outcome::Choose(choices.collect())
}

/// The invitation as it was when a step began: nobody has used it or begun another login.
pub(super) fn unchanged(row: &invitation::Model) -> sea_orm::Condition {
    sea_orm::Condition::all()
        .add(invitation::Column::Id.eq(row.id))
        .add(invitation::Column::StateHash.eq(row.state_hash.clone()))
        .add(invitation::Column::Status.ne(InvitationStatus::Used))
}

/// Why an invitation can no longer be used.
pub(super) fn closed(row: &invitation::Model, now: entity::id::Timestamp) -> Option<Outcome> {
    match progress(row, now) {
        Progress::Stored(InvitationStatus::Used) => Some(Outcome::Used),
        Progress::Expired => Some(Outcome::Expired),
        Progress::Stored(_) => None,
    }
}

async fn by_token(db: &impl ConnectionTrait, token: &str) -> Result<Option<invitation::Model>, DbErr> {
    if !is_token(token) {
        return Ok(None);
    }
    let hash = seal::hash(token).to_vec();
    invitation::Entity::find().filter(invitation::Column::TokenHash.eq(hash)).one(db).await
}

/// The invitation whose login this session had answered, locked.
async fn answered(tx: &Tx, bound: Bound<'_>) -> Result<Option<invitation::Model>, DbErr> {
    if !bound.is_possible() {
        return Ok(None);
    }
    invitation::Entity::find()
        .filter(invitation::Column::StateHash.eq(bound.hash(Stage::Answered)))
        .lock_exclusive()
        .one(tx.conn())
        .await
}
