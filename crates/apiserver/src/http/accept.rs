//! Negotiation of the answer's media type and shape.
//!
//! Rules: kubernetes apiserver pkg/endpoints/handlers/negotiation.

use daruma_api::status::ApiError;

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
}

/// What of an object a table row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    None,
}

/// What the answer shows of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The object.
    Object,
    /// A printed table (`as=Table;v=v1;g=meta.k8s.io`).
    Table,
    /// Metadata only (`as=PartialObjectMetadata` and `PartialObjectMetadataList`).
    Partial,
    /// Aggregated discovery (`as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io`).
    Discovery,
}

/// The outcome of negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// How it is written.
    pub format: Format,
    /// What it shows.
    pub shape: Shape,
}

const OFFERED: &str = "application/json, application/yaml";

impl Accept {
    /// Plain JSON.
    pub const JSON: Self = Self { format: Format::Json, shape: Shape::Object };

    /// Takes the first media range of an `Accept` header that can be served; an empty header asks for JSON.
    ///
    /// # Errors
    /// 406 where none can be.
    pub fn parse(header: &str) -> Result<Self, ApiError> {
        if matches!(header.trim(), "" | "application/json") {
            return Ok(Self::JSON);
        }
        let mut ranges: Vec<(f32, &str)> = header.split(',').map(|range| (quality(range), range.trim())).collect();
        ranges.sort_by(|left, right| right.0.total_cmp(&left.0));
        ranges
            .iter()
            .find_map(|(_, range)| Self::of_range(range))
            .ok_or_else(|| ApiError::new(406, "NotAcceptable", format!("only the following media types are accepted: {OFFERED}")))
    }

    fn of_range(range: &str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let format = match parts.next()?.to_ascii_lowercase().as_str() {
            "application/json" | "*/*" | "application/*" => Format::Json,
            "application/yaml" => Format::Yaml,
            _ => return None,
        };
        let (mut shape, mut group, mut version) = ("", "", "");
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key {
                "as" => shape = value,
                "g" => group = value,
                "v" => version = value,
                _ => {}
            }
        }
        let shape = match (shape, group, version) {
            ("", _, _) => Shape::Object,
            ("Table", "meta.k8s.io", "v1" | "v1beta1") => Shape::Table,
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") => Shape::Partial,
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Shape::Discovery,
            _ => return None,
        };
        Some(Self { format, shape })
    }
}

fn quality(range: &str) -> f32 {
    range.split(';').filter_map(|part| part.trim().strip_prefix("q=")).find_map(|value| value.parse().ok()).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, expected: Option<(Format, Shape)>) {
        let got = Accept::parse(header).ok().map(|accept| (accept.format, accept.shape));
        assert_eq!(got, expected, "{header}");
    }

    #[test]
    fn headers() {
        check("", Some((Format::Json, Shape::Object)));
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some((Format::Json, Shape::Table)));
        check("application/vnd.kubernetes.protobuf, */*", Some((Format::Json, Shape::Object)));
        check("application/vnd.kubernetes.protobuf", None);
        check("application/yaml", Some((Format::Yaml, Shape::Object)));
        check("application/json;q=0.5,application/yaml", Some((Format::Yaml, Shape::Object)));
        check(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;q=0.1",
            Some((Format::Json, Shape::Discovery)),
        );
    }
}
