//! How much is still to be worked on, for whoever watches over the service.

use entity::id::Timestamp;
use entity::kinds::Platform;
use sea_orm::{ConnectionTrait, DbErr, Statement};

/// What waits of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The platform.
    pub platform: Platform,
    /// How many things are to be worked on, now or later. What waits for a person to become known is none of them.
    pub count: i64,
    /// When the first of them is due; in the future if it was taken or put off.
    pub due_at: Option<Timestamp>,
}

/// What waits of every platform. An index holds just that, so that it costs no more than there is to do.
pub async fn waiting(db: &impl ConnectionTrait) -> Result<Vec<Waiting>, DbErr> {
    let sql = "SELECT platform, count(*) AS waiting, min(due_at) AS due_at FROM item WHERE status = 'WAITING' GROUP BY platform";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    let mut all: Vec<Waiting> =
        Platform::ALL.iter().map(|&platform| Waiting { platform, count: 0, due_at: None }).collect();
    for row in rows {
        let name: String = row.try_get("", "platform")?;
        if let Some(of) = all.iter_mut().find(|of| of.platform.as_str() == name) {
            (of.count, of.due_at) = (row.try_get("", "waiting")?, row.try_get("", "due_at")?);
        }
    }
    Ok(all)
}
