//! Admin API: a member's profile on social platforms; and how profiles look on the wire.

use std::collections::BTreeMap;

use entity::id::{MemberId, SiteId, Timestamp};
use entity::kinds::Platform;
use entity::member_handle;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::{Any, MaybeUndefined, ParseFromJSON as _, ParseResult, ToJSON as _};
use poem_openapi::{Object, OpenApi};
use serde_json::{Value, json};
use uuid::Uuid;

use super::attributes::Attribute;
use super::{By, Profile, ProfileError, handles};
use crate::app::App;
use crate::db::Db;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::problem::{Problem, Violation};

/// Violations reported at once.
const VIOLATIONS_MAX: usize = 50;
/// Characters of a name that is not writable, as the answer shows it.
const NAME_SHOWN_MAX: usize = 64;

/// The operations.
pub struct ProfilesApi {
    /// The running service.
    pub app: App,
}

/// A handle that the member has written.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct ClaimedHandle {
    /// The handle in lower case, without `@`.
    handle: String,
    /// Whether the member has proven that it is theirs.
    verified: bool,
    /// When that was proven.
    verified_date: Option<String>,
    /// When the member wrote it.
    claimed_date: String,
}

impl From<&member_handle::Model> for ClaimedHandle {
    fn from(row: &member_handle::Model) -> Self {
        Self {
            handle: row.handle.clone(),
            verified: row.proven_at.is_some(),
            verified_date: row.proven_at.map(Timestamp::to_rfc3339),
            claimed_date: row.claimed_at.to_rfc3339(),
        }
    }
}

/// Something that a platform told.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ProfileAttribute {
    /// Text, a whole number, or true or false; never null.
    value: Any<Value>,
    /// Who told it: `INSTAGRAM_MESSAGE`, `INSTAGRAM_POST`, `INSTAGRAM_DISCOVERY`, `TIKTOK_POST` …, or `FOLLOWPOINTS` for what
    /// follows from the profile itself.
    source: String,
    /// When it was told.
    updated_date: String,
}

impl From<Attribute> for ProfileAttribute {
    fn from(attribute: Attribute) -> Self {
        Self {
            value: Any(attribute.value),
            source: attribute.source,
            updated_date: attribute.at.to_rfc3339(),
        }
    }
}

/// What is known of a member on social platforms. What is not known is absent.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct MemberProfile {
    /// The member.
    member_id: Uuid,
    /// The handle that the member claims on Instagram.
    instagram_handle: Option<ClaimedHandle>,
    /// The handle that the member claims on TikTok.
    tiktok_handle: Option<ClaimedHandle>,
    /// What platforms told, by name: `instagram_handle`, `instagram_followers`, `instagram_follows`, `instagram_posts`,
    /// `instagram_follows_you`, `instagram_firstname`, `instagram_lastname`, `instagram_bio`, `instagram_profile_image`,
    /// `instagram_verified`, `instagram_blue_tick`, `dm_keyword`, `tiktok_handle`, `tiktok_follows`, `tiktok_followers`,
    /// `tiktok_bio`, `tiktok_profile_image`.
    attributes: BTreeMap<String, ProfileAttribute>,
}

#[derive(Debug, Object)]
pub(super) struct ProfileResponse {
    profile: MemberProfile,
}

impl From<Profile> for ProfileResponse {
    fn from(profile: Profile) -> Self {
        let of =
            |platform| profile.handles.iter().find(|row| row.platform == platform).map(ClaimedHandle::from);
        let profile = MemberProfile {
            member_id: profile.member.0,
            instagram_handle: of(Platform::Instagram),
            tiktok_handle: of(Platform::Tiktok),
            attributes: profile.attributes.0.into_iter().map(|(name, it)| (name, it.into())).collect(),
        };
        Self { profile }
    }
}

#[derive(Debug, Object)]
pub(super) struct UpdateProfileRequest {
    #[oai(deserialize_with = "update_with_others")]
    profile: ProfileUpdate,
}

/// What is absent stays; null takes the handle away. Everything else in a profile is read-only: it may be sent back as it was
/// read, and saying something else of it is an error.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ProfileUpdate {
    /// The handle on Instagram, with or without `@`, or as it was read. Another one than before is no longer proven, and what
    /// Instagram told about the one before is taken away.
    instagram_handle: MaybeUndefined<Any<Value>>,
    /// The handle on TikTok, likewise.
    tiktok_handle: MaybeUndefined<Any<Value>>,
    /// What else the body names.
    #[oai(skip)]
    others: Vec<ReadOnly>,
}

/// What a body says of something that cannot be written.
#[derive(Debug)]
struct ReadOnly {
    /// The names that lead to it within a profile.
    path: Vec<String>,
    value: Value,
}

impl ReadOnly {
    /// Whether `profile` says the same.
    fn is_in(&self, profile: &Value) -> bool {
        self.path.iter().try_fold(profile, |value, name| value.get(name)) == Some(&self.value)
    }

    fn violation(&self) -> Violation {
        // The names are the caller's, and may be as long as a body.
        let path: String = self.path.join(".").chars().take(NAME_SHOWN_MAX).collect();
        let description = "is read-only; a profile's handles can be written";
        Violation::new(format!("profile.{path}"), "FIELD_NOT_ALLOWED", description)
    }
}

/// Parsed as ever, and remembers what cannot be written.
fn update_with_others(value: Option<Value>) -> ParseResult<ProfileUpdate> {
    let writable = Platform::ALL.iter().map(|platform| handles::attribute(*platform)).collect::<Vec<_>>();
    let fields = value.as_ref().and_then(Value::as_object).into_iter().flatten();
    let others = fields
        .filter(|(name, _)| !writable.contains(name))
        .map(|(name, value)| ReadOnly { path: vec![name.clone()], value: value.clone() })
        .collect();
    let update = ProfileUpdate::parse_from_json(value).map_err(poem_openapi::types::ParseError::propagate)?;
    Ok(ProfileUpdate { others, ..update })
}

/// The handle that `given` names, normalised: text, or a handle as profiles show it, whose other fields go to `others`.
fn named_handle(platform: Platform, given: Value, others: &mut Vec<ReadOnly>) -> Option<String> {
    let name =
        match given {
            Value::Object(mut fields) => {
                let name = fields.remove("handle");
                let said = fields.into_iter().filter(|(_, value)| !value.is_null());
                others.extend(said.map(|(field, value)| ReadOnly {
                    path: vec![handles::attribute(platform), field],
                    value,
                }));
                name?
            }
            name => name,
        };
    handles::normalised(name.as_str()?)
}

impl UpdateProfileRequest {
    /// Changes the profile of `member`, and gives it as it then is.
    pub(super) async fn apply(
        self,
        db: &Db,
        by: By,
        (site, member): (SiteId, MemberId),
    ) -> Result<ProfileResponse, Problem> {
        let ProfileUpdate { instagram_handle, tiktok_handle, mut others } = self.profile;
        let mut unusable_handles = Vec::new();
        let mut changes = Vec::new();
        for (platform, given) in [(Platform::Instagram, instagram_handle), (Platform::Tiktok, tiktok_handle)]
        {
            match given {
                MaybeUndefined::Undefined => {}
                MaybeUndefined::Null => changes.push((platform, None)),
                MaybeUndefined::Value(Any(given)) => match named_handle(platform, given, &mut others) {
                    Some(handle) => changes.push((platform, Some(handle))),
                    None => unusable_handles.push(unusable(platform)),
                },
            }
        }
        let mut violations = Vec::new();
        if !others.is_empty() {
            let profile = ProfileResponse::from(super::read(db.read(), site, member).await?).profile;
            let now = profile.to_json().unwrap_or_default();
            let differing = others.iter().filter(|other| !other.is_in(&now));
            violations.extend(differing.take(VIOLATIONS_MAX).map(ReadOnly::violation));
        }
        violations.append(&mut unusable_handles);
        if !violations.is_empty() {
            return Err(Problem::validation(violations));
        }
        Ok(super::change(db, (site, member), by, &changes).await?.into())
    }
}

fn unusable(platform: Platform) -> Violation {
    let description = format!(
        "is not a handle: 1 to {} letters without accents, digits, dots and underscores",
        handles::HANDLE_MAX
    );
    let field = format!("profile.{}", handles::attribute(platform));
    Violation::new(field, "FORMAT", description).with(json!({"expected": "HANDLE"}))
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Admin")]
impl ProfilesApi {
    /// Get a member's profile
    ///
    /// What is known of the member on social platforms.
    #[oai(path = "/members/:id/profile", method = "get", operation_id = "getMemberProfile")]
    async fn get_member_profile(
        &self,
        caller: AdminCaller,
        /// The member.
        id: Path<Uuid>,
    ) -> Result<Json<ProfileResponse>, Problem> {
        let profile = super::read(self.app.db.read(), caller.site()?, MemberId(id.0)).await?;
        Ok(Json(profile.into()))
    }

    /// Update a member's profile
    ///
    /// Sets the handles that the member claims, by the same rules as the member's own call, but as often as the owner wants. A handle set
    /// here is not proven either.
    #[oai(path = "/members/:id/profile", method = "patch", operation_id = "updateMemberProfile")]
    async fn update_member_profile(
        &self,
        caller: AdminCaller,
        /// The member.
        id: Path<Uuid>,
        body: Body<UpdateProfileRequest>,
    ) -> Result<Json<ProfileResponse>, Problem> {
        Ok(Json(body.0.apply(&self.app.db, By::Key, (caller.site()?, MemberId(id.0))).await?))
    }
}

impl From<ProfileError> for Problem {
    fn from(error: ProfileError) -> Self {
        let text = error.to_string();
        match error {
            ProfileError::MemberNotFound => Self::not_found("MEMBER_NOT_FOUND", text),
            ProfileError::TooManyHandles { platform, again_at } => {
                let data = json!({"channel": platform, "againDate": again_at.to_rfc3339()});
                Self::precondition("TOO_MANY_HANDLES", text).with(data)
            }
            ProfileError::Store(cause) => Self::from(cause),
        }
    }
}
