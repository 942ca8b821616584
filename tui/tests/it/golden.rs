//! Golden screens: the demo at four sizes, in seven bits, without colours; and the styles of what text
//! cannot show.

use df_tui::app::Setup;
use df_tui::list::List;
use df_tui::model::Mark;
use df_tui::screen::Screen;
use df_tui::theme::{Theme, Tone};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use crate::desk::Desk;

fn desk() -> Desk {
    Desk::new(Setup::default())
}

/// The frame as a terminal would get it.
fn drawn(desk: &Desk) -> Buffer {
    let (columns, rows) = desk.app.size;
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| df_tui::view::draw(&desk.app, frame)).unwrap();
    terminal.backend().buffer().clone()
}

#[test]
fn the_overview_at_four_sizes() {
    let mut desk = desk();
    for (columns, rows) in [(60, 16), (80, 24), (120, 40), (200, 60)] {
        desk.resize(columns, rows);
        insta::assert_snapshot!(format!("overview_{columns}x{rows}"), desk.screen());
    }
    desk.resize(50, 12);
    insta::assert_snapshot!("overview_50x12", desk.screen());
}

#[test]
fn one_task_at_four_sizes() {
    let mut desk = desk();
    desk.command("task model.bin");
    for (columns, rows) in [(60, 16), (80, 24), (120, 40), (200, 60)] {
        desk.resize(columns, rows);
        insta::assert_snapshot!(format!("task_{columns}x{rows}"), desk.screen());
    }
}

#[test]
fn every_other_screen() {
    let mut desk = desk();
    desk.resize(120, 30);
    desk.command("topology model.bin");
    insta::assert_snapshot!("topology", desk.screen());
    desk.press("v");
    insta::assert_snapshot!("matrix", desk.screen());
    desk.press("v");
    for screen in Screen::TABS.into_iter().filter(|it| !matches!(it, Screen::Overview | Screen::Topology)) {
        desk.app.open(screen);
        desk.look();
        desk.look();
        insta::assert_snapshot!(screen.name(), desk.screen());
    }
}

#[test]
fn what_stands_over_a_screen() {
    let mut desk = desk();
    desk.resize(80, 24);
    for (name, keys) in
        [("help", "?"), ("menu", "2 x"), ("preheat_form", "P"), ("limits_form", "3 L"), ("delete", "2 D")]
    {
        desk.press(keys);
        insta::assert_snapshot!(name, desk.screen());
        desk.press("esc");
    }
    desk.press(":");
    desk.write("t");
    desk.press("tab");
    insta::assert_snapshot!("completion", desk.screen());
}

#[test]
fn seven_bits_and_no_colours() {
    let mut desk = Desk::new(Setup { is_ascii: true, theme: Theme::Mono, ..Setup::default() });
    desk.command("task model.bin");
    insta::assert_snapshot!("task_ascii", desk.screen());
    desk.press("1");
    insta::assert_snapshot!("overview_ascii", desk.screen());
    assert!(desk.screen().is_ascii());
}

#[test]
fn without_a_source_panes_say_why() {
    let mut desk =
        Desk { app: df_tui::app::App::new(Setup::default()), demo: df_tui::demo::Demo::new(7, 4, 2), may_write: true };
    desk.resize(80, 24);
    insta::assert_snapshot!("asking", desk.screen());
    let snapshot = df_tui::model::Snapshot {
        manager: df_tui::model::Contact::Lost("connection refused".to_owned()),
        daemon: df_tui::model::Contact::Live,
        contents: desk.demo.snapshot(&desk.app.interest()).contents,
        ..df_tui::model::Snapshot::default()
    };
    desk.see(snapshot);
    desk.app.open(Screen::Tasks);
    insta::assert_snapshot!("no_manager", desk.screen());
    desk.app.open(Screen::Cache);
    insta::assert_snapshot!("cache_without_manager", desk.screen());
}

/// Cells of a row that say a word, with their style.
fn find(buffer: &Buffer, text: &str) -> (u16, u16) {
    let area = buffer.area;
    for y in 0..area.height {
        for x in 0..area.width {
            let found: String = (x..area.width).map(|x| buffer[(x, y)].symbol()).collect();
            if found.starts_with(text) {
                return (x, y);
            }
        }
    }
    panic!("\"{text}\" is not on the screen")
}

#[test]
fn the_row_under_the_cursor_is_reversed_in_every_theme() {
    let mut desk = desk();
    desk.press("3 j");
    for theme in Theme::ALL {
        desk.command(&format!("theme {}", theme.name()));
        let buffer = drawn(&desk);
        let at = find(&buffer, "h0004");
        assert!(buffer[at].modifier.contains(Modifier::REVERSED), "{theme:?}");
        let above = find(&buffer, "h0003");
        assert!(!buffer[above].modifier.contains(Modifier::REVERSED), "{theme:?}");
        assert_eq!(buffer[(at.0 - 2, at.1)].symbol(), ">");
    }
}

#[test]
fn states_have_their_colour_in_themes_that_have_any() {
    let mut desk = desk();
    desk.press("3");
    for theme in Theme::ALL {
        desk.command(&format!("theme {}", theme.name()));
        let buffer = drawn(&desk);
        for (text, mark) in [("✔ healthy", Mark::Good), ("✖ blacklisted", Mark::Bad)] {
            let style = theme.style(Tone::State(mark));
            // The first row is under the cursor; its colour is the same.
            let cell = &buffer[find(&buffer, text)];
            assert_eq!(cell.fg, style.fg.unwrap_or(Color::Reset), "{theme:?} {text}");
        }
    }
}

#[test]
fn nothing_has_a_colour_without_colours() {
    let mut desk = Desk::new(Setup { theme: Theme::Mono, ..Setup::default() });
    desk.command("task model.bin");
    for screen in Screen::all() {
        desk.app.open(screen);
        desk.look();
        for cell in &drawn(&desk).content {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{screen:?} {:?}", cell.symbol());
        }
    }
}

#[test]
fn colours_that_are_hard_to_tell_apart_are_not_in_the_theme_for_that() {
    let colours: Vec<_> = Mark::ALL.iter().filter_map(|mark| Theme::ColourBlind.style(Tone::State(*mark)).fg).collect();
    let of_the_palette = [
        Color::Rgb(0xE6, 0x9F, 0x00),
        Color::Rgb(0x56, 0xB4, 0xE9),
        Color::Rgb(0x00, 0x9E, 0x73),
        Color::Rgb(0xD5, 0x5E, 0x00),
        Color::Rgb(0xCC, 0x79, 0xA7),
    ];
    assert!(colours.len() >= 4 && colours.iter().all(|colour| of_the_palette.contains(colour)), "{colours:?}");
}

#[test]
fn the_open_tab_and_the_active_pane_stand_out() {
    let mut desk = desk();
    desk.press("7 tab");
    assert_eq!(desk.app.list(), List::Blocks);
    let buffer = drawn(&desk);
    for (text, is_open) in [("7 Blacklist", true), ("8 Cache", false), ("block list", true), ("blacklist and", false)] {
        let cell = &buffer[find(&buffer, text)];
        assert_eq!(cell.modifier.contains(Modifier::REVERSED), is_open, "{text}");
    }
}
