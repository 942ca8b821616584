//! Keys to state: moving, filtering, sorting, marking, freezing, going back.

use std::collections::BTreeSet;

use df_tui::app::{Action, Mode, Setup, Window};
use df_tui::event::{Event, Key};
use df_tui::keymap::{Context, KEYMAP};
use df_tui::list::List;
use df_tui::model::Snapshot;
use df_tui::screen::Screen;
use df_tui::theme::Theme;

use crate::desk::Desk;

fn desk() -> Desk {
    Desk::new(Setup::default())
}

fn names(desk: &Desk, list: List) -> Vec<String> {
    desk.app.rows(list).iter().map(|row| row.name().into_owned()).collect()
}

fn cursor(desk: &Desk) -> String {
    desk.app.row().map(|row| row.name().into_owned()).unwrap_or_default()
}

#[test]
fn digits_open_screens_and_q_goes_back_through_them() {
    let mut desk = desk();
    for (digit, screen) in "1234567890".chars().zip(Screen::TABS) {
        desk.press(&digit.to_string());
        assert_eq!(desk.app.screen, screen);
    }
    for screen in Screen::TABS.into_iter().rev().skip(1) {
        assert_eq!(desk.press("q"), Some(Action::Ask));
        assert_eq!(desk.app.screen, screen);
    }
    assert_eq!(desk.press("q"), Some(Action::Quit { keeps: false }));
    assert_eq!(desk.press("Q"), Some(Action::Quit { keeps: true }));
    assert_eq!(desk.press("3 / ctrl-c"), Some(Action::Quit { keeps: false }));
    assert_eq!(desk.press("ctrl-z"), Some(Action::Suspend));
}

#[test]
fn the_cursor_moves_within_the_list() {
    let mut desk = desk();
    desk.press("3");
    let all = names(&desk, List::Hosts);
    desk.press("j down k");
    assert_eq!(cursor(&desk), all[1]);
    desk.press("G");
    assert_eq!(cursor(&desk), *all.last().unwrap());
    desk.press("j g k");
    assert_eq!(cursor(&desk), all[0]);
    desk.press("pgdn pgup");
    assert_eq!(cursor(&desk), all[0]);
}

#[test]
fn the_cursor_stays_on_its_row_while_news_reorder_the_list() {
    let mut desk = desk();
    desk.press("2 j j");
    let before = cursor(&desk);
    let places: BTreeSet<usize> = (0..60)
        .map(|_| {
            desk.wait(5);
            assert_eq!(cursor(&desk), before);
            desk.app.list_state(List::Tasks).unwrap().cursor
        })
        .collect();
    assert!(places.len() > 1, "the demo never reordered its tasks");
}

#[test]
fn a_filter_is_seen_while_it_is_written_and_esc_clears_it() {
    let mut desk = desk();
    desk.press("2");
    let all = names(&desk, List::Tasks).len();
    desk.press("/");
    desk.write("!model rate>1M");
    let some = names(&desk, List::Tasks);
    assert!(!some.is_empty() && some.len() < all && !some.contains(&"model.bin".to_owned()), "{some:?}");
    desk.press("enter");
    assert_eq!((names(&desk, List::Tasks), &desk.app.mode), (some, &Mode::Browse));
    desk.press("esc");
    assert_eq!((names(&desk, List::Tasks).len(), desk.app.screen), (all, Screen::Tasks));
    desk.press("esc");
    assert_eq!(desk.app.screen, Screen::Overview);
}

#[test]
fn a_filter_that_is_left_is_none() {
    let mut desk = desk();
    desk.press("2 /");
    desk.write("nothing-is-called-so");
    assert!(names(&desk, List::Tasks).is_empty());
    assert!(desk.screen().contains("nothing passes the filter"));
    desk.press("esc");
    assert!(!names(&desk, List::Tasks).is_empty());
}

#[test]
fn columns_are_chosen_and_sorted_by() {
    let mut desk = desk();
    desk.press("3 l l o");
    let by_state = names(&desk, List::Hosts);
    assert!(by_state[0].as_str() == "h0007", "blacklisted comes before healthy: {by_state:?}");
    desk.press("i");
    assert_eq!(names(&desk, List::Hosts).last().map(String::as_str), Some("h0007"));
    desk.command("sort host");
    assert_eq!(names(&desk, List::Hosts)[0], "h0003");
    desk.command("sort host");
    assert_eq!(names(&desk, List::Hosts)[0], "seed-3");
}

#[test]
fn rows_are_marked_and_marks_cleared() {
    let mut desk = desk();
    let marks = |desk: &Desk| desk.app.list_state(List::Hosts).unwrap().marks.len();
    desk.press("3 space space");
    assert_eq!(marks(&desk), 2);
    desk.press("g space");
    assert_eq!(marks(&desk), 1);
    desk.press("*");
    assert_eq!(marks(&desk), 64);
    desk.press("*");
    assert_eq!(marks(&desk), 0);
}

#[test]
fn a_frozen_screen_holds_still_and_then_catches_up() {
    let mut desk = desk();
    desk.press("f");
    let (was, screen) = (desk.app.snapshot.taken_at, desk.screen());
    desk.wait(3);
    assert_eq!(desk.app.snapshot.taken_at, was);
    assert!(desk.screen().contains("! frozen 3s"), "{}", desk.screen());
    assert!(!screen.contains("frozen 3s"));
    desk.press("f");
    assert_eq!(desk.app.snapshot.taken_at, was + 3);
    desk.press("p esc");
    assert_eq!(desk.app.frozen_ms(), None);
}

#[test]
fn a_task_is_opened_and_one_of_its_hosts_looked_at() {
    let mut desk = desk();
    desk.command("task model.bin");
    assert_eq!(desk.app.screen, Screen::Task);
    let view = desk.app.snapshot.task.clone().expect("it is known");
    assert_eq!(view.task.name(), "model.bin");
    desk.press("tab j enter");
    let now = desk.app.snapshot.task.clone().expect("it is known");
    assert_eq!((now.task.id, &now.host), (view.task.id, &view.peers[1].host));
    desk.press("esc");
    assert_eq!(desk.app.screen, Screen::Overview);
}

#[test]
fn branches_of_the_topology_fold() {
    let mut desk = desk();
    desk.command("topology model.bin");
    let all = desk.app.tree.len();
    desk.press("j space");
    assert_eq!(desk.app.tree.len(), 2, "source and seed peer are left of {all}");
    assert!(desk.screen().contains(&format!("[+] {} more", all - 2)), "{}", desk.screen());
    desk.press("space");
    assert_eq!(desk.app.tree.len(), all);
}

#[test]
fn what_needs_attention_leads_to_what_it_is_about() {
    let mut desk = desk();
    desk.press("tab enter");
    assert_eq!((desk.app.screen, cursor(&desk).as_str()), (Screen::Peers, "h0007"));
    desk.press("q G enter");
    assert_eq!((desk.app.screen, cursor(&desk).as_str()), (Screen::Jobs, "88"));
}

#[test]
fn panes_windows_themes_and_columns_are_changed() {
    let mut desk = desk();
    desk.press("5");
    assert_eq!(desk.app.list(), List::Members);
    desk.press("tab");
    assert_eq!(desk.app.list(), List::Clusters);
    desk.press("shift-tab e");
    assert!(desk.app.is_expanded && desk.app.list() == List::Members);
    desk.press("esc + + - t w");
    assert_eq!((desk.app.is_expanded, desk.app.window, desk.app.is_wide), (false, Window::FiveMinutes, true));
    assert_eq!(desk.app.setup.theme, Theme::ColourBlind);
    desk.command("theme mono");
    assert_eq!(desk.app.setup.theme, Theme::Mono);
    desk.press("ctrl-r");
    assert_eq!(desk.app.history.peak(df_tui::theme::Series::Download), 0);
}

#[test]
fn words_are_completed_one_after_the_other() {
    let mut desk = desk();
    desk.press(":");
    desk.write("to");
    desk.press("tab");
    desk.write("mod");
    desk.press("tab");
    let Mode::Command(command) = &desk.app.mode else { panic!("{:?}", desk.app.mode) };
    assert_eq!(command.line.text(), "topology model.bin ");
    desk.press("ctrl-u");
    desk.write("t");
    let offered: BTreeSet<String> = (0..4)
        .map(|_| {
            desk.press("tab");
            let Mode::Command(command) = &desk.app.mode else { panic!("{:?}", desk.app.mode) };
            command.line.text().to_owned()
        })
        .collect();
    assert_eq!(offered, ["task", "tasks", "theme", "topology"].map(str::to_owned).into());
}

#[test]
fn commands_are_remembered_and_wrong_ones_say_so() {
    let mut desk = desk();
    desk.command("peers /seed");
    assert_eq!((desk.app.screen, names(&desk, List::Hosts).len()), (Screen::Peers, 3));
    desk.command("fly");
    assert!(desk.screen().contains("✖ there is no command fly"), "{}", desk.screen());
    desk.press(": up up");
    let Mode::Command(command) = &desk.app.mode else { panic!("{:?}", desk.app.mode) };
    assert_eq!(command.line.text(), "peers /seed");
    desk.press("esc");
    desk.command("peer h00");
    assert!(desk.screen().contains("more than one peer begins with h00"));
    desk.command("peer h0041");
    assert_eq!(cursor(&desk), "h0041");
    assert_eq!(desk.command("q"), Some(Action::Quit { keeps: false }));
}

#[test]
fn rows_are_shown_in_full_and_copied() {
    let mut desk = desk();
    desk.press("3 y");
    let Mode::Page(page) = &desk.app.mode else { panic!("{:?}", desk.app.mode) };
    let json: serde_json::Value = serde_json::from_str(&page.lines.clone().unwrap().join("\n")).unwrap();
    assert_eq!(json["hostname"], "h0003");
    desk.press("j q d");
    assert!(desk.screen().contains("slots"), "{}", desk.screen());
    desk.press("esc");
    let id = desk.app.row().unwrap().key().into_owned();
    assert_eq!(desk.press("c"), Some(Action::Copy(id)));
}

#[test]
fn help_names_every_key_and_nothing_else() {
    let mut desk = desk();
    desk.resize(120, 300);
    desk.press("?");
    let screen = desk.screen();
    for context in Context::ALL {
        let section = screen.split(&format!("Keys {}", context.title())).nth(1).expect("a section of its own");
        let lines = section.lines().skip(1).map(|line| line.trim_matches(['│', ' ']).trim_end());
        let lines: Vec<&str> = lines.map(|line| line.split('│').next().unwrap_or_default().trim()).collect();
        let lines: Vec<&str> = lines.into_iter().take_while(|line| !line.is_empty()).collect();
        let bindings: Vec<_> = KEYMAP.iter().filter(|binding| binding.context == context).collect();
        assert_eq!(lines.len(), bindings.len(), "{lines:?}");
        for binding in &bindings {
            let is_named = |line: &&str| line.starts_with(&binding.key_names()) && line.contains(binding.help);
            assert!(lines.iter().any(is_named), "{binding:?} in {lines:?}");
        }
        let known: BTreeSet<String> = bindings.iter().flat_map(|it| it.keys).map(|key| key.name()).collect();
        for line in lines {
            for key in line.split("  ").next().unwrap_or_default().split_whitespace() {
                assert!(known.contains(key), "{key} of \"{line}\" is in no table");
            }
        }
    }
}

#[test]
fn the_mouse_chooses_tabs_rows_and_columns() {
    let mut desk = desk();
    desk.app.handle(Event::Clicked(16, 1));
    assert_eq!(desk.app.screen, Screen::Tasks);
    let all = names(&desk, List::Tasks);
    desk.app.handle(Event::Clicked(10, 6));
    assert_eq!(cursor(&desk), all[2]);
    desk.app.handle(Event::Clicked(4, 3));
    assert_eq!(desk.app.list_state(List::Tasks).unwrap().order, Some((0, false)));
    desk.press("g");
    desk.app.handle(Event::Wheeled(3));
    assert_eq!(desk.app.list_state(List::Tasks).unwrap().cursor, 3);
    desk.app.handle(Event::Wheeled(-1));
    let row = desk.app.list_state(List::Tasks).unwrap().cursor;
    let y = 4 + u16::try_from(row).unwrap();
    desk.app.handle(Event::Clicked(10, y));
    assert_eq!(desk.app.screen, Screen::Task, "a click on the row under the cursor opens it");
    for (x, y) in [(0, 0), (119, 39), (500, 500), (0, 39)] {
        desk.app.handle(Event::Clicked(x, y));
    }
}

#[test]
fn keys_that_are_let_go_or_unknown_do_nothing() {
    let mut desk = desk();
    let before = desk.app.clone();
    for key in [Key::char('Z'), Key::control('x'), Key::of(crossterm::event::KeyCode::F(5))] {
        assert_eq!(desk.app.handle(Event::Pressed(key)), None);
    }
    assert_eq!(desk.app, before);
}

#[test]
fn old_news_say_how_old_they_are_and_what_was_known_stays() {
    let mut desk = desk();
    (0..9).for_each(|_| assert_eq!(desk.app.handle(Event::Ticked(1000)), None));
    assert!(desk.screen().contains("! 9s old"), "{}", desk.screen());
    let lost = Snapshot {
        manager: df_tui::model::Contact::Lost("connection refused".to_owned()),
        ..desk.app.snapshot.clone()
    };
    desk.see(lost);
    assert!(desk.screen().contains("✖ no manager"), "{}", desk.screen());
    assert!(desk.screen().contains("busiest tasks"));
}
