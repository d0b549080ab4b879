//! `daruma image`: images on the disks of running machines.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use daruma_host::supervisor::{Client, MachineStatus, State};

use super::Which;
use crate::components::image_socket::{self, Answer, Request};

/// Flags of `daruma image`.
#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Load an archive (docker save, or an OCI layout in a tar) onto every running machine.
    Load {
        /// The archive.
        #[arg(value_name = "FILE.tar")]
        file: PathBuf,
    },
    /// Pull an image onto every running machine, from a registry that the machines can reach.
    Pull {
        /// The image.
        #[arg(value_name = "REF")]
        reference: String,
    },
    /// List images and the machines that have them.
    List,
}

/// Works on the images of all running machines.
pub fn run(flags: &Flags) -> Result<()> {
    let status = Client::connect(&flags.which.root, &flags.which.name)?.status()?;
    let running: Vec<&MachineStatus> = status.machines.iter().filter(|machine| machine.state == State::Running).collect();
    if running.is_empty() {
        bail!("no machine of cluster {:?} is running", flags.which.name);
    }
    let mut holders = BTreeMap::<(String, String, u64), Vec<String>>::new();
    let mut failed = Vec::new();
    for machine in running {
        let asked = match &flags.verb {
            Verb::Load { file } => {
                let content = File::open(file).with_context(|| format!("opening {}", file.display()))?;
                let bytes = content.metadata()?.len();
                ask(machine, &Request::Load { bytes }, Some(content))
            }
            Verb::Pull { reference } => ask(machine, &Request::Pull { reference: reference.clone() }, None),
            Verb::List => ask(machine, &Request::List, None),
        };
        match asked {
            Ok(Answer::Done { images }) => images.iter().for_each(|image| println!("{}: {image}", machine.name)),
            Ok(Answer::Images { images }) => {
                for image in images {
                    for tag in &image.tags {
                        let key = (tag.clone(), image.id.clone(), image.size_bytes);
                        holders.entry(key).or_default().push(machine.name.clone());
                    }
                }
            }
            Ok(Answer::Failed { why }) => failed.push(format!("{}: {why}", machine.name)),
            Err(error) => failed.push(format!("{}: {error:#}", machine.name)),
        }
    }
    if matches!(flags.verb, Verb::List) {
        println!("{:<56}{:<16}{:<12}MACHINES", "IMAGE", "ID", "SIZE");
        for ((tag, id, size), machines) in holders {
            let id = id.trim_start_matches("sha256:").chars().take(12).collect::<String>();
            println!("{tag:<56}{id:<16}{:<12}{}", format!("{:.1} MB", size as f64 / 1e6), machines.join(","));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

fn ask(machine: &MachineStatus, request: &Request, content: Option<File>) -> Result<Answer> {
    let pid = machine.pid.context("the machine has no process")?;
    let socket = PathBuf::from(format!("/proc/{pid}/root{}", image_socket::PATH));
    image_socket::ask(&socket, request, content)
}
