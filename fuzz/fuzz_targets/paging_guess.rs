#![no_main]

#[path = "../inputs/paging_guess.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| input::check(bytes));
