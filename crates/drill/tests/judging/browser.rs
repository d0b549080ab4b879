//! `report.html` in a real browser, where one is on the PATH; says so where none is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use daruma_drill::checks::Check;
use daruma_drill::report::{Report, html};

use crate::golden;
use crate::outage::outage;

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|program| program.is_file())
}

/// Opens a page and gives its document after the script ran.
fn dump(program: &Path, folder: &Path, page: &Path, more: &[String]) -> String {
    let output = Command::new(program)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .args(more)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Value of an attribute of the root element.
fn attribute(document: &str, name: &str) -> String {
    let start = document.find(&format!("{name}=\"")).unwrap_or_else(|| panic!("no {name} in {}", &document[..500]));
    document[start + name.len() + 2..].split('"').next().unwrap_or_default().to_owned()
}

fn look(name: &str, report: &Report, lanes: &[&str], most_ms: u64) {
    let Some(program) = browser() else {
        println!("skipped: no Chromium on the PATH");
        return;
    };
    let folder = std::env::temp_dir().join(format!("daruma-report-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let page = folder.join("report.html");
    let text = html(report);
    fs::write(&page, &text).unwrap();
    let document = dump(&program, &folder, &page, &["--dump-dom".to_owned()]);
    assert_eq!(attribute(&document, "data-errors"), "0", "the script met no error");
    let ready_ms: u64 = attribute(&document, "data-ready-ms").parse().unwrap();
    println!("{name}: {} kB, ready after {ready_ms} ms", text.len() / 1000);
    assert!(ready_ms <= most_ms, "{name} took {ready_ms} ms");
    for lane in lanes {
        assert!(document.contains(&format!("data-node=\"{lane}\"")), "lane of {lane}");
    }
    let picture = folder.join("report.png");
    dump(&program, &folder, &page, &[format!("--screenshot={}", picture.display()), "--window-size=1400,2200".to_owned()]);
    assert!(fs::metadata(&picture).unwrap().len() > 20_000, "a picture was taken");
    // Kept where somebody asks for it, for looking at and for the manual.
    match std::env::var_os("DARUMA_KEEP_PICTURES") {
        Some(keep) => {
            fs::create_dir_all(&keep).unwrap();
            fs::copy(&picture, Path::new(&keep).join(format!("{name}.png"))).unwrap();
            fs::copy(&page, Path::new(&keep).join(format!("{name}.html"))).unwrap();
        }
        None => println!("picture taken; DARUMA_KEEP_PICTURES=FOLDER keeps it"),
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_storys_report_opens() {
    look("story", &golden::report(), &["controller-0", "worker-0", "worker-1"], 2000);
}

#[test]
fn the_report_of_5000_nodes_opens_in_two_seconds() {
    let checks: Vec<Check> = serde_yaml_ng::from_str(
        "- notEvictedMoreThan: {after: zone, by: 15m, taintedNodes: {atLeast: 80, atMost: 90}, evictedNodes: {atLeast: 50, atMost: 60}}",
    )
    .unwrap();
    look("zone-outage", &Report::new(outage(), &checks), &["worker-1"], 2000);
}
