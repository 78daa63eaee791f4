//! Where do HTTP/2's tasks run? On the worker's own thread.

use hyper::rt::Executor;
use tokio::task::spawn_local;

/// Runs tasks on the thread that makes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}
