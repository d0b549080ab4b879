//! Rights of a container's processes.
//!
//! Source: kubernetes pkg/securitycontext/util.go, pkg/kubelet/kuberuntime/security_context.go.

use daruma_api::core::v1::{Container as Spec, Pod};
use daruma_world::containers::{Image, Security};

use crate::text::pod_text;

/// The rights that pod and container ask for together.
///
/// # Errors
/// `runAsNonRoot` is not kept.
pub fn security(pod: &Pod, spec: &Spec, image: &Image) -> Result<Security, String> {
    let whole = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = spec.security_context.as_ref();
    let run_as_user = own.and_then(|own| own.run_as_user).or_else(|| whole.and_then(|whole| whole.run_as_user));
    let non_root =
        own.and_then(|own| own.run_as_non_root).or_else(|| whole.and_then(|whole| whole.run_as_non_root)) == Some(true);
    if non_root {
        let place = format!("(pod: {:?}, container: {})", pod_text(pod), spec.name);
        match (run_as_user, image.uid, image.username.as_deref().filter(|name| !name.is_empty())) {
            (Some(0), _, _) => return Err(format!("container's runAsUser breaks non-root policy {place}")),
            (None, Some(0), _) | (None, None, None) => {
                return Err(format!("container has runAsNonRoot and image will run as root {place}"));
            }
            (None, None, Some(name)) => {
                return Err(format!(
                    "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
                ));
            }
            (Some(_), _, _) | (None, Some(_), _) => {}
        }
    }
    let capabilities = own.and_then(|own| own.capabilities.as_ref());
    let strip = |list: Option<&Vec<String>>| -> Vec<String> {
        list.into_iter().flatten().map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_owned()).collect()
    };
    let privileged = own.and_then(|own| own.privileged) == Some(true);
    let mut supplemental_groups: Vec<i64> = whole.and_then(|whole| whole.supplemental_groups.clone()).unwrap_or_default();
    supplemental_groups.extend(whole.and_then(|whole| whole.fs_group));
    Ok(Security {
        privileged,
        add_capabilities: strip(capabilities.and_then(|capabilities| capabilities.add.as_ref())),
        drop_capabilities: strip(capabilities.and_then(|capabilities| capabilities.drop.as_ref())),
        run_as_user: run_as_user.or(image.uid),
        run_as_user_name: if run_as_user.is_none() && image.uid.is_none() {
            image.username.clone().filter(|name| !name.is_empty())
        } else {
            None
        },
        run_as_group: own.and_then(|own| own.run_as_group).or_else(|| whole.and_then(|whole| whole.run_as_group)),
        supplemental_groups,
        read_only_root: own.and_then(|own| own.read_only_root_filesystem) == Some(true),
        no_new_privileges: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[track_caller]
    fn check(context: &str, uid: Option<i64>, name: Option<&str>, refused: bool) {
        let pod = pod(&format!("containers: [{{name: a, securityContext: {{{context}}}}}]"));
        let image = Image {
            id: String::new(),
            tags: vec![],
            digests: vec![],
            size_bytes: 0,
            uid,
            username: name.map(str::to_owned),
            pinned: false,
        };
        let result = security(&pod, &pod.spec.as_ref().expect("a spec").containers[0], &image);
        assert_eq!(result.is_err(), refused, "{context} {uid:?} {name:?}");
    }

    #[test]
    fn non_root() {
        check("", Some(0), None, false);
        check("runAsNonRoot: true", Some(0), None, true);
        check("runAsNonRoot: true", None, None, true);
        check("runAsNonRoot: true", Some(5), None, false);
        check("runAsNonRoot: true", None, Some("nobody"), true);
        check("runAsNonRoot: true, runAsUser: 0", Some(5), None, true);
        check("runAsNonRoot: true, runAsUser: 7", None, None, false);
    }
}
