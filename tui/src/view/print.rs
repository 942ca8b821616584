//! A screen as text, and what it shows as JSON.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Span;
use serde_json::{Map, Value, json};

use super::draw_into;
use crate::app::App;
use crate::list::List;
use crate::screen::Screen;

/// The screen as lines of text, without blanks at their ends.
pub fn text(app: &App) -> String {
    let area = Rect::new(0, 0, app.size.0, app.size.1);
    let mut buffer = Buffer::empty(area);
    draw_into(app, area, &mut buffer);
    let mut text = String::new();
    for y in 0..area.height {
        let mut line = String::new();
        let mut x = 0;
        while let Some(cell) = buffer.cell((x, y)).filter(|_| x < area.width) {
            line.push_str(cell.symbol());
            // A wide sign has its place and the next.
            x += u16::try_from(Span::raw(cell.symbol()).width()).unwrap_or(1).max(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What the screen shows: the same rows, filtered and sorted, with all their fields.
pub fn json(app: &App) -> String {
    let snapshot = &app.snapshot;
    let mut shown = Map::new();
    let mut put = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    put("v", json!(1));
    put("screen", json!(app.screen.name()));
    put("cluster", json!(snapshot.cluster));
    put("manager", json!(snapshot.manager));
    put("daemon", json!(snapshot.daemon));
    put("taken_at", json!(snapshot.taken_at));
    if app.screen == Screen::Overview {
        put("traffic", json!(snapshot.traffic));
        put("saved_per_mille", json!(snapshot.traffic.saved_per_mille()));
        put("health", json!(snapshot.health));
    }
    if app.screen == Screen::Admin {
        put("policy", json!(snapshot.policy));
    }
    for list in app.screen.lists() {
        let rows: Vec<Value> = app.rows(*list).iter().map(|row| row.json()).collect();
        put(&key(*list), Value::Array(rows));
    }
    if matches!(app.screen, Screen::Task | Screen::Topology) {
        put("task", json!(snapshot.task));
    }
    Value::Object(shown).to_string()
}

/// What a list is called in JSON.
fn key(list: List) -> String {
    match list {
        List::Isolated => "blacklist".to_owned(),
        List::Blocks => "block_rules".to_owned(),
        List::Contents => "contents".to_owned(),
        list => list.title().replace(' ', "_"),
    }
}
