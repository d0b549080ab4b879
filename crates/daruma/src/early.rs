//! Modes that are entered before anything else has run: they fork, make name spaces, or must stay tiny.

use std::ffi::OsString;

/// Runs the mode that the first argument names, if it is one of these; then it does not return.
pub fn dispatch() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some((mode, rest)) = arguments.split_first() else { return };
    let texts: Vec<String> = rest.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    match mode.to_str() {
        Some("shim") => daruma_runtime::shim_main(rest),
        Some("bootcamp") => daruma_runtime::builtin::bootcamp::main(&texts),
        Some(mode) => {
            if let Some(code) = daruma_host::modes::run(mode, &texts) {
                std::process::exit(code);
            }
        }
        None => {}
    }
}
