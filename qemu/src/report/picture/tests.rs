// SPDX-License-Identifier: Apache-2.0 OR MIT
use super::*;
use crate::report::tests::example;

#[test]
fn picture_is_well_formed_and_shows_the_report() {
    let mut report = example();
    report.guests[0].name = "a<b>&\"c\"".into();
    let svg = picture(&report);
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("a&lt;b&gt;&amp;&quot;c&quot;"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    // Every case has a bar.
    let cases: usize = report.guests.iter().map(|guest| guest.cases.len()).sum();
    assert_eq!(svg.matches("<title>").count(), cases);
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    assert!(svg.contains("41,000"), "the counters");
}

#[test]
fn empty_report_gives_a_picture() {
    let mut report = example();
    for guest in &mut report.guests {
        guest.xtest = None;
        guest.cases.clear();
        guest.latency.clear();
        guest.stats = None;
    }
    assert!(picture(&report).ends_with("</svg>\n"));
    report.guests.clear();
    assert!(picture(&report).ends_with("</svg>\n"));
}

#[test]
fn thousands_are_grouped() {
    for (number, text) in [
        (0, "0"),
        (999, "999"),
        (1000, "1,000"),
        (1_234_567, "1,234,567"),
    ] {
        assert_eq!(thousands(number), text);
    }
}
