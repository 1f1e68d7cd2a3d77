// SPDX-License-Identifier: Apache-2.0 OR MIT
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_harness::conversation_ffa::run(data));
