//! Plots as SVG: just what the document needs.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const MARGIN: f64 = 48.0;
const COLOURS: [&str; 4] = ["#1b6ca8", "#7fb3d5", "#c0793a", "#a33b3b"];

/// Groups of bars from 1.0 upwards, a colour a series; what is not a number is left out.
pub(crate) fn bars(title: &str, series: &[&str], groups: &[(String, Vec<f64>)]) -> String {
    let top = groups.iter().flat_map(|(_, values)| values).copied().filter(|v| v.is_finite()).fold(1.1, f64::max);
    let y = |value: f64| HEIGHT - MARGIN - (value - 1.0) / (top - 1.0) * (HEIGHT - 2.0 * MARGIN);
    let group_width = (WIDTH - 2.0 * MARGIN) / groups.len().max(1) as f64;
    let bar_width = group_width * 0.8 / series.len().max(1) as f64;
    let mut body = axis(title, top, &y);
    for (at, (name, values)) in groups.iter().enumerate() {
        let left = MARGIN + group_width * at as f64;
        for (number, value) in values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            let (x, low) = (left + bar_width * number as f64, y(1.0));
            let high = y(*value).min(low);
            _ = writeln!(
                body,
                r#"<rect x="{x:.1}" y="{high:.1}" width="{:.1}" height="{:.1}" fill="{}"><title>{name}: {value:.3}</title></rect>"#,
                bar_width - 2.0,
                (low - high).max(1.0),
                COLOURS[number % COLOURS.len()],
            );
        }
        label(&mut body, left + group_width * 0.4, HEIGHT - MARGIN + 16.0, "middle", name);
    }
    legend(&mut body, series);
    document(&body)
}

/// Lines over a logarithmic x axis, values from 1.0 upwards.
pub(crate) fn lines(title: &str, series: &[(String, Vec<(f64, f64)>)]) -> String {
    let points = || series.iter().flat_map(|(_, points)| points).copied();
    let top = points().map(|(_, y)| y).fold(1.1, f64::max);
    let (first, last) = points().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| (low.min(x), high.max(x)));
    let y = |value: f64| HEIGHT - MARGIN - (value - 1.0) / (top - 1.0) * (HEIGHT - 2.0 * MARGIN);
    let x = |value: f64| MARGIN + (value / first).ln() / (last / first).ln().max(1e-9) * (WIDTH - 2.0 * MARGIN);
    let mut body = axis(title, top, &y);
    for (number, (_, points)) in series.iter().enumerate() {
        let path: Vec<String> = points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let colour = COLOURS[number % COLOURS.len()];
        _ = writeln!(body, r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#, path.join(" "));
    }
    for (at, _) in series.first().map_or(&[][..], |(_, points)| points) {
        label(&mut body, x(*at), HEIGHT - MARGIN + 16.0, "middle", &format!("{at}"));
    }
    let names: Vec<&str> = series.iter().map(|(name, _)| name.as_str()).collect();
    legend(&mut body, &names);
    document(&body)
}

fn axis(title: &str, top: f64, y: &impl Fn(f64) -> f64) -> String {
    let mut body = String::new();
    label(&mut body, MARGIN, 20.0, "start", title);
    for step in 0..=4 {
        let value = 1.0 + (top - 1.0) * f64::from(step) / 4.0;
        let at = y(value);
        let end = WIDTH - MARGIN;
        _ = writeln!(body, r##"<line x1="{MARGIN}" y1="{at:.1}" x2="{end}" y2="{at:.1}" stroke="#ccc"/>"##);
        label(&mut body, MARGIN - 6.0, at + 4.0, "end", &format!("{value:.2}"));
    }
    body
}

fn legend(body: &mut String, series: &[&str]) {
    for (number, name) in series.iter().enumerate() {
        let x = WIDTH - MARGIN - 110.0 * (series.len() - number) as f64;
        let colour = COLOURS[number % COLOURS.len()];
        _ = writeln!(body, r#"<rect x="{x:.1}" y="10" width="12" height="12" fill="{colour}"/>"#);
        label(body, x + 16.0, 20.0, "start", name);
    }
}

fn label(body: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    _ = writeln!(body, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
}

fn document(body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::{bars, lines};

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        let plot = bars("ratio", &["ours", "other"], &[("herd".to_owned(), vec![1.2, f64::NAN])]);
        assert_eq!(plot.matches("<title>").count(), 1);
        assert!(plot.starts_with("<svg") && plot.ends_with("</svg>\n") && !plot.contains("NaN"));
    }

    #[test]
    fn a_line_has_all_its_points() {
        let plot = lines("ratio", &[("ours".to_owned(), vec![(10.0, 1.1), (100.0, 1.2), (1000.0, 1.05)])]);
        let points = plot.split("points=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(points.map(|points| points.split(' ').count()), Some(3));
    }
}
