//! What runs in containers of the built-in image: the components themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use daruma_cluster::boot::Component;
use daruma_cluster::machine_files::BINARY;
use daruma_cluster::shape::IMAGE;
use daruma_sim::Machine;
use daruma_sim::containers::{BuiltInImage, Output, Process, Programs};
use futures::FutureExt;

use crate::platform::{SimPlatform, Surroundings};

/// Bytes of the image: the program's own size, rounded.
const IMAGE_BYTES: u64 = 40 << 20;
/// Component, memory in MiB and thousandths of a core, as measured of the program's processes in a cluster of three
/// machines at rest.
const USE: &[(&str, u64, u64)] = &[
    ("kube-apiserver", 36, 8),
    ("kube-controller-manager", 16, 3),
    ("kube-scheduler", 10, 1),
    ("kube-proxy", 7, 1),
    ("network-agent", 7, 1),
    ("dns", 7, 1),
    ("metrics-server", 9, 1),
];

/// Machines by name, each as it is since its last power-on.
pub type Running = Arc<Mutex<BTreeMap<String, Machine>>>;

/// The built-in image, as every machine has it.
pub fn image() -> BuiltInImage {
    BuiltInImage { name: IMAGE.to_owned(), size_bytes: IMAGE_BYTES, entrypoint: vec![BINARY.to_owned()] }
}

/// The program of the built-in image, beside those that are there already.
pub fn add(programs: &mut Programs, surroundings: &Surroundings, machines: &Running) {
    let (surroundings, machines) = (surroundings.clone(), machines.clone());
    programs.add(IMAGE, move |process| {
        let machine = machines.lock().expect("no panic while held").get(&process.machine).cloned();
        let surroundings = surroundings.clone();
        async move {
            match machine {
                Some(machine) => run(&surroundings, &machine, Arc::new(process)).await,
                None => 1,
            }
        }
        .boxed()
    });
}

/// Runs a component until it ends or is asked to; gives the exit code.
async fn run(surroundings: &Surroundings, machine: &Machine, process: Arc<Process>) -> i32 {
    let arguments = process.argv.get(1..).unwrap_or_default();
    let component = match Component::parse(arguments) {
        Ok(component) => component,
        Err(error) => {
            process.log.line(Output::Stderr, error.to_string().trim_end());
            return 2;
        }
    };
    let name = arguments.first().map(String::as_str).unwrap_or_default();
    if let Some((_, mebibytes, millis)) = USE.iter().find(|(component, ..)| *component == name) {
        process.use_memory(mebibytes << 20);
        process.use_cpu(*millis);
    }
    surroundings.gate.pass(name).await;
    let platform = Arc::new(SimPlatform::in_container(surroundings, machine, &process));
    match component.run(platform).await {
        Ok(()) => 0,
        Err(error) => {
            process.log.line(Output::Stderr, &format!("error: {}", chain(&error)));
            1
        }
    }
}

/// An error with its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
