//! The last word on a command: a `Status` object as JSON.
//!
//! Source: kubernetes apimachinery pkg/util/remotecommand, kubelet pkg/cri/streaming/remotecommand/exec.go.

use daruma_world::containers::ContainerError;
use serde_json::json;

/// The status document of a command that ended with `result`.
pub fn of_result(result: &Result<i32, ContainerError>) -> Vec<u8> {
    let document = match result {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: command terminated with exit code {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: error executing command in container: {error}"),
            "reason": "InternalError",
            "details": {"causes": [{"message": format!("error executing command in container: {error}")}]},
            "code": 500,
        }),
    };
    document.to_string().into_bytes()
}

/// A terminal's size as clients send it: `{"Width":80,"Height":24}`.
pub fn parse_size(text: &[u8]) -> Option<(u16, u16)> {
    let value: serde_json::Value = serde_json::from_slice(text).ok()?;
    let side = |name: &str| value.get(name)?.as_u64().and_then(|side| u16::try_from(side).ok());
    Some((side("Width")?, side("Height")?))
}
