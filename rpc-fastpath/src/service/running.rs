//! A server in a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A server in a thread of its own. Dropping it ends the server, within a tenth of a second, the calls that run,
/// and, over channels, what clients take for the rest of long replies.
#[derive(Debug)]
#[must_use = "the server ends when this is dropped"]
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Serves until what it is given says true.
    pub(super) fn start(serve: impl FnOnce(&dyn Fn() -> bool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&|| told.load(Ordering::Relaxed)));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics only by a bug of ours, and has said so.
            let _ = thread.join();
        }
    }
}
