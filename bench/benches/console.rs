//! What a frame of the console costs, and taking note of news, for a cluster of 1000 hosts and 200 tasks.
#![allow(missing_docs, reason = "criterion's macros make public items without")]

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use df_tui::app::{App, Setup};
use df_tui::demo::Demo;
use df_tui::event::Event;
use df_tui::screen::Screen;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

const HOSTS: usize = 1000;
const TASKS: usize = 200;

/// A console on a screen, with an hour of curves behind it.
fn console(screen: Screen, columns: u16, rows: u16) -> (App, Demo) {
    let mut demo = Demo::new(7, HOSTS, TASKS);
    let mut app = App::new(Setup::default());
    app.handle(Event::Resized(columns, rows));
    app.handle(Event::Seen(Box::new(demo.snapshot(&app.interest()))));
    app.run_command("task model.bin").expect("the demo has it");
    app.open(screen);
    demo.step();
    let snapshot = demo.snapshot(&app.interest());
    (1..=3600).for_each(|second| app.history.note(second, &snapshot.traffic));
    app.handle(Event::Seen(Box::new(snapshot)));
    (app, demo)
}

fn frame(c: &mut Criterion) {
    let mut group = c.benchmark_group("console frame");
    for (columns, rows) in [(120, 40), (300, 100)] {
        for screen in Screen::all() {
            let (app, _) = console(screen, columns, rows);
            let area = Rect::new(0, 0, columns, rows);
            let mut buffer = Buffer::empty(area);
            group.bench_function(BenchmarkId::new(screen.name(), format!("{columns}x{rows}")), |b| {
                b.iter(|| {
                    buffer.reset();
                    df_tui::view::draw_into(&app, area, &mut buffer);
                });
            });
        }
    }
    group.finish();
}

fn news(c: &mut Criterion) {
    let mut group = c.benchmark_group("console news");
    for screen in [Screen::Overview, Screen::Peers, Screen::Cluster, Screen::Topology] {
        let (mut app, demo) = console(screen, 120, 40);
        let snapshot = demo.snapshot(&app.interest());
        group.bench_function(BenchmarkId::from_parameter(screen.name()), |b| {
            let seen = || Event::Seen(Box::new(snapshot.clone()));
            b.iter_batched(seen, |seen| app.handle(seen), BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, frame, news);
criterion_main!(benches);
