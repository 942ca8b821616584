//! The console as a whole: keys to state and actions, screens, every size, and the program itself.

mod desk;
mod golden;
mod keys;
mod orders;
mod program;
mod sizes;
