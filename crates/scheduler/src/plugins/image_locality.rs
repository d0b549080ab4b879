//! Nodes that have the images already (pkg/scheduler/framework/plugins/imagelocality).

use super::{Cluster, MAX_SCORE, Plugin, Prepared};
use crate::node_info::{NodeInfo, PodInfo};

/// Below this many bytes images do not matter.
const MIN_BYTES: i64 = 23 * 1024 * 1024;
/// Above this many bytes a container, more does not matter.
const MAX_BYTES_PER_CONTAINER: i64 = 1000 * 1024 * 1024;

/// See the module.
pub struct ImageLocality;

struct ForPod {
    /// Normalised name and the part of all nodes that hold it.
    images: Vec<(String, f64)>,
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, cluster: &'a Cluster<'a>) -> Option<Box<dyn Prepared + 'a>> {
        let spec = pod.spec();
        let nodes = cluster.cache.nodes().count().max(1);
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let images = containers
            .filter_map(|container| container.image.as_deref())
            .map(|image| {
                let name = normalized(image);
                let spread = cluster.cache.nodes_with_image(&name) as f64 / nodes as f64;
                (name, spread)
            })
            .collect();
        Some(Box::new(ForPod { images }))
    }
}

fn normalized(image: &str) -> String {
    if image.rfind(':') <= image.rfind('/') { format!("{image}:latest") } else { image.to_owned() }
}

impl Prepared for ForPod {
    fn score(&self, nodes: &[&NodeInfo]) -> Option<Vec<i64>> {
        let most = MAX_BYTES_PER_CONTAINER * self.images.len().max(1) as i64;
        let score = |node: &&NodeInfo| {
            let bytes = |(name, spread): &(String, f64)| node.images.get(name).map_or(0, |size| (*size as f64 * spread) as i64);
            let sum: i64 = self.images.iter().map(bytes).sum();
            MAX_SCORE * (sum.clamp(MIN_BYTES, most) - MIN_BYTES) / (most - MIN_BYTES)
        };
        Some(nodes.iter().map(score).collect())
    }
}
