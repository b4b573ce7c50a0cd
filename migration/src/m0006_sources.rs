//! What platforms tell: connections, raw deliveries and what is in them, persons and handles, activities and their rules.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

// Where rows are looked up by another index than the key's, with the site first in both, a table is not clustered: SQLite, which counts
// nothing, would take a walk through the whole site for the cheaper way.
const TABLES: &str = "
CREATE TABLE raw_delivery (
    id {uuid} PRIMARY KEY,
    source {text} NOT NULL,
    body {bytes},
    item_count integer NOT NULL,
    received_at bigint NOT NULL
)
;;
CREATE INDEX raw_delivery_body ON raw_delivery (received_at) WHERE body IS NOT NULL
;;
CREATE TABLE item (
    id {uuid} PRIMARY KEY,
    platform {text} NOT NULL,
    account {text} NOT NULL,
    item_key {text} NOT NULL,
    kind {text} NOT NULL,
    person {text},
    handle {text},
    payload {text} NOT NULL,
    occurred_at bigint,
    delivery_id {uuid},
    site_id {uuid},
    status {text} NOT NULL,
    reason {text},
    attempts integer NOT NULL,
    due_at bigint NOT NULL,
    expires_at bigint,
    received_at bigint NOT NULL
)
;;
CREATE UNIQUE INDEX item_once ON item (platform, account, item_key)
;;
CREATE INDEX item_due ON item (due_at) WHERE status <> 'DONE'
;;
CREATE INDEX item_waiting ON item (platform, due_at) WHERE status = 'WAITING'
;;
CREATE INDEX item_parked_person ON item (platform, account, person) WHERE status = 'PARKED'
;;
CREATE INDEX item_parked_handle ON item (site_id, platform, handle) WHERE status = 'PARKED'
;;
CREATE INDEX item_page ON item (site_id, id) WHERE site_id IS NOT NULL
;;
CREATE INDEX item_open ON item (site_id, status, id) WHERE site_id IS NOT NULL AND status <> 'DONE'
;;
CREATE INDEX item_kind ON item (site_id, kind, id) WHERE site_id IS NOT NULL
;;
CREATE INDEX item_expiry ON item (expires_at) WHERE status = 'PARKED'
;;
CREATE INDEX item_old ON item (received_at) WHERE status = 'DONE' AND payload <> ''
;;
CREATE INDEX item_delivery ON item (delivery_id) WHERE delivery_id IS NOT NULL
;;
CREATE TABLE person (
    site_id {uuid} NOT NULL,
    platform {text} NOT NULL,
    external_id {text} NOT NULL,
    handle {text},
    follows boolean,
    follows_since bigint,
    last_message_at bigint,
    told_at bigint NOT NULL,
    counted_for {uuid},
    is_count_proven boolean NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (site_id, platform, external_id)
){clustered}
;;
CREATE TABLE follow_change (
    id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL,
    platform {text} NOT NULL,
    person {text} NOT NULL,
    member_id {uuid},
    follows boolean NOT NULL,
    item_id {uuid} NOT NULL,
    seen_at bigint NOT NULL
)
;;
CREATE INDEX follow_change_person ON follow_change (site_id, platform, person, id)
;;
CREATE INDEX follow_change_item ON follow_change (item_id)
;;
CREATE TABLE member_handle (
    site_id {uuid} NOT NULL,
    member_id {uuid} NOT NULL,
    platform {text} NOT NULL,
    handle {text} NOT NULL,
    person {text},
    person_account {text},
    proven_at bigint,
    proven_by {uuid},
    claimed_at bigint NOT NULL,
    PRIMARY KEY (site_id, member_id, platform),
    FOREIGN KEY (site_id, member_id) REFERENCES member (site_id, id),
    CHECK ((person IS NULL) = (proven_at IS NULL)),
    CHECK ((person IS NULL) = (person_account IS NULL))
)
;;
CREATE INDEX member_handle_claim ON member_handle (site_id, platform, handle)
;;
CREATE UNIQUE INDEX member_handle_person ON member_handle (site_id, platform, person) WHERE person IS NOT NULL
;;
CREATE UNIQUE INDEX member_handle_proven ON member_handle (site_id, platform, handle) WHERE person IS NOT NULL
;;
CREATE TABLE handle_claim (
    site_id {uuid} NOT NULL,
    member_id {uuid} NOT NULL,
    platform {text} NOT NULL,
    id {uuid} NOT NULL,
    handle {text},
    claimed_at bigint NOT NULL,
    PRIMARY KEY (site_id, member_id, platform, id),
    FOREIGN KEY (site_id, member_id) REFERENCES member (site_id, id)
){clustered}
;;
CREATE TABLE member_profile (
    site_id {uuid} NOT NULL,
    member_id {uuid} NOT NULL,
    attributes {text} NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (site_id, member_id),
    FOREIGN KEY (site_id, member_id) REFERENCES member (site_id, id)
){clustered}
;;
CREATE TABLE link_code (
    site_id {uuid} NOT NULL,
    code_hash {bytes} NOT NULL,
    member_id {uuid} NOT NULL,
    platform {text} NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    used_at bigint,
    used_by {text},
    PRIMARY KEY (site_id, code_hash),
    FOREIGN KEY (site_id, member_id) REFERENCES member (site_id, id)
)
;;
CREATE INDEX link_code_member ON link_code (site_id, member_id, created_at)
;;
CREATE INDEX link_code_expiry ON link_code (expires_at)
;;
CREATE TABLE direct_reply (
    item_id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL,
    account {text} NOT NULL,
    person {text} NOT NULL,
    message {text} NOT NULL,
    attempts integer NOT NULL,
    due_at bigint NOT NULL,
    expires_at bigint NOT NULL
)
;;
CREATE INDEX direct_reply_due ON direct_reply (due_at)
;;
CREATE INDEX direct_reply_person ON direct_reply (site_id, person)
;;
CREATE TABLE activity (
    site_id {uuid} NOT NULL,
    id {uuid} NOT NULL,
    item_id {uuid} NOT NULL,
    activity_type {text} NOT NULL,
    platform {text} NOT NULL,
    external_id {text} NOT NULL,
    mention_type {text},
    member_id {uuid},
    account_id {uuid},
    person {text},
    handle {text},
    properties {text} NOT NULL,
    outcome {text} NOT NULL,
    reason {text},
    points bigint NOT NULL,
    occurred_at bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (site_id, id)
){clustered}
;;
CREATE UNIQUE INDEX activity_item ON activity (item_id, activity_type)
;;
CREATE INDEX activity_member ON activity (site_id, member_id, id) WHERE member_id IS NOT NULL
;;
CREATE INDEX activity_account ON activity (account_id, id) WHERE account_id IS NOT NULL
;;
CREATE INDEX activity_handle ON activity (site_id, handle, id) WHERE handle IS NOT NULL
;;
CREATE INDEX activity_type ON activity (site_id, activity_type, id)
;;
CREATE INDEX activity_platform ON activity (site_id, platform, id)
;;
CREATE INDEX activity_outcome ON activity (site_id, outcome, id)
;;
CREATE INDEX activity_unmatched ON activity (created_at) WHERE outcome = 'UNMATCHED'
;;
CREATE INDEX activity_thing ON activity (site_id, platform, external_id)
;;
CREATE TABLE activity_rule (
    id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL REFERENCES site (id),
    version bigint NOT NULL,
    activity_type {text} NOT NULL,
    platform {text},
    mention_type {text},
    points bigint NOT NULL CHECK (points > 0),
    limits {text} NOT NULL,
    requires {text} NOT NULL,
    is_enabled boolean NOT NULL,
    starts_at bigint,
    ends_at bigint,
    awarded_points bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
)
;;
CREATE INDEX activity_rule_page ON activity_rule (site_id, id)
;;
CREATE TABLE activity_award (
    rule_id {uuid} NOT NULL,
    account_id {uuid} NOT NULL,
    external_id {text} NOT NULL,
    site_id {uuid} NOT NULL,
    rule_version bigint NOT NULL,
    activity_id {uuid} NOT NULL,
    points bigint NOT NULL,
    awarded_at bigint NOT NULL,
    PRIMARY KEY (rule_id, account_id, external_id)
){clustered}
;;
CREATE INDEX activity_award_account ON activity_award (account_id, awarded_at)
;;
CREATE INDEX activity_award_activity ON activity_award (activity_id)
;;
CREATE TABLE connection (
    id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL REFERENCES site (id),
    platform {text} NOT NULL,
    login {text} NOT NULL,
    external_id {text} NOT NULL,
    username {text},
    page_id {text},
    owner_id {text},
    token {bytes},
    refresh_token {bytes},
    token_issued_at bigint,
    token_expires_at bigint,
    missing_permissions {text} NOT NULL,
    dead_since bigint,
    problem {text},
    limited_until bigint,
    last_item_at bigint,
    poll_due_at bigint NOT NULL,
    has_polled boolean NOT NULL,
    check_due_at bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
)
;;
CREATE UNIQUE INDEX connection_account ON connection (platform, external_id)
;;
CREATE INDEX connection_page ON connection (site_id, id)
;;
CREATE INDEX connection_owner ON connection (owner_id) WHERE owner_id IS NOT NULL
;;
CREATE INDEX connection_poll ON connection (poll_due_at)
;;
CREATE INDEX connection_check ON connection (check_due_at)
;;
CREATE TABLE connection_invitation (
    id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL REFERENCES site (id),
    platform {text} NOT NULL,
    login {text} NOT NULL,
    token_hash {bytes} NOT NULL,
    state_hash {bytes},
    status {text} NOT NULL,
    problem {text},
    candidates {bytes},
    connection_id {uuid},
    expires_at bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
)
;;
CREATE UNIQUE INDEX connection_invitation_token ON connection_invitation (token_hash)
;;
CREATE UNIQUE INDEX connection_invitation_state ON connection_invitation (state_hash)
;;
CREATE INDEX connection_invitation_page ON connection_invitation (site_id, id)
;;
CREATE TABLE deletion_request (
    code {text} PRIMARY KEY,
    platform {text} NOT NULL,
    owner_id {text} NOT NULL,
    deleted_count integer NOT NULL,
    accounts {text} NOT NULL,
    created_at bigint NOT NULL,
    done_at bigint
)
;;
CREATE TABLE tracked_hashtag (
    site_id {uuid} NOT NULL REFERENCES site (id),
    folded {text} NOT NULL,
    id {uuid} NOT NULL,
    hashtag {text} NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (site_id, folded)
){clustered}
;;
CREATE INDEX tracked_hashtag_page ON tracked_hashtag (site_id, id)
;;
CREATE TABLE member_login (
    id {uuid} PRIMARY KEY,
    site_id {uuid} NOT NULL,
    member_id {uuid} NOT NULL,
    platform {text} NOT NULL,
    person {text} NOT NULL,
    handle {text},
    token {bytes},
    refresh_token {bytes},
    token_expires_at bigint NOT NULL,
    refresh_expires_at bigint NOT NULL,
    scopes {text} NOT NULL,
    dead_since bigint,
    poll_due_at bigint NOT NULL,
    has_polled boolean NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    FOREIGN KEY (site_id, member_id) REFERENCES member (site_id, id)
)
;;
CREATE UNIQUE INDEX member_login_member ON member_login (site_id, member_id, platform)
;;
CREATE INDEX member_login_person ON member_login (platform, person)
;;
CREATE INDEX member_login_poll ON member_login (poll_due_at)
;;
ALTER TABLE followed_channel ADD COLUMN evidence_item {uuid} CHECK (evidence_item IS NOT NULL OR evidence = 'DECLARED')
;;
ALTER TABLE followed_channel ADD COLUMN evidence_at bigint
;;
CREATE INDEX followed_channel_verified ON followed_channel (evidence_at) WHERE evidence = 'VERIFIED'
;;
CREATE INDEX followed_channel_page ON followed_channel (site_id, channel, id)
;;
CREATE INDEX followed_channel_evidence ON followed_channel (site_id, evidence, channel, id) WHERE evidence <> 'DECLARED'
;;
ALTER TABLE site_channel ADD COLUMN unfollow_policy {text} NOT NULL DEFAULT 'KEEP'
;;
ALTER TABLE site_channel ADD COLUMN reverse_within_days integer NOT NULL DEFAULT 30
;;
ALTER TABLE site_channel ADD COLUMN claimed_handle_earns boolean NOT NULL DEFAULT true
;;
ALTER TABLE site_channel ADD COLUMN link_reply {text}
";

/// What the step makes, in an order in which it can be dropped.
const TABLES_DOWN: [&str; 17] = [
    "member_login",
    "tracked_hashtag",
    "deletion_request",
    "connection_invitation",
    "connection",
    "activity_award",
    "activity_rule",
    "activity",
    "direct_reply",
    "link_code",
    "member_profile",
    "handle_claim",
    "member_handle",
    "follow_change",
    "person",
    "item",
    "raw_delivery",
];
/// Indices that it adds to tables of earlier steps.
const INDICES_DOWN: [&str; 3] =
    ["followed_channel_verified", "followed_channel_evidence", "followed_channel_page"];
/// What it adds to tables of earlier steps.
const COLUMNS_DOWN: [(&str, &str); 6] = [
    ("site_channel", "link_reply"),
    ("site_channel", "claimed_handle_earns"),
    ("site_channel", "reverse_within_days"),
    ("site_channel", "unfollow_policy"),
    ("followed_channel", "evidence_at"),
    ("followed_channel", "evidence_item"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, TABLES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::drop_tables(manager, &TABLES_DOWN).await?;
        for index in INDICES_DOWN {
            manager.get_connection().execute_unprepared(&format!("DROP INDEX {index}")).await?;
        }
        for (table, column) in COLUMNS_DOWN {
            let sql = format!("ALTER TABLE {table} DROP COLUMN {column}");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
