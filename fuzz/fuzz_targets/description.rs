//! Any text as the description of a graph: refused with a sentence, or shown as the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocols::Description;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Description>() {
        Ok(description) => {
            assert_eq!(description.to_string().parse(), Ok(description.clone()));
            assert!(description.to_dot().ends_with("}\n"));
        }
        Err(error) => assert!(error.to_string().starts_with("line ")),
    }
});
