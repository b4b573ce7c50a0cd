//! Routes that are no part of the document, with names for the log and the metrics as the document's operations have them.

use poem::{Endpoint, IntoResponse as _, Request, Response};
use poem_openapi::OperationId;

/// An endpoint with a name.
pub struct Named<E> {
    name: &'static str,
    inner: E,
}

/// `inner` under `name`.
pub const fn named<E: Endpoint>(name: &'static str, inner: E) -> Named<E> {
    Named { name, inner }
}

impl<E: Endpoint> Endpoint for Named<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        match self.inner.call(request).await {
            Ok(output) => {
                let mut response = output.into_response();
                response.set_data(OperationId(self.name));
                Ok(response)
            }
            Err(mut error) => {
                error.set_data(OperationId(self.name));
                Err(error)
            }
        }
    }
}
