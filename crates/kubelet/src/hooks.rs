//! Post-start and pre-stop hooks.
//!
//! Source: kubernetes pkg/kubelet/lifecycle/handlers.go.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Container as Spec, LifecycleHandler, Pod};

use crate::probes::check::{HttpTarget, http_get, port_number};
use crate::shared::Shared;
use crate::text::{go_list, pod_text};

/// Longest run of a command; the pod's grace period ends it before.
const EXEC_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Longest wait for an answer.
const HTTP_LIMIT: Duration = Duration::from_secs(60);

/// Runs a hook to its end; the error is the message for the container's status.
pub async fn run(
    shared: &Arc<Shared>,
    pod: &Pod,
    spec: &Spec,
    container_id: &str,
    hook: &LifecycleHandler,
    pod_ips: &[String],
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let failed = |error: String, output: &str| {
            Err(format!(
                "Exec lifecycle hook ({}) for Container {:?} in Pod {:?} failed - error: {error}, message: {output:?}",
                go_list(&command),
                spec.name,
                pod_text(pod)
            ))
        };
        return match shared.runtime.exec_sync(container_id, command.clone(), EXEC_LIMIT).await {
            Ok(Some(output)) if output.exit_code == 0 => Ok(()),
            Ok(Some(output)) => {
                let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                failed(format!("command '{}' exited with {}: {text}", command.join(" "), output.exit_code), &text)
            }
            Ok(None) => failed(format!("command {:?} timed out", command.join(" ")), ""),
            Err(error) => failed(error.to_string(), ""),
        };
    }
    if let Some(get) = &hook.http_get {
        let host = get.host.clone().or_else(|| pod_ips.first().cloned()).unwrap_or_default();
        let path = get.path.clone().unwrap_or_else(|| "/".into());
        let failed = |error: String| {
            Err(format!(
                "HTTP lifecycle hook ({path}) for Container {:?} in Pod {:?} failed - error: {error}",
                spec.name,
                pod_text(pod)
            ))
        };
        let Some(port) = port_number(spec, &get.port) else { return failed(format!("invalid port: {:?}", get.port)) };
        let target = HttpTarget {
            https: get.scheme.as_deref() == Some("HTTPS"),
            host: &host,
            port,
            path: &path,
            headers: get.http_headers.as_deref().unwrap_or_default(),
            user_agent: "kube-lifecycle/1.36",
        };
        return match shared.world.timeout(HTTP_LIMIT, http_get(shared, &target)).await {
            Ok(Ok(status)) if (200..400).contains(&status) => Ok(()),
            Ok(Ok(status)) => failed(format!("HTTP status {status}")),
            Ok(Err(error)) => failed(error),
            Err(_) => failed("no answer in time".into()),
        };
    }
    if let Some(sleep) = &hook.sleep {
        shared.world.sleep(Duration::from_secs(sleep.seconds.max(0) as u64)).await;
        return Ok(());
    }
    Err("Cannot run handler: invalid handler".into())
}
