//! Request bodies: JSON, limited in size, checked against the very schema that the OpenAPI document publishes, so that every
//! violation is reported with its JSON path and rule before anything is parsed.

use std::any::TypeId;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use poem::{Request, RequestBody, Result};
use poem_openapi::error::ContentTypeError;
use poem_openapi::payload::{ParsePayload, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseFromJSON, Type};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, impl_apirequest_for_payload};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::{Problem, Violation};

/// Bytes of a request body.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the body of a call that platforms or providers make.
pub const RAW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a body that may always come.
const SMALL_BYTES_MAX: usize = 64 * 1024;
/// Bytes of larger bodies that may be on their way at the same time, as most come before it is known who sends them.
const LARGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Violations reported at once.
const VIOLATIONS_MAX: usize = 50;

/// A JSON body that follows the schema of `T`.
pub struct Body<T>(pub T);

impl<T: Type> Payload for Body<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn check_content_type(content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or("").trim();
        essence.eq_ignore_ascii_case("application/json")
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: ParseFromJSON + 'static> ParsePayload for Body<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(_: &Request, body: &mut RequestBody) -> Result<Self> {
        Ok(Self(parse(&read(body.take()?, BODY_BYTES_MAX).await?)?))
    }
}

impl_apirequest_for_payload!(Body<T>, T: ParseFromJSON + 'static);

/// The same where nothing has to be sent: an empty body, of whatever kind, is the default.
pub struct OptionalBody<T>(pub T);

impl<'a, T: ParseFromJSON + Default + 'static> ApiExtractor<'a> for OptionalBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let media = MetaMediaType { content_type: Body::<T>::CONTENT_TYPE, schema: T::schema_ref() };
        Some(MetaRequest { description: None, content: vec![media], required: false })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let bytes = read(body.take()?, BODY_BYTES_MAX).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        match request.content_type() {
            Some(kind) if Body::<T>::check_content_type(kind) => Ok(Self(parse(&bytes)?)),
            Some(kind) => Err(ContentTypeError::NotSupported { content_type: kind.to_owned() }.into()),
            None => Err(ContentTypeError::ExpectContentType.into()),
        }
    }
}

/// The same as it came, for those that are signed or stored as they are, or looked at only after something else. Of at most `MAX`
/// bytes.
pub struct Raw<T, const MAX: usize = RAW_BYTES_MAX> {
    /// The bytes.
    pub bytes: Vec<u8>,
    of: PhantomData<T>,
}

impl<T: ParseFromJSON + 'static, const MAX: usize> Raw<T, MAX> {
    /// What it says, if it follows the schema.
    pub fn parse(&self) -> Result<T, Problem> {
        self.parse_as()
    }

    /// The same with another schema.
    pub fn parse_as<U: ParseFromJSON + 'static>(&self) -> Result<U, Problem> {
        parse(&self.bytes)
    }
}

impl<T: Type, const MAX: usize> Payload for Raw<T, MAX> {
    const CONTENT_TYPE: &'static str = Body::<T>::CONTENT_TYPE;

    fn check_content_type(content_type: &str) -> bool {
        Body::<T>::check_content_type(content_type)
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: ParseFromJSON + 'static, const MAX: usize> ParsePayload for Raw<T, MAX> {
    const IS_REQUIRED: bool = true;

    async fn from_request(_: &Request, body: &mut RequestBody) -> Result<Self> {
        let bytes = read(body.take()?, MAX).await?;
        Ok(Self { bytes: bytes.into(), of: PhantomData })
    }
}

impl_apirequest_for_payload!(Raw<T, MAX>, T: ParseFromJSON + 'static, const MAX: usize);

/// Room for larger bodies on their way, in bytes.
static LARGE: Semaphore = Semaphore::const_new(LARGE_BYTES_MAX);

/// Reads `body`, of at most `max` bytes, if it comes in time and there is room for it.
pub async fn read(body: poem::Body, max: usize) -> std::result::Result<Bytes, Problem> {
    tokio::time::timeout(BODY_TIMEOUT, collect(body, max, &LARGE))
        .await
        .unwrap_or_else(|_| Err(Problem::too_slow()))
}

/// Part by part, of which there is one as a rule. poem's own way has a buffer that makes every step of a request as large.
async fn collect(body: poem::Body, max: usize, room: &Semaphore) -> std::result::Result<Bytes, Problem> {
    let mut parts = body.into_bytes_stream();
    let mut whole = BytesMut::new();
    let mut taken: Option<SemaphorePermit<'_>> = None;
    while let Some(part) = parts.next().await {
        let part =
            part.map_err(|error| Problem::invalid("body", "FORMAT", format!("breaks off: {error}")))?;
        if whole.len() + part.len() > max {
            return Err(Problem::too_large());
        }
        let held = taken.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = (whole.len() + part.len()).saturating_sub(SMALL_BYTES_MAX + held);
        if more > 0 {
            let more = u32::try_from(more).ok().and_then(|more| room.try_acquire_many(more).ok());
            let more = more.ok_or_else(Problem::busy)?;
            match &mut taken {
                Some(taken) => taken.merge(more),
                none => *none = Some(more),
            }
        }
        if whole.is_empty() {
            whole = part.into();
        } else {
            whole.extend_from_slice(&part);
        }
    }
    Ok(whole.freeze())
}

fn parse<T: ParseFromJSON + 'static>(bytes: &[u8]) -> Result<T, Problem> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    let violations = Shape::of::<T>().check(&value);
    if !violations.is_empty() {
        return Err(Problem::validation(violations));
    }
    T::parse_from_json(Some(value)).map_err(|error| Problem::invalid("body", "FORMAT", error.into_message()))
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::validation(vec![
        Violation::new("body", "FORMAT", format!("is not JSON: {error}"))
            .with(json!({"expected": "JSON", "line": error.line(), "column": error.column()})),
    ])
}

/// The schema of one type with all that it refers to.
struct Shape {
    root: MetaSchemaRef,
    schemas: HashMap<String, MetaSchema>,
}

static SHAPES: LazyLock<RwLock<HashMap<TypeId, Arc<Shape>>>> = LazyLock::new(RwLock::default);

impl Shape {
    fn of<T: Type + 'static>() -> Arc<Self> {
        let id = TypeId::of::<T>();
        if let Some(shape) = SHAPES.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Arc::clone(shape);
        }
        let mut registry = Registry::new();
        T::register(&mut registry);
        let shape = Arc::new(Self { root: T::schema_ref(), schemas: registry.schemas.into_iter().collect() });
        SHAPES.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&shape));
        shape
    }

    fn check(&self, value: &Value) -> Vec<Violation> {
        let mut violations = Vec::new();
        self.check_ref(&self.root, value, &Path::Root, &mut violations);
        violations
    }

    fn check_ref(&self, schema: &MetaSchemaRef, value: &Value, path: &Path<'_>, out: &mut Vec<Violation>) {
        let schema = match schema {
            MetaSchemaRef::Inline(schema) => schema,
            MetaSchemaRef::Reference(name) => match self.schemas.get(name) {
                Some(schema) => schema,
                None => return,
            },
        };
        if out.len() < VIOLATIONS_MAX {
            let before = out.len();
            for part in &schema.all_of {
                self.check_ref(part, value, path, out);
            }
            // What a part has found, the whole would only say once more.
            if out.len() == before {
                self.check_schema(schema, value, path, out);
            }
        }
    }

    fn check_schema(&self, schema: &MetaSchema, value: &Value, path: &Path<'_>, out: &mut Vec<Violation>) {
        if !has_type(schema.ty, value) {
            let expected = schema.ty.to_uppercase();
            let description = format!("must be {} {}", article(schema.ty), schema.ty);
            out.push(Violation::new(path.text(), "FORMAT", description).with(json!({"expected": expected})));
            return;
        }
        if !schema.enum_items.is_empty() && !schema.enum_items.contains(value) {
            let allowed: Vec<_> = schema.enum_items.iter().filter_map(Value::as_str).collect();
            let description = format!("must be one of {}", allowed.join(", "));
            out.push(
                Violation::new(path.text(), "INVALID_ENUM_VALUE", description)
                    .with(json!({"allowed": schema.enum_items})),
            );
            return;
        }
        match value {
            Value::String(text) => check_text(schema, text, path, out),
            Value::Number(number) => check_number(schema, number, path, out),
            Value::Array(items) => {
                check_size(schema, items.len(), path, out);
                if let Some(item_schema) = &schema.items {
                    for (index, item) in items.iter().enumerate() {
                        self.check_ref(item_schema, item, &Path::Item(path, index), out);
                    }
                }
            }
            Value::Object(fields) => {
                for (name, field_schema) in &schema.properties {
                    let path = Path::Field(path, name);
                    match fields.get(*name) {
                        Some(value) if !value.is_null() => self.check_ref(field_schema, value, &path, out),
                        _ if schema.required.contains(name) => {
                            out.push(Violation::new(path.text(), "REQUIRED_FIELD", "must not be empty"));
                        }
                        _ => {}
                    }
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }
}

fn has_type(ty: &str, value: &Value) -> bool {
    match ty {
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn check_text(schema: &MetaSchema, text: &str, path: &Path<'_>, out: &mut Vec<Violation>) {
    let length = text.chars().count();
    if let Some(max) = schema.max_length.filter(|max| length > *max) {
        let description = format!("has at most {max} characters");
        out.push(Violation::new(path.text(), "MAX_LENGTH", description).with(json!({"threshold": max})));
    }
    if let Some(min) = schema.min_length.filter(|min| length < *min) {
        let description = format!("has at least {min} characters");
        out.push(Violation::new(path.text(), "MIN_LENGTH", description).with(json!({"threshold": min})));
    }
    if schema.min_length.is_some_and(|min| min > 0) && !text.is_empty() && text.trim().is_empty() {
        out.push(Violation::new(path.text(), "REQUIRED_FIELD", "must not be blank"));
    }
    if text.contains('\0') {
        out.push(Violation::new(path.text(), "FORMAT", "must not contain the character NUL"));
    }
    if schema.format == Some("uuid") && uuid::Uuid::try_parse(text).is_err() {
        out.push(Violation::new(path.text(), "FORMAT", "is not a GUID").with(json!({"expected": "GUID"})));
    }
}

fn check_number(schema: &MetaSchema, number: &serde_json::Number, path: &Path<'_>, out: &mut Vec<Violation>) {
    let Some(number) = number.as_f64() else { return };
    if let Some(max) = schema.maximum.filter(|max| number > *max) {
        let description = format!("is at most {max}");
        out.push(Violation::new(path.text(), "MAX", description).with(json!({"threshold": max})));
    }
    if let Some(min) = schema.minimum.filter(|min| number < *min) {
        let description = format!("is at least {min}");
        out.push(Violation::new(path.text(), "MIN", description).with(json!({"threshold": min})));
    }
}

fn check_size(schema: &MetaSchema, size: usize, path: &Path<'_>, out: &mut Vec<Violation>) {
    if let Some(max) = schema.max_items.filter(|max| size > *max) {
        let description = format!("has at most {max} items");
        out.push(Violation::new(path.text(), "MAX_SIZE", description).with(json!({"threshold": max})));
    }
    if let Some(min) = schema.min_items.filter(|min| size < *min) {
        let description = format!("has at least {min} items");
        out.push(Violation::new(path.text(), "MIN_SIZE", description).with(json!({"threshold": min})));
    }
}

/// Where in the body we are; made into text only when something is wrong there.
enum Path<'a> {
    Root,
    Field(&'a Self, &'a str),
    Item(&'a Self, usize),
}

impl Path<'_> {
    fn text(&self) -> String {
        match self {
            Self::Root => "body".to_owned(),
            Self::Field(Self::Root, name) => (*name).to_owned(),
            Self::Field(parent, name) => format!("{}.{name}", parent.text()),
            Self::Item(parent, index) => format!("{}[{index}]", parent.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_has_to_come_in_time() {
        let half = stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"{\"a\":"))]);
        let stalled = poem::Body::from_bytes_stream(half.chain(stream::pending()));
        let refused = read(stalled, BODY_BYTES_MAX).await.map_err(|problem| problem.status_code().as_u16());
        assert_eq!(refused, Err(408));
        let whole = poem::Body::from_string("{}".to_owned());
        assert_eq!(read(whole, BODY_BYTES_MAX).await.ok().as_deref(), Some(&b"{}"[..]));
        let large = poem::Body::from_vec(vec![0; 5]);
        let refused = read(large, 4).await.map_err(|problem| problem.status_code().as_u16());
        assert_eq!(refused, Err(413));
    }

    #[tokio::test]
    async fn large_bodies_share_what_room_there_is() {
        let room = Semaphore::new(SMALL_BYTES_MAX);
        let status = |read: std::result::Result<Bytes, Problem>| {
            read.map_err(|problem| problem.status_code().as_u16()).map(|whole| whole.len())
        };
        let body = |length| poem::Body::from_vec(vec![0; length]);
        let (begun, mut more) = tokio::io::duplex(1024 * 1024);
        tokio::io::AsyncWriteExt::write_all(&mut more, &vec![0; 2 * SMALL_BYTES_MAX])
            .await
            .expect("there is room");
        let mut slow = std::pin::pin!(collect(poem::Body::from_async_read(begun), BODY_BYTES_MAX, &room));
        while room.available_permits() > 0 {
            assert!(futures_util::poll!(&mut slow).is_pending());
        }
        assert_eq!(status(collect(body(SMALL_BYTES_MAX + 1), BODY_BYTES_MAX, &room).await), Err(503));
        assert_eq!(status(collect(body(SMALL_BYTES_MAX), BODY_BYTES_MAX, &room).await), Ok(SMALL_BYTES_MAX));
        drop(more);
        assert_eq!(status(slow.await), Ok(2 * SMALL_BYTES_MAX));
        assert_eq!(
            status(collect(body(2 * SMALL_BYTES_MAX), BODY_BYTES_MAX, &room).await),
            Ok(2 * SMALL_BYTES_MAX)
        );
    }
}
