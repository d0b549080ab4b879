//! The tables of `docs/drills.md` are what the program knows; `DARUMA_UPDATE_GOLDEN=1` writes them anew.

use std::collections::BTreeMap;
use std::fs;

use daruma_drill::builtin::{self, Builtin};
use daruma_drill::checks;
use daruma_drill::faults::{self, Fault};

fn faults_table() -> String {
    let row = |fault: &&dyn Fault| {
        let parameter = |parameter: &faults::Parameter| match parameter.default {
            Some(default) => format!("`{}` ({default}): {}", parameter.name, parameter.about),
            None => format!("`{}`: {}", parameter.name, parameter.about),
        };
        let parameters: Vec<_> = fault.parameters().iter().map(parameter).collect();
        let only =
            fault.only_in().map_or(String::new(), |world| format!(" Only in the {} world.", format!("{world:?}").to_lowercase()));
        let undo = if fault.lasts() { "yes" } else { "over at once" };
        format!("| `{}` | {}{only} | {} | {undo} |\n", fault.name(), fault.summary(), parameters.join("<br>"))
    };
    format!("| fault | what it does | `with` | undone |\n|---|---|---|---|\n{}", faults::ALL.iter().map(row).collect::<String>())
}

fn checks_table() -> String {
    let row = |kind: &checks::Kind| format!("| `{}` | {} | `{}` |\n", kind.name, kind.about, kind.example);
    format!("| check | what it demands | example |\n|---|---|---|\n{}", checks::ALL.iter().map(row).collect::<String>())
}

fn drills_table() -> String {
    let row = |drill: &Builtin| {
        let description = drill.drill(&BTreeMap::new()).unwrap().spec.description;
        let only = drill.only_in.map_or("both".to_owned(), |world| format!("{world:?}").to_lowercase());
        format!("| `{}` | {} | {only} |\n", drill.name, description.trim())
    };
    format!("| drill | what it shows | world |\n|---|---|---|\n{}", builtin::ALL.iter().map(row).collect::<String>())
}

#[test]
fn the_manual_knows_every_fault_check_and_drill() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/drills.md");
    let manual = fs::read_to_string(path).unwrap();
    let mut anew = manual.clone();
    for (name, table) in [("faults", faults_table()), ("checks", checks_table()), ("drills", drills_table())] {
        let mark = format!("<!-- table: {name} -->\n");
        let start = anew.find(&mark).unwrap() + mark.len();
        let end = start + anew[start..].find("<!-- end -->").unwrap();
        anew.replace_range(start..end, &format!("\n{table}\n"));
    }
    if std::env::var_os("DARUMA_UPDATE_GOLDEN").is_some() {
        fs::write(path, &anew).unwrap();
        return;
    }
    assert!(manual == anew, "docs/drills.md is behind; run this test with DARUMA_UPDATE_GOLDEN=1");
}
