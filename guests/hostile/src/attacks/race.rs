// SPDX-License-Identifier: Apache-2.0 OR MIT
//! vCPUs that race.

use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use guest_bare::cpu::parallel;
use guest_bare::tee::memory;
use guest_bare::timer::Deadline;

/// Rounds in which vCPUs race.
pub const ROUNDS: u32 = 3000;

/// How often each of two versions has to be met, so that they can be said to have raced.
pub const ENOUGH: u32 = 10;
/// How long that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has another vCPU put `versions` into a word in turns while `round` is called [`ROUNDS`] times, or
/// more often until it has met both.
/// Gives how often `round` said which of the two it was.
///
/// # Errors
/// The first of `round`'s.
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
            // One a round: wherever this vCPU is stopped, it may have been either.
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                memory::write_u64(word, versions[turn]);
                turn = 1 - turn;
            }
            return;
        }
        let mut counts = [0; 2];
        let mut outcome = Ok(());
        // The host may not let the two vCPUs run at the same time all the while.
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
