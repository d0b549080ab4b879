//! Texts compared with files; `DARUMA_UPDATE_GOLDEN=1` writes them anew.

use std::fs;
use std::path::Path;

use daruma_drill::checks::Check;
use daruma_drill::report::terminal::{Style, line, summary};
use daruma_drill::report::{Report, html, json_schema, junit};

use crate::story::story;

pub fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judging/golden").join(name);
    if std::env::var_os("DARUMA_UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let differs = golden.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        golden == text,
        "{name} differs (first at line {}); if that is right, run the test with DARUMA_UPDATE_GOLDEN=1\n{text}",
        differs.map_or(golden.lines().count().min(text.lines().count()), |line| line) + 1,
    );
}

pub fn report() -> Report {
    let checks: Vec<Check> = serde_yaml_ng::from_str(include_str!("story-checks.yaml")).unwrap();
    Report::new(story(), &checks)
}

#[test]
fn the_terminal() {
    let report = report();
    let lines: String = report.record.timeline.iter().map(|entry| line(entry, Style::Plain)).collect();
    check("terminal.txt", &format!("{lines}\n{}", summary(&report, Style::Plain)));
    let coloured = summary(&report, Style::Colour);
    assert!(coloured.contains("\u{1b}[1;32m") && !summary(&report, Style::Plain).contains('\u{1b}'));
}

#[test]
fn junit_xml() {
    let mut report = report();
    check("junit.xml", &junit(&report));
    report.record.aborted = Some("a <limit> passed".to_owned());
    let text = junit(&report);
    assert!(text.contains("errors=\"1\"") && text.contains("a &lt;limit&gt; passed"), "{text}");
}

#[test]
fn json_and_its_schema() {
    let report = report();
    let text = report.json().unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    let schema = json_schema();
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (place, schema) in [(&record, &schema), (&record["record"], &schema["$defs"]["Record"])] {
        for key in place.as_object().unwrap().keys() {
            assert!(schema["properties"].get(key).is_some(), "{key} is in the schema");
        }
    }
}

#[test]
fn html_is_one_file_that_reads_without_its_script() {
    let report = report();
    let page = html(&report);
    for (what, there) in [
        ("http://", false),
        ("https://", false),
        ("<link", false),
        ("@import", false),
        ("src=", false),
        ("5 min 45.6 s", true),
        ("data-node=\"worker-1\"", true),
        ("Node worker-1 status is now: NodeNotReady", true),
    ] {
        assert_eq!(page.contains(what), there, "{what}");
    }
    assert_eq!(page, html(&report), "the same record makes the same page");
}

#[test]
fn what_a_cluster_says_cannot_become_markup() {
    let mut report = report();
    for entry in &mut report.record.timeline {
        entry.text = "<script>alert('x')</script>".to_owned();
        entry.about = "node/\"><img src=x>".to_owned();
    }
    let page = html(&report);
    assert!(!page.contains("<script>alert") && !page.contains("<img"));
}
