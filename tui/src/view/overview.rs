//! What flows and what is well: curves, health, counters, the ring.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::{framed, state};
use crate::app::App;
use crate::format;
use crate::model::{Mark, Role};
use crate::theme::{self, Series, Tone};
use crate::widget::{curve, fields};

/// Three curves side by side; one where there is no room.
pub(super) fn curves(app: &App, area: Rect, buffer: &mut Buffer) {
    let traffic = &app.snapshot.traffic;
    let all = [
        ("download", Series::Download, traffic.download_bytes_per_sec),
        ("upload", Series::Upload, traffic.upload_bytes_per_sec),
        ("source", Series::Source, traffic.source_bytes_per_sec),
    ];
    let places = Layout::horizontal([Constraint::Fill(1); 3]).split(area);
    for ((name, series, now), place) in all.into_iter().zip(places.iter()) {
        draw_curve(app, name, series, now, *place, buffer);
    }
}

fn draw_curve(app: &App, name: &str, series: Series, now: u64, area: Rect, buffer: &mut Buffer) {
    let theme = app.setup.theme;
    let style = theme.style(Tone::Series(series));
    let title = vec![
        Span::styled(format!(" {name} "), theme.style(Tone::Title)),
        Span::styled(format!("{} ", format::rate(now)), style),
    ];
    let peak = format!("peak {} ", format::rate(app.history.peak(series)));
    let mut below = vec![Span::raw(" ")];
    match series {
        Series::Download => {
            below.push(Span::raw(format!("{}  {peak}", app.window.name())));
            below.extend(
                app.snapshot
                    .policy
                    .peer
                    .download_bytes_per_sec
                    .filter(|limit| *limit > 0)
                    .map(|limit| Span::raw(format!(" limit {} ", format::rate(limit)))),
            );
        }
        Series::Upload => below.push(Span::raw(peak)),
        Series::Source => {
            let saved = app.snapshot.traffic.saved_per_mille();
            below.extend(saved.map(|saved| Span::styled(format!("saved {}  ", format::percent(saved)), style)));
            below.push(Span::raw(peak));
        }
    }
    let inside = framed(app, title, below, area, buffer);
    let values = app.history.columns(series, app.window, usize::from(inside.width));
    curve::draw(&values, inside, style, buffer);
}

/// Parts of the cluster: how many of each are well.
pub(super) fn health(app: &App, area: Rect, buffer: &mut Buffer) {
    let title = vec![Span::styled(" health ", app.setup.theme.style(Tone::Title))];
    let inside = framed(app, title, Vec::new(), area, buffer);
    fields::lines(health_lines(app), 0, inside, buffer);
}

fn health_lines(app: &App) -> Vec<Line<'static>> {
    let line = |health: &crate::model::Health| {
        let counted = if health.all > 0 { format!("{}/{}", health.well, health.all) } else { String::new() };
        let word = format!("{:<11}", format::clean(&health.what));
        Line::from_iter([
            Span::raw(" "),
            state(app, health.mark, &word),
            Span::raw(format!(" {counted} {}", format::clean(&health.note))),
        ])
    };
    app.snapshot.health.iter().map(line).collect()
}

/// All of the overview as numbers, for a small screen.
pub(super) fn counters(app: &App, area: Rect, buffer: &mut Buffer) {
    let traffic = &app.snapshot.traffic;
    let saved = traffic.saved_per_mille().map_or_else(|| "-".to_owned(), format::percent);
    let named = |name: &str, value: String| Line::raw(format!(" {name:<12}{value}"));
    let mut lines = vec![
        named("download", format::rate(traffic.download_bytes_per_sec)),
        named("upload", format::rate(traffic.upload_bytes_per_sec)),
        named("source", format!("{}, saved {saved}", format::rate(traffic.source_bytes_per_sec))),
    ];
    lines.extend(app.snapshot.attention.iter().take(2).map(|attention| {
        Line::from_iter([Span::raw(" "), state(app, attention.mark, &format::clean(&attention.text))])
    }));
    lines.extend(health_lines(app));
    fields::lines(lines, 0, area, buffer);
}

/// The share of all tasks that falls to each scheduler.
pub(super) fn ring(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = app.setup.theme;
    let inside = framed(app, vec![Span::styled(" hash ring ", theme.style(Tone::Title))], Vec::new(), area, buffer);
    let schedulers = app.snapshot.members.iter().filter(|member| member.role == Role::Scheduler);
    let line = |member: &crate::model::Member| {
        let share = member.ring_per_mille.unwrap_or_default();
        let room = usize::from(inside.width).saturating_sub(26);
        let cells = usize::try_from(share).unwrap_or_default() * room / 1000;
        let mark = if member.state.mark == Mark::Good { Mark::Good } else { member.state.mark };
        Line::from_iter([
            Span::styled(format!(" {} ", theme::sign(mark)), theme.style(Tone::State(mark))),
            Span::raw(format!("{:<13.13} {:>6} ", format::clean(&member.hostname), format::percent(share))),
            Span::styled("█".repeat(cells.max(usize::from(share > 0))), theme.style(Tone::Series(Series::Upload))),
        ])
    };
    fields::lines(schedulers.map(line), 0, inside, buffer);
}
