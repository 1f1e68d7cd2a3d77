// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The few SVG elements that the picture is made of.

use std::fmt::Write;

/// The point of a text that its position refers to.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    /// The left end.
    Start,
    /// The middle.
    Middle,
    /// The right end.
    End,
}

/// A picture in progress. Lengths are in pixels at 100 %.
#[derive(Debug)]
pub struct Svg {
    width: f64,
    body: String,
}

/// Escapes a text for XML and drops control characters, which XML does not allow.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            control if control.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

impl Svg {
    /// Returns an empty picture.
    pub const fn new(width: f64) -> Self {
        Self {
            width,
            body: String::new(),
        }
    }

    fn element(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(text);
        self.body.push('\n');
    }

    /// Adds a filled rectangle.
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        self.rounded(x, y, width, height, 0.0, fill);
    }

    /// Adds a filled rectangle with round corners.
    pub fn rounded(&mut self, x: f64, y: f64, width: f64, height: f64, radius: f64, fill: &str) {
        self.element(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="{radius}" fill="{fill}"/>"#
        ));
    }

    /// Adds a filled rectangle with a tooltip.
    pub fn titled_rect(
        &mut self,
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        fill: &str,
        title: &str,
    ) {
        let title = escape(title);
        self.element(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"><title>{title}</title></rect>"#
        ));
    }

    /// Adds a straight line.
    pub fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, colour: &str, width: f64) {
        self.element(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="{width}"/>"#
        ));
    }

    /// Adds a ring.
    pub fn dot(&mut self, x: f64, y: f64, radius: f64, fill: &str, colour: &str) {
        self.element(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{fill}" stroke="{colour}" stroke-width="2"/>"#
        ));
    }

    /// Adds a line of text on the base line `y`.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a text needs; a builder would say the same longer"
    )]
    pub fn text(
        &mut self,
        x: f64,
        y: f64,
        size: f64,
        fill: &str,
        anchor: Anchor,
        bold: bool,
        text: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if bold { r#" font-weight="600""# } else { "" };
        let text = escape(text);
        self.element(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight} xml:space="preserve">{text}</text>"#
        ));
    }

    /// Returns the whole file.
    pub fn finish(self, height: f64) -> String {
        let Self { width, body } = self;
        format!(
            concat!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h:.0}" width="{w}" height="{h:.0}" "#,
                r#"font-family="Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif">"#,
                "\n",
                r##"<rect width="100%" height="100%" fill="#ffffff"/>"##,
                "\n{b}</svg>\n"
            ),
            w = width,
            h = height,
            b = body
        )
    }
}
