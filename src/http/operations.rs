//! For machines that watch over this one: liveness, readiness, metrics, the document.

use std::time::Duration;

use entity::id::Timestamp;
use futures_util::future::{join, join4};
use poem_openapi::payload::{Json, PlainText};
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Object, OpenApi};
use sea_orm::DbErr;
use serde_json::Value;

use super::{Tag, openapi};
use crate::app::App;
use crate::db::{Db, OpenError};
use crate::http::problem::Problem;
use crate::inbox::waiting::Waiting;
use crate::metrics::Readings;
use crate::{connections, inbox, outages, webhooks};

/// The dispatcher has looked for due deliveries within this time, or it hangs.
const HEARTBEAT_MAX: Duration = Duration::from_secs(5);
/// A due delivery of a healthy subscription is taken within this time, in milliseconds.
const OLDEST_DUE_MAX_MS: i64 = 60_000;
/// The database answers within this time, or it is away: whoever watches over this machine does not wait for long.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// What is said then.
const AWAY: &str = "the database does not answer";

/// The operations.
pub struct OperationsApi {
    /// The running service.
    pub app: App,
}

#[derive(Debug, Object)]
struct Health {
    /// `ok`.
    status: String,
}

/// One thing that was checked.
#[derive(Debug, Object)]
struct Check {
    /// What.
    name: String,
    /// Whether it is as it should be.
    ok: bool,
    /// What was seen.
    detail: String,
}

#[derive(Debug, Object)]
struct Readiness {
    /// Whether every check passed.
    ready: bool,
    /// What was checked.
    checks: Vec<Check>,
}

#[derive(ApiResponse)]
enum ReadinessResponse {
    /// Ready to serve.
    #[oai(status = 200)]
    Ready(Json<Readiness>),
    /// Not ready; `checks` says why.
    #[oai(status = 503)]
    NotReady(Json<Readiness>),
}

#[OpenApi(tag = "Tag::Operations")]
impl OperationsApi {
    /// Is the process alive
    #[oai(path = "/healthz", method = "get", operation_id = "getHealth")]
    async fn get_health(&self) -> Json<Health> {
        Json(Health { status: "ok".to_owned() })
    }

    /// Is the service ready
    ///
    /// Looks at the database, whether the last write was taken, its migrations, the webhook dispatcher and the oldest due delivery.
    #[oai(path = "/readyz", method = "get", operation_id = "getReadiness")]
    async fn get_readiness(&self) -> ReadinessResponse {
        let heartbeat_age = self.app.dispatcher.health().heartbeat_age;
        let (database, due) = join(self.check_database(), self.check_due()).await;
        let checks = vec![database, check_heartbeat(heartbeat_age), due];
        let readiness = Readiness { ready: checks.iter().all(|check| check.ok), checks };
        if readiness.ready {
            ReadinessResponse::Ready(Json(readiness))
        } else {
            ReadinessResponse::NotReady(Json(readiness))
        }
    }

    /// Get the metrics
    ///
    /// In Prometheus' text format. What the database would have to say is left out while it does not answer.
    #[oai(path = "/metrics", method = "get", operation_id = "getMetrics")]
    async fn get_metrics(&self) -> Result<PlainText<String>, Problem> {
        let App { db, dispatcher, .. } = &self.app;
        let (oldest, failing, waiting, connections) = join4(
            asked(dispatcher.oldest_due()),
            asked(webhooks::health::count_failing(db.read())),
            asked(inbox::waiting::waiting(db.read())),
            asked(connections::state::count(db.read(), self.app.platforms.meta.is_development, db.now())),
        )
        .await;
        let health = dispatcher.health();
        let first_due =
            waiting.as_ref().map(|all| all.iter().filter_map(|of_platform| of_platform.due_at).min());
        let by_platform = |all: Vec<Waiting>| all.iter().map(|of| (of.platform.as_str(), of.count)).collect();
        let readings = Readings {
            held: health.held,
            in_flight: health.in_flight,
            oldest_due_seconds: oldest.map(|at| age_seconds(db, at)),
            failing: failing.map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
            nats: self.app.streams.as_ref().map(|streams| (streams.is_ready(), streams.awaited())),
            inbox_oldest_due_seconds: first_due.map(|at| age_seconds(db, at)),
            inbox_waiting: waiting.map(by_platform),
            connections,
        };
        self.app.metrics.render(&readings).map(PlainText).map_err(Problem::internal)
    }

    /// Get this document
    #[oai(path = "/openapi.json", method = "get", operation_id = "getOpenapiDocument")]
    async fn get_openapi_document(&self) -> Json<Any<Value>> {
        Json(Any(openapi::document().clone()))
    }
}

impl OperationsApi {
    /// Steps of a newer program do not matter while this one runs.
    async fn check_database(&self) -> Check {
        let (ok, detail) = match asked(self.app.db.steps_behind()).await {
            None => (false, AWAY.to_owned()),
            Some(0) => match outages::WRITES.last().or_else(|| outages::COPIES.last()) {
                None => (true, "reachable and migrated".to_owned()),
                Some(refusal) => (false, format!("nothing can be written: {refusal}")),
            },
            Some(behind) => (false, OpenError::NotMigrated(behind).to_string()),
        };
        Check { name: "database".to_owned(), ok, detail }
    }

    async fn check_due(&self) -> Check {
        let (ok, detail) = match asked(self.app.dispatcher.oldest_due()).await {
            None => (false, AWAY.to_owned()),
            Some(None) => (true, "nothing is due".to_owned()),
            Some(Some(at)) => {
                let age_ms = (self.app.db.now().0 - at.0).max(0);
                (age_ms <= OLDEST_DUE_MAX_MS, format!("oldest due delivery waits for {age_ms} ms"))
            }
        };
        Check { name: "deliveries".to_owned(), ok, detail }
    }
}

/// For how long something is due; not at all if nothing is.
fn age_seconds(db: &Db, due_at: Option<Timestamp>) -> i64 {
    due_at.map_or(0, |at| (db.now().0 - at.0).max(0) / 1000)
}

/// What the database says to `question`, if it answers.
async fn asked<T>(question: impl Future<Output = Result<T, DbErr>>) -> Option<T> {
    match tokio::time::timeout(ANSWER_MAX, question).await {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(error)) => tracing::warn!(%error, "{AWAY}"),
        Err(_) => tracing::warn!("{AWAY}"),
    }
    None
}

fn check_heartbeat(age: Duration) -> Check {
    let detail = format!("last look for due deliveries {} ms ago", age.as_millis());
    Check { name: "dispatcher".to_owned(), ok: age <= HEARTBEAT_MAX, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dispatcher_that_has_not_looked_for_five_seconds_is_not_ready() {
        assert!(check_heartbeat(Duration::from_secs(5)).ok);
        let hangs = check_heartbeat(Duration::from_millis(5_001));
        assert_eq!((hangs.ok, hangs.detail.as_str()), (false, "last look for due deliveries 5001 ms ago"));
    }
}
