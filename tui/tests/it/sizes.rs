//! Any size and any model: nothing panics, nothing is drawn outside, no control character gets through.

use df_tui::app::{App, Setup};
use df_tui::demo::Demo;
use df_tui::event::Event;
use df_tui::model::{Cell, Contact, Edge, Snapshot, State, TaskPeer};
use df_tui::screen::Screen;
use df_tui::theme::Theme;
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::desk::{Desk, key};

/// Draws onto a buffer with a margin, and says what of the margin was touched.
fn drawn_outside(app: &App) -> Option<(u16, u16)> {
    let (columns, rows) = app.size;
    let whole = Rect::new(0, 0, columns + 3, rows + 3);
    let mut buffer = Buffer::filled(whole, ratatui::buffer::Cell::new("~"));
    df_tui::view::draw_into(app, whole, &mut buffer);
    let touched = whole
        .positions()
        .find(|at| (at.x >= columns || at.y >= rows) && buffer[*at] != ratatui::buffer::Cell::new("~"));
    touched.map(|at| (at.x, at.y))
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z]{1,8}",
        "\\PC{0,12}",
        Just("\u{1b}[31m\u{7}\n".to_owned()),
        Just("漢字テスト🎉e\u{301}".to_owned()),
        "x{200}",
    ]
}

/// A cluster whose texts and numbers are anything at all.
fn bent(mut snapshot: Snapshot, words: &[String], numbers: &[u64]) -> Snapshot {
    let word = |at: usize| words[at % words.len()].clone();
    let number = |at: usize| numbers[at % numbers.len()];
    snapshot.cluster = word(0);
    snapshot.user = word(1);
    snapshot.taken_at = number(0);
    snapshot.manager = Contact::Lost(word(2));
    snapshot.traffic.download_bytes_per_sec = number(1);
    snapshot.traffic.download_bytes = number(2);
    snapshot.traffic.source_bytes = number(3);
    for (at, task) in snapshot.tasks.iter_mut().chain(&mut snapshot.busiest).enumerate() {
        (task.url, task.tag, task.content_length) = (word(at), word(at + 1), Some(number(at)));
        (task.rate_bytes_per_sec, task.done_per_mille) = (number(at + 1), number(at) as u32);
        (task.peers, task.left_s) = (number(at + 2) as u32, Some(number(at + 3)));
    }
    for (at, host) in snapshot.hosts.iter_mut().enumerate() {
        (host.hostname, host.idc, host.state) = (word(at), word(at + 1), State::new(host.state.mark, word(at + 2)));
        (host.disk_used_bytes, host.disk_bytes) = (number(at), number(at + 1));
    }
    for (at, isolated) in snapshot.isolated.iter_mut().enumerate() {
        (isolated.since_s, isolated.expires_s) = (number(at), Some(number(at + 1)));
    }
    snapshot.health.iter_mut().for_each(|health| health.note = word(3));
    snapshot.attention.iter_mut().enumerate().for_each(|(at, attention)| attention.text = word(at));
    snapshot.happenings.iter_mut().enumerate().for_each(|(at, happening)| happening.happened_at = number(at));
    if let Some(view) = &mut snapshot.task {
        view.cells = numbers.iter().map(|n| if n % 2 == 0 { Cell::Have } else { Cell::Bad }).collect();
        view.copies = numbers.iter().map(|n| *n as u32).collect();
        view.rarest = vec![(number(0) as u32, number(1) as u32)];
        view.peers.push(TaskPeer { host: word(0), hostname: word(1), ..TaskPeer::default() });
        let pairs = (0..words.len()).map(|at| (word(at), word(at + 1)));
        view.edges.extend(pairs.map(|(parent, child)| Edge { parent, child, ..Edge::default() }));
    }
    snapshot
}

/// Keys that open something, each followed by what is then to be drawn.
const KEYS: [&str; 16] = ["?", "/", ":", "x", "P", "L", "B", "a", "D", "y", "d", "e", "w", "enter", "tab", "G"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_size_of_any_model_is_drawn_inside_its_size(
        columns in 0_u16..300,
        rows in 0_u16..100,
        screen in 0_usize..11,
        keys in prop::collection::vec(0_usize..KEYS.len(), 0..4),
        words in prop::collection::vec(word(), 1..6),
        numbers in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..5000], 1..20),
        is_ascii: bool,
    ) {
        let mut app = App::new(Setup { is_ascii, ..Setup::default() });
        app.handle(Event::Resized(columns, rows));
        app.open(Screen::all().nth(screen).unwrap());
        let demo = Demo::new(7, 20, 6);
        app.handle(Event::Seen(Box::new(demo.snapshot(&app.interest()))));
        let id = demo.snapshot(&app.interest()).tasks[0].id.clone();
        app.run_command(&format!("task {id}")).unwrap();
        let snapshot = demo.snapshot(&app.interest());
        app.open(Screen::all().nth(screen).unwrap());
        app.handle(Event::Seen(Box::new(bent(snapshot, &words, &numbers))));
        prop_assert_eq!(drawn_outside(&app), None);
        for at in keys {
            app.handle(Event::Pressed(key(KEYS[at])));
            prop_assert_eq!(drawn_outside(&app), None);
        }
        let text = df_tui::view::text(&app);
        prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", text);
        prop_assert!(!is_ascii || text.is_ascii(), "{}", text);
    }
}

#[test]
fn every_screen_is_drawn_at_every_size_people_have() {
    let mut desk = Desk::new(Setup::default());
    desk.command("task model.bin");
    for screen in Screen::all() {
        desk.app.open(screen);
        desk.look();
        for (columns, rows) in
            [(1, 0), (0, 1), (1, 1), (39, 10), (40, 9), (40, 10), (59, 16), (60, 16), (79, 24), (80, 24), (120, 30)]
        {
            desk.resize(columns, rows);
            assert_eq!(drawn_outside(&desk.app), None, "{screen:?} at {columns}x{rows}");
        }
        desk.resize(300, 100);
        assert_eq!(drawn_outside(&desk.app), None, "{screen:?}");
    }
}

#[test]
fn a_terminal_smaller_than_we_know_is_not_drawn_upon() {
    let mut desk = Desk::new(Setup { theme: Theme::Mono, ..Setup::default() });
    desk.resize(120, 40);
    let small = Rect::new(0, 0, 50, 12);
    let mut buffer = Buffer::empty(small);
    df_tui::view::draw_into(&desk.app, small, &mut buffer);
    assert_eq!(buffer, Buffer::empty(small));
}
