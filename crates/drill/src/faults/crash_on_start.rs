//! A workload's containers get an argument that they do not know, so that they end as soon as they start.

use futures::future::BoxFuture;
use serde_json::json;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind, template};
use crate::scene::Scene;

/// See the module.
pub struct CrashOnStart;

impl Fault for CrashOnStart {
    fn name(&self) -> &'static str {
        "crash-on-start"
    }

    fn summary(&self) -> &'static str {
        "A workload's containers get an argument that they do not know, so that they end as soon as they start."
    }

    fn aim(&self) -> Aim {
        Aim::Workload
    }

    fn parameters(&self) -> &'static [Parameter] {
        const {
            &[
                Parameter::new("container", ParameterKind::Text, "Name of the container, where there are several."),
                Parameter::new("argument", ParameterKind::Text, "The argument.").or("--crash-on-start"),
                Parameter::new("command", ParameterKind::Text, "A program of the image to start instead of its own."),
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
            let argument = call.text("argument")?.unwrap_or_default();
            let command = call.text("command")?;
            template::change(scene, call, "containers end as soon as they start", |_| match command {
                Some(command) => vec![("/command", json!([command])), ("/args", json!([argument]))],
                None => vec![("/args", json!([argument]))],
            })
            .await
        })
    }
}
