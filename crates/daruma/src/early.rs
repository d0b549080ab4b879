//! Modes that are entered before anything else has run: they fork, make name spaces, or must stay tiny.

use std::ffi::OsString;
use std::path::Path;

use daruma_host::{machine, supervisor};

/// Runs the mode that the first argument names, if it is one of these; then it does not return.
pub fn dispatch() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some((mode, rest)) = arguments.split_first() else { return };
    let texts: Vec<String> = rest.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    match mode.to_str() {
        Some(machine::power::INIT_MODE) => machine::init_main(&texts),
        Some(supervisor::SUPERVISOR_MODE) => {
            let config = texts.first().map(String::as_str).unwrap_or_default();
            std::process::exit(supervisor::main(Path::new(config)))
        }
        Some("shim") => daruma_runtime::shim_main(rest),
        Some("bootcamp") => {
            let version = texts.iter().find_map(|text| text.strip_prefix("--app-version=")?.parse().ok());
            daruma_runtime::builtin::bootcamp::serve(version.unwrap_or(1))
        }
        _ => {}
    }
}
