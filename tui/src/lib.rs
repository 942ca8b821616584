//! The console: what a cluster is and does, on a terminal, and `dfctl`, the same for scripts.
//!
//! [`app`] is a state machine: it is told [`event::Event`]s and sometimes answers with an
//! [`app::Action`]. [`view`] draws its state and changes nothing; [`layout`] says where, for drawing
//! and the mouse alike. [`poller`] asks the manager and the daemon of this node and makes a
//! [`model::Snapshot`] of what they say; `demo` makes one up. Only `terminal` touches the terminal.

pub mod format;
pub mod model;
pub mod theme;
pub mod list;
pub mod screen;
pub mod request;
pub mod event;
pub mod keymap;
pub mod filter;
pub mod topology;
pub mod layout;
pub mod app;
mod widget;
pub mod view;
pub mod demo;
pub mod poller;
pub mod access;
pub mod terminal;
pub mod console;
pub mod control;
