//! What is counted and measured, in Prometheus' text format. Names follow Prometheus' conventions: base units, `_total`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use entity::id::Timestamp;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::webhooks::Job;
use crate::webhooks::delivery::{Try, Verdict};

/// The metrics of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: Histogram,
    attempts: IntCounterVec,
    ingest: IntCounterVec,
    delivery_seconds: Histogram,
    held: IntGauge,
    in_flight: IntGauge,
    oldest_due_seconds: IntGaugeVec,
    failing: IntGaugeVec,
    nats_connected: IntGaugeVec,
    nats_awaited: IntGaugeVec,
    inbox_waiting: IntGaugeVec,
    inbox_oldest_due_seconds: IntGaugeVec,
    connections: IntGaugeVec,
    /// One at a time sets what was read and writes it down.
    rendering: Arc<Mutex<()>>,
}

/// What is read when somebody asks; what could not be read is left out.
#[derive(Debug, Default)]
pub struct Readings {
    /// Deliveries in memory.
    pub held: usize,
    /// Webhook tries under way.
    pub in_flight: usize,
    /// Age of the oldest due delivery.
    pub oldest_due_seconds: Option<i64>,
    /// How many receivers fail.
    pub failing: Option<i64>,
    /// Whether events can be published to NATS, and how many acknowledgements are awaited.
    pub nats: Option<(bool, usize)>,
    /// How many things that platforms sent are to be worked on: by platform.
    pub inbox_waiting: Option<Vec<(&'static str, i64)>>,
    /// Age of the oldest of them that is due.
    pub inbox_oldest_due_seconds: Option<i64>,
    /// How many connections there are: by platform and state.
    pub connections: Option<BTreeMap<(&'static str, &'static str), i64>>,
}

impl Metrics {
    /// Metrics that stand at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let buckets =
            vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];
        let histogram =
            |name, help| Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.clone()));
        let gauges = |name, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        // Has no value until it is set.
        let absent = |name, help| gauges(name, help, &[]);
        let metrics = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(
                Opts::new("followpoints_http_requests_total", "HTTP requests by operation and status"),
                &["operation", "status"],
            )?,
            request_seconds: histogram(
                "followpoints_http_request_seconds",
                "Time to answer an HTTP request",
            )?,
            attempts: IntCounterVec::new(
                Opts::new("followpoints_webhook_attempts_total", "Webhook tries by outcome and error class"),
                &["outcome", "error"],
            )?,
            ingest: IntCounterVec::new(
                Opts::new(
                    "followpoints_ingest_total",
                    "Calls of platforms and providers by entrance and outcome",
                ),
                &["source", "outcome"],
            )?,
            delivery_seconds: histogram(
                "followpoints_webhook_delivery_seconds",
                "Time from an event to its acceptance at the first try",
            )?,
            held: IntGauge::new("followpoints_webhook_jobs", "Deliveries in memory, waiting or under way")?,
            in_flight: IntGauge::new("followpoints_webhook_in_flight", "Webhook tries under way")?,
            oldest_due_seconds: absent(
                "followpoints_webhook_oldest_due_seconds",
                "Age of the oldest due delivery that no node has taken",
            )?,
            failing: absent(
                "followpoints_webhook_failing_receivers",
                "Receivers whose last tries failed and whose subscription was not disabled for it",
            )?,
            nats_connected: absent(
                "followpoints_nats_connected",
                "Whether events can be published to NATS; absent without a server",
            )?,
            nats_awaited: absent(
                "followpoints_nats_awaited",
                "Acknowledgements of NATS that are awaited; absent without a server",
            )?,
            inbox_waiting: gauges(
                "followpoints_inbox_waiting",
                "Things that platforms sent and that are to be worked on",
                &["platform"],
            )?,
            inbox_oldest_due_seconds: absent(
                "followpoints_inbox_oldest_due_seconds",
                "Age of the oldest thing that a platform sent and that nobody has taken",
            )?,
            connections: gauges(
                "followpoints_connections",
                "Connected accounts of brands by platform and state",
                &["platform", "state"],
            )?,
            rendering: Arc::default(),
        };
        metrics.register()?;
        Ok(metrics)
    }

    /// Has all of them rendered.
    fn register(&self) -> Result<(), prometheus::Error> {
        let registry = &self.registry;
        registry.register(Box::new(self.requests.clone()))?;
        registry.register(Box::new(self.request_seconds.clone()))?;
        registry.register(Box::new(self.attempts.clone()))?;
        registry.register(Box::new(self.ingest.clone()))?;
        registry.register(Box::new(self.delivery_seconds.clone()))?;
        registry.register(Box::new(self.held.clone()))?;
        registry.register(Box::new(self.in_flight.clone()))?;
        registry.register(Box::new(self.oldest_due_seconds.clone()))?;
        registry.register(Box::new(self.failing.clone()))?;
        registry.register(Box::new(self.nats_connected.clone()))?;
        registry.register(Box::new(self.nats_awaited.clone()))?;
        registry.register(Box::new(self.inbox_waiting.clone()))?;
        registry.register(Box::new(self.inbox_oldest_due_seconds.clone()))?;
        registry.register(Box::new(self.connections.clone()))
    }

    /// Counts an answered request.
    pub fn observe_request(&self, operation: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[operation, &status.to_string()]).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// Counts a call of a platform or provider at the entrance `source`, which was answered with `status`.
    pub fn observe_ingest(&self, source: &str, status: u16) {
        let outcome = match status {
            200..=299 => "accepted",
            // Whoever called comes again.
            408 | 429 | 500.. => "busy",
            _ => "refused",
        };
        self.ingest.with_label_values(&[source, outcome]).inc();
    }

    /// Counts a webhook try that ended at `at`.
    pub fn observe_attempt(&self, attempt: &Try, job: &Job, at: Timestamp, verdict: Verdict) {
        let outcome = match verdict {
            Verdict::Delivered => "delivered",
            Verdict::Retry(_) => "retry",
            Verdict::Exhausted => "exhausted",
            Verdict::Gone => "gone",
        };
        let error = attempt.error_class.as_deref().unwrap_or("");
        self.attempts.with_label_values(&[outcome, error]).inc();
        if verdict == Verdict::Delivered && job.attempt_count == 0 {
            let ms = u32::try_from((at.0 - job.event.occurred_at.0).max(0)).unwrap_or(u32::MAX);
            self.delivery_seconds.observe(f64::from(ms) / 1000.0);
        }
    }

    /// All of it as text, with `readings`.
    pub fn render(&self, readings: &Readings) -> Result<String, prometheus::Error> {
        let families = {
            let _one_at_a_time = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
            self.set(readings);
            self.registry.gather()
        };
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn set(&self, readings: &Readings) {
        self.held.set(whole(readings.held));
        self.in_flight.set(whole(readings.in_flight));
        put(&self.oldest_due_seconds, readings.oldest_due_seconds);
        put(&self.failing, readings.failing);
        put(&self.nats_connected, readings.nats.map(|(is_ready, _)| i64::from(is_ready)));
        put(&self.nats_awaited, readings.nats.map(|(_, awaited)| whole(awaited)));
        put(&self.inbox_oldest_due_seconds, readings.inbox_oldest_due_seconds);
        self.inbox_waiting.reset();
        for (platform, count) in readings.inbox_waiting.iter().flatten() {
            self.inbox_waiting.with_label_values(&[platform]).set(*count);
        }
        self.connections.reset();
        for ((platform, state), count) in readings.connections.iter().flatten() {
            self.connections.with_label_values(&[platform, state]).set(*count);
        }
    }
}

/// Sets a gauge without labels, or has it absent.
fn put(gauge: &IntGaugeVec, value: Option<i64>) {
    gauge.reset();
    let none: &[&str] = &[];
    if let Some(value) = value {
        gauge.with_label_values(none).set(value);
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
