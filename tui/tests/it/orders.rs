//! Keys to orders: what is asked of the cluster, and that nothing is asked by accident.

use df_tui::app::{Action, Mode, Setup};
use df_tui::event::Event;
use df_tui::keymap::{Context, KEYMAP};
use df_tui::list::List;
use df_tui::request::{LimitKind, LimitScope, LimitValue, Request};

use crate::desk::Desk;

fn desk() -> Desk {
    Desk::new(Setup::default())
}

fn ordered(action: Option<Action>) -> Vec<Request> {
    match action {
        Some(Action::Order(requests)) => requests,
        other => panic!("{other:?}"),
    }
}

#[test]
fn deleting_a_task_everywhere_takes_its_name() {
    let mut desk = desk();
    desk.command("tasks /model");
    let id = desk.app.row().unwrap().key().into_owned();
    assert_eq!(desk.press("D enter"), None);
    desk.write("model");
    assert_eq!(desk.press("enter"), None, "not all of its name");
    desk.write(".bin");
    assert_eq!(ordered(desk.press("enter")), [Request::DeleteTask { task: id.clone() }]);
    assert!(desk.app.snapshot.task_of(&id).is_none());
    assert!(desk.screen().contains("✔ model.bin is deleted"), "{}", desk.screen());
}

#[test]
fn many_rows_are_deleted_by_their_number() {
    let mut desk = desk();
    desk.press("2 space space D");
    desk.write("2");
    assert_eq!(ordered(desk.press("enter")).len(), 2);
    assert_eq!(desk.app.list_state(List::Tasks).unwrap().marks.len(), 0);
}

#[test]
fn a_host_is_isolated_with_a_reason_and_released() {
    let mut desk = desk();
    desk.command("peer h0012");
    desk.press("B");
    desk.write("disk is failing");
    let requests = ordered(desk.press("enter"));
    let [Request::Isolate { seconds: Some(3600), reason, .. }] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(reason, "disk is failing");
    desk.press("7");
    assert!(desk.screen().contains("h0012          operator"), "{}", desk.screen());
    desk.press("/");
    desk.write("h0012");
    desk.press("enter B");
    let requests = ordered(desk.press("enter"));
    assert!(matches!(&requests[..], [Request::Release { .. }]), "{requests:?}");
    assert!(!desk.app.snapshot.isolated.iter().any(|it| it.hostname == "h0012"));
}

#[test]
fn limits_of_a_host_change_at_once_and_those_of_the_cluster_take_its_name() {
    let mut desk = desk();
    desk.command("peer h0012");
    let host = desk.app.row().unwrap().key().into_owned();
    desk.press("L tab");
    desk.write("200M");
    let expected = Request::SetLimits {
        scope: LimitScope::Host(host),
        limits: vec![(LimitKind::Upload, LimitValue::BytesPerSec(200 << 20))],
    };
    assert_eq!(ordered(desk.press("enter")), [expected]);
    desk.command("limit total 1G");
    assert!(matches!(desk.app.mode, Mode::Confirm(_)));
    desk.write("prod-1");
    let requests = ordered(desk.press("enter"));
    let limits = vec![(LimitKind::Download, LimitValue::BytesPerSec(1 << 30))];
    assert_eq!(requests, [Request::SetLimits { scope: LimitScope::Peers, limits }]);
    desk.command("limit total fast");
    assert!(desk.screen().contains("\"fast\" is no rate"), "{}", desk.screen());
}

#[test]
fn a_preheat_is_filled_in_and_started() {
    let mut desk = desk();
    desk.command("preheat https://origin.example/model.bin");
    desk.press("tab tab right");
    let requests = ordered(desk.press("enter"));
    let [Request::Preheat(preheat)] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(preheat.urls, ["https://origin.example/model.bin"]);
    assert_eq!((preheat.is_image, preheat.scope.name()), (false, "all_seed_peers"));
    desk.press("6 g");
    assert!(desk.screen().contains("89 ▶ preheating"), "{}", desk.screen());
    desk.press("D");
    assert_eq!(ordered(desk.press("enter")), [Request::CancelJob { job: "89".to_owned() }]);
}

#[test]
fn a_form_with_a_mistake_stays_open_and_says_so() {
    let mut desk = desk();
    assert_eq!(desk.press("P enter"), None);
    assert!(desk.screen().contains("! url is empty"), "{}", desk.screen());
    desk.press("esc");
    assert_eq!(desk.app.mode, Mode::Browse);
}

#[test]
fn rules_users_and_tokens_are_added_where_they_are_listed() {
    let mut desk = desk();
    desk.press("7 tab a tab");
    desk.write("batch");
    desk.press("enter");
    desk.write("prod-1");
    let requests = ordered(desk.press("enter"));
    assert!(matches!(&requests[..], [Request::AddBlock(block)] if block.kind == "application"), "{requests:?}");
    desk.press("0 a");
    desk.write("eve");
    desk.press("tab tab");
    desk.write("correct horse battery");
    assert!(!desk.screen().contains("horse"), "a password is on the screen");
    let requests = ordered(desk.press("enter"));
    assert!(matches!(&requests[..], [Request::AddUser { name, .. }] if name == "eve"), "{requests:?}");
    desk.press("g m right");
    let requests = ordered(desk.press("enter"));
    assert!(matches!(&requests[..], [Request::ChangeUser { role: Some(_), password: None, .. }]), "{requests:?}");
    desk.press("tab D");
    assert!(matches!(&ordered(desk.press("enter"))[..], [Request::RevokeToken { .. }]));
}

#[test]
fn news_of_several_lines_are_a_page_that_stays() {
    let mut desk = desk();
    desk.app.handle(Event::Done("dfp_secret\n\nshown this once".to_owned()));
    desk.wait(60);
    assert!(desk.screen().contains("dfp_secret"), "{}", desk.screen());
    assert_eq!(desk.press("c"), Some(Action::Copy("dfp_secret\n\nshown this once".to_owned())));
}

#[test]
fn nothing_is_ordered_while_read_only() {
    for is_by_flag in [true, false] {
        let mut desk = Desk::new(Setup { is_read_only: is_by_flag, ..Setup::default() });
        desk.may_write = is_by_flag;
        desk.look();
        for screen in "1234567890".chars() {
            for binding in KEYMAP.iter().filter(|it| it.context == Context::Browse && it.is_change) {
                desk.app.handle(Event::Pressed(crate::desk::key(&screen.to_string())));
                desk.app.handle(Event::Pressed(binding.keys[0]));
                let is_own_affair = !is_by_flag && desk.app.list() == List::Contents;
                assert!(desk.app.mode == Mode::Browse || is_own_affair, "{binding:?} on {screen}");
                desk.app.mode = Mode::Browse;
            }
        }
        desk.press("3 x");
        let Mode::Menu(menu) = &desk.app.mode else { panic!("{:?}", desk.app.mode) };
        assert!((0..menu.items.len()).all(|at| !menu.binding(at).unwrap().is_change));
        desk.press("esc");
        for command in ["delete model.bin", "limit total 1G", "isolate h0012", "release h0007", "cancel 88"] {
            assert_eq!(desk.command(command), None);
            assert_eq!(desk.app.mode, Mode::Browse, "{command}");
        }
        assert!(desk.screen().contains("read-only"), "{}", desk.screen());
    }
}

#[test]
fn the_menu_offers_what_the_row_allows() {
    let mut desk = desk();
    desk.press("2 x");
    let screen = desk.screen();
    for offered in ["open", "details", "JSON", "topology", "preheat", "delete"] {
        assert!(screen.contains(offered), "{offered} in {screen}");
    }
    assert!(!screen.contains("isolate"), "{screen}");
    desk.press("j j enter");
    assert!(matches!(desk.app.mode, Mode::Page(_)));
}

#[test]
fn a_refusal_is_shown_with_its_hint() {
    let mut desk = desk();
    let failure = df_api::failure::Failure::new(df_api::failure::Code::Blocked, "you may not").hint("ask root");
    desk.app.handle(Event::Failed(failure));
    assert!(desk.screen().contains("✖ you may not (ask root)"), "{}", desk.screen());
    desk.wait(7);
    assert!(!desk.screen().contains("you may not"));
}
