//! Request bodies: size limit, media types, JSON, YAML and protobuf.

use bytes::{Bytes, BytesMut};
use daruma_api::json;
use daruma_api::status::ApiError;
use daruma_client::Body;
use daruma_kinds::protobuf::{self, DecodeError};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use serde_json::Value;

/// Media types of objects that are read, in the order in which the original lists them.
const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// Largest request body in bytes (apiserver `MaxRequestBodyBytes`).
pub const MAX_BYTES: usize = 3 * 1024 * 1024;

/// Reads the whole body.
///
/// # Errors
/// 413 beyond [`MAX_BYTES`], 400 where the client broke off.
pub async fn read(mut body: Body) -> Result<Bytes, ApiError> {
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    let mut length = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::bad_request(format!("unable to read the request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > MAX_BYTES {
            return Err(ApiError::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {MAX_BYTES}")));
        }
        if rest.is_empty() && first.is_none() {
            first = Some(data);
            continue;
        }
        if let Some(first) = first.take() {
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&data);
    }
    Ok(first.unwrap_or_else(|| rest.freeze()))
}

/// The media type of the body, lower case, without parameters.
pub fn media_type(headers: &HeaderMap) -> String {
    let header = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Decodes an object.
///
/// # Errors
/// 415 for a media type other than JSON, YAML and protobuf, 400 for a text that does not parse.
pub fn decode(headers: &HeaderMap, content: &Bytes) -> Result<Value, ApiError> {
    match media_type(headers).as_str() {
        "" | "application/json" | "*/*" => {
            // kubectl's raw mode sends YAML without saying so only as files; JSON is what comes here.
            json::parse(content).map_err(|error| {
                ApiError::bad_request(format!("the object provided is unrecognized (must be of type JSON): {error}"))
            })
        }
        "application/yaml" => yaml(content),
        protobuf::MEDIA_TYPE => protobuf(content),
        _ => Err(unsupported_media_type(ACCEPTED)),
    }
}

/// Decodes YAML into JSON terms.
///
/// # Errors
/// 400 for a text that does not parse.
pub fn yaml(content: &[u8]) -> Result<Value, ApiError> {
    serde_yaml_ng::from_slice(content).map_err(|error| ApiError::bad_request(format!("error converting YAML to JSON: {error}")))
}

fn protobuf(content: &[u8]) -> Result<Value, ApiError> {
    protobuf::decode(content).map_err(|error| match error {
        DecodeError::Object { .. } => ApiError::bad_request(error.to_string()),
        _ => ApiError::bad_request(format!("the object provided is unrecognized (must be of type protobuf): {error}")),
    })
}

/// 415 naming what is accepted (apiserver pkg/endpoints/handlers/negotiation/errors.go).
pub fn unsupported_media_type(accepted: &str) -> ApiError {
    ApiError::new(
        415,
        "UnsupportedMediaType",
        format!("the body of the request was in an unknown format - accepted media types include: {accepted}"),
    )
}
