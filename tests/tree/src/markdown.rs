// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses Markdown for its links and the anchors of its headings.

use std::collections::BTreeMap;

/// A link as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The number of the link's line, from 1 on.
    pub line: usize,
    /// The link's target.
    pub target: String,
}

/// Calls `each` with the number and the text of every line that is not in a block of code.
fn prose(text: &str, mut each: impl FnMut(usize, &str)) {
    let mut fence: Option<&str> = None;
    for (number, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let mark = ["```", "~~~"]
            .into_iter()
            .find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => each(number + 1, line),
            _ => {}
        }
    }
}

/// Removes code within a line: what looks like a link in it is none.
fn without_code(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once('`') {
        kept.push_str(before);
        let ticks = 1 + behind.len() - behind.trim_start_matches('`').len();
        let behind = behind.trim_start_matches('`');
        let Some((_, after)) = behind.split_once(&"`".repeat(ticks)) else {
            // The backtick is not closed on this line: it is a plain character.
            rest = behind;
            continue;
        };
        rest = after;
    }
    kept + rest
}

/// Returns the links of a document: inline ones, images, and definitions of references.
pub fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    prose(text, |line, text| {
        let text = without_code(text);
        let mut add = |target: &str| {
            // A title may follow.
            let target = target.split_whitespace().next().unwrap_or_default();
            let target = target.trim_start_matches('<').trim_end_matches('>').into();
            found.push(Link { line, target });
        };
        for (at, _) in text.match_indices("](") {
            let rest = &text[at + 2..];
            if let Some(end) = rest.find(')') {
                add(&rest[..end]);
            }
        }
        if let Some(rest) = text.strip_prefix('[')
            && let Some((_, target)) = rest.split_once("]: ")
        {
            add(target);
        }
    });
    found
}

/// Returns the anchor that the usual renderers give a heading with this text.
fn slug(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    // In a link within a heading only the text counts.
    while let Some((before, behind)) = rest.split_once("](") {
        text.push_str(before);
        rest = behind.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    let kept = text.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        _ if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

/// Returns all anchors of a document: those of its headings, a repeated one with a number, and
/// explicit ones, `<a id="…">`.
pub fn anchors(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = BTreeMap::new();
    prose(text, |_, line| {
        let heading = line.trim_start_matches('#');
        let level = line.len() - heading.len();
        if (1..=6).contains(&level) && heading.starts_with(' ') {
            let slug = slug(heading.trim());
            let before: &mut u32 = seen.entry(slug.clone()).or_default();
            found.push(match *before {
                0 => slug,
                repeated => format!("{slug}-{repeated}"),
            });
            *before += 1;
        }
        for mark in ["<a id=\"", "<a name=\""] {
            for (at, _) in line.match_indices(mark) {
                let rest = &line[at + mark.len()..];
                found.extend(rest.split_once('"').map(|(name, _)| name.to_owned()));
            }
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_code_is_not() {
        let text = "See [a](b.md#c) and ![d](e.svg \"title\"), `[f](g)`.\n\
            ```text\n[h](i)\n```\n[j]: k.md\n[x](<l m>) ``a`b [n](o)`` [p](q)\n";
        let targets: Vec<String> = links(text).into_iter().map(|link| link.target).collect();
        assert_eq!(targets, ["b.md#c", "e.svg", "k.md", "l", "q"]);
        assert_eq!(links(text)[2].line, 5);
    }

    #[test]
    fn headings_have_the_usual_anchors() {
        let text = "# Boot & `run`, a test\n## A [link](to.md) here\n## Twice\n## Twice\n\
            ```sh\n# no heading\n```\n#no heading\n<a id=\"own\"></a>\n### OP-TEE's x_y\n";
        let expected = [
            "boot--run-a-test",
            "a-[link-here",
            "twice",
            "twice-1",
            "own",
            "op-tees-x_y",
        ];
        assert_eq!(anchors(text).len(), expected.len());
        for (found, expected) in anchors(text).iter().zip(expected) {
            assert_eq!(found, &expected.replace('[', ""));
        }
    }
}
