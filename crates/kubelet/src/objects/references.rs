//! Which ConfigMaps and Secrets a pod refers to.
//!
//! Source: kubernetes pkg/api/v1/pod/util.go (VisitPodConfigmapNames, VisitPodSecretNames).
//!
//! Invariant: pure.

use std::collections::BTreeSet;

use daruma_api::core::v1::{EnvFromSource, EnvVar, Pod};

/// Names in the pod's namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct References {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

impl References {
    fn environment(&mut self, from: Option<&Vec<EnvFromSource>>, variables: Option<&Vec<EnvVar>>) {
        for source in from.into_iter().flatten() {
            self.config_maps.extend(source.config_map_ref.as_ref().map(|one| one.name.clone()));
            self.secrets.extend(source.secret_ref.as_ref().map(|one| one.name.clone()));
        }
        for value in variables.into_iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
            self.config_maps.extend(value.config_map_key_ref.as_ref().map(|one| one.name.clone()));
            self.secrets.extend(value.secret_key_ref.as_ref().map(|one| one.name.clone()));
        }
    }
}

/// Everything that the pod refers to.
pub(super) fn of(pod: &Pod) -> References {
    let mut found = References::default();
    let Some(spec) = &pod.spec else { return found };
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        found.environment(container.env_from.as_ref(), container.env.as_ref());
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        found.environment(container.env_from.as_ref(), container.env.as_ref());
    }
    found.secrets.extend(spec.image_pull_secrets.iter().flatten().map(|one| one.name.clone()));
    for volume in spec.volumes.iter().flatten() {
        found.config_maps.extend(volume.config_map.as_ref().map(|source| source.name.clone()));
        found.secrets.extend(volume.secret.as_ref().and_then(|source| source.secret_name.clone()));
        for one in volume.projected.iter().flat_map(|source| source.sources.iter().flatten()) {
            found.config_maps.extend(one.config_map.as_ref().map(|part| part.name.clone()));
            found.secrets.extend(one.secret.as_ref().map(|part| part.name.clone()));
        }
    }
    found.config_maps.remove("");
    found.secrets.remove("");
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[test]
    fn everywhere() {
        let found = of(&pod(
            "imagePullSecrets: [{name: pull}], containers: [{name: a, envFrom: [{configMapRef: {name: c1}}, {secretRef: {name: s1}}], \
             env: [{name: x, valueFrom: {secretKeyRef: {name: s2, key: k}}}]}], \
             initContainers: [{name: i, env: [{name: x, valueFrom: {configMapKeyRef: {name: c2, key: k}}}]}], \
             volumes: [{name: v, configMap: {name: c3}}, {name: w, secret: {secretName: s3}}, \
             {name: p, projected: {sources: [{configMap: {name: c4}}, {secret: {name: s4}}]}}]",
        ));
        assert_eq!(found.config_maps.into_iter().collect::<Vec<_>>(), ["c1", "c2", "c3", "c4"]);
        assert_eq!(found.secrets.into_iter().collect::<Vec<_>>(), ["pull", "s1", "s2", "s3", "s4"]);
    }
}
