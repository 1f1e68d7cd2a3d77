//! vCPUs that race.

use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use guest_bare::cpu::parallel;
use guest_bare::tee::memory;

/// Rounds in which vCPUs race.
pub const ROUNDS: u32 = 3000;

/// Has another vCPU put `versions` into a word in turns while `round` is called [`ROUNDS`] times.
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
            while !stop.load(Ordering::Relaxed) {
                for version in versions {
                    memory::write_u64(word, version);
                    core::hint::spin_loop();
                }
            }
            return;
        }
        let mut counts = [0; 2];
        let mut outcome = Ok(());
        for _ in 0..ROUNDS {
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
