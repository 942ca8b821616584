//! The console as a whole: keys to state and actions, screens, every size, and the program itself.

mod cluster;
mod control;
mod desk;
mod document;
mod golden;
mod keys;
mod orders;
mod program;
mod sizes;
mod tmux;
