//! With which errors each operation may answer, for the document: the framework lists every error for every operation.

use serde_json::Value;

/// What an operation may refuse beside what follows from its shape: status and codes.
type Refusals = &'static [(u16, &'static [&'static str])];

/// The operations that have some, in the order of the document.
const REFUSALS: [(&str, Refusals); 58] = [
    ("getActivity", &[(404, &["ACTIVITY_NOT_FOUND"])]),
    ("createActivityRule", &[(428, &["TOO_MANY_ACTIVITY_RULES"])]),
    ("deleteActivityRule", &[(404, &["ACTIVITY_RULE_NOT_FOUND"])]),
    ("getActivityRule", &[(404, &["ACTIVITY_RULE_NOT_FOUND"])]),
    ("updateActivityRule", &[(404, &["ACTIVITY_RULE_NOT_FOUND"]), (409, &["ABORTED"])]),
    ("deleteApiKey", &[(404, &["API_KEY_NOT_FOUND"])]),
    ("createAppInstance", &[(404, &["APP_NOT_FOUND"])]),
    ("deleteAppInstance", &[(404, &["APP_INSTANCE_NOT_FOUND"]), (428, &["HAS_SUBSCRIPTIONS"])]),
    ("getAppInstance", &[(404, &["APP_INSTANCE_NOT_FOUND"])]),
    ("getApp", &[(404, &["APP_NOT_FOUND"])]),
    ("rotateAppKey", &[(404, &["APP_NOT_FOUND"])]),
    ("rotateAppSecret", &[(404, &["APP_NOT_FOUND"]), (428, &["TOO_MANY_APP_SECRETS"])]),
    ("createConnectionInvitation", &[(428, &["PLATFORM_NOT_CONFIGURED", "TOO_MANY_CONNECTION_INVITATIONS"])]),
    ("deleteConnectionInvitation", &[(404, &["CONNECTION_INVITATION_NOT_FOUND"])]),
    ("getConnectionInvitation", &[(404, &["CONNECTION_INVITATION_NOT_FOUND"])]),
    ("deleteConnection", &[(404, &["CONNECTION_NOT_FOUND"])]),
    ("getConnection", &[(404, &["CONNECTION_NOT_FOUND"])]),
    ("getEvent", &[(404, &["EVENT_NOT_FOUND"])]),
    (
        "replyToInstagramMention",
        &[
            (404, &["ACTIVITY_NOT_FOUND"]),
            (
                409,
                &[
                    "ACTIVITY_NOT_A_MENTION",
                    "CONNECTION_NOT_FOUND",
                    "CONNECTION_LOGIN_NOT_SUPPORTED",
                    "CONNECTION_DEAD",
                    "CONNECTION_BLOCKED",
                    "CONNECTION_PERMISSION_MISSING",
                    "MENTION_NOT_AVAILABLE",
                    "INSTAGRAM_REFUSED",
                ],
            ),
            (503, &["INSTAGRAM_UNAVAILABLE"]),
        ],
    ),
    ("getMember", &[(404, &["MEMBER_NOT_FOUND"])]),
    ("updateMember", &[(404, &["MEMBER_NOT_FOUND"])]),
    ("getMemberProfile", &[(404, &["MEMBER_NOT_FOUND"])]),
    ("updateMemberProfile", &[(404, &["MEMBER_NOT_FOUND"])]),
    ("deleteMemberTokens", &[(404, &["MEMBER_NOT_FOUND"])]),
    ("createMemberTokens", &[(404, &["MEMBER_NOT_FOUND", "OAUTH_CLIENT_NOT_FOUND"])]),
    ("createOauthClient", &[(428, &["TOO_MANY_OAUTH_CLIENTS"])]),
    ("deleteOauthClient", &[(404, &["OAUTH_CLIENT_NOT_FOUND"])]),
    ("getOauthClient", &[(404, &["OAUTH_CLIENT_NOT_FOUND"])]),
    ("updateOauthClient", &[(404, &["OAUTH_CLIENT_NOT_FOUND"])]),
    ("updateSiteAuth", &[(409, &["ABORTED"])]),
    ("updateSocialMediaSettings", &[(409, &["ABORTED"])]),
    ("createTiktokHashtag", &[(428, &["TOO_MANY_TIKTOK_HASHTAGS"])]),
    ("deleteTiktokHashtag", &[(404, &["TIKTOK_HASHTAG_NOT_FOUND"])]),
    ("getWebhookDelivery", &[(404, &["WEBHOOK_DELIVERY_NOT_FOUND"])]),
    ("cancelWebhookDelivery", &[(404, &["WEBHOOK_DELIVERY_NOT_FOUND"]), (428, &["WEBHOOK_DELIVERY_ENDED"])]),
    (
        "redeliverWebhookDelivery",
        &[
            (404, &["WEBHOOK_DELIVERY_NOT_FOUND"]),
            (428, &["WEBHOOK_SUBSCRIPTION_NOT_ENABLED", "EVENT_EXPUNGED"]),
        ],
    ),
    ("getWebhookReplay", &[(404, &["WEBHOOK_REPLAY_NOT_FOUND"])]),
    ("cancelWebhookReplay", &[(404, &["WEBHOOK_REPLAY_NOT_FOUND"])]),
    (
        "createWebhookSubscription",
        &[
            (404, &["APP_NOT_FOUND"]),
            (428, &["APP_NOT_INSTALLED", "NATS_NOT_CONFIGURED", "NATS_OTHER_APP", "TOO_MANY_SUBSCRIPTIONS"]),
        ],
    ),
    ("deleteWebhookSubscription", &[(404, &["WEBHOOK_SUBSCRIPTION_NOT_FOUND"])]),
    ("getWebhookSubscription", &[(404, &["WEBHOOK_SUBSCRIPTION_NOT_FOUND"])]),
    ("updateWebhookSubscription", &[(404, &["WEBHOOK_SUBSCRIPTION_NOT_FOUND"]), (409, &["ABORTED"])]),
    ("dryRunWebhookSubscription", &[(404, &["WEBHOOK_SUBSCRIPTION_NOT_FOUND"])]),
    (
        "replayWebhookSubscription",
        &[
            (404, &["WEBHOOK_SUBSCRIPTION_NOT_FOUND"]),
            (428, &["WEBHOOK_SUBSCRIPTION_NOT_ENABLED", "WEBHOOK_REPLAY_RUNNING"]),
        ],
    ),
    (
        "rotateWebhookSubscriptionSecret",
        &[
            (404, &["WEBHOOK_SUBSCRIPTION_NOT_FOUND"]),
            (428, &["NO_SIGNING_SECRET", "TOO_MANY_SIGNING_SECRETS"]),
        ],
    ),
    ("getWebhookBacklog", &[(404, &["WEBHOOK_SUBSCRIPTION_NOT_FOUND"])]),
    ("testWebhookSubscription", &[(404, &["WEBHOOK_SUBSCRIPTION_NOT_FOUND"])]),
    (
        "createAccount",
        &[(404, &["CONTACT_NOT_FOUND"]), (409, &["ALREADY_EXISTS"]), (428, &["PROGRAM_NOT_ACTIVE"])],
    ),
    ("getAccountBySecondaryId", &[(404, &["ACCOUNT_NOT_FOUND"])]),
    ("getCurrentMemberAccount", &[(404, &["ACCOUNT_NOT_FOUND"])]),
    ("getAccount", &[(404, &["ACCOUNT_NOT_FOUND"])]),
    ("listFollowedChannels", &[(404, &["ACCOUNT_NOT_FOUND"])]),
    (
        "createFollowedChannel",
        &[
            (404, &["ACCOUNT_NOT_FOUND"]),
            (409, &["ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED"]),
            (428, &["PROGRAM_NOT_ACTIVE", "CHANNEL_NOT_ENABLED"]),
        ],
    ),
    ("updateMyProfile", &[(428, &["TOO_MANY_HANDLES"])]),
    ("beginTiktokLogin", &[(428, &["TIKTOK_NOT_CONFIGURED"])]),
    ("completeTiktokLogin", &[(428, &["TIKTOK_NOT_CONFIGURED", "TIKTOK_UNAVAILABLE"])]),
    (
        "handInTiktokPost",
        &[(
            428,
            &[
                "TIKTOK_HANDLE_MISSING",
                "TIKTOK_POST_NOT_VISIBLE",
                "TIKTOK_POST_OF_SOMEBODY_ELSE",
                "TIKTOK_POST_TOO_OLD",
                "TIKTOK_UNAVAILABLE",
            ],
        )],
    ),
    ("getTokenInfo", &[(429, &["RESOURCE_EXHAUSTED"])]),
];

/// What every caller with credentials may get: the key is not of the site that it names.
const SITE_NOT_FOUND: &str = "SITE_NOT_FOUND";

/// The codes with which `operation` answers `status`, as far as they are not the same for every operation; `None` if it never
/// answers so.
pub(super) fn codes(operation: &Value, status: u16) -> Option<Vec<&'static str>> {
    let own =
        REFUSALS.iter().find(|(id, _)| operation["operationId"] == *id).map_or(&[] as Refusals, |row| row.1);
    let of_status = own.iter().filter(|(of, _)| *of == status).flat_map(|(_, codes)| *codes).copied();
    let of_all = (status == 404 && operation.get("security").is_some()).then_some(SITE_NOT_FOUND);
    let codes: Vec<_> = of_all.into_iter().chain(of_status).collect();
    (!codes.is_empty() || follows_from_shape(operation, status)).then_some(codes)
}

/// Whoever has to prove who they are can be refused, and so can a body; anything can go wrong.
fn follows_from_shape(operation: &Value, status: u16) -> bool {
    match status {
        401 | 403 | 429 => operation.get("security").is_some(),
        408 | 413 | 415 => operation.get("requestBody").is_some(),
        404 | 405 | 409 | 428 => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::openapi;

    #[test]
    fn every_row_is_of_an_operation_and_none_has_two() {
        let paths = openapi::document()["paths"].as_object();
        let operations = paths.into_iter().flatten().filter_map(|(_, of_path)| of_path.as_object());
        let known: BTreeSet<&str> = operations
            .flat_map(|of_path| of_path.values())
            .filter_map(|of| of["operationId"].as_str())
            .collect();
        let rows: BTreeSet<&str> = REFUSALS.iter().map(|(id, _)| *id).collect();
        assert_eq!(
            rows.difference(&known).collect::<Vec<_>>(),
            Vec::<&&str>::new(),
            "these are no operations"
        );
        assert_eq!(rows.len(), REFUSALS.len(), "an operation has two rows");
    }
}
