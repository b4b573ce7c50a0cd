//! The entrances that `TikTok` calls. They are no part of the document.

use poem::http::StatusCode;
use poem::{Endpoint, Request, Response};

use super::signature::{self, SIGNATURE_HEADER};
use super::webhook::{self, BODY_BYTES_MAX, Entrance};
use crate::app::App;
use crate::http::body;
use crate::http::problem::Problem;
use crate::inbox::Call;

/// One of the entrances. Whatever was signed is answered 200, so that `TikTok` does not send it again.
pub struct WebhookEndpoint {
    /// The running service.
    pub app: App,
    /// Which.
    pub entrance: Entrance,
}

impl Endpoint for WebhookEndpoint {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let header = request.headers().get(SIGNATURE_HEADER).and_then(|value| value.to_str().ok());
        let header = header.unwrap_or_default().to_owned();
        let body = body::read(request.take_body(), BODY_BYTES_MAX).await?;
        let settings = self.app.tiktok.settings();
        let secrets = match self.entrance {
            Entrance::Developer => &settings.developer.secrets,
            Entrance::Business => &settings.business.secrets,
        };
        let now = self.app.db.now();
        let source = self.entrance.source();
        signature::verify(&header, &body, secrets, now, signature::AGE_MAX_MS).map_err(|error| {
            tracing::warn!(source, %error, "a webhook was refused");
            Problem::forbidden(error.to_string())
        })?;
        let items = webhook::items(self.entrance, &body);
        let call = Call { source, body: body.into(), items };
        self.app.intake.store(call).await.map_err(|error| {
            tracing::error!(source, %error, "a webhook could not be stored; the platform sends it again");
            Problem::busy()
        })?;
        Ok(Response::builder().status(StatusCode::OK).finish())
    }
}
