//! One HTTP try of a delivery.

use sea_orm::entity::prelude::*;

use crate::id::{DeliveryId, SiteId, Timestamp};

/// One HTTP try of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "attempt")]
pub struct Model {
    /// Which delivery.
    #[sea_orm(primary_key, auto_increment = false)]
    pub delivery_id: DeliveryId,
    /// 1, 2, 3 …
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    /// Its site.
    pub site_id: SiteId,
    /// When the request went out.
    pub started_at: Timestamp,
    /// Until the answer was read or given up.
    pub duration_ms: i32,
    /// The receiver's status, if one came.
    pub status_code: Option<i32>,
    /// Why no status came.
    pub error_class: Option<String>,
    /// The same in words.
    pub error: Option<String>,
    /// JSON object of the answer's headers.
    pub response_headers: Option<String>,
    /// Up to 16 KiB of the answer.
    pub response_body: Option<String>,
    /// Microseconds of finding the host's addresses, if it was looked up.
    pub dns_us: Option<i64>,
    /// Microseconds of connecting, if a connection was opened.
    pub connect_us: Option<i64>,
    /// Microseconds of agreeing on encryption, if it was.
    pub tls_us: Option<i64>,
    /// Microseconds from the request to the first byte of the answer, if one came.
    pub first_byte_us: Option<i64>,
    /// Microseconds of the whole request, if one was sent.
    pub total_us: Option<i64>,
    /// JSON object of the request's headers, secrets masked.
    pub request_headers: Option<String>,
    /// When the request went out, if that was long after the delivery was made and headers or bodies may still be there.
    pub late_at: Option<Timestamp>,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
