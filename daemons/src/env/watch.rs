//! What a simulation sees of a daemon's machines. In production nobody watches.

use std::any::Any;
use std::fmt::Debug;

/// Something to look at: to be told apart by its type, and to be shown.
pub trait Seen: Any + Debug {}
impl<T: Any + Debug> Seen for T {}

/// An onlooker. It sees everything a machine is told and wants, in order, and the machine between two
/// batches; it changes nothing.
pub trait Watch: Send + Sync {
    /// A machine has been told something.
    fn told(&self, input: &dyn Seen);

    /// A machine wants something done.
    fn wants(&self, machine: &dyn Seen, output: &dyn Seen);

    /// A machine has nothing more to say for now.
    fn settled(&self, machine: &dyn Seen);
}
