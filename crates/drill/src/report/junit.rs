//! `junit.xml`: a test case a check, for continuous integration.

use std::fmt::Write as _;

use super::Report;

/// The report as JUnit XML.
pub fn junit(report: &Report) -> String {
    let record = &report.record;
    let cases = report.verdicts.len() + usize::from(record.aborted.is_some());
    let failures = report.verdicts.iter().filter(|verdict| !verdict.held).count();
    let errors = u8::from(record.aborted.is_some());
    let seconds = record.took_ms as f64 / 1000.0;
    let name = escape(&record.drill);
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{name}\" tests=\"{cases}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\" \
         time=\"{seconds:.3}\" timestamp=\"{}\">",
        record.started
    );
    xml.push_str("    <properties>\n");
    let world = format!("{:?}", record.world).to_lowercase();
    let seed = record.seed.map(|seed| ("seed", seed.to_string()));
    let settings = record.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
    for (property, value) in [("world", world)].into_iter().chain(seed).chain(settings) {
        let _ = writeln!(xml, "      <property name=\"{}\" value=\"{}\"/>", escape(property), escape(&value));
    }
    xml.push_str("    </properties>\n");
    if let Some(why) = &record.aborted {
        let _ = writeln!(
            xml,
            "    <testcase classname=\"{name}\" name=\"the drill comes to its end\" time=\"{seconds:.3}\">\n      \
             <error message=\"{}\"/>\n    </testcase>",
            escape(why)
        );
    }
    for verdict in &report.verdicts {
        let (class, demand) = (escape(&verdict.check), escape(&verdict.demand));
        let _ = write!(xml, "    <testcase classname=\"{name}.{class}\" name=\"{demand}\" time=\"0\">");
        let measured = escape(&verdict.text);
        let _ = if verdict.held {
            writeln!(xml, "\n      <system-out>{measured}</system-out>\n    </testcase>")
        } else {
            writeln!(xml, "\n      <failure message=\"{measured}\" type=\"{class}\"/>\n    </testcase>")
        };
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// Text for XML and HTML, in elements and attributes. Characters that XML has no place for become `?`.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            control if control.is_control() || matches!(control, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            other => escaped.push(other),
        }
    }
    escaped
}
