//! What is told of a panic? Where it was, and not what it says: that may quote what a client sent.

use std::fmt::{self, Display};
use std::panic::{PanicHookInfo, set_hook};

use super::remark;

/// From now on panics are told so, in every thread.
pub(super) fn tell_no_secrets() {
    set_hook(Box::new(|panic| remark(Told(panic))));
}

/// What is told of a panic.
struct Told<'a>(&'a PanicHookInfo<'a>);

impl Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        write!(f, "tollgate: the thread {name} panicked")?;
        if let Some(place) = self.0.location() {
            write!(f, " at {place}")?;
        }
        f.write_str("; what it said is left out, since it could hold a secret")
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{set_hook, take_hook};
    use std::sync::mpsc::channel;
    use std::thread;

    use super::Told;

    #[test]
    fn a_panic_is_told_without_its_text() {
        let (sender, told) = channel();
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            let _ = sender.send(Told(panic).to_string());
        }));
        let thread = thread::Builder::new().name("unlucky".to_owned());
        let ended = thread.spawn(|| panic!("no token: {}", "eyJhbGciOiJIUzI1NiJ9"));
        assert!(ended.unwrap().join().is_err());
        set_hook(before);
        let told = Vec::from_iter(told.try_iter()).concat();
        assert!(
            told.contains("unlucky") && told.contains("src/cli/panics.rs:"),
            "{told}"
        );
        assert!(!told.contains("eyJ"), "{told}");
    }
}
