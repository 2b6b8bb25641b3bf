#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| konsen::fuzz::run("txn", data));
