// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Races between vCPUs.

use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use guest_bare::cpu::parallel;
use guest_bare::tee::memory;
use guest_bare::timer::Deadline;

/// The rounds of a race.
pub const ROUNDS: u32 = 3000;

/// How often each of the two versions has to be seen for the vCPUs to have raced.
pub const ENOUGH: u32 = 10;
/// The most time to wait for that.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes another vCPU write `versions` into a word alternately, and calls `round` [`ROUNDS`] times,
/// or more often until both versions were seen. Returns how often `round` reported each of the two.
///
/// # Errors
/// Fails with the first error of `round`.
pub fn flip(
    word: u64,
    versions: [u64; 2],
    mut round: impl FnMut() -> Result<bool, String> + Send,
) -> Result<[u32; 2], String> {
    let stop = AtomicBool::new(false);
    let result = spin::Mutex::new(Ok([0; 2]));
    let round = spin::Mutex::new(&mut round);
    parallel(2, &|cpu| {
        if cpu == 1 {
            // One write per round: wherever this vCPU is stopped, it may have been either.
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                memory::write_u64(word, versions[turn]);
                turn = 1 - turn;
            }
            return;
        }
        let mut counts = [0; 2];
        let mut outcome = Ok(());
        // The host may not always run the two vCPUs at the same time.
        let deadline = Deadline::after(PATIENCE);
        let more = |[first, second]: [u32; 2]| {
            first + second < ROUNDS || (first.min(second) < ENOUGH && !deadline.passed())
        };
        while more(counts) {
            match (round.lock())() {
                Ok(first) => counts[usize::from(!first)] += 1,
                Err(why) => {
                    outcome = Err(why);
                    break;
                }
            }
        }
        *result.lock() = outcome.map(|()| counts);
        stop.store(true, Ordering::Relaxed);
    });
    result.into_inner()
}
