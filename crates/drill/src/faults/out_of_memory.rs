//! A workload's memory limit is set so low that the kernel kills its containers.

use futures::future::BoxFuture;
use serde_json::json;

use super::{Aim, Call, Fault, FaultError, Need, Parameter, ParameterKind, template};
use crate::file::Bytes;
use crate::scene::Scene;

/// See the module.
pub struct OutOfMemory;

impl Fault for OutOfMemory {
    fn name(&self) -> &'static str {
        "out-of-memory"
    }

    fn summary(&self) -> &'static str {
        "A workload's memory limit is set so low that the kernel kills its containers."
    }

    fn aim(&self) -> Aim {
        Aim::Workload
    }

    fn parameters(&self) -> &'static [Parameter] {
        const {
            &[
                Parameter::new("container", ParameterKind::Text, "Name of the container, where there are several."),
                Parameter::new("limit", ParameterKind::Bytes, "The limit; less than the program needs.").or("64Ki"),
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
            let limit = Bytes(call.bytes("limit")?);
            template::change(scene, call, &format!("memory limit is {limit}"), |_| {
                vec![("/resources/limits/memory", json!(limit)), ("/resources/requests/memory", json!(limit))]
            })
            .await
        })
    }
}
