//! A workload's image is replaced by one that nobody has.

use futures::future::BoxFuture;
use serde_json::json;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind, template};
use crate::scene::Scene;

/// See the module.
pub struct ImagePullFailure;

impl Fault for ImagePullFailure {
    fn name(&self) -> &'static str {
        "image-pull-failure"
    }

    fn summary(&self) -> &'static str {
        "A workload's image is replaced by one that nobody has."
    }

    fn aim(&self) -> Aim {
        Aim::Workload
    }

    fn parameters(&self) -> &'static [Parameter] {
        const {
            &[
                Parameter::new("container", ParameterKind::Text, "Name of the container, where there are several."),
                Parameter::new("image", ParameterKind::Text, "The image that cannot be pulled.").or("nowhere.invalid/missing:v0"),
            ]
        }
    }

    fn lasts(&self) -> bool {
        true
    }

    fn needs(&self, _call: &Call<'_>) -> Vec<Need> {
        Vec::new()
    }

    fn inflict<'a>(&'a self, scene: &'a Scene, call: &'a Call<'a>) -> BoxFuture<'a, Result<(), FaultError>> {
        Box::pin(async move {
            let image = call.text("image")?.unwrap_or_default();
            template::change(scene, call, &format!("image is {image}"), |_| {
                vec![("/image", json!(image)), ("/imagePullPolicy", json!("IfNotPresent"))]
            })
            .await
        })
    }
}
