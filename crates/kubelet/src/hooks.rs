//! Post-start and pre-stop hooks.
//!
//! Source: kubernetes pkg/kubelet/lifecycle/handlers.go.

use std::sync::Arc;
use std::time::Duration;

use daruma_api::core::v1::{Container as Spec, HTTPGetAction, LifecycleHandler, Pod};

use crate::probes::check::{HttpTarget, http_get, port_number};
use crate::shared::Shared;
use crate::text::{go_list, pod_text};
use crate::tls::SPEAKS_HTTP;

/// Longest run of a command, or wait for an answer; the pod's grace period ends it before.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

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
        return match shared.runtime.exec_sync(container_id, command.clone(), LIMIT).await {
            Ok(Some(output)) if output.exit_code == 0 => Ok(()),
            Ok(Some(output)) => {
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                failed(format!("command '{}' exited with {}: {errors}", command.join(" "), output.exit_code), &text)
            }
            Ok(None) => failed(format!("command {:?} timed out", command.join(" ")), ""),
            Err(error) => failed(error.to_string(), ""),
        };
    }
    if let Some(get) = &hook.http_get {
        return ask(shared, pod, spec, get, pod_ips).await.map_err(|error| {
            format!(
                "HTTP lifecycle hook ({}) for Container {:?} in Pod {:?} failed - error: {error}",
                get.path.as_deref().unwrap_or_default(),
                spec.name,
                pod_text(pod)
            )
        });
    }
    if let Some(sleep) = &hook.sleep {
        shared.world.sleep(Duration::from_secs(sleep.seconds.max(0) as u64)).await;
        return Ok(());
    }
    Err("Cannot run handler: invalid handler".into())
}

/// Asks by HTTP. Whatever the answer says, it is one.
async fn ask(shared: &Shared, pod: &Pod, spec: &Spec, get: &HTTPGetAction, pod_ips: &[String]) -> Result<(), String> {
    let named = get.host.as_ref().filter(|host| !host.is_empty());
    let host = named.or(pod_ips.first()).ok_or("failed to find networking container")?;
    let port = port_number(spec, &get.port).ok_or_else(|| format!("invalid port: {:?}", get.port))?;
    let headers = get.http_headers.as_deref().unwrap_or_default();
    let target = HttpTarget {
        https: get.scheme.as_deref() == Some("HTTPS"),
        host,
        port,
        path: get.path.as_deref().unwrap_or("/"),
        headers,
        user_agent: "kube-lifecycle/1.36",
    };
    let until = shared.world.monotonic() + LIMIT;
    let request = async |target: &HttpTarget<'_>| {
        let answer = http_get(&shared.world, shared.config.tls_probes, target, until).await?;
        // The server may end the connection; whether its body breaks off is nobody's concern.
        let _ = answer.body().await;
        Ok(())
    };
    let asked: Result<(), String> = Box::pin(request(&target)).await;
    let Err(error) = asked else { return Ok(()) };
    if !error.contains(SPEAKS_HTTP) {
        return Err(error);
    }
    // What was meant for an encrypted connection is not told on another.
    let headers: Vec<_> = headers.iter().filter(|header| !header.name.eq_ignore_ascii_case("authorization")).cloned().collect();
    let plain = HttpTarget { https: false, headers: &headers, ..target };
    if Box::pin(request(&plain)).await.is_err() {
        return Err(error);
    }
    let authority = target.authority();
    let message = format!("request to HTTPS lifecycle hook {authority} got HTTP response, retry with HTTP succeeded");
    shared.recorder.pod_warning(pod, "LifecycleHTTPFallback", message);
    Ok(())
}
